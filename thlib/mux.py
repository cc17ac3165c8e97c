"""Media files through PyAV: `Source` decodes on a constant frame grid, `Sink` encodes; nothing here knows of clips.

Frame k of a file covers [k/fps, (k+1)/fps) seconds after its first frame; sound is counted in samples from that same
instant, so what a file says about start times, varying rates and late sound is settled here, once.
"""

# T frames  H height  W width  S samples  C channels
from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from math import log
from pathlib import Path

import av
import numpy as np

from thlib.errors import MediaError

MAX_PIXELS = 4096 * 2304
MAX_SECONDS = 4 * 3600
QP = 14  # the quantiser, not the bit rate, bounds the error of a frame: QP 14 keeps luma above 45 dB on any footage
AAC_BITS = 192_000  # a second and channel: 40 dB and more on speech
RATES = [Fraction(n) for n in (25, 30, 24, 50, 60)] + [Fraction(n * 1000, 1001) for n in (30, 24, 60)]
LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
LOSSLESS_SOUND = {
    ".mp4": "flac",
    ".mkv": "flac",
    ".mov": "pcm_s24le",
}  # the keys are the containers that can be written
CONTAINERS = "mov,matroska,webm,mpeg,mpegts,mpegvideo,avi,flv,asf,ogg,h264,hevc,m4v,wav,mp3,flac,aac"  # no play lists
OPTIONS = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
SLACK = Fraction(1, 50)  # seconds that time stamps of sound may jitter before they count as a gap
PREROLL = 1  # seconds before a window that a seek aims at, so that B-frames and AAC's overlap are complete


def sample_at(frame: int, fps: Fraction, rate: int) -> int:
    """The sample at which `frame` begins: round(frame / fps * rate)."""
    return round(Fraction(frame) / fps * rate)


@dataclass(frozen=True)
class Picture:
    """How a file stores its pictures: coded size (H, W), pixel format, colour tags, display matrix (a, b, c, d), SAR."""

    size: tuple[int, int]
    pixels: str = "yuv420p"
    colour: tuple[int, int, int, int] = (1, 1, 1, 1)  # matrix, range, primaries, transfer: BT.709, limited
    turn: tuple[int, int, int, int] = (1, 0, 0, 1)
    aspect: Fraction | None = None

    @classmethod
    def of(cls, frame: av.VideoFrame, aspect: Fraction | None = None) -> Picture:
        """Read it off a decoded frame."""
        colour = (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc)
        side = frame.side_data.get("DISPLAYMATRIX")
        a, b, _, c, d = np.sign(np.frombuffer(bytes(side), np.int32)[:5]).tolist() if side else (1, 0, 0, 0, 1)
        turn = (a, 0, 0, d) if a else (0, b, c, 0)
        return cls((frame.height, frame.width), frame.format.name, tuple(map(int, colour)), turn, aspect)

    @property
    def shown(self) -> tuple[int, int]:
        """(H, W) after rotation."""
        return self.size if self.turn[0] else self.size[::-1]

    def to_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """Decoded frame -> uint8 (H, W, 3), turned as the file asks: x' = a x + c y, y' = b x + d y."""
        height, width = self.size
        rgb = frame.to_ndarray(format="rgb24", width=width, height=height)
        a, b, c, d = self.turn
        rgb = rgb if a else rgb.swapaxes(0, 1)
        return rgb[:: -1 if b + d < 0 else 1, :: -1 if a + c < 0 else 1]

    def from_rgb(self, rgb: np.ndarray) -> av.VideoFrame:
        """uint8 (H, W, 3) as shown -> a frame as the file stores it."""
        a, b, c, d = self.turn
        rgb = rgb[:: -1 if b + d < 0 else 1, :: -1 if a + c < 0 else 1]
        rgb = np.ascontiguousarray(rgb if a else rgb.swapaxes(0, 1))
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        return frame.reformat(format=self.pixels, dst_colorspace=self.colour[0], dst_color_range=self.colour[1])


