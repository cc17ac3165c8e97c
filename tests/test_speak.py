"""The presenter speaks: dominance functions in closed form, lips that meet, emotions, voices, sidecars."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from thlib import clip, landmarks, provenance, speech
from thlib.behaviour import EMOTIONS
from thlib.clip import Phone
from thlib.errors import DataError, SpeechError
from thlib.landmarks import FaceTrack, ear, head_angles, head_fixed, mouth_opening
from thlib.presenter import speak
from thlib.presenter.face import displacement, model, shape
from thlib.rig import ARKIT, Curves
from thlib.speech import RATE, Speech

FULL = "My brave mum believes five boys move above the purple map, so Bob and Pam may buy it for a puppy."
TEETH = 0.05  # eye-corner units below the line of the closed lips: the upper teeth end at 0.03


def said(*phones, rate=RATE):
    """Speech of phones (name, start, end), with a hum where they are."""
    end = phones[-1][2] + 0.3 if phones else 1.0
    sound = np.zeros(round(end * rate), np.float32)
    for _, a, b in phones:
        sound[round(a * rate) : round(b * rate)] = 0.3
    return Speech(sound, (), tuple(Phone(*p) for p in phones), rate)


def mouth(curves, rest=None):
    """Opening of the lips (T,), width of the mouth (T,) and depth of the lower lip's edge (T,) of the exact points."""
    rest = model().neutral if rest is None else rest
    points = rest + displacement(curves.to("mediapipe").values, shape=rest)
    opening = np.linalg.norm(points[:, 13] - points[:, 14], axis=-1)
    return opening, np.linalg.norm(points[:, 61] - points[:, 291], axis=-1), points[:, 14, 1] - rest[13, 1]


def reached(speech, curves, kind, measure, limit):
    """For each phone of a kind, whether the measure (T,) falls below the limit in a frame that shows it."""
    fps = float(curves.fps)
    spans = [(int(p.start * fps), int(np.ceil(p.end * fps))) for p in speech.phones if p.text in kind]
    return [measure[a:b].min() < limit for a, b in spans]


def contact_rate(**manner):
    """Share of m, b, p in fast and slow speech in which lips meet (1 % of the eye-corner distance)."""
    met = []
    for speed in (150, 260):
        spoken = speech.say(FULL, voice="en-us", speed=speed)
        curves = speak.curves(spoken, **manner)
        met += reached(spoken, curves, "MBP", mouth(curves)[0], 0.01)
    assert len(met) > 30
    return np.mean(met)


# --- visemes ---


def test_two_phones_in_closed_form():
    times = np.arange(0, 1, 0.01)
    values = speak.visemes([Phone("AA", 0.2, 0.4), Phone("S", 0.4, 0.6)], times)[:, ARKIT.index("jawOpen")]
    rest, steady = 0, 0.05  # target of silence; half of a phone's steady part, which is half of it
    at = 0.42
    far = {"AA": at - 0.3 - steady, "S": 0.5 - at - steady}
    pull = {"AA": 1.2 * np.exp(-far["AA"] / 0.05), "S": 3 * np.exp(-far["S"] / 0.05)}
    silences = [np.exp(-(at - (0.2 - 0.06)) / 0.05), np.exp(-(0.6 + 0.06 - at) / 0.05)]
    expected = pull["AA"] * 0.45 + pull["S"] * 0.08 + sum(silences) * rest
    assert values[42] == pytest.approx(expected / (sum(pull.values()) + sum(silences)), rel=1e-6)


def test_every_phone_of_english_has_a_viseme():
    symbols = set(speech.IPA.values())
    assert len(symbols) == 39
    for symbol in symbols:
        values = speak.curves(said((symbol, 0.2, 0.5))).values
        assert values.max() > 0.05
        assert values.min() >= 0
        assert values.max() <= 1


def test_vowels_look_like_themselves():
    look = {p: [m[9] for m in mouth(speak.curves(said((p, 0.2, 0.55))))] for p in ("AA", "IY", "UW", "AO", "S", "M")}
    opening, width = ({p: x[k] for p, x in look.items()} for k in (0, 1))
    rest = mouth(speak.curves(said(("HH", 0.6, 0.65))))[1][0]
    assert opening["AA"] > opening["IY"] + 0.05
    assert opening["AA"] > 0.15
    assert opening["M"] < 0.005
    assert opening["S"] < opening["IY"]
    assert width["UW"] < 0.93 * rest
    assert width["AO"] < 0.98 * rest
    assert width["IY"] > 1.02 * rest


def test_rounding_comes_before_its_vowel():
    pucker = [
        speak.curves(said(("S", 0.2, 0.32), ("T", 0.32, 0.38), (vowel, 0.38, 0.6)))["mouthPucker"][6]
        for vowel in ("UW", "IY")
    ]
    assert pucker[0] > 0.1
    assert pucker[1] < 0.01


def test_diphthongs_move():
    opening, _, _ = mouth(speak.curves(said(("AY", 0.2, 0.6))))
    assert opening[7] > opening[13] + 0.03


