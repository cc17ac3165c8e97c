"""The sound of the new words: found, matched in level, tilt and room tone, laid on the frame grid and cross-faded.

A patch is a chain of pieces, each a stretch of some recording: the kept sound before the edit, the new words (from
one recording or several), the kept sound after it. Every piece is moved by whole frames, time 0 of a recording being
the start of a frame, so lips and sound keep the phase they were recorded with. Neighbours are joined by one short
constant-power cross-fade at the quietest, most alike instant between their words. What lies outside the frames that
the outermost fades touch is never read, let alone written.
"""

# S samples  C channels  N frames  B mel bands  n analysis frames
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import fftconvolve, firwin2

from thlib.clip import Clip, Word
from thlib.editing.script import Span, key
from thlib.errors import EditError, SpeechError
from thlib.mux import sample_at

if TYPE_CHECKING:
    from thlib.speech import Speech

SPEECH_RATE = 16000
NEAR = 4.0  # seconds on each side of an edit that its level, tilt and room tone are measured on
FADE, SLOPE, LONGEST = 0.010, 0.001, 0.060  # seconds of a cross-fade: between equal levels, more for each dB, at most
REACH = 0.035  # seconds that a cut may reach into a word, at most a third of it: word times are no better than this
BRIDGE = 0.2  # seconds that a patch lasts at least: a deletion has frames to bridge two mouths (methods.md 1.3)
APART = 0.36  # seconds of kept words that make two spans two patches; with less between them they become one
HOP, WINDOW = 0.0025, 0.012  # seconds, of the analysis
BANDS = 24


@dataclass(frozen=True)
class Patch:
    """New sound for the frames [k0, k1) of the old video, which become `n_frames` frames.

    audio   float32 (S, C) at the clip's rate; in the result it begins at the start of frame k0 + all earlier growth
            and ends at the end of its last frame, to the sample.
    words   the new words (and kept ones between chained spans), seconds from the start of the patch.
    span    the words [first, last) that `words` replace.   source  "recording", "footage", "espeak" or "cut", joined by
            " + " where several.   notes  sentences on where the sound came from.
    """

    span: Span
    k0: int
    k1: int
    n_frames: int
    fps: Fraction
    audio: np.ndarray
    words: tuple[Word, ...]
    source: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Piece:
    """A stretch of a recording: words from `start` to `end`, no other word from `lead` to `tail` (its own seconds)."""

    audio: np.ndarray  # (S, C) at the clip's rate
    words: tuple[Word, ...]
    lead: float
    start: float
    end: float
    tail: float
    kept: bool = False

    @classmethod
    def of(cls, audio: np.ndarray, rate: int, words: Sequence[Word], first: int, last: int) -> _Piece:
        """The words [first, last) of a recording; without words it is the pause before word `first`."""
        length = max(len(audio) / rate, words[-1].end)
        lead = words[first - 1].end if first else 0.0
        end = words[last - 1].end if last else 0.0
        start = words[first].start if first < len(words) else length
        tail = words[last].start if last < len(words) else length
        return cls(audio, tuple(words[first:last]), lead, start, end, tail)

    def read(self, i: int, j: int, tone: np.ndarray) -> np.ndarray:
        """Samples [i, j) of the recording (j - i, C), room tone where it has none."""
        out = tone[np.arange(i, j) % len(tone)]
        a, b = max(i, 0), min(j, len(self.audio))
        if a < b:
            out[a - i : b - i] = self.audio[a:b]
        return out


@dataclass(frozen=True)
class _Take:
    """The new words of one span as pieces, with where they come from."""

    pieces: tuple[_Piece, ...]
    source: str
    notes: tuple[str, ...]