def open_input(path: Path) -> av.container.InputContainer:
    """Open a local media file; MediaError says what it is if it is not one."""
    if path.is_dir():
        raise MediaError(f"{path} is a folder; give the name of a video file.")
    if not path.is_file():
        raise MediaError(f"There is no file {path}; check the name.")
    try:
        return av.open(str(path), metadata_errors="replace", options=OPTIONS)
    except (av.FFmpegError, OSError) as error:
        why = f"{path} cannot be read as a video ({error.strerror}); give a whole mp4, mov, mkv, webm, avi or mpg file."
        raise MediaError(why) from error


def _packets(container: av.container.InputContainer, stream: av.stream.Stream) -> Iterator[av.Packet]:
    """Whole packets of a stream, then the empty one that flushes; a file that was cut off just ends earlier."""
    try:
        yield from (packet for packet in container.demux(stream) if not packet.is_corrupt)
    except av.FFmpegError:
        yield av.Packet()


def _nominal_rate(stream: av.VideoStream, times: np.ndarray) -> Fraction:
    """The rate of the usual gap between frames, as the container or a standard names it."""
    named = [rate for rate in (stream.guessed_rate, stream.average_rate, stream.base_rate) if rate]
    gaps = np.diff(times)
    if not len(gaps := gaps[gaps > 0]):
        return named[0] if named else RATES[0]
    usual = gaps[abs(gaps - np.median(gaps)) <= np.median(gaps) / 2].mean() * float(stream.time_base)
    exact = Fraction(1 / usual).limit_denominator(1001)
    return min([*named, *RATES, exact], key=lambda rate: round(200 * abs(log(rate * usual))))


