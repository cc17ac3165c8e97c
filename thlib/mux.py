"""Media files through PyAV on a constant frame grid: `Source` decodes, `Sink` encodes, `Joint` copies packets, too.

Frame k of a file covers [k/fps, (k+1)/fps) seconds after its first frame; sound is counted in samples from that same
instant, so what a file says about start times, varying rates and late sound is settled here, once."""

# T frames  H height  W width  S samples  C channels
import os
import re
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from fractions import Fraction
from heapq import merge
from itertools import chain, count, islice, repeat
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.video.reformatter import Interpolation as Scaling

from thlib.errors import MediaError

QP = 14  # a fixed quantiser, unlike a rate, bounds the error of every frame: luma >= 45 dB whatever the footage
BLOCK, LEAD = 1024, 4  # samples of a packet of AAC; how many of those an encoder hears before one that is kept
AAC = {"aac_coder": "fast", "aac_pns": "0", "aac_tns": "0", "aac_is": "0"}  # on speech 10 dB above the default coder
RATES = [Fraction(n) for n in (25, 30, 24, 50, 60)] + [Fraction(n * 1000, 1001) for n in (30, 24, 60)]
LOSSLESS_SOUND = {".mp4": "flac", ".mkv": "flac", ".mov": "pcm_s24le"}  # the keys are what can be written
CONTAINERS = "mov,matroska,webm,mpeg,mpegts,mpegvideo,avi,flv,asf,ogg,wav,mp3,flac,aac"  # no play lists, no pictures
INPUT = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
# Without these a frame that goes to RGB and back comes out a level darker, which shows as a seam.
FAITHFUL = Scaling.BILINEAR | Scaling.ACCURATE_RND | Scaling.FULL_CHR_H_INT | Scaling.FULL_CHR_H_INP
PREROLL = 1  # seconds before a window that a seek aims at, since key frames are indexed by their decoding time
FAR = 60  # seconds up to which sound is decoded from the start: AAC may draw random noise, which a seek would change
SLACK = Fraction(1, 50)  # seconds that time stamps of sound may jitter before they count as a gap
Tags = dict[str, str] | None  # of a container
_STORED = ("yuv420p", (1, 1, 1, 1), (1, 0, 0, 1), None)  # a picture by default: BT.709, limited; upright


def sample_at(frame: int, fps: Fraction, rate: int) -> int:
    """The sample at which `frame` begins: round(frame / fps * rate)."""
    return round(frame / fps * rate)


class Picture(namedtuple("Picture", "size pixels colour turn aspect", defaults=_STORED)):
    """How a file stores pictures: coded size (H, W); format of its pixels; colour tags (matrix, range, primaries,
    transfer); turn, its display matrix (a, b, c, d); aspect of a pixel, a Fraction or None."""

    @classmethod
    def of(cls, frame: av.VideoFrame, aspect: Fraction | None) -> Self:
        """Read it off a decoded frame."""
        colour = (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc)
        side = frame.side_data.get("DISPLAYMATRIX")
        a, b, _, c, d = np.sign(np.frombuffer(bytes(side), np.int32)[:5]).tolist() if side else (1, 0, 0, 0, 1)
        turn = (a, 0, 0, d) if a else (0, b, c, 0)
        return cls((frame.height, frame.width), frame.format.name, tuple(map(int, colour)), turn, aspect)

    def to_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """Decoded frame -> uint8 (H, W, 3), turned as the file asks: x' = a x + c y, y' = b x + d y."""
        a, b, c, d = self.turn
        rgb = frame.to_ndarray(format="rgb24", height=self.size[0], width=self.size[1], interpolation=FAITHFUL)
        rgb = rgb if a else rgb.swapaxes(0, 1)
        return rgb[:: -1 if b + d < 0 else 1, :: -1 if a + c < 0 else 1]

    def from_rgb(self, rgb: np.ndarray) -> av.VideoFrame:
        """uint8 (H, W, 3) as shown -> a frame as the file stores it."""
        a, b, c, d = self.turn
        rgb = rgb[:: -1 if b + d < 0 else 1, :: -1 if a + c < 0 else 1]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb if a else rgb.swapaxes(0, 1)), format="rgb24")
        matrix, span = self.colour[:2]
        return frame.reformat(format=self.pixels, dst_colorspace=matrix, dst_color_range=span, interpolation=FAITHFUL)