def patches(
    clip: Clip, words: Sequence[Word], spans: Sequence[Span], *, speech: Speech | Sequence[Speech] | None = None
) -> list[Patch]:
    """New sound for every span, in order; of `clip` only fps, duration and sound are used.

    The words of a span come from `speech` (one recording that holds the words of every span, or a list, one for each
    span with new words), else from elsewhere in the footage, else from espeak, which the notes say.
    Spans with less than 0.36 s of kept words between them share a patch. A patch may begin up to three frames before
    its words: the frames whose sound changes, and at least 0.2 s of them. (What the face does outside is not its
    concern: a visual margin is the caller's.) Raises SpeechError for a silent clip, EditError for words that the
    recording lacks.
    """
    if not len(clip.audio):
        raise SpeechError("The video has no sound: an edit of its words needs some; take a video with sound.")
    takes = _takes(clip, words, spans, speech)
    out: list[Patch] = []
    for group in _groups(words, spans):
        moved = sum(p.n_frames - (p.k1 - p.k0) for p in out)
        out.append(_patch(clip, words, [(span, takes[span]) for span in group], moved))
    return out


def retime(words: Sequence[Word], patches: Sequence[Patch]) -> list[Word]:
    """All words of the result: kept ones move by whole frames, new ones lie where their patch says.

    Starts are exact; an end gives way where the next word begins up to half a frame early.
    """
    out, at, moved = [], 0, 0
    for patch in patches:
        fps, first, last = patch.fps, patch.span.first, patch.span.last
        out += [_shift(word, float(moved / fps)) for word in words[at:first]]
        out += [_shift(word, float((patch.k0 + moved) / fps)) for word in patch.words]
        moved += patch.n_frames - (patch.k1 - patch.k0)
        at = last
    out += [_shift(word, float(moved / fps)) for word in words[at:]]
    ends = [min(word.end, after.start) for word, after in pairwise(out)] + [out[-1].end]
    return [replace(word, end=end) for word, end in zip(out, ends, strict=True)]


def _shift(word: Word, seconds: float) -> Word:
    return replace(word, start=word.start + seconds, end=word.end + seconds)


def _groups(words: Sequence[Word], spans: Sequence[Span]) -> list[list[Span]]:
    """Spans that share a patch."""
    groups = [[spans[0]]]
    for before, span in pairwise(spans):
        if words[span.first - 1].end - words[before.last].start < APART:
            groups[-1].append(span)
        else:
            groups.append([span])
    return groups


# --- where the words come from ----------------------------------------------------------------------------------------


def _takes(clip: Clip, words: Sequence[Word], spans: Sequence[Span], speech) -> dict[Span, _Take]:
    """A take for every span: recording, footage, espeak, in that order."""
    told = [span for span in spans if span.new]
    given = [speech] * len(told) if speech is None or not isinstance(speech, Sequence) else list(speech)
    if len(given) != len(told):
        raise EditError(
            f"{len(given)} recordings for {len(told)} edits with new words: give one for each, or one for all."
        )
    takes = {span: _Take((), "cut", ()) for span in spans}
    for span, recording in zip(told, given, strict=True):
        take = _recorded(clip, words, span, recording) if recording else _from_footage(clip, words, span)
        takes[span] = take or _spoken(clip, words, span)
    return takes


def _recorded(clip: Clip, words: Sequence[Word], span: Span, speech: Speech) -> _Take:
    """The words of a span out of the user's recording."""
    found = _occurrences(speech.words, span.new)
    if not found:
        said, new = " ".join(w.text for w in speech.words), " ".join(span.new)
        raise EditError(f'The recording says "{said}", not "{new}": record the new words, in their order.')
    around = _neighbours(words, span)
    first = max(found, key=lambda i: _likeness(speech.words, i, i + len(span.new), around))
    audio = _matched(speech.audio, _near(clip, words, span), clip.audio_rate)
    return _Take((_piece(audio, clip.audio_rate, speech.words, first, span.new),), "recording", ())


