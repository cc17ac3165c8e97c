"""Video and sound in memory and on disk: `Clip` (a window in memory), `Video` (a file, read lazily), `Word`, `Phone`.

    video = Video("talk.mp4")                       # reads time stamps, decodes nothing but one frame
    clip = video.window(1.0, 2.5)                   # frames (T, H, W, 3), sound that starts with frame 0
    video.splice([(1.0, 2.5, clip)], "out.mp4")     # everything else goes through; several edits at once

Edits lie on the frame grid: frame k covers [k/fps, (k+1)/fps) and begins at sample round(k/fps * rate), on the old
timeline and on the new one, so that sound and picture cannot drift apart however many edits there are."""

# T frames  H height  W width  S samples  C channels
from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, partial
from itertools import chain, pairwise
from math import ceil, prod
from pathlib import Path

import av
import librosa
import numpy as np

from thlib.errors import EditError, MediaError
from thlib.mux import BLOCK, SLACK, Joint, Picture, Sink, Source, Tags, sample_at, video_format

MAX_BYTES = 4 * 2**30  # of decoded frames held in memory at once


@dataclass(frozen=True)
class Word:
    """A word of a transcript with its start and end in seconds."""

    text: str
    start: float
    end: float


class Phone(Word):
    """A phone (ARPAbet) of a word, with its start and end in seconds."""


@dataclass(frozen=True)
class Clip:
    """A window of video in memory: frames uint8 (T, H, W, 3) RGB at `fps`, audio float32 (S, C) at `audio_rate`.
    Audio begins when frame 0 begins; a silent clip has audio of shape (0, 1) at 16000. MediaError for other types."""

    frames: np.ndarray
    fps: Fraction
    audio: np.ndarray
    audio_rate: int

    def __post_init__(self):
        if self.frames.dtype != np.uint8 or self.frames.ndim != 4 or self.frames.shape[3] != 3:
            given = f"{self.frames.dtype} {self.frames.shape}"
            raise MediaError(f"A clip needs frames of uint8 (T, H, W, 3), not {given}; convert them first.")
        if self.audio.dtype != np.float32 or self.audio.ndim != 2:
            given = f"{self.audio.dtype} {self.audio.shape}"
            raise MediaError(f"A clip needs audio of float32 (S, C), not {given}; convert it first.")
        object.__setattr__(self, "fps", Fraction(self.fps))
        object.__setattr__(self, "frames", np.ascontiguousarray(self.frames))

    n_frames = property(lambda self: len(self.frames), doc="T.")
    duration = property(lambda self: float(self.n_frames / self.fps), doc="Seconds of picture: T / fps.")
    size = property(lambda self: self.frames.shape[1:3], doc="(H, W) in pixels.")
    silent = property(lambda self: not len(self.audio), doc="True where there are no samples.")

    def pictures(self) -> Iterator[np.ndarray]:
        """The frames uint8 (H, W, 3), one by one."""
        return iter(self.frames)

    def mono16k(self) -> np.ndarray:
        """Sound as the models want it, see `mono16k` below. MediaError if the clip is silent."""
        if self.silent:
            raise MediaError("The clip has no sound; give one with a sound track.")
        return mono16k(self.audio, self.audio_rate)

    def cut(self, first: int, last: int) -> Clip:
        """Frames first .. last-1 with their sound (views, nothing is copied)."""
        start, stop = (sample_at(k, self.fps, self.audio_rate) for k in (first, last))
        return replace(self, frames=self.frames[first:last], audio=self.audio[start:stop])


def mono16k(audio: np.ndarray, rate: int) -> np.ndarray:
    """Sound (S,) or (S, C) at `rate` Hz as float32 (n,) at 16 kHz, channels averaged."""
    mono = audio if audio.ndim == 1 else audio.mean(axis=1)
    return librosa.resample(mono.astype(np.float32), orig_sr=rate, target_sr=16000)