@dataclass(frozen=True)
class Source:
    """A media file on a constant frame grid: T = `n_frames` at `fps`; sound at `rate` (0: none) with C = `channels`."""

    path: Path
    fps: Fraction
    n_frames: int
    picture: Picture
    start: Fraction  # seconds on the file's own clock at which frame 0 begins
    index: int  # of the video stream
    rate: int
    channels: int
    metadata: dict[str, str]
    notes: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, *, max_pixels: int = MAX_PIXELS, max_seconds: float = MAX_SECONDS) -> Source:
        """Read the header, one frame and every packet's time stamp; MediaError for what is no video or over a limit."""
        with open_input(path) as container:
            stream = _video_stream(container, path)
            _check_limits(path, stream, float((container.duration or 0) / av.time_base), (max_pixels, max_seconds))
            times, length = _times(container, stream)
            if not len(times):
                raise MediaError(f"{path} holds no frames with time stamps; give a video with at least one frame.")
            fps = _nominal_rate(stream, times)
            slots = np.rint((times - times[0]) * float(stream.time_base * fps)).astype(int)
            n_frames = int(slots[-1]) + max(1, round(length * stream.time_base * fps))
            _check_limits(path, stream, n_frames / fps, (max_pixels, max_seconds))
            sound = next(iter(container.streams.audio), None)
            source = cls(
                path=path,
                fps=fps,
                n_frames=n_frames,
                picture=Picture((stream.height, stream.width), aspect=stream.sample_aspect_ratio),
                start=int(times[0]) * stream.time_base,
                index=stream.index,
                rate=sound.rate if sound else 0,
                channels=sound.channels if sound else 0,
                metadata=dict(container.metadata),
                notes=tuple(_notes(stream, slots, n_frames, fps)),
            )
        frame = next(source.frames(0, 1), None)
        if frame is None:
            raise MediaError(f"No frame of {path} can be decoded; the file is damaged, export it again.")
        return replace(source, picture=Picture.of(frame, source.picture.aspect))

    def frames(self, first: int, last: int) -> Iterator[av.VideoFrame]:
        """Exactly one decoded frame for each of frames first .. last-1: the newest whose time has come."""
        current, k = None, first
        for slot, frame in self._decode_near(first):
            while current is not None and k < min(slot, last):
                yield current
                k += 1
            if k == last:
                return
            current = frame
        if current is not None:
            yield from (current for _ in range(k, last))

    def _decode_near(self, first: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """(slot, frame) from a key frame at or before `first`; from the very start if seeking does not reach one."""
        if first / self.fps > 2 * PREROLL:
            decoded = self._decode(self.start + first / self.fps - PREROLL)
            slot, frame = next(((s, f) for s, f in decoded if f.key_frame), (first + 1, None))
            if slot <= first:
                yield slot, frame
                yield from ((s, f) for s, f in decoded if s > slot)  # earlier ones may lack their references
                return
        yield from self._decode(None)

    def _decode(self, seek: Fraction | None) -> Iterator[tuple[int, av.VideoFrame]]:
        with open_input(self.path) as container:
            stream = container.streams[self.index]
            stream.thread_type = "AUTO"
            if seek is not None:
                container.seek(round(seek / stream.time_base), stream=stream)
            for seconds, frame in _decoded(self, container, stream):
                yield round(seconds * self.fps), frame

    def sound(self) -> Iterator[np.ndarray]:
        """float32 (S, C) blocks in [-1, 1) from frame 0 on, rounded to 24 bits so that FLAC can hold them unchanged."""
        with open_input(self.path) as container:
            stream = container.streams.audio[0]
            even = av.AudioResampler(format="flt", layout=stream.layout, rate=self.rate)
            have = 0  # samples given out; late sound is preceded by silence, early sound is dropped
            for seconds, frame in _decoded(self, container, stream):
                block = np.concatenate([f.to_ndarray().reshape(-1, self.channels) for f in even.resample(frame)])
                ahead = round(seconds * self.rate) - have
                if have == 0 or abs(ahead) > SLACK * self.rate:
                    block = np.pad(block, ((max(ahead, 0), 0), (0, 0)))[max(-ahead, 0) :]
                have += len(block)
                yield np.clip(np.rint(block * 2**23), -(2**23), 2**23 - 1).astype(np.float32) / np.float32(2**23)


class Tape:
    """Sound of a `Source` read forwards only: memory stays at one block however long the file is."""

    def __init__(self, source: Source):
        self._blocks = source.sound()
        self._rest = np.zeros((0, source.channels), np.float32)
        self._at = 0  # index of the first sample of _rest

    def take(self, start: int, stop: int, *, offset: int = 0) -> np.ndarray:
        """Samples offset + start .. offset + stop - 1, float32 (S, C), silence past the end; never more than 1 back."""
        start, stop = offset + start, offset + stop
        sound = np.zeros((stop - start, self._rest.shape[1]), np.float32)
        while True:
            end = self._at + len(self._rest)
            a, b = max(start, self._at), min(stop, end)
            if a < b:
                sound[a - start : b - start] = self._rest[a - self._at : b - self._at]
            if stop <= end or (block := next(self._blocks, None)) is None:
                return sound
            kept = self._rest[-1:]  # rounding at an edit may ask for the last sample once more
            self._at, self._rest = end - len(kept), np.concatenate([kept, block])


def _decoded(source: Source, container, stream: av.stream.Stream) -> Iterator[tuple[Fraction, av.frame.Frame]]:
    """(seconds after frame 0, frame) for all that has a time stamp; MediaError says where a file is damaged."""
    seconds = Fraction(0)
    for packet in _packets(container, stream):
        try:
            frames = stream.decode(packet if packet.size else None)
        except av.FFmpegError as error:
            where = f"{source.path} is damaged near {float(seconds):.2f} s"
            raise MediaError(f"{where}; export it again or cut that part off.") from error
        for frame in frames:
            if frame.pts is not None:
                seconds = frame.pts * stream.time_base - source.start
                yield seconds, frame


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The first stream of moving pictures (cover art is none)."""
    cover = av.stream.Disposition.attached_pic
    for stream in container.streams.video:
        if not stream.disposition & cover and stream.codec_context is not None:
            return stream
    raise MediaError(f"{path} holds no video stream that can be decoded; give a file with moving pictures.")


def _check_limits(path: Path, stream: av.VideoStream, seconds: float, limits: tuple[int, float]):
    if stream.width * stream.height > limits[0]:
        size = f"{stream.width}x{stream.height}"
        raise MediaError(f"{path} has {size} pixels, more than {limits[0]}; scale it down or raise max_pixels.")
    if seconds > limits[1]:
        raise MediaError(f"{path} lasts {seconds:.0f} s, more than {limits[1]:.0f} s; cut it or raise max_seconds.")


def _times(container: av.container.InputContainer, stream: av.VideoStream) -> tuple[np.ndarray, int]:
    """Sorted time stamps (8 bytes a frame, given up at once) and the length of the last frame, in units of time base."""
    marks = [
        (packet.pts, packet.duration or 0)
        for packet in _packets(container, stream)
        if packet.size and packet.pts is not None and not packet.is_discard
    ]
    marks = np.array(sorted(marks), np.int64).reshape(-1, 2)
    return marks[:, 0], int(marks[-1, 1]) if len(marks) else 0


def _notes(stream: av.VideoStream, slots: np.ndarray, n_frames: int, fps: Fraction) -> Iterator[str]:
    """Sentences on what was done to the timeline."""
    shown = len(np.unique(slots))
    if len(slots) - shown or n_frames - shown:
        repeated, dropped = n_frames - shown, len(slots) - shown
        yield (
            f"The frame rate varies ({len(slots)} frames in {float(n_frames / fps):.2f} s): resampled to {fps} frames/s, "
            f"{repeated} repeated, {dropped} dropped."
        )
    if stream.frames > len(slots):
        yield f"The file was cut off: {len(slots)} of its {stream.frames} frames are there."
    if stream.sample_aspect_ratio not in (None, 0, 1):
        yield f"Its pixels are not square (aspect {stream.sample_aspect_ratio}); they are used as they are."


class Sink:
    """Writes H.264 and AAC (`exact`: lossless H.264 and FLAC) on a constant frame grid; use it as a context manager.

    The file gets its name when everything is written; until then, or after a failure, there is none under that name.
    Odd sizes are stored with full colour resolution (yuv444p), since 4:2:0 cannot hold them.
    """

    def __init__(
        self,
        path: Path,
        fps: Fraction,
        *,
        picture: Picture,
        sound: tuple[int, int] | None,
        exact: bool = False,
        metadata: dict[str, str] | None = None,
    ):
        """`sound` is (rate, channels) or None; `picture` says how frames come. MediaError for what cannot be written."""
        self._path, self._count, self._samples = _writable(path), 0, 0
        codec, pixels = _video_format(picture, exact)
        self._picture = replace(picture, pixels=pixels)
        self.rate = sound[0] if sound else 0
        self._part = path.with_name(f"{path.name}.partial-{os.getpid()}")
        flags = {"movflags": "+faststart+use_metadata_tags"}
        form = {".mkv": "matroska"}.get(path.suffix.lower(), path.suffix.lower()[1:])
        self._file = av.open(str(self._part), "w", format=form, options=flags if form != "matroska" else {})
        self._file.metadata.update(metadata or {})
        self._video = self._add_video(codec, fps, "0" if exact else str(QP))
        self._audio = self._add_audio(sound, LOSSLESS_SOUND[path.suffix.lower()] if exact else "aac") if sound else None

    def _add_video(self, codec: str, fps: Fraction, qp: str) -> av.VideoStream:
        how = {"qp": qp, "preset": "veryfast", "x264-params": "ipratio=1:pbratio=1", "g": str(round(2 * fps))}
        stream = self._file.add_stream(codec, rate=fps, options=how)
        stream.height, stream.width = self._picture.size
        stream.pix_fmt = self._picture.pixels
        stream.time_base = stream.codec_context.time_base = 1 / fps
        stream.colorspace, stream.color_range, stream.color_primaries, stream.color_trc = self._picture.colour
        stream.codec_context.sample_aspect_ratio = self._picture.aspect or Fraction(1)
        stream.thread_type = "AUTO"
        a, b, c, d = (65536 * v for v in self._picture.turn)
        if self._picture.turn != (1, 0, 0, 1):
            stream.set_display_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))
        return stream

    def _add_audio(self, sound: tuple[int, int], codec: str) -> av.AudioStream:
        channels, rate = sound[1], self.rate if codec != "aac" or self.rate in AAC_RATES else 48000
        stream = self._file.add_stream(codec, rate=rate, layout=LAYOUTS[channels])
        stream.codec_context.format = "fltp" if codec == "aac" else "s32"
        if codec == "aac":
            stream.bit_rate = AAC_BITS * channels
        return stream

    def frame(self, image: av.VideoFrame | np.ndarray):
        """Append a decoded frame (its planes go through untouched) or uint8 RGB (H, W, 3)."""
        frame = self._picture.from_rgb(image) if isinstance(image, np.ndarray) else image
        frame.pts, frame.time_base = self._count, self._video.codec_context.time_base
        frame.pict_type = 0  # the encoder chooses anew
        self._count += 1
        self._file.mux(self._video.encode(frame))

    def sound(self, block: np.ndarray):
        """Append float32 samples (S, C)."""
        if not len(block):
            return
        layout = LAYOUTS[block.shape[1]]
        if self._audio.codec_context.format.name == "s32":
            whole = np.clip(np.rint(block.astype(np.float64) * 2**23), -(2**23), 2**23 - 1).astype(np.int32) << 8
            frame = av.AudioFrame.from_ndarray(whole.reshape(1, -1), format="s32", layout=layout)
        else:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block.T), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = self.rate, self._samples, Fraction(1, self.rate)
        self._samples += len(block)
        self._file.mux(self._audio.encode(frame))

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                for stream in filter(None, (self._video, self._audio)):
                    self._file.mux(stream.encode(None))
                self._file.close()
                os.replace(self._part, self._path)
        except (av.FFmpegError, OSError) as failure:
            error = failure
        finally:
            self._abandon()
        if isinstance(error, (av.FFmpegError, OSError)):
            raise MediaError(
                f"{self._path} cannot be written ({error}); check the folder and the free space."
            ) from error

    def _abandon(self):
        with suppress(av.FFmpegError, OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)


def _writable(path: Path) -> Path:
    if path.suffix.lower() not in LOSSLESS_SOUND:
        raise MediaError(f"{path} has no known ending; name the result {', '.join(LOSSLESS_SOUND)}.")
    if path.is_dir() or not path.parent.is_dir():
        raise MediaError(f"{path} cannot be written; give a file name in a folder that exists.")
    return path


def _video_format(picture: Picture, exact: bool) -> tuple[str, str]:
    """(encoder, pixel format) that can hold the picture: all of it if `exact`, else 8 bits and 4:2:0 where sizes are even."""
    odd = bool(picture.size[0] % 2 or picture.size[1] % 2)
    if not exact:
        return "libx264", "yuv444p" if odd else "yuvj420p" if picture.pixels == "yuvj420p" else "yuv420p"
    if av.VideoFormat(picture.pixels).is_rgb:
        return "libx264rgb", "rgb24"
    if picture.pixels not in {f.name for f in av.Codec("libx264", "w").video_formats} or (
        odd and "444" not in picture.pixels
    ):
        size = "x".join(map(str, picture.size[::-1]))
        raise MediaError(f"{picture.pixels} frames of {size} pixels have no lossless H.264 form; leave `exact` off.")
    return "libx264", picture.pixels
