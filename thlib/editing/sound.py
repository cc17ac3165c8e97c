"""The sound of the new words: found, matched to the footage, laid on the frame grid and cross-faded.

A patch is a chain of pieces of recordings: the kept sound before the edit, the new words, the kept sound after it.
Each is moved by whole frames, time 0 of a recording being the start of a frame, so that lips and sound keep the phase
they were recorded with. Neighbours change over at the quietest, most alike instant around their words' border, in one
short fade. Samples outside the frames that the fades touch are never written."""

# S samples  C channels  B mel bands  n analysis windows
from collections import namedtuple
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor
from typing import Self

import librosa
import numpy as np
from scipy.signal import fftconvolve, firwin2

from thlib.clip import Clip, Word, sample_at
from thlib.editing.script import Span, key, neighbours, occurrences
from thlib.errors import EditError, SpeechError
from thlib.speech import Speech, say

NEAR = 4.0  # seconds around an edit on which level, tilt and room tone are measured
FADE, SLOPE, LONGEST = 0.010, 0.003, 0.1  # seconds of a fade: between equal levels, more for every dB, at most
REACH = 0.035  # seconds by which a fade's middle may lie inside a word, at most a third of it: word times err as much
BRIDGE = 0.2  # seconds of a patch at least: a deletion needs frames between two mouths
APART = 0.2  # seconds between two patches at least; closer spans share one
HOP, WINDOW, BANDS = 0.0025, 0.012, 24  # seconds, seconds, mel bands of the analysis

Patch = namedtuple("Patch", "span k0 k1 n_frames fps audio words source notes")  # see `patches`
# Where a piece begins: moved by `shift` frames, faded in over the output's samples [begin, end); cost in dB.
_Join = namedtuple("_Join", "shift begin end cost", defaults=[0.0])


def patches(
    clip: Clip, words: Sequence[Word], spans: Sequence[Span], *, speech: Speech | Sequence[Speech] | None = None
) -> list[Patch]:
    """New sound for the spans, in order; of `clip` only sound, fps and duration count. A Patch is for the frames
    [k0, k1) of the old video, which become `n_frames` frames at `fps`:
    span    the old words [first, last) that `words` replace (several spans of the script where these are close).
    audio   float32 (S, C) at the clip's rate, cut to the sample where `clip.splice` puts it.
    words   the new words, and kept ones between close spans, in seconds from the start of the patch.
    source  "recording", "footage", "espeak", "cut" (a deletion), joined by " + ".   notes  sentences on the source.
    New words come from `speech` (one recording with the words of every span, or a list, one a span with new words),
    else from elsewhere in the footage, else from espeak. A patch covers the frames whose sound changes, at least 0.2 s;
    a margin in which only the face changes is the caller's. Spans whose patches would be less than 0.2 s apart share
    one. Raises SpeechError for a silent clip, EditError for words that a recording lacks."""
    if clip.silent or np.abs(clip.audio).max() < 1e-4:
        raise SpeechError("The video has no sound, so its words cannot change: take a video with sound.")
    told = [span for span in spans if span.new]
    given = list(speech) if isinstance(speech, Sequence) else [speech] * len(told)
    if len(given) != len(told):
        raise EditError(f"{len(given)} recordings for {len(told)} edits with new words: give one each, or one in all.")
    takes = {span: _take(clip, words, span, recording) for span, recording in zip(told, given)}
    groups = [{span: takes.get(span, [])} for span in spans]
    while True:
        out, moved = [], 0
        for group in groups:
            out.append(_patch(clip, words, group, moved))
            moved += out[-1].n_frames - (out[-1].k1 - out[-1].k0)
        close = [n for n, (a, b) in enumerate(pairwise(out)) if b.k0 - a.k1 < APART * clip.fps]
        if not close:
            return out
        groups[close[0] : close[0] + 2] = [groups[close[0]] | groups[close[0] + 1]]


def retime(words: Sequence[Word], patches: Sequence[Patch]) -> list[Word]:
    """All words of the result: kept ones move by whole frames, new ones lie where their patch says.
    Starts are exact; an end gives way where the next word begins up to half a frame early."""
    out, at, moved = [], 0, 0
    for patch in patches:
        out += shifted(words[at : patch.span.first], moved / patch.fps)
        out += shifted(patch.words, (patch.k0 + moved) / patch.fps)
        moved, at = moved + patch.n_frames - (patch.k1 - patch.k0), patch.span.last
    out += shifted(words[at:], moved / patches[0].fps)
    return [replace(word, end=min(word.end, after.start)) for word, after in pairwise(out)] + out[-1:]