class Source:
    """A media file on a constant frame grid: decodes one frame and reads every packet's time stamp when made.
    path; fps (Fraction); size (H, W) as shown, rotation done; n_frames; duration in seconds; audio_rate; channels
    (0: silent, then audio_rate is 16000); metadata (the container's tags); notes: sentences on its timeline; missing:
    frames that a file which was cut off should hold and doesn't. Of packets in the file's order: slots, their frames;
    restarts, where H.264 as MP4 holds it begins anew; blocks, the samples at which those of sound begin.
    MediaError for what is no video, and for one of more pixels or seconds than `max_pixels`, `max_seconds`."""

    def __init__(self, path: str | Path, *, max_pixels: int = 4096 * 2304, max_seconds: float = 4 * 3600):
        self.path = Path(path)
        with opened(self.path) as container:
            kinds = ((s, s.disposition & av.stream.Disposition.attached_pic) for s in container.streams.video)
            stream = next((s for s, cover in kinds if not cover and s.codec_context is not None), None)
            if stream is None:
                raise MediaError(f"{path} holds no video stream that can be decoded; give one with moving pictures.")
            sound = next((s for s in container.streams.audio if s.codec_context is not None and s.channels), None)
            marks = np.fromiter(_marks(container, stream, sound), np.dtype((np.int64, 5)))
            heard, marks = marks[marks[:, 4] == 0, 0], marks[marks[:, 4] == 1]
            times, lengths, *_ = marks[marks[:, 2] == 0].T
            self.missing = max(0, stream.frames - len(marks))
            if not len(times):
                raise MediaError(f"{path} holds no frames with time stamps; give a video with at least one frame.")
            self.fps, self._start = _nominal_rate(stream, np.sort(times)), int(times.min()) * stream.time_base
            self.slots = np.rint((marks[:, 0] - times.min()) * float(stream.time_base * self.fps)).astype(int)
            self.restarts, slots = np.flatnonzero(marks[:, 3]), np.sort(self.slots[marks[:, 2] == 0])
            self.n_frames = int(slots[-1]) + max(1, round(int(lengths[times.argmax()]) * stream.time_base * self.fps))
            self.duration = float(self.n_frames / self.fps)
            if self.duration > max_seconds:
                raise MediaError(f"{path} lasts {self.duration:.1f} s; cut it, or raise max_seconds={max_seconds:g}.")
            if stream.width * stream.height > max_pixels:
                size = f"{stream.width}x{stream.height} pixels, more than {max_pixels}"
                raise MediaError(f"{path} has {size}; scale it down or raise max_pixels.")
            self.channels, self.audio_rate = (sound.channels, sound.rate) if sound else (0, 16000)
            self.metadata, self.notes = dict(container.metadata), tuple(self._notes(stream, slots, sound))
            self._sound, self._setup = (sound.index, sound.codec_context.extradata or b"") if sound else (None, b"")
            self.blocks = (heard * float(sound.time_base) - float(self._start)) * self.audio_rate if sound else heard
            self._index, aspect = stream.index, stream.sample_aspect_ratio
        if (frame := next(self.decode(0, 1), None)) is None:
            raise MediaError(f"No frame of {path} can be decoded; export it again.")
        self.picture = Picture.of(frame, aspect)
        self.size = self.picture.size if self.picture.turn[0] else self.picture.size[::-1]

    def decode(self, first: int, last: int) -> Iterator[av.VideoFrame]:
        """Exactly one decoded frame for each of frames first .. last-1: the newest whose time has come."""
        current, k = None, first
        for slot, frame in chain(self._decode_near(first), [(last, None)]):
            while current is not None and k < min(slot, last):
                yield current
                k += 1
            if k == last:
                return
            current = frame

    def _decode_near(self, first: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """(slot, frame) from a key frame at or before `first`; from the very start if seeking reaches none."""
        with opened(self.path) as container:
            stream = container.streams[self._index]
            stream.thread_type = "AUTO"
            far = first > 2 * PREROLL * self.fps
            if far:
                with suppress(av.FFmpegError):  # where that fails it begins at the start
                    container.seek(round((self._start + first / self.fps - PREROLL) / stream.time_base), stream=stream)
            decoded = ((round(seconds * self.fps), frame) for seconds, frame in self._decoded(container, stream))
            key, frame = next((item for item in decoded if item[1].key_frame or not far), (first + 1, None))
            if frame is not None and (key <= first or not far):
                yield key, frame
                yield from (item for item in decoded if item[0] > key)  # earlier ones may lack their references
                return
        if far:
            yield from self._decode_near(0)

    def sound(self, first: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """(index of its first sample, float32 (S, C) block in [-1, 1)) from sample `first` or earlier on.
        Rounded to 24 bits, so that FLAC holds it unchanged. Early sound is dropped; what no block holds is silent."""
        with opened(self.path) as container:
            stream, rate = container.streams[self._sound], self.audio_rate
            if first > FAR * rate and stream.time_base == Fraction(1, rate):  # else time stamps are rounded
                with suppress(av.FFmpegError):
                    container.seek(round((self._start + Fraction(first, rate) - PREROLL) * rate), stream=stream)
            at, even = 0, av.AudioResampler(format="flt", layout=stream.layout, rate=rate)
            for seconds, frame in self._decoded(container, stream):
                block = np.concatenate([f.to_ndarray().reshape(-1, self.channels) for f in even.resample(frame)])
                ahead = round(seconds * rate) - at
                if at == 0 or abs(ahead) > SLACK * rate:
                    at, block = at + max(ahead, 0), block[max(-ahead, 0) :]
                yield at, (np.rint(block * 2**23) / 2**23).clip(-1, 1 - 2**-23)
                at += len(block)

    def _decoded(self, container, stream: av.stream.Stream) -> Iterator[tuple[Fraction, av.frame.Frame]]:
        """(seconds after frame 0, frame) for all that has a time stamp; MediaError says where the file is damaged."""
        seconds = Fraction(0)
        for packet in _packets(container, stream):
            try:
                frames = stream.decode(packet if packet.size else None)
            except av.FFmpegError as error:
                where = f"{self.path} is damaged near {float(seconds):.2f} s"
                raise MediaError(f"{where}; export it again or cut that part off.") from error
            for frame in frames:
                if frame.pts is not None:
                    yield frame.pts * stream.time_base - self._start, frame

    def _notes(self, stream: av.VideoStream, slots: np.ndarray, sound: av.AudioStream | None) -> Iterator[str]:
        shown = len(np.unique(slots))
        repeated, dropped = self.n_frames - shown, len(slots) - shown
        if repeated or dropped:
            done = f"resampled to {self.fps} frames/s, {repeated} repeated, {dropped} dropped"
            yield f"The frame rate varies ({len(slots)} frames in {self.duration:.2f} s): {done}."
        if self.missing:
            yield f"The file was cut off: {stream.frames - self.missing} of its {stream.frames} frames are there."
        if (stream.sample_aspect_ratio or 1) != 1:
            yield f"Its pixels are not square (aspect {stream.sample_aspect_ratio}); they are used as they are."
        length = (sound.start_time or 0) + sound.duration if sound and sound.duration else 0
        over = float(length * sound.time_base - self._start) - self.duration if length else 0
        if over > 0.5:
            yield f"The sound goes on for {over:.1f} s after the last picture; that rest is left out."


def opened(path: Path) -> av.container.InputContainer:
    """The container of a media file, to read from; MediaError where it is none."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise MediaError(f"{path} {what}; give the name of a video file.")
    try:
        return av.open(str(path), metadata_errors="replace", options=INPUT)
    except (av.FFmpegError, OSError) as error:
        what = f"cannot be read as a video ({error.strerror})"
        raise MediaError(f"{path} {what}; give a whole mp4, mov, mkv, webm, avi or mpg file.") from error


def _packets(container: av.container.InputContainer, *streams: av.stream.Stream) -> Iterator[av.Packet]:
    """Whole packets of streams, then the empty one that flushes; a file that was cut off just ends earlier."""
    try:
        yield from (packet for packet in container.demux(*streams) if not packet.is_corrupt)
    except av.FFmpegError:
        yield av.Packet()


def _marks(container: av.container.InputContainer, stream: av.VideoStream, sound: av.AudioStream | None) -> Iterator:
    """(time stamp, length, hidden, restart, picture) of each packet of pictures and sound, in units of time base."""
    plain = _plain(stream)
    for packet in (p for p in _packets(container, *filter(None, (stream, sound))) if p.size):
        film, restart = packet.stream_index == stream.index, False
        mark = packet.pts or 0, packet.duration or 0, packet.pts is None or packet.is_discard
        if film and plain and packet.is_keyframe:
            with suppress(av.FFmpegError):
                restart = _boxed(plain.filter(packet)).is_keyframe
        yield *mark, restart, film


def _plain(stream: av.VideoStream) -> BitStreamFilterContext | None:
    """Makes packets of H.264 as MP4 holds it (units behind lengths of four bytes) a plain stream with all its sets."""
    setup = ((stream.codec_context.name == "h264" and stream.codec_context.extradata) or b"") + bytes(5)
    return BitStreamFilterContext("h264_mp4toannexb", stream) if (setup[0], setup[4] & 3) == (1, 3) else None


def _nominal_rate(stream: av.VideoStream, times: np.ndarray) -> Fraction:
    """The rate of the usual gap between frames, as the container or a standard names it."""
    named = [rate for rate in (stream.guessed_rate, stream.average_rate, stream.base_rate) if rate]
    gaps = np.diff(times)
    if not len(gaps := gaps[gaps > 0]):
        return [*named, *RATES][0]
    usual = gaps[abs(gaps - np.median(gaps)) <= np.median(gaps) / 2].mean() * float(stream.time_base)
    exact = Fraction(1 / usual).limit_denominator(1001)
    return min([*named, *RATES, exact], key=lambda rate: round(200 * abs(np.log(rate * usual))))


class Sink(AbstractContextManager):
    """Writes H.264 and AAC (`exact`: lossless H.264 and FLAC) on a constant frame grid; a context manager.
    The file gets its name when all is written; until then, or after a failure, there is none under that name.
    Odd sizes are stored with full colour resolution (yuv444p), since 4:2:0 cannot hold them."""

    def __init__(self, path: Path, fps: Fraction, *, picture: Picture, sound: tuple, exact: bool, metadata: Tags):
        """`sound` is (rate, channels), 0 channels for none. MediaError for what cannot be written."""
        codec, pixels = video_format(picture, exact)
        self._fps, self._picture, (self._rate, channels) = fps, picture._replace(pixels=pixels), sound
        self._count, end = 0, self._open(path, metadata)
        self._video = self._add_video(self._file, codec, qp="0" if exact else str(QP))
        self._audio = channels and self._add_audio(self._file, LOSSLESS_SOUND[end] if exact else "aac", channels)

    def _open(self, path: Path, metadata: Tags) -> str:
        if (end := path.suffix.lower()) not in LOSSLESS_SOUND:
            raise MediaError(f"{path} has no ending that can be written; name it {', '.join(LOSSLESS_SOUND)}.")
        if path.is_dir() or not path.parent.is_dir():
            raise MediaError(f"{path} cannot be written; give a file name in a folder that exists.")
        self._path, self._part = path, path.with_name(f"{path.name}.{os.getpid()}.partial")
        flags = {} if end == ".mkv" else {"movflags": "+faststart+use_metadata_tags"}
        self._file = av.open(str(self._part), "w", format="matroska" if end == ".mkv" else end[1:], options=flags)
        self._file.metadata.update(metadata or {})
        return end

    def _add_video(self, file: av.container.Container, codec: str, *, also: str = "", **how: str) -> av.VideoStream:
        how |= {"preset": "veryfast", "x264-params": f"ipratio=1:pbratio=1{also}", "g": str(round(2 * self._fps))}
        stream = file.add_stream(codec, rate=self._fps, options=how)
        stream.height, stream.width = self._picture.size
        stream.pix_fmt, stream.thread_type = self._picture.pixels, "SLICE" if how.get("tune") else "AUTO"  # at once
        stream.time_base = stream.codec_context.time_base = 1 / self._fps
        stream.colorspace, stream.color_range, stream.color_primaries, stream.color_trc = self._picture.colour
        stream.codec_context.sample_aspect_ratio = self._picture.aspect or Fraction(1)
        if self._picture.turn != (1, 0, 0, 1):
            a, b, c, d = (65536 * v for v in self._picture.turn)
            stream.set_display_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))
        return stream

    def _add_audio(self, file: av.container.OutputContainer, codec: str, channels: int) -> av.AudioStream:
        fits = codec != "aac" or self._rate in av.Codec("aac", "w").audio_rates
        how = AAC if codec == "aac" else {}
        stream = file.add_stream(codec, rate=self._rate if fits else 48000, layout=f"{channels}c", options=how)
        stream.codec_context.format = "fltp" if codec == "aac" else "s32"
        stream.bit_rate = 192_000 * channels
        return stream

    def append(self, frames: Iterable, take: Callable[[int, int], np.ndarray]) -> None:
        """Decoded frames (as they are) or uint8 RGB (H, W, 3), with sound: float32 take(start, stop) -> (S, C)."""
        for image in frames:
            start, stop = (sample_at(self._count + k, self._fps, self._rate) for k in (0, 1))
            self._file.mux(self._video.encode(self._frame(image, self._count)))
            self._count += 1
            if self._audio:
                self._file.mux(self._audio.encode(self._heard(take(start, stop), start)))

    def _frame(self, image: np.ndarray | av.VideoFrame, at: int, key: int | None = None) -> av.VideoFrame:
        frame = self._picture.from_rgb(image) if isinstance(image, np.ndarray) else image
        frame.pts, frame.time_base, frame.pict_type = at, 1 / self._fps, int(at == key)  # 0: as the encoder likes
        return frame

    def _heard(self, block: np.ndarray, at: int) -> av.AudioFrame:
        sound = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="flt", layout=f"{block.shape[1]}c")
        sound.sample_rate, sound.pts, sound.time_base = self._rate, at, Fraction(1, self._rate)
        return sound

    def __exit__(self, kind, error, trace):
        try:
            if error is None:
                for stream in filter(None, (self._video, self._audio)):
                    self._file.mux(stream.encode(None))
                self._file.close()
                os.replace(self._part, self._path)
        except (av.FFmpegError, OSError) as failure:
            error = failure
        with suppress(av.FFmpegError, OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)
        if isinstance(error, (av.FFmpegError, OSError)):
            raise MediaError(f"{self._path} cannot be written ({error}); check the folder and its space.") from error


class Joint(Sink):
    """Writes packets of a `Source` (H.264 with `restarts`) as they are, and new ones between them: pictures without
    B-frames, their parameter sets numbered 31, in band; sound on the old blocks' grid, so that AAC shows no seam."""

    def __init__(self, path: Path, source: Source, *, metadata: Tags):
        self._open(path, metadata)
        self._fps, self._picture, self._rate, self._source = source.fps, source.picture, source.audio_rate, source
        self._video, self._audio, self._idle = None, None, av.open(os.devnull, "w", format="null")  # for encoders alone
        self._coder = self._add_video(self._idle, "libx264", also=":sps-id=31", tune="zerolatency", qp=str(QP))

    def write(self, film: Iterable[tuple], sound: Iterable[tuple]) -> None:
        """Runs (start, old, n, new) of n frames, or blocks of sound, from `start` on: the packets from `old` on, or new
        ones: of pictures, or of samples take(start, stop), both as `Sink.append` wants them."""
        source, late = self._source, np.arange(len(self._source.slots)) - self._source.slots  # packets after their turn
        grid = Fraction(1, self._rate), round(source.blocks[:1].sum()), BLOCK, [0] * len(source.blocks)
        tracks = [(film, source._index, (1 / self._fps, 0, 1, late.tolist())), (sound, source._sound, grid)]
        for *_, packet in merge(*(self._track(*track) for track in tracks if track[1] is not None)):
            self._file.mux(packet)

    def _track(self, runs: Iterable[tuple], index: int, grid: tuple) -> Iterator[tuple[float, int, av.Packet]]:
        """(seconds, index, packet), in order; grid: time base, first time stamp, step, lateness of old packets."""
        container, (tick, zero, step, late), at, seconds = opened(self._source.path), grid, 0, float(grid[0])
        plain, stream = _plain(known := container.streams[index]), self._file.add_stream_from_template(known)
        packets, most = (packet for packet in _packets(container, known) if packet.size), max(late)
        for start, old, n, new in (run for run in runs if run[2]):
            if new is None:
                found, at = islice(packets, old - at, old - at + n), old + n
            elif plain:
                found = map(_boxed, map(self._coder.encode, map(self._frame, new, count(start), repeat(start))))
            else:
                coder, early = self._add_audio(self._idle, "aac", self._source.channels), zero + step * (start - LEAD)
                made = (coder.encode(self._heard(new(k, k + step), k)) for k in count(early, step))
                found = islice(chain.from_iterable(made), LEAD + 1, LEAD + 1 + n)  # the coder begins a block early
            for k, packet in enumerate(found, start):
                if new is None and k == start and plain and start + old:  # with the old sets
                    packet = _boxed(plain.filter(packet))
                packet.stream, packet.time_base, packet.duration = stream, tick, step
                packet.pts = zero + step * (k if new is not None else k - late[old + k - start])
                packet.dts = zero + step * (k - most)
                yield packet.dts * seconds, index, packet


def _boxed(packets: Iterable[av.Packet]) -> av.Packet:
    """One packet, as MP4 holds it, of those of a plain H.264 stream; a key frame if no later one refers behind it."""
    units = [unit for packet in packets for unit in re.split(b"\0\0+\1", bytes(packet)) if unit]
    packet = av.Packet(b"".join(len(unit).to_bytes(4) + unit for unit in units))
    packet.is_keyframe = any(unit[0] & 31 == 5 for unit in units)
    return packet


def video_format(picture: Picture, exact: bool) -> tuple[str, str]:
    """(encoder, pixel format) that holds the picture: unchanged if `exact`, else in 8 bits."""
    odd = picture.size[0] % 2 or picture.size[1] % 2
    if not exact:
        return "libx264", "yuv444p" if odd else "yuvj420p" if picture.pixels == "yuvj420p" else "yuv420p"
    if av.VideoFormat(picture.pixels).is_rgb:
        return "libx264rgb", "rgb24"
    if picture.pixels in {f.name for f in av.Codec("libx264", "w").video_formats if not odd or "444" in f.name}:
        return "libx264", picture.pixels
    size = "x".join(map(str, picture.size[::-1]))
    raise MediaError(f"{picture.pixels} frames of {size} pixels have no lossless H.264 form; leave `exact` off.")
