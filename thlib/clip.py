"""Video and sound in memory and on disk: `Clip` (a window in memory), `Video` (a file, read lazily), `Word`, `Phone`.

    video = Video("talk.mp4")                       # reads time stamps, decodes nothing but one frame
    clip = video.window(1.0, 2.5)                   # frames (T, H, W, 3), sound that starts with frame 0
    video.splice([(1.0, 2.5, clip)], "out.mp4")     # everything else goes through; several edits at once

Edits lie on the frame grid: frame k covers [k/fps, (k+1)/fps) and begins at sample round(k/fps * rate), on the old
timeline and on the new one, so that sound and picture cannot drift apart however many edits there are.
"""

# T frames  H height  W width  S samples  C channels
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from thlib.errors import EditError, MediaError
from thlib.mux import MAX_PIXELS, MAX_SECONDS, Picture, Sink, Source, Tape, sample_at

MAX_BYTES = 4 * 2**30  # of decoded frames held in memory at once
SILENT_RATE = 16000


@dataclass(frozen=True)
class Word:
    """A word of a transcript with its start and end in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Phone:
    """A phone (ARPAbet or espeak mnemonic) with its start and end in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Clip:
    """A window of video in memory: frames uint8 (T, H, W, 3) RGB at `fps`, audio float32 (S, C) at `audio_rate`.

    Audio begins when frame 0 begins; a silent clip has audio of shape (0, 1) at 16000. MediaError for other types.
    """

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

    @property
    def duration(self) -> float:
        """Seconds of picture: T / fps."""
        return float(len(self.frames) / self.fps)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.frames.shape[1:3]

    @property
    def silent(self) -> bool:
        """True where there are no samples."""
        return not len(self.audio)

    def mono16k(self) -> np.ndarray:
        """Sound as the models want it: float32 (n,) at 16 kHz, channels averaged. MediaError if the clip is silent."""
        import librosa

        if self.silent:
            raise MediaError("The clip has no sound; give one with a sound track.")
        return librosa.resample(self.audio.mean(axis=1), orig_sr=self.audio_rate, target_sr=16000)

    def cut(self, first: int, last: int) -> Clip:
        """Frames first .. last-1 with their sound (views, nothing is copied)."""
        start, stop = (sample_at(k, self.fps, self.audio_rate) for k in (first, last))
        return replace(self, frames=self.frames[first:last], audio=self.audio[start:stop])


Edit = tuple[float, float, Clip]


@dataclass(frozen=True)
class Piece:
    """A run of `frames` frames from frame `start` of the new timeline: of the old one from frame `old`, or of `clip`."""

    start: int
    frames: int
    old: int | None = None
    clip: Clip | None = None

    def samples(self, fps: Fraction, rate: int) -> tuple[int, int]:
        """First and last+1 sample of the piece on the new timeline."""
        return sample_at(self.start, fps, rate), sample_at(self.start + self.frames, fps, rate)


def timeline(edits: Sequence[Edit], fps: Fraction, n_frames: int) -> list[Piece]:
    """What the edited video is made of, in order; EditError for spans that overlap or lie outside.

    `edits` are (t0, t1, clip) in seconds of the old timeline, snapped to the frame grid: [t0, t1) is replaced by clip.
    """
    pieces, old, new = [], 0, 0
    for t0, t1, clip in sorted(edits, key=lambda edit: edit[:2]):
        first, last = round(t0 * fps), round(t1 * fps)
        if not old <= first <= last <= n_frames:
            end = float(n_frames / fps)
            raise EditError(
                f"The span {t0:.3f}-{t1:.3f} s overlaps another or leaves 0-{end:.3f} s; give it apart, inside."
            )
        pieces += [Piece(new, first - old, old=old), Piece(new + first - old, len(clip.frames), clip=clip)]
        old, new = last, new + first - old + len(clip.frames)
    pieces.append(Piece(new, n_frames - old, old=old))
    return [piece for piece in pieces if piece.frames]