def shifted(words: Sequence[Word], seconds: Fraction) -> list[Word]:
    """The words, `seconds` later."""
    return [Word(word.text, word.start + float(seconds), word.end + float(seconds)) for word in words]


class _Piece(namedtuple("_Piece", "audio words lead start end tail source note gain", defaults=("kept", "", 1.0))):
    """Words of a recording, audio (S, C) by `gain`, `start` to `end`, in its seconds; `lead` to `tail` has no other."""

    def read(self, first: int, last: int, tone: np.ndarray) -> np.ndarray:
        """Samples [first, last) of the recording, room tone where it has none: (last - first, C)."""
        out = tone[np.arange(first, last) % len(tone)]
        a, b = max(first, 0), max(min(last, len(self.audio)), 0)
        out[a - first : b - first] = self.gain * self.audio[a:b]
        return out

    def spare(self, k: int) -> float:
        """Seconds of word k into which a change may reach."""
        return min(REACH, (self.words[k].end - self.words[k].start) / 3) if self.words else 0.0

    def saying(self, texts: Sequence[str], source: str, note: str) -> Self:
        """The same, its words written as `texts`."""
        words = (replace(word, text=text) for word, text in zip(self.words, texts))
        return self._replace(words=tuple(words), source=source, note=note)


def _piece(audio: np.ndarray, rate: int, words: Sequence[Word], first: int, last: int) -> _Piece:
    """The words [first, last) of a recording; first == last is the pause before word `first`."""
    ends = [0.0, *(word.end for word in words)]
    starts = [*(word.start for word in words), max(len(audio) / rate, ends[-1])]
    return _Piece(audio, tuple(words[first:last]), ends[first], starts[first], ends[last], starts[last])


def _take(clip: Clip, words: Sequence[Word], span: Span, speech: Speech | None) -> list[_Piece]:
    """The new words of a span: from the recording, else from the footage, else from espeak."""
    if speech is None and (pieces := _from_footage(clip, words, span)):
        return pieces
    new, n, near, source, note = " ".join(span.new), len(span.new), _near(clip, words, span), "recording", ""
    if speech is None:  # espeak, in the voice and pitch that come nearest to those of the footage
        spoken = [say(new, voice=voice, pitch=pitch) for voice in ("en-gb", "en-gb+f3") for pitch in (20, 50, 80)]
        wanted, source = _pitch(near.mean(1), clip.audio_rate), "espeak"
        speech = min(spoken, key=lambda speech: abs(np.log(_pitch(speech.audio, speech.rate) / wanted)))
        note = f'"{new}" is not recorded: espeak speaks it as a placeholder; record the words to replace it.'
    found = occurrences(speech.words, span.new)
    if not found:
        said = " ".join(word.text for word in speech.words)
        raise EditError(f'The recording says "{said}", not "{new}": record the new words, in their order.')
    around = neighbours(words, span.first, span.last)
    first = max(found, key=lambda i: _likeness(speech.words, Span(i, i + n, ()), around))
    piece = _piece(_matched(speech, near, clip.audio_rate), clip.audio_rate, speech.words, first, first + n)
    return [piece.saying(span.new, source, note)]


def _from_footage(clip: Clip, words: Sequence[Word], span: Span) -> list[_Piece]:
    """The new words from outside the span, as few pieces as there can be, in like contexts; [] if one is not said."""
    left, right = neighbours(words, span.first, span.last)
    context, level, pieces, at = [left, *map(key, span.new), right], _level(clip, words, span), [], 0
    while at < len(span.new):
        texts = [span.new[at:stop] for stop in range(at + 1, len(span.new) + 1)]
        runs = [Span(i, i + len(new), new) for new in texts for i in occurrences(words, new)]
        runs = [run for run in runs if run.last <= span.first or run.first >= span.last]
        if not runs:
            return []
        run = max(runs, key=lambda run: (len(run.new), _likeness(words, run, context[at : at + len(run.new) + 2])))
        at += len(run.new)
        gain = np.clip(level / _level(clip, words, run), 0.5, 2)
        note = f'The sound of "{" ".join(run.new)}" is that at {words[run.first].start:.2f} s of the same footage.'
        piece = _piece(clip.audio, clip.audio_rate, words, run.first, run.last).saying(run.new, "footage", note)
        pieces.append(piece._replace(gain=gain))
    return pieces