def _from_footage(clip: Clip, words: Sequence[Word], span: Span) -> _Take | None:
    """The words of a span out of the rest of the footage, as few pieces as there can be; None if one is not said."""
    pieces, notes, at, (before, after) = [], [], 0, _neighbours(words, span)
    level = _level(clip, words[max(0, span.first - 1) : span.last + 1])
    while at < len(span.new):
        runs = ((n, _occurrences(words, span.new[at : at + n])) for n in range(len(span.new) - at, 0, -1))
        runs = ((n, [i for i in found if i + n <= span.first or i >= span.last]) for n, found in runs)
        n, found = next(((n, found) for n, found in runs if found), (0, []))
        if not found:
            return None
        new = span.new[at : at + n]
        around = key(span.new[at - 1]) if at else before, key(span.new[at + n]) if at + n < len(span.new) else after
        first = max(
            found, key=lambda i: (_likeness(words, i, i + n, around), -abs(_level(clip, words[i : i + n]) - level))
        )
        pieces.append(_piece(clip.audio, clip.audio_rate, words, first, new))
        notes.append(f'The sound of "{" ".join(new)}" is that at {words[first].start:.2f} s of the same footage.')
        at += n
    return _Take(tuple(pieces), "footage", tuple(notes))


def _spoken(clip: Clip, words: Sequence[Word], span: Span) -> _Take:
    """The words of a span by espeak: a placeholder."""
    from thlib.speech import say

    new = " ".join(span.new)
    speech = say(new)
    audio = _matched(speech.audio, _near(clip, words, span), clip.audio_rate)
    note = f'"{new}" is not recorded: espeak speaks it as a placeholder; record the words to replace it.'
    return _Take((_Piece.of(audio, clip.audio_rate, speech.words, 0, len(speech.words)),), "espeak", (note,))


def _piece(audio: np.ndarray, rate: int, words: Sequence[Word], first: int, new: Sequence[str]) -> _Piece:
    """The words from `first` on, written as in `new`."""
    piece = _Piece.of(audio, rate, words, first, first + len(new))
    return replace(piece, words=tuple(replace(w, text=t) for w, t in zip(piece.words, new, strict=True)))


def _occurrences(words: Sequence[Word], new: Sequence[str]) -> list[int]:
    """Where the words say `new`, one after the other."""
    said, wanted = [key(w.text) for w in words], [key(t) for t in new]
    return [i for i in range(len(said) - len(wanted) + 1) if said[i : i + len(wanted)] == wanted]


def _neighbours(words: Sequence[Word], span: Span) -> tuple[str, str]:
    """The keys of the words on both sides of a span, "" at an end."""
    before = key(words[span.first - 1].text) if span.first else ""
    return before, key(words[span.last].text) if span.last < len(words) else ""


def _likeness(words: Sequence[Word], first: int, last: int, around: tuple[str, str]) -> int:
    """How alike the neighbours of words [first, last) and `around` are: 2 for a word, 1 for the sound next to it.

    The letter that touches stands for the phone: footage has words, not phones.
    """
    before, after = _neighbours(words, Span(first, last, ()))
    alike = 2 * (before == around[0]) or before[-1:] == around[0][-1:]
    return int(alike) + int(2 * (after == around[1]) or after[:1] == around[1][:1])


# --- making it sound like the footage ---------------------------------------------------------------------------------


def _near(clip: Clip, words: Sequence[Word], span: Span) -> np.ndarray:
    """The sound (S, C) of the footage within NEAR seconds of a span."""
    start = words[span.first - 1].end if span.first else 0.0
    end = words[span.last].start if span.last < len(words) else words[-1].end
    return clip.audio[max(0, round((start - NEAR) * clip.audio_rate)) : round((end + NEAR) * clip.audio_rate)]


def _level(clip: Clip, words: Sequence[Word]) -> float:
    """Mean level of some words, dB."""
    spans = [clip.audio[round(w.start * clip.audio_rate) : round(w.end * clip.audio_rate)] for w in words]
    return float(10 * np.log10(np.mean(np.concatenate(spans) ** 2) + 1e-10))


def _bands(mono: np.ndarray, rate: int) -> np.ndarray:
    """Mel band powers (n, B); row i is centred WINDOW / 2 + i * HOP seconds after the first sample."""
    import librosa

    size, hop = round(WINDOW * rate), round(HOP * rate)
    power = librosa.feature.melspectrogram(
        y=np.ascontiguousarray(mono), sr=rate, n_fft=size, hop_length=hop, n_mels=BANDS, center=False
    )
    return power.T + 1e-9


