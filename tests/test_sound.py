"""The sound of edited words: nothing changes outside, new words lie where they should and sound like the footage."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from thlib.clip import Clip, Word, read, splice_clip
from thlib.editing import sound
from thlib.editing.script import Span, diff
from thlib.editing.sound import patches, retime
from thlib.errors import EditError, SpeechError
from thlib.metrics import share_above, sound_steps
from thlib.mux import sample_at
from thlib.speech import Speech, read_align

RATE = 44100
TEXT = "bin blue at f two now"


def voice(text, *, rate=RATE, seconds=3.0, gap=0.0, seed=0, start=0.6):
    """Toy speech (S,) and its words: every letter a chord of its own, faded at the words' ends, in faint noise."""
    rng = np.random.default_rng(seed)
    audio = 0.002 * rng.standard_normal(round(seconds * rate))
    words = []
    for token in text.split():
        n = round(rate * (0.16 + 0.02 * len(token)))
        t, at = np.arange(n) / rate, round(start * rate)
        pitch = 110 + 7 * (sum(map(ord, token)) % 13)
        tone = sum(np.sin(2 * np.pi * pitch * h * t) / h for h in range(1, 30) if pitch * h < rate / 2.2)
        audio[at : at + n] += 0.1 * tone * np.sin(np.pi * np.arange(n) / n) ** 0.5
        words.append(Word(token, start, start + n / rate))
        start = words[-1].end + gap
    return audio.astype(np.float32), words


def footage(text=TEXT, *, fps=Fraction(25), channels=2, rate=RATE, **how):
    """A clip of toy speech with one-pixel pictures, and its words."""
    audio, words = voice(text, rate=rate, **how)
    frames = np.zeros((int(len(audio) / rate * fps), 1, 1, 3), np.uint8)
    return Clip(frames, fps, np.repeat(audio[:, None], channels, 1), rate), words


def recording(text, **how):
    audio, words = voice(text, rate=16000, **how)
    return Speech(audio, tuple(words), ())


def edited(clip, words, text, speech=None):
    """(patches, sound of the result, words of the result)."""
    found = patches(clip, words, diff(words, text), speech=speech)
    news = [
        Clip(np.zeros((p.n_frames, *clip.frames.shape[1:]), np.uint8), p.fps, p.audio, clip.audio_rate) for p in found
    ]
    out = splice_clip(clip, [(float(p.k0 / p.fps), float(p.k1 / p.fps), new) for p, new in zip(found, news)])
    return found, out, retime(words, found)


def level(audio):
    return 10 * np.log10(np.mean(np.asarray(audio, float) ** 2) + 1e-12)


def part(clip, start, end):
    return clip.audio[round(start * clip.audio_rate) : round(end * clip.audio_rate)]


EDITS = {
    "substitute": "bin blue at f nine now",
    "first": "place blue at f two now",
    "last": "bin blue at f two again",
    "insert": "bin blue at f very two now",
    "insert first": "hello bin blue at f two now",
    "insert last": "bin blue at f two now please",
    "delete": "bin blue f two now",
    "delete first": "blue at f two now",
    "delete last": "bin blue at f two",
    "two": "lay blue at f two soon",
    "close": "bin red at g two now",
}


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001)])
@pytest.mark.parametrize("kind", EDITS)
def test_nothing_outside_changes_and_every_length_is_exact(kind, fps):
    clip, words = footage(fps=fps)
    speech = recording("place lay red very hello at g nine two soon again please", seconds=5)
    found, out, new = edited(clip, words, EDITS[kind], speech)
    assert [w.text for w in new] == EDITS[kind].split()
    assert all(a.end <= b.start + 1e-9 and a.start < a.end for a, b in pairwise(new))
    at = moved = 0
    for p in found:
        assert at <= p.k0 <= p.k1 <= len(clip.frames)
        assert p.n_frames >= 0.2 * fps
        assert p.audio.dtype == np.float32
        first, last = (sample_at(k + moved, fps, RATE) for k in (p.k0, p.k0 + p.n_frames))
        assert p.audio.shape == (last - first, 2)
        same = min(sample_at(p.k0, fps, RATE) - sample_at(at, fps, RATE), first - sample_at(at + moved, fps, RATE))
        begin = sample_at(at, fps, RATE)
        assert np.array_equal(out.audio[sample_at(at + moved, fps, RATE) :][:same], clip.audio[begin : begin + same])
        if p.k1 < len(clip.frames):  # at its ends a patch is the footage, without a step to what follows
            ends = clip.audio[sample_at(p.k0, fps, RATE) :][:20], clip.audio[: sample_at(p.k1, fps, RATE)][-20:]
            assert np.allclose(p.audio[:20], ends[0], atol=5e-4)
            assert np.allclose(p.audio[-20:], ends[1], atol=5e-4)
        assert all(-1e-9 <= w.start < w.end <= p.n_frames / fps + 1e-6 for w in p.words)
        at, moved = p.k1, moved + p.n_frames - (p.k1 - p.k0)
    tail = clip.audio[sample_at(at, fps, RATE) : sample_at(len(clip.frames), fps, RATE) - 1]
    assert np.array_equal(out.audio[sample_at(at + moved, fps, RATE) :][: len(tail)], tail)