def _likeness(words: Sequence[Word], run: Span, context: Sequence[str]) -> int:
    """How alike the neighbours of a run of words and the ends of `context` are: 2 a word, 1 the letter that touches."""
    before, after = neighbours(words, run.first, run.last)
    left, right = context[0], context[-1]
    return (before == left) + (before[-1:] == left[-1:]) + (after == right) + (after[:1] == right[:1])


def _near(clip: Clip, words: Sequence[Word], span: Span) -> np.ndarray:
    """The sound (S, C) of the footage within NEAR seconds of a span."""
    gap, rate = _piece(clip.audio, clip.audio_rate, words, span.first, span.last), clip.audio_rate
    return clip.audio[max(0, round((gap.lead - NEAR) * rate)) : round((gap.tail + NEAR) * rate)]


def _level(clip: Clip, words: Sequence[Word], span: Span) -> np.float32:
    """Root mean square of the speech around a span."""
    return np.sqrt(_profile(_near(clip, words, span).mean(1), clip.audio_rate)[0].sum(dtype=np.float32))


def _pitch(mono: np.ndarray, rate: int) -> float:
    """Median pitch of a voice in Hz, over the louder third (YIN, de Cheveigne and Kawahara 2002)."""
    size, hop = round(0.064 * rate), round(0.016 * rate)
    pitch = librosa.yin(mono, fmin=60, fmax=400, sr=rate, frame_length=size, hop_length=hop)
    level = librosa.feature.rms(y=mono, frame_length=size, hop_length=hop)[0]
    return float(np.median(pitch[level >= np.quantile(level, 2 / 3)]))


def _bands(mono: np.ndarray, rate: int) -> np.ndarray:
    """Mel band powers (n, B); row i is centred WINDOW / 2 + i * HOP seconds after the first sample."""
    sizes = {"n_fft": round(WINDOW * rate), "hop_length": round(HOP * rate), "n_mels": BANDS}
    return librosa.feature.melspectrogram(y=np.ascontiguousarray(mono), sr=rate, center=False, **sizes).T + 1e-9