Edit = tuple[float, float, Clip]  # seconds of the old timeline, snapped to the frame grid: [t0, t1) becomes clip
# A run of `frames` frames from frame `start` of the new timeline: of `clip`, else of the old one from `old`.
# copied: whether its packets go through as they are.
Piece = namedtuple("Piece", "start frames old clip copied", defaults=(0, None, False))


def timeline(edits: Sequence[Edit], fps: Fraction, n_frames: int) -> list[Piece]:
    """What the edited video is made of, in order; EditError for overlaps, spans outside, and where nothing is left."""
    pieces, old, new = [], 0, 0
    for t0, t1, clip in sorted(edits, key=lambda edit: edit[:2]):
        first, last = round(t0 * fps), round(t1 * fps)
        if not old <= first <= last <= n_frames:
            where = f"overlaps another or leaves 0-{float(n_frames / fps):.3f} s"
            raise EditError(f"The span {t0:.3f}-{t1:.3f} s {where}; give spans apart from each other, inside.")
        pieces += [Piece(new, first - old, old), Piece(new + first - old, len(clip.frames), clip=clip)]
        old, new = last, new + first - old + len(clip.frames)
    pieces = [piece for piece in (*pieces, Piece(new, n_frames - old, old)) if piece.frames]
    if not pieces:
        raise EditError("The edits leave no frame; keep at least one.")
    return pieces


def splice_clip(clip: Clip, edits: Sequence[Edit]) -> Clip:
    """`clip` with every [t0, t1) replaced by another clip (longer, shorter, of 0 frames); all else is the same bytes.
    Several edits at once, times on the old timeline. EditError for bad spans, MediaError for clips that do not fit."""
    _check_fit(edits, clip)
    frames, sound, rate = [], [clip.audio[:0]], clip.audio_rate
    for piece in timeline(edits, clip.fps, len(clip.frames)):
        frames.append(piece.clip.frames if piece.clip else clip.frames[piece.old : piece.old + piece.frames])
        start, stop, old = (sample_at(k, clip.fps, rate) for k in (piece.start, piece.start + piece.frames, piece.old))
        heard = _fit_sound(piece.clip, rate, clip.audio.shape[1]) if piece.clip else clip.audio[old:]
        sound.append(_samples(heard, 0, stop - start))
    return replace(clip, frames=np.concatenate(frames), audio=np.concatenate(sound[:1] if clip.silent else sound))


def _check_fit(edits: Sequence[Edit], whole: Clip | Video):
    for _, _, clip in edits:
        if len(clip.frames) and (clip.size != whole.size or clip.fps != whole.fps):
            have, want = f"{clip.size} at {clip.fps}", f"{whole.size} at {whole.fps}"
            raise MediaError(f"A replacement of (H, W) {have} frames/s does not fit {want} frames/s; make them equal.")
        if whole.silent and not clip.silent:
            raise MediaError("The video has no sound track for the new sound; give it one, or splice a silent clip.")


def _fit_sound(clip: Clip, rate: int, channels: int) -> np.ndarray:
    """The clip's sound as float32 (S, channels) at `rate`."""
    sound = clip.audio if clip.audio.shape[1] == channels else clip.audio.mean(axis=1, keepdims=True)
    if clip.audio_rate != rate and len(sound):
        sound = librosa.resample(sound, orig_sr=clip.audio_rate, target_sr=rate, axis=0)
    return np.broadcast_to(sound, (len(sound), channels))