def test_kept_words_move_by_whole_frames_and_new_ones_keep_their_frame_phase():
    clip, words = footage()
    speech = recording("bin blue at f nine again")
    _, out, new = edited(clip, words, "bin blue at f nine now", speech)
    for old, word in zip(words[5:], new[5:]):
        frames = (word.start - old.start) * 25
        assert abs(frames - round(frames)) < 1e-6
        assert np.array_equal(part(out, word.start + 0.1, word.end), part(clip, old.start + 0.1, old.end))
    frames = (new[4].start - speech.words[4].start) * 25
    assert abs(frames - round(frames)) < 1e-6
    assert abs(new[4].start - words[4].start) <= 0.021  # where the old word began, to half a frame or so
    onset = np.abs(part(out, new[4].start, new[4].end)[:, 0])
    assert onset[: round(0.02 * RATE)].mean() < onset[round(0.05 * RATE) : round(0.1 * RATE)].mean()


def test_own_words_put_back_are_the_same_sound():
    """The clip's own sound as recording, its word under another name: equal but for the 16 kHz detour."""
    clip, words = footage(channels=1)
    speech = Speech(clip.mono16k(), (*words[:3], Word("g", words[3].start, words[3].end), *words[4:]), ())
    _, out, new = edited(clip, words, "bin blue at g two now", speech)
    assert [t for w in new for t in (w.start, w.end)] == pytest.approx([t for w in words for t in (w.start, w.end)])
    a, b = (part(c, words[3].start, words[3].end)[:, 0] for c in (clip, out))
    assert np.corrcoef(a, b)[0, 1] > 0.98


@pytest.mark.parametrize("gain", [0.1, 1.0, 4.0])
def test_level_and_tilt_of_a_recording_are_matched(gain):
    clip, words = footage()
    dull = recording(TEXT.replace("two", "nine"))
    smooth = np.convolve(dull.audio, np.full(4, gain / 4), mode="same").astype(np.float32)  # -10 dB at 5 kHz
    before, after = (
        part(edited(clip, words, "bin blue at f nine now", s)[1], words[4].start + 0.03, words[4].start + 0.15)
        for s in (dull, Speech(smooth, dull.words, ()))
    )
    assert abs(level(after) - level(before)) < 1
    spectra = [np.abs(np.fft.rfft(x[:, 0] * np.hanning(len(x)))) ** 2 for x in (before, after)]
    high = [slice(round(a * len(before) / RATE), round(b * len(before) / RATE)) for a, b in ((200, 2000), (2000, 6000))]
    tilts = [level(np.sqrt(s[high[1]])) - level(np.sqrt(s[high[0]])) for s in spectra]
    raw = np.abs(np.fft.rfft([1 / 4] * 4, 16000)) ** 2
    assert abs(tilts[1] - tilts[0]) < 0.7 * abs(10 * np.log10(raw[2000:6000].mean() / raw[200:2000].mean()))


def test_room_tone_lies_under_a_recording_without_noise():
    clip, words = footage(TEXT, gap=0.2, seconds=4)
    audio, said = voice("nine again", rate=16000, seconds=1.5, gap=0.3)
    clean = audio.copy()
    for a, b in ((0.0, said[0].start), (said[0].end, said[1].start), (said[1].end, 1.5)):
        clean[round(a * 16000) : round(b * 16000)] = 0
    _, out, new = edited(clip, words, "bin blue at f nine again now", Speech(clean, tuple(said), ()))
    floor = level(part(clip, 0, 0.4))
    for before, after in pairwise(new[3:]):
        assert abs(level(part(out, before.end + 0.03, after.start - 0.03)) - floor) < 1.5
    tone = sound._room_tone(clip.audio, RATE, RATE)
    assert tone.shape == (RATE, 2)
    assert abs(level(tone) - floor) < 1


def test_channels_keep_their_balance():
    clip, words = footage()
    clip = Clip(clip.frames, clip.fps, clip.audio * np.float32([1, 0.25]), RATE)
    _, out, _ = edited(clip, words, "bin blue at f nine now", recording("nine", seconds=1.5))
    x = part(out, words[4].start + 0.05, words[4].start + 0.15)
    assert abs(level(x[:, 0]) - level(x[:, 1]) - 12.04) < 1


