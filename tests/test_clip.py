"""clip and mux: one timeline for every container, edits that leave the rest equal, errors in one sentence."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thlib.clip import Clip, Tape, Video, read, splice_clip, timeline, write
from thlib.errors import EditError, MediaError
from thlib.mux import BLOCK, sample_at

NTSC = Fraction(30000, 1001)
SIZE = (64, 112)


def numbered(k, size=SIZE):
    """A frame that shows k in 12 bits, on a gradient."""
    frame = np.full((*size, 3), 60, np.uint8)
    frame[36:60, 8:104] = np.arange(96, dtype=np.uint8)[None, :, None] + np.uint8([0, 40, 90])
    for bit in range(12):
        if k >> bit & 1:
            frame[8:32, 8 * bit + 8 : 8 * bit + 16] = (220, 180, 90)
    return frame


def number(frame):
    return sum(1 << bit for bit in range(12) if frame[14:26, 8 * bit + 11 : 8 * bit + 13].mean() > 110)


def numbers(clip):
    return [number(frame) for frame in clip.frames]


def synthetic(n, fps, rate=44100, first=0, seed=0):
    """A clip of n numbered frames with noise, dull like speech, that is different in every sample."""
    noise = np.random.default_rng(seed).uniform(-1, 1, (sample_at(n, Fraction(fps), rate), 2))
    noise = sum(np.roll(noise, k, axis=0) for k in range(8)).astype(np.float32) / 8
    frames = np.stack([numbered(first + k) for k in range(n)]) if n else np.zeros((0, *SIZE, 3), np.uint8)
    return Clip(frames, Fraction(fps), np.rint(noise * 2**15) / np.float32(2**15), rate)


def silent(clip):
    return replace(clip, audio=np.zeros((0, 1), np.float32), audio_rate=16000)


def encode(path, n, fps=Fraction(25), *, codec="libx264", times=None, sound=None, **how):
    """A file made with PyAV alone; `times` (time base, [pts]); `sound` (codec, samples (S,), first pts)."""
    options, pixels, turn = how.get("options", {}), how.get("pixels", "yuv420p"), how.get("turn")
    with av.open(str(path), "w", format=how.get("format")) as file:
        video = file.add_stream(codec, rate=fps, options=options)
        video.height, video.width = how.get("size", SIZE)
        video.pix_fmt = pixels
        base, marks = times or (1 / Fraction(fps), range(n))
        video.codec_context.time_base = base
        if turn is not None:
            video.set_display_rotation(turn)
        audio = file.add_stream(sound[0], rate=44100, layout="mono") if sound else None
        for k, pts in enumerate(marks):
            frame = av.VideoFrame.from_ndarray(numbered(k, how.get("size", SIZE)), format="rgb24")
            frame.pts, frame.time_base = pts, base
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        if audio:
            frame = av.AudioFrame.from_ndarray(np.float32(sound[1])[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 44100, sound[2], Fraction(1, 44100)
            for part in av.AudioResampler(audio.codec_context.format, "mono", 44100).resample(frame):
                file.mux(audio.encode(part))
            file.mux(audio.encode(None))
    return path


def planes(video, first, last):
    """The decoded planes of each frame, without padding."""
    for frame in video.decode(first, last):
        yield [np.frombuffer(p, np.uint8).reshape(-1, p.line_size)[: p.height, : p.width].copy() for p in frame.planes]


def same_planes(a, b, span_a, span_b):
    return all(
        all(np.array_equal(p, q) for p, q in zip(x, y, strict=True))
        for x, y in zip(planes(a, *span_a), planes(b, *span_b), strict=True)
    )


def psnr(a, b):
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b.astype(float)) ** 2), 1e-9))


# --- the timeline, in memory


def test_clip_knows_its_length_and_gives_mono():
    clip = synthetic(30, NTSC)
    assert clip.duration == pytest.approx(1.001)
    assert clip.size == SIZE
    assert not clip.silent
    assert abs(len(clip.mono16k()) - 16016) <= 1
    assert clip.mono16k().dtype == np.float32
    tone = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100).astype(np.float32)
    mono = replace(clip, audio=np.stack([tone, tone], 1)).mono16k()
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert np.abs(mono - expected)[200:-200].max() < 1e-3
    with pytest.raises(MediaError, match="no sound"):
        silent(clip).mono16k()


def test_clip_refuses_other_types():
    with pytest.raises(MediaError, match="uint8"):
        Clip(np.zeros((2, 4, 4, 3)), 25, np.zeros((0, 1), np.float32), 16000)
    with pytest.raises(MediaError, match="float32"):
        Clip(np.zeros((2, 4, 4, 3), np.uint8), 25, np.zeros(10, np.float32), 16000)


def test_cut_takes_frames_and_their_sound():
    clip = synthetic(10, NTSC)
    part = clip.cut(3, 7)
    assert numbers(part) == [3, 4, 5, 6]
    assert np.array_equal(part.audio, clip.audio[round(3 / NTSC * 44100) : round(7 / NTSC * 44100)])


spans = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200), st.integers(0, 30)), max_size=5)


@settings(max_examples=200, deadline=None)
@given(spans, st.sampled_from([NTSC, Fraction(25), Fraction(24000, 1001), Fraction(60), Fraction(1350, 61)]))
def test_timeline_keeps_everything_outside_and_never_drifts(raw, fps):
    n, rate, old = 200, 44100, 0
    edits = []
    for first, last, length in sorted((min(a, b), max(a, b), c) for a, b, c in raw):
        if first >= old:
            frames = np.zeros((length, 1, 1, 3), np.uint8)
            edits.append((first / float(fps), last / float(fps), Clip(frames, fps, np.zeros((0, 1), np.float32), rate)))
            old = max(last, first)
    kept = set(range(n)) - {k for t0, t1, _ in edits for k in range(round(t0 * fps), round(t1 * fps))}
    total = len(kept) + sum(len(clip.frames) for *_, clip in edits)
    if not total:
        with pytest.raises(EditError, match="no frame"):
            timeline(edits, fps, n)
        return
    pieces = timeline(edits, fps, n)
    assert [p.start for p in pieces] == list(np.cumsum([0] + [p.frames for p in pieces])[:-1])  # no gap, no overlap
    assert [k for p in pieces if not p.clip for k in range(p.old, p.old + p.frames)] == sorted(kept)
    assert pieces[-1].start + pieces[-1].frames == total
    for piece in (p for p in pieces if not p.clip):  # every kept frame: its sound lies within a sample of its place
        for k in (0, piece.frames - 1):
            moved = sample_at(piece.start, fps, rate) + sample_at(piece.old + k, fps, rate)
            moved -= sample_at(piece.old, fps, rate)
            assert abs(moved - (piece.start + k) / fps * rate) <= 1.5


def test_splice_in_memory_replaces_inserts_and_deletes():
    clip, new = synthetic(100, NTSC), synthetic(7, NTSC, first=1000, seed=1)
    at = [float(k / NTSC) for k in range(101)]
    out = splice_clip(clip, [(at[60], at[70], synthetic(0, NTSC)), (at[10], at[20], new), (at[40], at[40], new)])
    seven = list(range(1000, 1007))
    assert numbers(out) == [*range(10), *seven, *range(20, 40), *seven, *range(40, 60), *range(70, 100)]
    for first, old, frames in ((0, 0, 10), (17, 20, 20), (44, 40, 20), (64, 70, 30)):
        assert np.array_equal(out.frames[first : first + frames], clip.frames[old : old + frames])
        start, stop = sample_at(first, NTSC, 44100), sample_at(first + frames, NTSC, 44100)
        source = sample_at(old, NTSC, 44100)
        expected = clip.audio[source : source + stop - start]
        assert np.array_equal(out.audio[start : start + len(expected)], expected)
    start = sample_at(10, NTSC, 44100)
    assert np.array_equal(out.audio[start : start + len(new.audio) - 1], new.audio[:-1])
    assert abs(len(out.audio) - sample_at(94, NTSC, 44100)) <= 1


def test_splice_fits_sound_of_another_rate_and_refuses_what_does_not_fit():
    clip = synthetic(50, 25)
    mono = Clip(clip.frames[:10], Fraction(25), np.full((6400, 1), 0.25, np.float32), 16000)
    out = splice_clip(clip, [(1.0, 1.4, mono)])
    assert out.audio.shape == clip.audio.shape
    assert np.abs(out.audio[46000:60000] - 0.25).max() < 0.01
    assert splice_clip(silent(clip), [(1, 1.4, silent(mono))]).silent
    with pytest.raises(MediaError, match="no sound track"):
        splice_clip(silent(clip), [(1, 1.4, mono)])
    with pytest.raises(MediaError, match="does not fit"):
        splice_clip(clip, [(1, 1.4, replace(mono, fps=Fraction(30)))])
    with pytest.raises(MediaError, match="does not fit"):
        splice_clip(clip, [(1, 1.4, replace(mono, frames=mono.frames[:, :32]))])
    for bad in ([(1, 3, mono)], [(-1, 1, mono)], [(1, 0.5, mono)], [(0.5, 1, mono), (0.8, 1.2, mono)]):
        with pytest.raises(EditError, match="span"):
            splice_clip(clip, bad)
    with pytest.raises(EditError, match="no frame"):
        splice_clip(clip, [(0, 2, synthetic(0, 25))])


# --- files: writing and reading back


@pytest.mark.parametrize("end", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("size", [SIZE, (65, 113)])
def test_exact_file_gives_back_the_same_pixels_and_samples(tmp_path, end, size):
    clip = synthetic(20, NTSC)
    clip = replace(clip, frames=np.random.default_rng(1).integers(0, 256, (20, *size, 3), np.uint8))
    path = write(tmp_path / f"a{end}", clip, exact=True, metadata={"thlib": "spans 1-2", "title": "Grüße"})
    back, video = read(path), Video(path)
    assert np.array_equal(back.frames, clip.frames)
    assert np.array_equal(back.audio, clip.audio)
    assert (back.fps, back.audio_rate, video.notes) == (NTSC, 44100, ())
    tags = {key.lower(): value for key, value in video.metadata.items()}
    assert (tags["thlib"], tags["title"]) == ("spans 1-2", "Grüße")
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("size", [SIZE, (65, 113), (64, 113)])
def test_default_file_is_close_and_as_large_as_the_clip(tmp_path, size):
    clip = synthetic(20, 25)
    frames = np.stack([numbered(k, size) for k in range(20)])
    back = read(write(tmp_path / "a.mp4", replace(clip, frames=frames)))
    assert back.frames.shape == frames.shape
    assert back.frames.flags.c_contiguous
    assert psnr(back.frames, frames) > 30
    assert numbers(back) == list(range(20))
    assert back.audio.shape == clip.audio.shape
    assert (tmp_path / "a.mp4").read_bytes().index(b"moov") < (tmp_path / "a.mp4").read_bytes().index(b"mdat")


def test_even_noise_keeps_45_db_and_colours_stay(tmp_path):
    rng = np.random.default_rng(0)
    grey = rng.integers(16, 235, (10, *SIZE, 1), np.uint8).repeat(3, axis=3)
    assert psnr(read(write(tmp_path / "n.mp4", silent(replace(synthetic(10, 25), frames=grey)))).frames, grey) >= 45
    flat = np.empty((10, *SIZE, 3), np.uint8)
    flat[:] = (200, 60, 30)
    for exact in (False, True):
        back = read(write(tmp_path / "c.mp4", silent(replace(synthetic(10, 25), frames=flat)), exact=exact))
        assert np.abs(back.frames.astype(int) - flat).max() <= 3


@pytest.mark.parametrize("rate", [8000, 11000, 16000, 44100, 48000, 100000])
def test_sound_of_any_rate(tmp_path, rate):
    clip = synthetic(50, 25, rate=rate)
    tone = np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate).astype(np.float32)[:, None] * np.float32(0.5)
    back = read(write(tmp_path / "a.mp4", replace(clip, audio=tone)))
    t = np.arange(len(back.audio)) / back.audio_rate
    assert np.abs(back.audio[:, 0] - 0.5 * np.sin(2 * np.pi * 440 * t))[4096:-4096].max() < 0.08


def test_errors_of_writing(tmp_path):
    clip = synthetic(5, 25)
    for name, why in (("a.avi", "ending"), ("no/a.mp4", "folder"), ("folder.mp4", "cannot be written")):
        (tmp_path / "folder.mp4").mkdir(exist_ok=True)
        with pytest.raises(MediaError, match=why):
            write(tmp_path / name, clip)
    with pytest.raises(MediaError, match="no frames"):
        write(tmp_path / "a.mp4", synthetic(0, 25))
    assert os.listdir(tmp_path) == ["folder.mp4"]


def test_failure_half_way_leaves_nothing(tmp_path):
    video = Video(write(tmp_path / "a.mp4", synthetic(60, 25)))
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(MediaError, match="does not exist"):
        video.splice([], tmp_path / "b.mp4")
    assert os.listdir(tmp_path) == []


KILLED = """
import sys, numpy as np
from thlib import mux
frame = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
with mux.Sink(__import__("pathlib").Path(sys.argv[1]), mux.Fraction(25), picture=mux.Picture((240, 320)),
              sound=(16000, 0), exact=False, metadata=None) as sink:
    while True:
        sink.append([frame], None)