def splice_clip(clip: Clip, edits: Sequence[Edit]) -> Clip:
    """`clip` with every [t0, t1) replaced by another clip (longer, shorter, empty); all else is the same bytes.

    Several edits at once, times on the old timeline. EditError for bad spans, MediaError for clips that do not fit.
    """
    _check_fit(edits, clip.size, clip.fps, clip.silent)
    pieces = timeline(edits, clip.fps, len(clip.frames))
    frames = [p.clip.frames if p.clip else clip.frames[p.old : p.old + p.frames] for p in pieces]
    sound = [np.zeros((0, clip.audio.shape[1]), np.float32)]
    for piece in () if clip.silent else pieces:
        start, stop = piece.samples(clip.fps, clip.audio_rate)
        if piece.clip:
            sound.append(_fit_sound(piece.clip, clip.audio_rate, clip.audio.shape[1], stop - start))
        else:
            old = sample_at(piece.old, clip.fps, clip.audio_rate)
            sound.append(_fit_length(clip.audio[old : old + stop - start], stop - start))
    return replace(clip, frames=np.concatenate(frames or [clip.frames[:0]]), audio=np.concatenate(sound))


def _check_fit(edits: Sequence[Edit], size: tuple[int, int], fps: Fraction, silent: bool):
    for _, _, clip in edits:
        if len(clip.frames) and (clip.size != size or clip.fps != fps):
            have, want = f"{clip.size} at {clip.fps}", f"{size} at {fps}"
            raise MediaError(f"A replacement of (H, W) {have} frames/s does not fit {want} frames/s; make them equal.")
        if silent and not clip.silent:
            raise MediaError(
                "The video has no sound track that new sound could go into; give it one, or a silent clip."
            )


def _fit_sound(clip: Clip, rate: int, channels: int, samples: int) -> np.ndarray:
    """The clip's sound as float32 (samples, channels) at `rate`."""
    sound = clip.audio
    if clip.audio_rate != rate and len(sound):
        import librosa

        sound = librosa.resample(sound, orig_sr=clip.audio_rate, target_sr=rate, axis=0)
    if sound.shape[1] != channels:
        sound = np.repeat(sound.mean(axis=1, keepdims=True), channels, axis=1) if len(sound) else sound[:, :1]
    return _fit_length(np.broadcast_to(sound, (len(sound), channels)), samples)


def _fit_length(sound: np.ndarray, samples: int) -> np.ndarray:
    return np.pad(sound[:samples], ((0, max(samples - len(sound), 0)), (0, 0)))