def test_words_of_the_footage_are_used_again_in_the_likest_context():
    clip, words = footage("at f now by f two in a", seconds=4)
    (p,), out, new = edited(clip, words, "at f now by f two in f two")
    assert (p.source, [w.text for w in p.words]) == ("footage", ["f", "two"])
    assert f"{words[4].start:.2f} s" in p.notes[0]  # "f two", one piece, and not the "f" of "at f now"
    a, b = part(clip, words[4].start + 0.06, words[5].end - 0.06), part(out, new[7].start + 0.06, new[8].end - 0.06)
    assert np.allclose(a, b[: len(a)], atol=1e-6)
    (p,), _, _ = edited(clip, words, "at f now by two two in a")  # not from inside the span
    assert p.source == "footage"


def test_espeak_speaks_what_nobody_recorded_and_the_notes_say_so():
    clip, words = footage()
    (p,), _, new = edited(clip, words, "bin blue at f two soon, please")
    assert p.source == "espeak"
    assert "placeholder" in p.notes[0]
    assert [w.text for w in new][-2:] == ["soon,", "please"]


def test_one_recording_or_one_a_span_and_what_they_lack():
    clip, words = footage()
    text = "lay blue at f two soon"
    one = edited(clip, words, text, recording("lay it soon"))[0]
    each = edited(clip, words, text, [recording("lay"), recording("soon")])[0]
    assert [p.source for p in one] == [p.source for p in each] == ["recording"] * 2
    with pytest.raises(EditError, match='says "lay it now", not "soon"'):
        edited(clip, words, text, recording("lay it now"))
    with pytest.raises(EditError, match="1 recordings for 2 edits"):
        edited(clip, words, text, [recording("lay")])
    with pytest.raises(SpeechError, match="no sound"):
        patches(Clip(clip.frames, clip.fps, np.zeros((0, 1), np.float32), 16000), words, [Span(0, 1, ())])


def test_close_spans_share_a_patch_and_distant_ones_do_not():
    clip, words = footage()
    speech = recording("red g lay soon")
    (p,), _, _ = edited(clip, words, "bin red at g two now", speech)
    assert (p.span.first, p.span.last, p.span.new) == (1, 4, ("red", "at", "g"))
    far = edited(clip, words, "lay blue at f two soon", speech)[0]
    assert len(far) == 2
    assert far[1].k0 - far[0].k1 >= 0.2 * 25


def test_a_fade_keeps_equal_signals_and_falls_evenly_between_unequal_ones():
    noise = np.random.default_rng(0).standard_normal((4000, 2)).astype(np.float32)
    assert np.allclose(sound._faded(noise, noise), noise, atol=1e-5)
    other = np.random.default_rng(1).standard_normal((4000, 2)).astype(np.float32)
    levels = [level(x) for x in np.split(sound._faded(noise, other), 8)]
    assert np.ptp(levels) < 0.7
    falling = [level(x) for x in np.split(sound._faded(noise, 0.01 * other), 8)]
    assert np.allclose(np.diff(falling), -5, atol=0.8)  # 40 dB in eight steps


def test_joins_of_real_speech_stay_within_its_own_steps(mirror):
    """Level step and flux at the joins of GRID edits, against each clip's own 95th percentile (5 % by chance)."""
    files = {p.stem: p for p in sorted((mirror / "grid-s1").glob("*.mpg"))}
    families = [[n for n in files if n[:4] == f] for f in sorted({n[:4] for n in files})][:8]
    steps, fluxes = [], []
    for name, other in (f[:2] for f in families):
        clip, words = read(files[name]), list(read_align(files[name].with_suffix(".align")))
        take, said = read(files[other]), tuple(read_align(files[other].with_suffix(".align")))
        text = " ".join([w.text for w in words[:4]] + [w.text for w in said[4:]])
        (p,), out, new = edited(clip, words, text, Speech(take.mono16k(), said, ()))
        assert p.source == "recording"
        assert np.array_equal(out.audio[: p.k0 * 1764], clip.audio[: p.k0 * 1764])
        x, y = new[4].start + 0.05, said[4].start + 0.05
        assert np.corrcoef(part(out, x, x + 0.1)[:, 0], part(take, y, y + 0.1)[:, 0])[0, 1] > 0.9  # to the sample
        curves = [sound_steps(c.audio.mean(1), RATE) for c in (clip, out)]
        joins = [round(t / 0.01) - 1 for t in (new[4].start, new[-1].end)]
        for to, (own, now) in zip((steps, fluxes), zip(*curves)):
            to += [share_above([now[i - 2 : i + 3].mean()], np.convolve(own, np.full(5, 0.2), "valid")) for i in joins]
    assert np.mean(steps) <= 0.15
    assert np.mean(fluxes) <= 0.15