"""


def test_kill_half_way_leaves_no_file_under_the_name(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "a.mp4")])
    until = time.monotonic() + 30
    while not any(f.stat().st_size > 10_000 for f in tmp_path.iterdir()) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [f.name for f in tmp_path.iterdir() if "partial" not in f.name] == []
    assert [f.name for f in tmp_path.iterdir() if "partial" in f.name]


# --- files: what cameras and encoders do

OPEN_GOP = {"x264-params": "open-gop=1:keyint=30:min-keyint=30", "bf": "3"}
CONTAINERS = [
    ("mpeg1.mpg", "mpeg1video", {"bf": "2", "g": "12"}, Fraction(25)),
    ("mpeg2.mpg", "mpeg2video", {"bf": "2", "g": "12"}, NTSC),
    ("stream.ts", "libx264", {"bf": "3", "g": "50"}, Fraction(25)),
    ("open_gop.mp4", "libx264", OPEN_GOP, NTSC),
    ("one_key.mp4", "libx264", {"x264-params": "keyint=infinite"}, Fraction(24000, 1001)),
    (
        "hevc.mp4",
        "libx265",
        {"x265-params": "open-gop=1:keyint=30:log-level=none", "preset": "ultrafast"},
        Fraction(25),
    ),
    ("rounded.mkv", "libx264", {"g": "30"}, NTSC),
    ("old.avi", "mpeg4", {"g": "25"}, Fraction(25)),
    ("ten_bit.mkv", "libx265", {"x265-params": "log-level=none", "preset": "ultrafast"}, Fraction(50)),
]


@pytest.mark.parametrize(("name", "codec", "options", "fps"), CONTAINERS, ids=[c[0] for c in CONTAINERS])
def test_every_frame_and_every_window_of_every_container(tmp_path, name, codec, options, fps):
    pixels = "yuv420p10le" if name.startswith("ten") else "yuv420p"
    video = Video(encode(tmp_path / name, 200, fps, codec=codec, options=options, pixels=pixels))
    whole = video.clip()
    assert (video.fps, video.n_frames, video.notes) == (fps, 200, ())
    assert numbers(whole) == list(range(200))
    assert whole.frames.flags.c_contiguous
    for k in (0, 1, 49, 59, 60, 61, 100, 133, 149, 150, 151, 196):
        window = video.window(float(k / fps), float((k + 3) / fps))
        assert np.array_equal(window.frames, whole.frames[k : k + 3]), k


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_rotation_is_honoured_and_survives_an_exact_splice(tmp_path, turn):
    path = encode(tmp_path / "r.mp4", 30, turn=turn)
    video = Video(path)
    upright = np.rot90(video.clip().frames, turn // -90 % 4, axes=(1, 2))  # `turn` is counter-clockwise
    assert video.size == (SIZE if turn % 180 == 0 else SIZE[::-1])
    assert [number(f) for f in upright] == list(range(30))
    new = video.window(0.2, 0.6)
    out = Video(video.splice([(0.4, 0.4, new)], tmp_path / "out.mp4", exact=True))
    assert out.size == video.size
    assert same_planes(video, out, (0, 10), (0, 10))
    assert same_planes(video, out, (10, 30), (20, 40))
    assert psnr(out.clip().frames[10:20], new.frames) > 30


def test_varying_rate_is_resampled_by_time_and_said(tmp_path):
    marks = [7, 8, 9, 12, 13, 17, 18, 19, 20, 21]  # in 1/30 s: frames 9, 13 are held, the file starts late
    video = Video(encode(tmp_path / "v.mp4", 10, 30, times=(Fraction(1, 30), marks)))
    assert (video.fps, video.n_frames) == (30, 15)
    assert numbers(video.clip()) == [0, 1, 2, 2, 2, 3, 4, 4, 4, 4, 5, 6, 7, 8, 9]
    assert "varies" in video.notes[0]
    assert "5 repeated" in video.notes[0]


@pytest.mark.parametrize(("first", "delay"), [(0, 0), (0, 22050), (10, 0), (7, 1111)])
@pytest.mark.parametrize(("end", "codec", "slack"), [("mp4", "aac", 48), ("mkv", "flac", 48), ("ts", "aac", 2)])
def test_sound_is_counted_from_the_first_frame(tmp_path, end, codec, slack, first, delay):
    sound = np.zeros(2 * 44100, np.float32)
    sound[44100:44140] = 0.9
    times = (Fraction(1, 25), range(first, first + 60))
    video = Video(encode(tmp_path / f"s.{end}", 60, times=times, sound=(codec, sound, delay)))
    clip = video.clip()
    click = int(np.argmax(np.abs(clip.audio[:, 0]) > 0.4))
    assert abs(click - (44100 + delay - first * 1764)) <= slack  # a click of 1 ms: containers count in 1/1000 s
    assert len(clip.audio) == 60 * 1764
    assert numbers(clip) == list(range(60))
    window = video.window(0.4, 2.0)
    assert np.array_equal(window.audio, clip.audio[10 * 1764 : 50 * 1764])


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p", "yuvj420p"])
def test_frames_that_go_to_rgb_and_back_are_no_darker(tmp_path, pixels):
    video = Video(encode(tmp_path / "a.mp4", 30, pixels=pixels))
    out = Video(video.splice([(0.4, 0.8, video.window(0.4, 0.8))], tmp_path / "b.mp4", exact=True))
    assert same_planes(video, out, (0, 10), (0, 10))
    for a, b in zip(planes(video, 10, 20), planes(out, 10, 20)):
        luma, *colours = (abs(np.mean(p.astype(float) - q)) for p, q in zip(a, b))
        assert luma < 0.25
        assert max(colours) < 0.75


def test_tape_gives_the_last_sample_once_more(tmp_path):
    video = Video(write(tmp_path / "a.mp4", synthetic(50, 25), exact=True))
    whole, tape, at = Tape(video).take(0, 80000), Tape(video), 0
    while at + 1152 < 80000:  # wherever the blocks of the file begin
        assert np.array_equal(tape.take(at, at + 577), whole[at : at + 577])
        at += 576


def test_sound_that_outlasts_the_pictures_is_said(tmp_path):
    video = Video(encode(tmp_path / "a.mp4", 25, sound=("aac", np.zeros(3 * 44100), 0)))
    assert (video.n_frames, len(video.clip().audio)) == (25, 44100)
    assert "2.0 s after the last picture" in video.notes[0]


def test_sound_of_a_late_window_is_found_by_seeking(tmp_path):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 44100 * 90)
    video = Video(encode(tmp_path / "a.mp4", 90, Fraction(1), sound=("pcm_s16le", sound, 0), format="mov"))
    start = 80 * 44100
    assert np.abs(video.window(80, 84).audio[:, 0] - sound[start : start + 4 * 44100]).max() < 1e-4


def test_splice_on_files_is_equal_outside_at_29_97(tmp_path):
    original = synthetic(150, NTSC)
    video = Video(write(tmp_path / "a.mp4", original))
    new, none = synthetic(7, NTSC, first=1000, seed=1), synthetic(0, NTSC)
    edits = [(20 / NTSC, 30 / NTSC, new), (60 / NTSC, 60 / NTSC, new), (100 / NTSC, 101 / NTSC, none)]
    edits += [((120 + k) / NTSC, (120 + k) / NTSC, new) for k in range(10)]
    before, seven = video.clip(), list(range(1000, 1007))
    expected = [*range(20), *seven, *range(30, 60), *seven, *range(60, 100), *range(101, 120)]
    expected += [i for k in range(10) for i in (*seven, 120 + k)] + list(range(130, 150))
    for exact in (False, True):
        out = Video(video.splice(edits, tmp_path / "b.mp4", exact=exact, metadata={"thlib": "x"}))
        after = out.clip()
        assert numbers(after) == expected
        assert out.metadata["thlib"] == "x"
        assert out.notes == ()
        assert (out.fps, out.audio_rate, len(after.audio)) == (NTSC, 44100, sample_at(len(expected), NTSC, 44100))
        for piece in timeline(edits, NTSC, 150):
            if piece.clip:
                continue
            start, old = sample_at(piece.start, NTSC, 44100), sample_at(piece.old, NTSC, 44100)
            length = sample_at(piece.start + piece.frames, NTSC, 44100) - start
            a, b = after.audio[start : start + length], before.audio[old : old + length]
            span = (piece.old, piece.old + piece.frames), (piece.start, piece.start + piece.frames)
            if exact:
                assert np.array_equal(a[: len(b)], b)
                assert same_planes(video, out, *span)
            else:
                # at most half a block from its place, all of it alike; a sample out of step would be 0.25
                a, b = (side[BLOCK // 2 : -BLOCK // 2] if len(b) > 4 * BLOCK else side[:0] for side in (a[: len(b)], b))
                moved = [np.roll(a, -k, axis=0)[BLOCK:-BLOCK] - b[BLOCK:-BLOCK] for k in range(-512, 513)]
                assert min(np.sum(error**2) for error in moved) <= 0.01 * np.sum(b**2)
                assert all(psnr(p[0], q[0]) >= 45 for p, q in zip(planes(video, *span[0]), planes(out, *span[1])))
        memory = splice_clip(before, edits)
        if exact:
            assert np.abs(after.audio - memory.audio)[:-1].max() < 1e-6  # the last: past the end of the pictures


def test_splice_into_the_same_name(tmp_path):
    path = write(tmp_path / "a.mp4", synthetic(30, 25))
    video = Video(path)
    video.splice([(0, 0.4, synthetic(0, 25))], path)
    assert numbers(read(path)) == list(range(10, 30))


def test_memory_stays_flat(tmp_path):
    def peak(n):
        code = (
            "import sys, resource; from thlib.clip import Video, Clip\n"
            "v = Video(sys.argv[1]); c = v.window(1, 2)\n"
            "v.splice([(1, 2, c), (5, 5, c)], sys.argv[2])\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        size = (288, 352)
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, n * 1764).astype(np.float32)
        options = {"preset": "ultrafast", "g": "250"}
        path = encode(tmp_path / f"{n}.mp4", n, size=size, options=options, sound=("aac", noise, 0))
        return int(subprocess.check_output([sys.executable, "-c", code, str(path), str(tmp_path / "out.mp4")])) / 1024

    short, long = peak(250), peak(1500)  # 1500 frames are 435 MiB of RGB, 217 MiB of planes
    assert long - short < 40, (short, long)


# --- what is no video, or too much


def test_errors_of_reading(tmp_path):
    good = encode(tmp_path / "good.mp4", 50)
    (tmp_path / "text.mp4").write_text("not a video at all, just words\n" * 100)
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "empty.mp4").write_bytes(b"")
    data = good.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: data.index(b"moov") - 4])
    with av.open(str(tmp_path / "sound.wav"), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), "s16", "mono")
        frame.sample_rate = 16000
        file.mux(stream.encode(frame))
    cases = [("none.mp4", "does not exist"), ("", "folder"), ("sound.wav", "no video stream")]
    cases += [(name, "cannot be read as a video") for name in ("text.mp4", "list.mp4", "empty.mp4", "cut.mp4")]
    for name, why in cases:
        with pytest.raises(MediaError, match=why) as caught:
            Video(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith(".")


def test_limits_are_checked_before_decoding(tmp_path):
    path = encode(tmp_path / "a.mp4", 50)
    with pytest.raises(MediaError, match="112x64 pixels"):
        Video(path, max_pixels=64 * 111)
    with pytest.raises(MediaError, match="lasts 2.0 s"):
        Video(path, max_seconds=1.9)
    video = Video(path, max_pixels=64 * 112, max_seconds=2)
    with pytest.raises(MediaError, match="max_bytes"):
        video.clip(max_bytes=50 * 64 * 112 * 3 - 1)
    for span in ((1, 1), (1, 0.5), (-1, 1), (1, 2.1)):
        with pytest.raises(MediaError, match="no part of"):
            video.window(*span)


def test_a_file_cut_off_gives_what_is_there_and_says_so(tmp_path):
    clip = replace(synthetic(100, 25), frames=np.random.default_rng(0).integers(0, 256, (100, *SIZE, 3), np.uint8))
    whole = write(tmp_path / "a.mp4", clip)  # faststart: the index comes first
    (tmp_path / "b.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    video = Video(tmp_path / "b.mp4")
    assert 20 < video.n_frames < 80
    assert "cut off" in video.notes[0]
    assert psnr(video.clip().frames, read(whole).frames[: video.n_frames]) > 60


def test_damage_inside_a_file_is_an_error_or_is_concealed(tmp_path):
    path = write(tmp_path / "a.mkv", synthetic(100, 25))
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 4000] = os.urandom(4000)
    path.write_bytes(data)
    with suppress(MediaError):
        assert len(read(path).frames) > 0


# --- real footage

CLIPS = ["talking-clips", "emoface-sample"]


def footage(mirror):
    files = sorted(f for name in CLIPS for f in (mirror / name).iterdir() if f.suffix in (".mp4", ".mov"))
    return [*files, mirror / "grid-s1" / "bbaf2n.mpg"]


def test_every_clip_of_the_mirror_splices(mirror, tmp_path):
    for path in footage(mirror):
        video = Video(path)
        fps, before = video.fps, video.window(0, float(8 / video.fps))
        new, none = before.cut(5, 8), before.cut(0, 0)
        edits = [(3 / fps, 4 / fps, new), (8 / fps, video.duration, none)]
        for exact in (False, True):
            out = Video(video.splice(edits, tmp_path / "out.mp4", exact=exact))
            assert (out.n_frames, out.fps, out.size, out.audio_rate) == (10, fps, video.size, video.audio_rate)
            a, b = list(planes(video, 0, 8)), list(planes(out, 0, 10))
            for old, moved in zip([0, 1, 2, 4, 5, 6, 7], [0, 1, 2, 6, 7, 8, 9]):
                if exact:
                    assert all(map(np.array_equal, a[old], b[moved])), (path.name, old)
                assert psnr(a[old][0], b[moved][0]) >= 45, (path.name, old)
        assert out.silent == video.silent
        if not video.silent:
            at = [sample_at(k, fps, video.audio_rate) for k in (3, 4, 6)]
            sound = Tape(out).take(0, sample_at(10, fps, video.audio_rate))
            assert np.array_equal(sound[: at[0]], before.audio[: at[0]]), path.name
            assert np.array_equal(sound[at[2] :], before.audio[at[1] :][: len(sound) - at[2]]), path.name


def test_windows_of_real_footage_are_the_whole(mirror):
    for name in ("talking-clips/lp_d6.mp4", "talking-clips/retalk_1_vfr.mp4", "grid-s1/bbaf2n.mpg"):
        video = Video(mirror / name)
        end = min(video.duration, 8)
        whole, t0 = video.window(0, end), round(0.7 * end * video.fps)
        part = video.window(float(t0 / video.fps), float((t0 + 5) / video.fps))
        start = sample_at(t0, video.fps, video.audio_rate)
        assert np.array_equal(part.frames, whole.frames[t0 : t0 + 5]), name
        assert np.array_equal(part.audio, whole.audio[start : start + len(part.audio)]), name


def test_the_varying_clip_of_the_mirror(mirror):
    video = Video(mirror / "talking-clips" / "retalk_1_vfr.mp4")
    assert (video.fps, video.n_frames) == (30, 183)
    assert "varies" in video.notes[0]
    assert video.duration == pytest.approx(6.1)


def test_a_program_stream_cut_half_way_gives_its_first_half(mirror, tmp_path):
    data = (mirror / "grid-s1" / "bbaf2n.mpg").read_bytes()
    (tmp_path / "half.mpg").write_bytes(data[: len(data) // 2])
    half, whole = read(tmp_path / "half.mpg"), read(mirror / "grid-s1" / "bbaf2n.mpg")
    assert 25 < len(half.frames) < 50
    assert np.array_equal(half.frames[:-3], whole.frames[: len(half.frames) - 3])