class Video:
    """A video file, read lazily: memory does not grow with its length.

    path; fps (Fraction); size (H, W) as shown, rotation done; n_frames; duration in seconds; audio_rate; silent;
    metadata (the container's tags); notes: sentences on what was done to its timeline, such as a rate that varied.
    MediaError for what is no video, and for one of more pixels or seconds than `max_pixels`, `max_seconds`.
    """

    def __init__(self, path: str | Path, *, max_pixels: int = MAX_PIXELS, max_seconds: float = MAX_SECONDS):
        self.path = Path(path)
        self._source = Source.open(self.path, max_pixels=max_pixels, max_seconds=max_seconds)
        self.fps, self.n_frames, self.size = self._source.fps, self._source.n_frames, self._source.picture.shown
        self.silent, self.audio_rate = not self._source.rate, self._source.rate or SILENT_RATE
        self.duration = float(self.n_frames / self.fps)
        self.metadata, self.notes = self._source.metadata, self._source.notes

    def __repr__(self) -> str:
        height, width = self.size
        return f"Video({str(self.path)!r}: {width}x{height}, {self.n_frames} frames at {self.fps} frames/s)"

    def window(self, t0: float, t1: float, *, max_bytes: int = MAX_BYTES) -> Clip:
        """The frames that begin in [t0, t1) seconds (to the nearest frame) and their sound.

        MediaError for a span that is empty or outside, or whose frames need more than `max_bytes`.
        """
        first, last = round(t0 * self.fps), round(t1 * self.fps)
        if not 0 <= first < last <= self.n_frames:
            raise MediaError(
                f"{t0:.3f}-{t1:.3f} s is no part of {self.path} (0-{self.duration:.3f} s); choose another."
            )
        height, width = self.size
        if (need := (last - first) * height * width * 3) > max_bytes:
            size = f"{need / 2**30:.1f} GiB, more than {max_bytes / 2**30:.1f}"
            raise MediaError(f"{t1 - t0:.1f} s of {self.path} need {size}; take a shorter window or raise max_bytes.")
        frames = np.empty((last - first, height, width, 3), np.uint8)
        for out, frame in zip(frames, self._source.frames(first, last), strict=True):
            out[:] = self._source.picture.to_rgb(frame)
        audio = np.zeros((0, 1), np.float32)
        if not self.silent:
            audio = Tape(self._source).take(*(sample_at(k, self.fps, self.audio_rate) for k in (first, last)))
        return Clip(frames, self.fps, audio, self.audio_rate)

    def clip(self, *, max_bytes: int = MAX_BYTES) -> Clip:
        """All of it in memory; MediaError where that needs more than `max_bytes`."""
        return self.window(0, self.duration, max_bytes=max_bytes)

    def splice(
        self, edits: Sequence[Edit], out: str | Path, *, exact: bool = False, metadata: dict[str, str] | None = None
    ) -> Path:
        """Write the video to `out` with every [t0, t1) replaced by a clip: longer, shorter or, to delete, of 0 frames.

        Several edits at once, times on the old timeline; memory stays flat. Outside them, `exact` (lossless H.264 and
        FLAC) keeps decoded planes and samples equal, the default keeps >= 45 dB. `metadata` becomes container tags.
        EditError for bad spans or an empty result, MediaError for clips that do not fit and files that fail.
        """
        source, out = self._source, Path(out)
        _check_fit(edits, self.size, self.fps, self.silent)
        pieces = timeline(edits, self.fps, self.n_frames)
        if not pieces:
            raise EditError(f"The edits leave no frame of {self.path}; keep at least one.")
        sound = None if self.silent else (source.rate, source.channels)
        with Sink(out, self.fps, picture=source.picture, sound=sound, exact=exact, metadata=metadata) as sink:
            frames, at = source.frames(0, self.n_frames), 0
            tape = None if self.silent else Tape(source)
            for piece in pieces:
                if piece.clip:
                    _put_clip(sink, piece, self.fps, sound)
                    continue
                for _ in range(
                    at, piece.old
                ):  # deleted or replaced: decoded, since others may refer to them, and dropped
                    next(frames)
                at = piece.old + piece.frames
                old = sample_at(piece.old, self.fps, self.audio_rate)
                _put(sink, piece, self.fps, islice(frames, piece.frames), tape and partial(tape.take, offset=old))
        return out


def _put(sink: Sink, piece: Piece, fps: Fraction, frames: Iterable, take: Callable[[int, int], np.ndarray] | None):
    """Frame by frame into the sink, each with the samples from take(start, stop), counted from the piece's first."""
    rate = sink.rate
    first = sample_at(piece.start, fps, rate) if take else 0
    for k, frame in enumerate(frames, piece.start):
        sink.frame(frame)
        if take:
            sink.sound(take(sample_at(k, fps, rate) - first, sample_at(k + 1, fps, rate) - first))


def _put_clip(sink: Sink, piece: Piece, fps: Fraction, sound: tuple[int, int] | None):
    fitted = None
    if sound:
        start, stop = piece.samples(fps, sound[0])
        fitted = _fit_sound(piece.clip, *sound, stop - start)
    _put(sink, piece, fps, piece.clip.frames, sound and (lambda start, stop: fitted[start:stop]))


def read(path: str | Path) -> Clip:
    """A whole file in memory; the errors of `Video` and of `Video.clip`."""
    return Video(path).clip()


def write(path: str | Path, clip: Clip, *, exact: bool = False, metadata: dict[str, str] | None = None) -> Path:
    """Write a clip as mp4, mov or mkv (H.264 at >= 45 dB and AAC; `exact`: RGB without loss and FLAC of 24 bits).

    The size stays: odd ones are stored as yuv444p, which some browsers do not play. `metadata` becomes container tags.
    The file appears when it is whole. MediaError for a clip without frames and a name that cannot be written.
    """
    if not len(clip.frames):
        raise MediaError("The clip has no frames to write; give one with at least one frame.")
    picture = Picture(clip.size, "gbrp", (0, 2, 1, 13)) if exact else Picture(clip.size)
    sound = None if clip.silent else (clip.audio_rate, clip.audio.shape[1])
    with Sink(Path(path), clip.fps, picture=picture, sound=sound, exact=exact, metadata=metadata) as sink:
        _put_clip(sink, Piece(0, len(clip.frames), clip=clip), clip.fps, sound)
    return Path(path)