def _profile(mono: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean log spectra (B,), as powers, of the speech (within 20 dB of the loudest, less noise) and the quiet tenth."""
    power = _bands(mono, rate)
    level = 10 * np.log10(power.sum(1))
    noise = power[level <= np.percentile(level, 10)].mean(0)
    active = np.exp(np.log(power[level > np.percentile(level, 95) - 20]).mean(0))  # one loud word weighs like any other
    return np.maximum(active - noise, 1e-9), noise


def _matched(speech: Speech, near: np.ndarray, rate: int) -> np.ndarray:
    """A recording with the footage's rate, channels, speech level, spectrum tilt and room tone: (S, C).
    The tilt is a cubic over the mel bands, and trusted by t / (t + 1) where the shorter of the two lasts t seconds:
    a single word tells more of its vowel than of its microphone. What a 16 kHz recording lacks above 8 kHz is its own
    upper half mirrored (spectral folding, Makhoul and Berouti 1979), no louder than in the footage."""
    own = np.zeros(2 * len(speech.audio), np.float32)
    own[::2] = 2 * speech.audio  # twice the rate, mirrored
    own = librosa.resample(own, orig_sr=2 * speech.rate, target_sr=rate, res_type="soxr_hq")
    ramp = np.arange(len(own)) / (0.005 * rate)  # 5 ms, so that a tight recording has no edges
    own = own * np.minimum(1, np.minimum(ramp, ramp[::-1]))
    loudness = np.sqrt(np.mean(near**2, axis=0)) + 1e-9  # (C,)
    (voice, noise), (mine, hiss) = _profile(near[:, loudness.argmax()], rate), _profile(own, rate)
    centres = librosa.mel_frequencies(BANDS + 2, fmax=rate / 2)[1:-1]
    ratio, clear = 10 * np.log10(voice / mine), 10 * np.log10(np.minimum(voice / noise, mine / hiss))
    n = np.sum(centres < 0.45 * speech.rate)  # true bands
    tilt = np.polynomial.Polynomial.fit(np.arange(n), ratio[:n], 3, w=np.clip(clear, 1, 20)[:n])(np.arange(n))
    seconds = min(len(own), len(near)) / rate
    gain = np.clip(tilt - np.average(tilt, weights=mine[:n]), -12, 12) * seconds / (seconds + 1)
    gain += 10 * np.log10(voice[:n].sum() / (mine[:n] * 10 ** (gain / 10)).sum())
    gain = np.concatenate([gain, np.minimum(ratio[n:], gain[-1])])
    missing = np.clip(1 - hiss * 10 ** (gain / 10) / noise, 1e-4, 1)  # of the room tone, by band
    own = _filtered(own[:, None] * loudness / loudness.max(), centres, gain, rate)
    own += _filtered(_room_tone(near, rate, len(own)), centres, 10 * np.log10(missing), rate)
    return own / max(1.0, np.abs(own).max())


def _filtered(audio: np.ndarray, centres: np.ndarray, gain: np.ndarray, rate: int) -> np.ndarray:
    """Sound (S, C) with `gain` dB (B,) at the frequencies `centres`, without delay."""
    gains = 10 ** (np.concatenate([gain[:1], gain, gain[-1:]]) / 20)
    taps = firwin2(2 * round(0.005 * rate) + 1, [0, *centres, rate / 2], gains, fs=rate)
    return fftconvolve(audio, taps[:, None], mode="same", axes=0).astype(np.float32)


def _room_tone(near: np.ndarray, rate: int, length: int) -> np.ndarray:
    """Background sound (length, C): the quietest tenth of the 80 ms grains of the footage, shuffled and overlapped."""
    half = round(0.04 * rate)
    near = np.pad(near, ((0, max(0, 4 * half - len(near))), (0, 0)), mode="symmetric")
    grains = np.stack([near[s : s + 2 * half] for s in range(0, len(near) - 2 * half + 1, half // 2)])
    power, window = np.mean(grains**2, axis=(1, 2)), np.sin(np.pi * (np.arange(2 * half) + 0.5) / (2 * half))
    quiet = grains[power <= np.percentile(power, 10)] * window[:, None]
    chosen = quiet[np.random.default_rng(0).integers(len(quiet), size=length // half + 2)]
    return (chosen[1:, :half] + chosen[:-1, half:]).reshape(-1, near.shape[1])[:length].astype(np.float32)


def _patch(clip: Clip, words: Sequence[Word], takes: dict[Span, list[_Piece]], moved: int) -> Patch:
    """Chain the takes of close spans between the kept sound; `moved` frames have been added before them."""
    fps, rate, spans = clip.fps, clip.audio_rate, list(takes)
    usual = float(np.clip(np.median([0.0] + [b.start - a.end for a, b in pairwise(words)]), 0, 0.1))
    bounds = [0, *(k for span in spans for k in (span.first, span.last)), len(words)]
    kept = [_piece(clip.audio, rate, words, i, j) for i, j in zip(bounds[::2], bounds[1::2])]  # before, between, after
    for n, span in enumerate(spans):
        if span.first == span.last:  # an insertion leaves most of its pause to what follows
            end, start = kept[n].end, kept[n + 1].start
            split = min(end + usual, start) if span.first else max(start - usual, end)
            kept[n], kept[n + 1] = kept[n]._replace(tail=split), kept[n + 1]._replace(lead=split)
    chain = [piece for k, take in zip(kept, takes.values()) for piece in (k, *take)] + [kept[-1]]
    joins = [_Join(0, 0, 0)]
    for before, after in pairwise(chain):
        joins.append(_join(before, after, usual, joins[-1], clip))
    k0, end = _frames(chain, joins, clip)
    k1 = end - joins[-1].shift
    start, length = sample_at(k0, fps, rate), sample_at(end + moved, fps, rate) - sample_at(k0 + moved, fps, rate)
    moves = [sample_at(j.shift, fps, rate) for j in joins[:-1]] + [start + length - sample_at(k1, fps, rate)]
    tone = _room_tone(_near(clip, words, spans[0]), rate, rate)
    audio = chain[0].read(start, joins[1].end, tone)  # from here on faded at every join
    stops = [*(join.end for join in joins[2:]), start + length]
    for piece, move, join, stop in zip(chain[1:], moves[1:], joins[1:], stops):
        new, width = piece.read(join.begin - move, stop - move, tone), join.end - join.begin
        audio = np.concatenate([audio[:-width], _faded(audio[-width:], new[:width]), new[width:]])
    laid = [word for p, j in zip(chain[1:-1], joins[1:]) for word in shifted(p.words, (j.shift - k0) / fps)]
    span = Span(spans[0].first, spans[-1].last, tuple(word.text for word in laid))
    source = " + ".join(dict.fromkeys(piece.source for take in takes.values() for piece in take)) or "cut"
    k1 = min(k1, round(clip.duration * fps))
    return Patch(span, k0, k1, end - k0, fps, audio, tuple(laid), source, tuple(p.note for p in chain if p.note))


def _join(before: _Piece, after: _Piece, usual: float, last: _Join, clip: Clip) -> _Join:
    """The best way to let `after` follow `before`, which began at the join `last`, after about the footage's own pause;
    of the two that a deletion leaves, the longer; between new words at most `usual` seconds."""
    left, right = before.tail - before.end, after.start - after.lead
    if before.source == after.source == "kept":
        pause = left if not before.words else right if not after.words else max(left, right)
    else:
        pause = left if before.source == "kept" else right if after.source == "kept" else min(usual, max(left, right))
    ideal = last.shift + (before.end + pause - after.start) * float(clip.fps)
    options = [_change(before, after, last, shift, clip) for shift in sorted({floor(ideal), ceil(ideal)})]
    return min(options, key=lambda join: join.cost + abs(join.shift - ideal))


def _change(before: _Piece, after: _Piece, last: _Join, shift: int, clip: Clip) -> _Join:
    """The instant at which `after`, moved by `shift` frames, best takes over.
    Cost in dB: the mean band difference between the 10 ms before it of the one and the 10 ms after it of the other, a
    quarter of the level, and 20 dB for each second away from the new words, so that the kept pause stays."""
    rate, hop = clip.audio_rate, round(HOP * clip.audio_rate)
    moves = sample_at(last.shift, clip.fps, rate), sample_at(shift, clip.fps, rate)
    low = max((before.end - before.spare(-1)) * rate + moves[0], (after.lead - before.spare(-1)) * rate + moves[1])
    high = min((before.tail + after.spare(0)) * rate + moves[0], (after.start + after.spare(0)) * rate + moves[1])
    low = max(round(min(low, (low + high) / 2)), last.end + round(FADE * rate))
    high, step, around = max(low, round(high)), round(0.005 / HOP), round((WINDOW / 2 + 0.005) * rate)
    silence = np.zeros((1, before.audio.shape[1]), np.float32)
    bounds = low - around, high + around + hop
    sounds = (p.read(bounds[0] - m, bounds[1] - m, silence) for p, m in zip((before, after), moves))
    left, right = (10 * np.log10(_bands(sound.mean(1), rate)) for sound in sounds)
    steps = np.abs(left[: -2 * step] - right[2 * step :]).mean(1)
    left, right = left[step:-step].mean(1), right[step:-step].mean(1)
    new = after.start * rate + moves[1] if before.source == "kept" else before.end * rate + moves[0]
    cost = steps + np.maximum(left, right) / 4 + 20 * np.abs(low + np.arange(len(steps)) * hop - new) / rate
    best = int(cost.argmin())
    at, half = low + best * hop, round(min(FADE + SLOPE * abs(left[best] - right[best]), LONGEST) * rate / 2)
    half = min(half, at - last.end)
    return _Join(shift, at - half, at + half, float(cost[best]))


def _frames(chain: Sequence[_Piece], joins: Sequence[_Join], clip: Clip) -> tuple[int, int]:
    """First and one past last frame, in the result, of all fades and new words; BRIDGE seconds at least."""
    fps, shift, new = clip.fps, joins[-1].shift, list(zip(chain, joins))[1:-1]
    begins = [Fraction(joins[1].begin, clip.audio_rate), *(p.start + j.shift / fps for p, j in new[:1])]
    ends = [Fraction(joins[-1].end, clip.audio_rate), *(p.end + j.shift / fps for p, j in new[-1:])]
    k0, end = max(0, floor(min(begins) * fps)), max(shift, ceil(max(ends) * fps))
    k0, last = min(k0, end - shift), round(clip.duration * fps) + shift
    while end - k0 < BRIDGE * fps and (k0 > 0 or end < last):
        k0, end = max(0, k0 - 1), max(end, min(end + 1, last))
    return k0, end


def _faded(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Cross-fade (S, C) by cosine and sine, scaled so that the power goes from P to Q as P^(1-u) Q^u: evenly in dB, as
    at a word's end; for equal powers the equal-power fade, whatever the two have in common (equal signals stay)."""
    u = (np.arange(1, len(old) + 1) / (len(old) + 1))[:, None]
    c, s = np.cos(np.pi / 2 * u), np.sin(np.pi / 2 * u)
    p, q, both = np.mean(old**2) + 1e-10, np.mean(new**2) + 1e-10, max(np.mean(old * new), 0)
    power = p * c**2 + q * s**2 + 2 * both * c * s
    return ((old * c + new * s) * np.sqrt(p ** (1 - u) * q**u / power)).astype(np.float32)