def _samples(audio: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Samples start .. stop-1 of (S, C), silence past the end."""
    part = audio[start:stop]
    return np.pad(part, ((0, stop - start - len(part)), (0, 0)))


class Tape:
    """Sound of a `Source` read forwards only, from sample `first` on: memory stays at one block however long it is."""

    def __init__(self, source: Source, first: int = 0):
        self._blocks, self._at = source.sound(first), 0  # index of the first sample of _rest
        self._rest = np.zeros((0, source.channels), np.float32)

    def take(self, start: int, stop: int) -> np.ndarray:
        """Samples start .. stop-1, float32 (S, C), silence past the end; `start` never goes back by more than 1."""
        sound = np.zeros((stop - start, self._rest.shape[1]), np.float32)
        while True:
            a, b = max(start, self._at), min(stop, self._at + len(self._rest))
            if a < b:
                sound[a - start : b - start] = self._rest[a - self._at : b - self._at]
            if b == stop or (item := next(self._blocks, None)) is None:
                return sound
            self._at, self._rest = item


class Video(Source):
    """A video file, read lazily: memory does not grow with its length. Attributes and errors: `thlib.mux.Source`'s.
    What it has in common with a `Clip`: n_frames, fps, size, duration, silent, audio, audio_rate, pictures."""

    silent = property(lambda self: not self.channels, doc="True where there is no sound track.")
    audio = property(lambda self: self._heard(0, self.n_frames), doc="All sound float32 (S, C); (0, 1) without any.")

    def window(self, t0: float, t1: float, *, max_bytes: int = MAX_BYTES) -> Clip:
        """The frames that begin in [t0, t1) seconds (to the nearest frame) and their sound.
        MediaError for a span that is empty or outside, or whose frames need more than `max_bytes`."""
        first, last = round(t0 * self.fps), round(t1 * self.fps)
        if not 0 <= first < last <= self.n_frames:
            raise MediaError(f"{t0:.3f}-{t1:.3f} s is no part of {self.path} (0-{self.duration:.3f} s); give another.")
        shape = (last - first, *self.size, 3)
        if prod(shape) > max_bytes:
            need = f"{prod(shape) / 2**30:.2f} GiB, more than {max_bytes / 2**30:.2f}"
            raise MediaError(f"{t1 - t0:.1f} s of {self.path} need {need}; take a shorter window or raise max_bytes.")
        frames = np.fromiter(self.pictures(first, last), np.dtype((np.uint8, shape[1:])), last - first)
        return Clip(frames, self.fps, self._heard(first, last), self.audio_rate)

    def pictures(self, first: int = 0, last: int | None = None) -> Iterator[np.ndarray]:
        """Frames first .. last-1 (default: all) as uint8 (H, W, 3), decoded one by one."""
        return map(self.picture.to_rgb, self.decode(first, self.n_frames if last is None else last))

    def _heard(self, first: int, last: int) -> np.ndarray:
        if self.silent:
            return np.zeros((0, 1), np.float32)
        start, stop = (sample_at(k, self.fps, self.audio_rate) for k in (first, last))
        return Tape(self, start).take(start, stop)

    def clip(self, *, max_bytes: int = MAX_BYTES) -> Clip:
        """All of it in memory; MediaError where that needs more than `max_bytes`."""
        return self.window(0, self.duration, max_bytes=max_bytes)

    def splice(self, edits: Sequence[Edit], out: str | Path, *, exact: bool = False, metadata: Tags = None) -> Path:
        """Write the video to `out` with every [t0, t1) replaced by a clip: longer, shorter or, to delete, of 0 frames.
        Several edits at once, times on the old timeline; memory stays flat. `exact` (lossless H.264 and FLAC) keeps
        decoded planes and samples equal outside. The default copies packets where it can (see `told`), sound then moves
        by up to half a block of AAC (12 ms at 44.1 kHz); what is re-encoded keeps >= 45 dB. `metadata`: container tags.
        EditError for bad spans, MediaError for clips that do not fit and files that cannot be read or written."""
        _check_fit(edits, self)
        pieces, sound = timeline(edits, self.fps, self.n_frames), (self.audio_rate, self.channels)
        parts = self._parts(pieces, exact=exact)
        if any(part.copied for part in parts):
            film = ((part.start, part.old, part.frames, None if part.copied else self._film(part)) for part in parts)
            with Joint(Path(out), self, metadata=metadata) as joint:
                joint.write(film, self._heard_in_blocks(pieces))
            return Path(out)
        take = self._mixed([(sample_at(piece.start, self.fps, self.audio_rate), piece) for piece in pieces])
        with Sink(Path(out), self.fps, picture=self.picture, sound=sound, exact=exact, metadata=metadata) as sink:
            sink.append(chain.from_iterable(map(self._film, pieces)), take)
        return Path(out)

    def told(self, edits: Sequence[Edit], *, exact: bool = False) -> dict:
        """How `splice` makes the result's pictures: {"copied" | "re-encoded" | "generated": [(start, end), ...]}, in
        seconds, and "why" no packet can be copied, or "". EditError for bad spans."""
        said = {kind: [] for kind in ("copied", "re-encoded", "generated")}
        for part in self._parts(timeline(edits, self.fps, self.n_frames), exact=exact):
            kind = "generated" if part.clip else "copied" if part.copied else "re-encoded"
            said[kind].append(tuple(float(k / self.fps) for k in (part.start, part.start + part.frames)))
        return said | {"why": "the file is lossless" if exact else self.uncopied}

    @cached_property
    def uncopied(self) -> str:
        """Why no packet can go into another file as it is, "" where some can."""
        rates, late = av.Codec("aac", "w").audio_rates, self.blocks - BLOCK * np.arange(len(self.blocks))
        number = rates.index(self.audio_rate) if self.audio_rate in rates else 15
        setup = (2 << 11 | number << 7 | self.channels << 3).to_bytes(2)  # AAC-LC: ISO/IEC 14496-3, 1.6.2.1
        sound = self._setup[:2] == setup and len(late) and np.ptp(late) < SLACK * self.audio_rate
        conditions = {
            "it is not H.264 as MP4 holds it": len(self.restarts),
            f"its pixels are {self.picture.pixels}": video_format(self.picture, False)[1] == self.picture.pixels,
            "its frame rate varies": np.array_equal(np.sort(self.slots), np.arange(self.n_frames)),
            "its sound is not AAC-LC without gaps": self.silent or sound,
        }
        return next((why for why, holds in conditions.items() if not holds), "")

    def _parts(self, pieces: list[Piece], *, exact: bool) -> list[Piece]:
        """The pieces, with what can be copied of an old one apart: from a restart on, and wherever there is a cut, the
        first n packets are the first n frames, else B-frames would come out in the wrong order."""
        parts, whole = [], np.append(-1, np.maximum.accumulate(self.slots)) == np.arange(len(self.slots) + 1) - 1
        for piece in pieces:
            begin = end = first = piece.old
            last = first + piece.frames
            if not (piece.clip or exact or self.uncopied):
                begins = (int(k) for k in self.restarts if first <= k < last and whole[k] and self.slots[k] == k)
                begin, end = next(begins, last), int(np.flatnonzero(whole[: last + 1])[-1])
                end = max(begin, end)
            cuts = [(a, b) for a, b in pairwise((first, begin, end, last)) if a < b]
            parts += [Piece(piece.start + a - first, b - a, a, piece.clip, (a, b) == (begin, end)) for a, b in cuts]
        return parts

    def _film(self, piece: Piece) -> Iterable:
        return piece.clip.frames if piece.clip else self.decode(piece.old, piece.old + piece.frames)

    def _mixed(self, spans: Sequence[tuple[int, Piece]]) -> Callable[[int, int], np.ndarray]:
        """take(start, stop) -> (S, C) of the new sound, forwards only; spans: the sample at which each piece begins."""
        at, tapes, new = partial(sample_at, fps=self.fps, rate=self.audio_rate), [], {}
        ends = [*(begin for begin, _ in spans[1:]), at(spans[-1][1].start + spans[-1][1].frames)]

        def take(start: int, stop: int) -> np.ndarray:
            sound = np.zeros((stop - start, self.channels), np.float32)
            for (begin, piece), end in zip(spans, ends):
                a, b = max(start, begin), min(stop, end)
                if a < b and piece.clip:
                    if begin not in new:  # a little longer or shorter, where blocks move
                        n = at(piece.start + piece.frames) - at(piece.start)
                        new[begin] = _samples(_fit_sound(piece.clip, self.audio_rate, self.channels), 0, n)
                        if n != end - begin:
                            new[begin] = librosa.resample(new[begin], orig_sr=n, target_sr=end - begin, axis=0)
                    sound[a - start : b - start] = new[begin][a - begin : b - begin]
                elif a < b:
                    old = at(piece.old) - begin
                    if not tapes:
                        tapes.append(Tape(self, a + old))
                    sound[a - start : b - start] = tapes[0].take(a + old, b + old)
            return sound

        return take

    def _heard_in_blocks(self, pieces: list[Piece]) -> Iterator[tuple]:
        """Sound as `Joint.write` takes it. Old sound moves by whole blocks to the nearest place. What is between, and
        a block more on each side, is encoded, for a join may need short windows; all is where blocks outlast frames."""
        at, zero = partial(sample_at, fps=self.fps, rate=self.audio_rate), round(self.blocks[:1].sum())
        spans, moved, coarse = [], 0, self.audio_rate < BLOCK * self.fps
        for piece in pieces:  # a clip begins where the sound before it ends
            if not (piece.clip or coarse):
                moved = at(piece.old) - at(piece.start) + BLOCK * round((at(piece.start) - at(piece.old)) / BLOCK)
            spans.append((at(piece.start) + moved, piece))
        k, stop = min(0, -ceil(zero / BLOCK)), ceil((at(pieces[-1].start + pieces[-1].frames) - zero) / BLOCK)
        for begin, piece in spans:
            shift, end = (begin - at(piece.old)) // BLOCK, piece.old + piece.frames
            first, last = ((at(frame) - zero) / BLOCK for frame in (piece.old, end))
            first = ceil(first) + 1 if piece.old else 0
            last = min(len(self.blocks), ceil(last) if end == self.n_frames else int(last) - 2)
            if first < last and not (piece.clip or coarse):
                yield k, 0, first + shift - k, self._mixed(spans)
                yield first + shift, first, last - first, None
                k, stop = last + shift, stop if end < self.n_frames else last + shift
        yield k, 0, stop - k, self._mixed(spans)


def read(path: str | Path) -> Clip:
    """A whole file in memory; the errors of `Video` and of `Video.clip`."""
    return Video(path).clip()


def read_sound(path: str | Path) -> np.ndarray:
    """The first sound track of a sound or video file, mono at 16 kHz: float32 (S,). MediaError where there is none."""
    try:
        with av.open(path, metadata_errors="ignore", options={"protocol_whitelist": "file"}) as container:
            resampler = av.AudioResampler("flt", "mono", 16000)
            frames = (*container.decode(audio=0), None)  # None: what the resampler still holds
            blocks = [block.to_ndarray()[0] for frame in frames for block in resampler.resample(frame)]
    except (OSError, IndexError, av.FFmpegError) as error:
        raise MediaError(f"{path} cannot be read as sound: give a file with a sound track") from error
    return np.concatenate(blocks or [np.zeros(0, np.float32)])


def write(
    path: str | Path, clip: Clip, *, frames: Iterable | None = None, exact: bool = False, metadata: Tags = None
) -> Path:
    """Write a clip as mp4, mov or mkv (H.264 at >= 45 dB and AAC; `exact`: RGB without loss and FLAC of 24 bits).
    The size stays: odd ones are stored as yuv444p, which some browsers do not play. `metadata` becomes container tags.
    frames: any number of pictures to take, one at a time, instead of the clip's own, under the same sound.
    The file appears when it is whole. MediaError for a clip without frames and a name that cannot be written."""
    if not len(clip.frames):
        raise MediaError("The clip has no frames to write; give one with at least one frame.")
    picture = Picture(clip.size, "gbrp", (0, 2, 1, 13)) if exact else Picture(clip.size)
    sound = (clip.audio_rate, 0 if clip.silent else clip.audio.shape[1])
    with Sink(Path(path), clip.fps, picture=picture, sound=sound, exact=exact, metadata=metadata) as sink:
        sink.append(clip.frames if frames is None else frames, partial(_samples, clip.audio))
    return Path(path)