def _profile(mono: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Long-term spectra (B,) of the speech (within 20 dB of the loud tenth, noise taken off) and of the quiet tenth."""
    power = _bands(mono, rate)
    level = 10 * np.log10(power.sum(1))
    noise = power[level <= np.percentile(level, 10)].mean(0)
    active = power[level > np.percentile(level, 95) - 20].mean(0)
    return np.maximum(active - noise, 1e-9), noise


def _matched(mono: np.ndarray, near: np.ndarray, rate: int) -> np.ndarray:
    """A 16 kHz recording (n,) in the footage's rate, channels, speech level, spectrum tilt and room tone (S, C).

    The tilt is a cubic over the mel bands, trusted by t / (t + 1) for t seconds of the shorter one: a word alone says
    more of its vowels than of its microphone.
    """
    import librosa

    own = librosa.resample(mono, orig_sr=SPEECH_RATE, target_sr=rate, res_type="soxr_hq")
    edge = round(0.005 * rate)
    own[:edge] *= np.linspace(0, 1, edge, dtype=np.float32)
    own[-edge:] *= np.linspace(1, 0, edge, dtype=np.float32)
    loudness = np.sqrt(np.mean(near**2, axis=0)) + 1e-9  # (C,)
    main = near[:, loudness.argmax()]
    centres = librosa.mel_frequencies(BANDS + 2, fmax=rate / 2)[1:-1]
    heard = centres < 0.45 * SPEECH_RATE  # bands that a 16 kHz recording has
    (voice, noise), (own_voice, own_noise) = _profile(main, rate), _profile(own, rate)
    gain = 10 * np.log10(voice / own_voice)
    clear = np.clip(10 * np.log10(np.minimum(voice / noise, own_voice / own_noise)), 1, 20)[heard]
    place = np.minimum(np.arange(BANDS), heard.sum() - 1)
    tilt = np.polynomial.Polynomial.fit(place[heard], gain[heard], 3, w=clear)(place)
    trust = min(len(own), len(main)) / (min(len(own), len(main)) + rate)
    curve = trust * np.clip(tilt - np.average(tilt, weights=own_voice), -12, 12)
    curve += 10 * np.log10(voice[heard].sum() / (own_voice * 10 ** (curve / 10))[heard].sum())
    own = _filtered(own[:, None] * (loudness / loudness.max()), centres, curve, rate)
    rest = np.clip(1 - own_noise * 10 ** (curve / 10) / noise, 1e-4, 1)
    return own + _filtered(_room_tone(near, rate, len(own)), centres, 10 * np.log10(rest), rate)


def _filtered(audio: np.ndarray, centres: np.ndarray, gain: np.ndarray, rate: int) -> np.ndarray:
    """Sound (S, C) through a zero-phase filter with `gain` dB (B,) at the frequencies `centres`."""
    points = np.concatenate([[0], centres, [rate / 2]])
    gains = 10 ** (np.concatenate([gain[:1], gain, gain[-1:]]) / 20)
    taps = firwin2(2 * round(0.005 * rate) + 1, points, gains, fs=rate)
    return fftconvolve(audio, taps[:, None], mode="same", axes=0).astype(np.float32)


def _room_tone(near: np.ndarray, rate: int, length: int) -> np.ndarray:
    """Background sound (length, C): the quietest tenth of the footage's 80 ms grains, shuffled and overlapped."""
    size = 2 * (round(0.08 * rate) // 2)
    near = np.pad(near, ((0, max(0, 2 * size - len(near))), (0, 0)), mode="symmetric")
    starts = np.arange(0, len(near) - size + 1, size // 4)
    power = np.array([np.mean(near[s : s + size] ** 2) for s in starts])
    quiet = starts[power <= np.percentile(power, 10)]
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size)[:, None]  # squares of neighbours add up to 1
    out = np.zeros((length + 2 * size, near.shape[1]), np.float32)
    rng = np.random.default_rng(0)
    for at in range(0, length + size, size // 2):
        s = rng.choice(quiet)
        out[at : at + size] += near[s : s + size] * window
    return out[size : size + length]


# --- laying it --------------------------------------------------------------------------------------------------------


def _patch(clip: Clip, words: Sequence[Word], group: Sequence[tuple[Span, _Take]], moved: int) -> Patch:
    """Chain the takes of a group between the kept sound; `moved` frames have been added before it."""
    fps, rate, spans = clip.fps, clip.audio_rate, [span for span, _ in group]
    usual = float(np.clip(np.median([0.0] + [b.start - a.end for a, b in pairwise(words)]), 0, 0.1))
    kept = _kept(clip, words, spans, usual)
    chain = [p for k, (_, take) in zip(kept, group) for p in (k, *take.pieces)] + [kept[-1]]
    joins = [_Join(0, 0, 0)]
    for before, after in pairwise(chain):
        joins.append(_join(before, after, _pause(before, after, usual), joins[-1], clip))
    k0, end = _frames(joins[1:], clip)
    k1 = min(end - joins[-1].shift, round(clip.duration * fps))
    base, length = sample_at(k0, fps, rate), sample_at(end + moved, fps, rate) - sample_at(k0 + moved, fps, rate)
    moves = [sample_at(j.shift, fps, rate) for j in joins[:-1]] + [base + length - sample_at(k1, fps, rate)]
    tone = _room_tone(_near(clip, words, spans[0]), rate, rate)
    audio = _mixed(chain, moves, [_Join(0, base, 0), *joins[1:], _Join(0, base + length, 0)], tone)
    laid = [_shift(w, float((j.shift - k0) / fps)) for p, j in zip(chain[1:-1], joins[1:]) for w in p.words]
    span = Span(spans[0].first, spans[-1].last, tuple(w.text for w in laid))
    source = " + ".join(dict.fromkeys(take.source for _, take in group))
    notes = tuple(note for _, take in group for note in take.notes)
    return Patch(span, k0, k1, end - k0, fps, audio, tuple(laid), source, notes)


def _kept(clip: Clip, words: Sequence[Word], spans: Sequence[Span], usual: float) -> list[_Piece]:
    """The footage before, between and after the spans; an insertion leaves most of its pause to the words after it."""
    firsts, lasts = [0] + [s.last for s in spans], [s.first for s in spans] + [len(words)]
    kept = [replace(_Piece.of(clip.audio, clip.audio_rate, words, i, j), kept=True) for i, j in zip(firsts, lasts)]
    for n, span in enumerate(spans):
        if span.first == span.last:
            left, right = kept[n], kept[n + 1]
            split = min(left.end + usual, right.start) if span.first else max(right.start - usual, 0.0)
            kept[n], kept[n + 1] = replace(left, tail=split), replace(right, lead=split)
    return kept


def _pause(before: _Piece, after: _Piece, usual: float) -> float:
    """Seconds between two pieces: the footage's own pause; where a deletion leaves two, the longer."""
    left, right = before.tail - before.end, after.start - after.lead
    if before.kept and after.kept:
        return left if not before.words else right if not after.words else max(left, right)
    return left if before.kept else right if after.kept else min(usual, max(left, right))


@dataclass(frozen=True)
class _Join:
    """Where a piece begins: moved by `shift` frames, faded in over [at - half, at + half) samples of the output."""

    shift: int
    at: int
    half: int


def _join(before: _Piece, after: _Piece, pause: float, last: _Join, clip: Clip) -> _Join:
    """The best way to let `after` follow `before`, which began at the join `last`, after about `pause` seconds."""
    fps, rate = clip.fps, clip.audio_rate
    ideal = last.shift + (before.end + pause - after.start) * float(fps)
    options = []
    for shift in {floor(ideal), ceil(ideal)}:
        moves = sample_at(last.shift, fps, rate), sample_at(shift, fps, rate)
        low, high = _window(before, after, moves, rate)
        low = max(low, last.at + last.half + round(FADE * rate))
        cost, at, half = _best_cut(before, after, moves, (low, max(low, high)), rate)
        options.append((cost + abs(shift - ideal), shift, at, min(half, at - last.at - last.half)))
    return _Join(*min(options)[1:])


def _window(before: _Piece, after: _Piece, moves: tuple[int, int], rate: int) -> tuple[int, int]:
    """Samples of the output between which two pieces may change over: the pause, and a little of the words."""
    reach = [
        min(REACH, (p.words[i].end - p.words[i].start) / 3) if p.words else 0 for p, i in ((before, -1), (after, 0))
    ]
    low = max(before.end * rate + moves[0], after.lead * rate + moves[1]) - reach[0] * rate
    high = min(before.tail * rate + moves[0], after.start * rate + moves[1]) + reach[1] * rate
    return (round(low), round(high)) if low <= high else (round((low + high) / 2),) * 2


def _best_cut(
    before: _Piece, after: _Piece, moves: tuple[int, int], window: tuple[int, int], rate: int
) -> tuple[float, int, int]:
    """The cost in dB of the quietest, most alike instant of a window, its sample, and half the length of its fade.

    Cost: mean band difference between the 10 ms before it in one piece and the 10 ms after it in the other, plus a
    quarter of the level, plus 20 dB for every second away from the new words (the kept pause stays as it was).
    """
    hop, around = round(HOP * rate), round((WINDOW / 2 + 0.005) * rate)
    i, j = window[0] - around, window[1] + around + hop
    silence = np.zeros((1, before.audio.shape[1]), np.float32)
    left, right = (
        10 * np.log10(_bands(p.read(i - m, j - m, silence).mean(1), rate)) for p, m in zip((before, after), moves)
    )
    step = round(0.005 / HOP)
    steps = np.abs(left[: -2 * step] - right[2 * step :]).mean(1)
    left, right = left[step:-step].mean(1), right[step:-step].mean(1)
    edge = before.end * rate + moves[0] if not before.kept else after.start * rate + moves[1]
    away = np.abs(window[0] + np.arange(len(steps)) * hop - edge) / rate
    cost = steps + 0.25 * np.maximum(left, right) + 20 * away
    best = int(cost.argmin())
    fade = min(FADE + SLOPE * abs(left[best] - right[best]), LONGEST)
    return float(cost[best]), window[0] + best * hop, round(fade * rate / 2)


def _frames(joins: list[_Join], clip: Clip) -> tuple[int, int]:
    """First and one past last frame of a patch in the result: all that the fades touch, at least BRIDGE seconds."""
    shift, per_sample = joins[-1].shift, clip.fps / clip.audio_rate
    k0 = floor((joins[0].at - joins[0].half) * per_sample)
    end = ceil((joins[-1].at + joins[-1].half) * per_sample)
    k0, last = max(0, min(k0, end - shift)), round(clip.duration * clip.fps) + shift
    while end - k0 < BRIDGE * clip.fps and (k0 > 0 or end < last):
        k0, end = max(0, k0 - 1), max(end, min(end + 1, last))
    return k0, end


def _mixed(chain: list[_Piece], moves: list[int], joins: list[_Join], tone: np.ndarray) -> np.ndarray:
    """The chain's sound (S, C) from the first join to the last, cross-faded around those between."""
    out = chain[0].read(joins[0].at, joins[1].at + joins[1].half, tone)
    for piece, move, begin, stop in zip(chain[1:], moves[1:], joins[1:], joins[2:]):
        new = piece.read(begin.at - begin.half - move, stop.at + stop.half - move, tone)
        width = 2 * begin.half
        out = np.concatenate([out[:-width], _faded(out[-width:], new[:width]), new[width:]])
    return out


def _faded(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Cross-fade (S, C) by cosine and sine, then scaled so that its power goes from P to Q as P^(1-u) Q^u.

    Equal levels keep their power, whatever the two have in common (equal signals stay as they are); a loud one fades
    into a quiet one evenly in dB.
    """
    u = (np.arange(1, len(old) + 1) / (len(old) + 1))[:, None]
    c, s = np.cos(np.pi / 2 * u), np.sin(np.pi / 2 * u)
    p, q, both = np.mean(old**2) + 1e-10, np.mean(new**2) + 1e-10, max(np.mean(old * new), 0)
    power = p * c**2 + q * s**2 + 2 * both * c * s
    return ((old * c + new * s) * np.sqrt(p ** (1 - u) * q**u / power)).astype(np.float32)