def test_stress_marks_are_read_and_other_symbols_refused():
    np.testing.assert_array_equal(
        speak.curves(said(("AA1", 0.2, 0.4))).values, speak.curves(said(("AA", 0.2, 0.4))).values
    )
    with pytest.raises(SpeechError, match="'ɑː'.*ARPAbet"):
        speak.curves(said(("ɑː", 0.2, 0.4)))


# --- closures ---


@pytest.mark.parametrize("emotion", EMOTIONS)
@pytest.mark.parametrize("style", [0, 1])
def test_lips_meet_on_m_b_p_whatever_is_felt(emotion, style):
    assert contact_rate(emotion=emotion, style=style, intensity=1.5) == 1


def test_lips_meet_at_other_frame_rates_and_on_other_faces():
    spoken = speech.say(FULL, voice="en-us", speed=200)
    for seed, fps in ((1, 24), (2, Fraction(30000, 1001)), (3, 60)):
        curves = speak.curves(spoken, emotion="happy", style=1, fps=fps)
        rest = shape(np.random.default_rng(seed).normal(size=len(model().deviations)).clip(-2, 2))
        assert all(reached(spoken, curves, "MBP", mouth(curves, rest)[0], 0.01))
        assert curves.fps == fps


def test_planted_lips_that_never_meet_are_caught(monkeypatch):
    monkeypatch.setattr(speak, "_contacts", lambda values, phones, times: values)
    assert contact_rate() == 1  # dominance alone reaches them in slow and fast speech
    row = speak._phones()
    lazy = {p: (np.where(np.arange(52) == speak.CLOSE, 0.3 * t, t), d) for p, (t, d) in row.items()}
    monkeypatch.setattr(speak, "_phones", lambda: lazy)
    assert contact_rate() < 0.2


def test_planted_smoothing_loses_closures():
    spoken = speech.say(FULL, voice="en-us", speed=260)
    curves = speak.curves(spoken)
    blurred = np.stack([np.convolve(column, np.ones(5) / 5, "same") for column in curves.values.T], 1)
    met = reached(spoken, curves, "MBP", mouth(replace(curves, values=blurred))[0], 0.01)
    assert np.mean(met) < 0.98


def test_a_closure_keeps_its_frame_beside_a_bitten_lip():
    spoken = said(("AA", 0.2, 0.3), ("V", 0.3, 0.32), ("M", 0.32, 0.34), ("AA", 0.34, 0.5))  # both in one frame
    opening, _, _ = mouth(speak.curves(spoken))
    assert opening[8] < 0.01


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_the_lower_lip_meets_the_teeth_on_f_v(emotion):
    spoken = speech.say(
        "Five brave vets gave the fox a very fluffy velvet sofa, off the roof of the cave.", voice="en-us"
    )
    for style in (0, 1):
        curves = speak.curves(spoken, emotion=emotion, style=style, intensity=1)
        met = reached(spoken, curves, "FV", mouth(curves)[2], TEETH)
        assert len(met) > 12
        assert np.mean(met) >= 0.95


# --- the whole face ---


def test_the_same_seed_gives_the_same_face_and_another_a_different_one():
    spoken = speech.say(FULL, voice="en-us")
    one, same, other = (speak.curves(spoken, emotion="sad", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.values, same.values)
    np.testing.assert_array_equal(one.head, same.head)
    assert np.abs(one.values - other.values).max() > 0.1
    assert np.abs(one.head - other.head).max() > 0.3
    lips = [ARKIT.index(name) for name in ("jawOpen", "mouthClose", "mouthPucker")]
    np.testing.assert_allclose(one.values[:, lips], other.values[:, lips], atol=1e-6)


def test_curves_are_as_long_as_the_sound():
    for samples, fps, frames in ((16000, 25, 25), (16001, 25, 26), (16000, 60, 60), (100, 25, 1)):
        silence = Speech(np.zeros(samples, np.float32), (), ())
        curves = speak.curves(silence, fps=fps)
        assert curves.values.shape == (frames, 52)
        assert curves.head.shape == (frames, 3)
        assert mouth(curves)[0].max() < 0.02


@pytest.mark.parametrize("emotion", [e for e in EMOTIONS if e != "neutral"])
def test_emotions_differ_grow_and_have_styles(emotion):
    spoken = speech.say(FULL, voice="en-us")

    def mean(**manner):
        return speak.curves(spoken, **manner).values.mean(0)

    neutral = mean()
    weak, strong = (np.abs(mean(emotion=emotion, intensity=i) - neutral).sum() for i in (0.4, 1.0))
    assert strong > 1.5 * weak > 0.3
    assert np.abs(mean(emotion=emotion) - mean(emotion=emotion, style=1)).max() > 0.1
    for other in EMOTIONS:
        assert other == emotion or np.abs(mean(emotion=emotion) - mean(emotion=other)).max() > 0.1


def test_unknown_feelings_are_refused():
    spoken = said(("AA", 0.2, 0.4))
    with pytest.raises(DataError, match="hungry"):
        speak.curves(spoken, emotion="hungry")
    with pytest.raises(DataError, match="0 to 1.5"):
        speak.curves(spoken, intensity=3)
    with pytest.raises(DataError):
        speak.curves(spoken, style=2)


def test_speech_moves_the_head_and_eyes_blink():
    spoken = speak.utter(f"{FULL} {FULL}", 3)
    curves = speak.curves(spoken, seed=5)
    assert 0.3 < curves.head.std(0).max() < 6
    assert curves["eyeBlinkLeft"].max() == 1
    assert curves["eyeLookUpLeft"].max() + curves["eyeLookDownLeft"].max() > 0.05
    np.testing.assert_array_equal(curves["eyeBlinkLeft"], curves["eyeBlinkRight"])


# --- performances ---


@pytest.fixture(scope="module")
def hello():
    """A short performance."""
    return speak.say("Bob may move the map.", emotion="happy", identity=7, seed=3, size=(96, 128))


def test_a_performance_is_a_clip_and_its_exact_track(hello):
    video, track = hello.clip, hello.track
    assert isinstance(track, FaceTrack)
    assert video.frames.shape == (len(track.points), 96, 128, 3)
    assert len(video.audio) == round(video.duration * RATE)
    assert track.visible.all()
    assert [word.text for word in hello.words] == ["Bob", "may", "move", "the", "map"]
    assert hello.words[0].start >= speak.BEFORE
    assert (hello.identity, hello.emotion, hello.seed) == (7, "happy", 3)
    met = reached(hello.speech, hello.curves, "MBP", mouth_opening(track.points), 0.01)
    assert len(met) == 6
    assert all(met)
    np.testing.assert_allclose(head_angles(track), hello.curves.head * (1, 1, -1), atol=0.1)
    fixed = head_fixed(track.points)
    assert ear(fixed)[hello.curves["eyeBlinkLeft"] < 0.02].min() > 0.15


def test_the_sound_is_heard_when_the_lips_move(hello):
    frames = np.array_split(hello.clip.audio[:, 0], len(hello.clip.frames))
    loud = np.sqrt([np.mean(x**2) for x in frames])
    opening, _, _ = mouth(speak.curves(hello.speech))  # unmoved by a smile
    assert opening[loud > 0.3 * loud.max()].mean() > 2 * opening[loud < 0.01 * loud.max()].mean()


def test_a_performance_is_saved_with_all_that_is_known(hello, tmp_path):
    path = hello.save(tmp_path / "hello.mp4")
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"hello.mp4", "hello.track.npz", "hello.TextGrid", "hello.vtt", "hello.provenance.json"}
    track = landmarks.track(clip.Video(path))
    np.testing.assert_array_equal(track.points, hello.track.points)
    np.testing.assert_array_equal(track.controls, hello.track.controls)
    words, phones = speech.read_textgrid(path.with_suffix(".TextGrid"))
    assert [w.text for w in words] == [w.text for w in hello.words]
    assert [p.text for p in phones] == [p.text for p in hello.phones]
    np.testing.assert_allclose([w.start for w in words], [w.start for w in hello.words], atol=1e-3)
    report = provenance.verify(path)
    assert report.marks == ("container", "sidecar")
    assert not report.problems
    assert report.spans == [(0.0, pytest.approx(hello.clip.duration, abs=1e-3))]
    assert "synthetic presenter" in json.dumps(report.record)
    read = clip.read(path)
    assert read.frames.shape == hello.clip.frames.shape
    aligned = speech.align(read.mono16k(), "Bob may move the map.")
    np.testing.assert_allclose([w.start for w in aligned], [w.start for w in hello.words], atol=0.1)


def test_a_performance_without_words_is_saved_too(tmp_path):
    curves = Curves(np.zeros((5, 52)), "mediapipe", 25)
    done = speak.perform(1, curves, np.zeros((RATE, 2)), size=(64, 64))
    done.save(tmp_path / "mute.mp4")
    assert not (tmp_path / "mute.TextGrid").exists()
    assert len(clip.read(tmp_path / "mute.mp4").frames) == 5


@pytest.mark.parametrize("samples", [0, 1000, 48000])
def test_sound_is_cut_or_followed_by_silence(samples):
    sound = np.linspace(0.1, 1, samples, dtype=np.float32)
    done = speak.perform(speak.person(4), Curves(np.zeros((10, 52)), "arkit", 25), sound, size=(48, 48), rate=24000)
    heard = done.clip.audio[:, 0]
    assert len(heard) == 9600
    np.testing.assert_array_equal(heard[:samples], sound[:9600])
    assert not heard[samples:].any()


def test_nothing_to_say_is_refused():
    with pytest.raises(SpeechError):
        speak.say("...", size=(32, 32))


def test_voices_belong_to_identities():
    voices = {k: speak.voice(k) for k in range(40)}
    assert voices == {k: speak.voice(k) for k in range(40)}
    assert len(set(voices.values())) > 30
    bearded = [k for k in voices if speak.person(k).beard]
    assert bearded
    assert all(voices[k][0] in speak.LOW for k in bearded)
    assert {v[0] for v in voices.values()} == {*speak.LOW, *speak.HIGH}


def test_feelings_are_heard():
    calm, sad, glad = (len(speak.utter(FULL, 5, emotion=e).audio) for e in ("neutral", "sad", "angry"))
    assert sad > calm > glad
