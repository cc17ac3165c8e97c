"""Packets that `Video.splice` copies: the same bytes, the right frames in the right order, a sound without seams."""

import base64
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import browser
import numpy as np
import pytest
from test_clip import NTSC, encode, numbers, planes, psnr, same_planes, silent, synthetic

from thlib.clip import Clip, Video, timeline, write
from thlib.mux import BLOCK, sample_at

B_FRAMES = {"bf": "3", "g": "25", "x264-params": "b-pyramid=normal:scenecut=0"}
FIRST = 2000  # the number that the first new frame shows


def dull(n, fps, seed=3):
    """Stereo sound of n frames, dull as speech, that is nowhere the same."""
    steps = np.random.default_rng(seed).normal(size=(sample_at(n, fps, 44100) + 63, 2))
    sound = np.stack([np.convolve(np.convolve(x, np.hanning(48)), np.hanning(17), "valid") for x in steps.T], 1)
    return np.float32(0.4 * sound / np.abs(sound).max(initial=1e-9))


def footage(path, n=150, fps=Fraction(25), *, sound=True, **how):
    """H.264 with B-frames, closed groups of 25 frames and `dull` sound, AAC by our own coder, at 44.1 kHz."""
    film = encode(path.with_stem("film"), n, fps, **{"options": B_FRAMES} | how)
    if not sound:
        return film
    heard = write(path.with_name("sound.mp4"), replace(synthetic(n, fps), audio=dull(n, fps)))
    with av.open(str(film)) as one, av.open(str(heard)) as other, av.open(str(path), "w") as out:
        streams = [out.add_stream_from_template(s) for s in (one.streams.video[0], other.streams.audio[0])]
        for stream, source in zip(streams, (one.demux(video=0), other.demux(audio=0))):
            for packet in (p for p in source if p.size):
                packet.stream = stream
                out.mux(packet)
    return path


def packets(path, kind="video"):
    with av.open(str(path)) as file:
        stream = getattr(file.streams, kind)[0]
        return [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in file.demux(stream) if p.size]


def units(packet):
    found, at = [], 0
    while at < len(packet):
        size = int.from_bytes(packet[at : at + 4])
        found.append(packet[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def edit(first, last, n, fps=Fraction(25), at=FIRST):
    """Frames first .. last-1 become n frames numbered from `at` on."""
    return first / fps, last / fps, replace(synthetic(n, fps, first=at), audio=dull(n, fps, at))


def expected(edits, n, fps):
    return [
        k
        for p in timeline(edits, fps, n)
        for k in ([*range(p.old, p.old + p.frames)] if not p.clip else numbers(p.clip))
    ]


def kinds(video, edits):
    """For each frame of the result (kind, frame of the source or None)."""
    said, pieces, out = video.told(edits), timeline(edits, video.fps, video.n_frames), []
    for piece in pieces:
        out += [None if piece.clip else piece.old + k for k in range(piece.frames)]
    names = [""] * len(out)
    for kind in ("copied", "re-encoded", "generated"):
        for start, end in said[kind]:
            a, b = round(start * video.fps), round(end * video.fps)
            assert not any(names[a:b])
            names[a:b] = [kind] * (b - a)
    assert all(names), "seconds of which nothing is told"
    assert all((name == "generated") == (old is None) for name, old in zip(names, out))
    return list(zip(names, out))


EDITS = {
    "longer": [edit(60, 70, 17)],
    "shorter": [edit(60, 90, 11)],
    "same": [edit(60, 70, 10)],
    "deleted": [edit(37, 81, 0)],
    "inserted": [edit(75, 75, 9)],
    "start": [edit(0, 10, 12)],
    "before the start": [edit(0, 0, 5)],
    "head cut off": [edit(0, 30, 0)],
    "end": [edit(140, 150, 12)],
    "tail cut off": [edit(61, 150, 0)],
    "three": [edit(7, 9, 4), edit(60, 62, 1, at=2100), edit(101, 120, 40, at=2200)],
    "on a key frame": [edit(50, 75, 20)],
    "two in a group": [edit(52, 54, 3), edit(60, 62, 4, at=2100)],
}


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    return Video(footage(tmp_path_factory.mktemp("talk") / "talk.mp4"))


OTHERS = [(name, end) for name in ("three", "start") for end in (".mov", ".mkv")]


@pytest.mark.parametrize(("name", "end"), [*((name, ".mp4") for name in EDITS), *OTHERS])
def test_packets_outside_the_edits_are_the_same_bytes_and_frames(talk, tmp_path, name, end):
    edits = EDITS[name]
    out = Video(talk.splice(edits, tmp_path / f"out{end}"))
    assert talk.uncopied == ""
    assert out.notes == ()
    assert numbers(out.clip()) == expected(edits, 150, talk.fps)
    told = kinds(talk, edits)
    old, new = packets(talk.path), packets(out.path)
    assert len(new) == len(told) == out.n_frames
    copied = [k for k, (kind, _) in enumerate(told) if kind == "copied"]
    assert len(copied) >= 40
    for k in copied:  # packets come in runs of whole frames: the k-th packet holds the same frame as of the source
        was = told[k][1]
        resumed = was > 0 if k == 0 else told[k - 1] != ("copied", was - 1)
        mine, theirs = units(new[k][0]), units(old[was][0])
        if not resumed:
            assert new[k][0] == old[was][0]
        else:  # the old parameter sets are there again, as is every old unit
            assert [u for u in mine if u[0] & 31 not in (7, 8)] == [u for u in theirs if u[0] & 31 not in (7, 8)]
            assert {u[0] & 31 for u in mine} >= {5, 7, 8}
    for (a, b), (c, d) in zip(pairwise(told), pairwise(range(len(told)))):
        if a[0] == b[0] == "copied" and b[1] == a[1] + 1:
            assert same_planes(talk, out, (a[1], b[1] + 1), (c, d + 1))
    again = [k for k, (kind, _) in enumerate(told) if kind == "re-encoded"]
    for k in again:
        was = told[k][1]
        ours, theirs = next(planes(out, k, k + 1)), next(planes(talk, was, was + 1))
        assert psnr(ours[0], theirs[0]) >= 45


def test_all_pictures_keep_their_time(talk, tmp_path):
    out = Video(talk.splice(EDITS["three"], tmp_path / "out.mp4"))
    with av.open(str(out.path)) as file:
        stream = file.streams.video[0]
        times = [frame.pts * stream.time_base for frame in file.decode(stream)]
    assert times == [Fraction(k, 25) for k in range(out.n_frames)]
    stamps = packets(out.path)
    assert all(a[2] < b[2] for a, b in pairwise(stamps))
    assert all(dts <= pts for _, pts, dts, _ in stamps)
    for k in (0, 6, 7, 10, 11, 12, 24, 25, 60, 63, 64, 65, 80, 102, 103, 143, 150, 170):  # and each is found by seeking
        assert numbers(out.window(k / 25, (k + 1) / 25)) == [expected(EDITS["three"], 150, talk.fps)[k]]


def test_new_parameter_sets_have_a_number_of_their_own(talk, tmp_path):
    talk.splice(EDITS["longer"], tmp_path / "out.mp4")
    sets = {u for p, *_ in packets(tmp_path / "out.mp4") for u in units(p) if u[0] & 31 == 8}
    first = [f"{u[1]:08b}" for u in sets]
    assert sorted(bits.index("1") for bits in first) == [0, 5]  # Exp-Golomb codes of 0 and of 31


def sounds(video, out, edits):
    """Pairs of (source sample, result sample, length) of the old sound, the latter moved by whole blocks."""
    for piece in timeline(edits, video.fps, video.n_frames):
        if not piece.clip:
            a, b, end = (sample_at(k, video.fps, 44100) for k in (piece.old, piece.start, piece.old + piece.frames))
            yield a, a + round((b - a) / BLOCK) * BLOCK, end - a, b


@pytest.mark.parametrize("end", [".mp4", ".mkv"])
@pytest.mark.parametrize("name", EDITS)
def test_sound_is_the_same_samples_but_for_blocks_around_the_joins(talk, tmp_path, name, end):
    edits = EDITS[name]
    out = Video(talk.splice(edits, tmp_path / f"out{end}"))
    before, after = talk.audio, out.audio
    old, new = ({p for p, *_ in packets(v.path, "audio")} for v in (talk, out))
    assert (
        len(new & old) >= len(old) * sum(n for *_, n, _ in sounds(talk, out, edits)) / len(before) - 9 * len(edits) - 2
    )
    slack = 23 if end == ".mkv" else 0  # Matroska counts in 1/1000 s
    for a, b, n, nominal in sounds(talk, out, edits):
        assert abs(b - nominal) <= BLOCK / 2  # sync within half a block: 12 ms, less than half a frame
        left, right = (0 if a == 0 else 3 * BLOCK), (0 if a + n == len(before) else 3 * BLOCK)
        one = before[a + left : a + n - right]
        fits = [after[b + left + k :][: len(one)] for k in range(-slack, slack + 1) if b + left + k >= 0]
        whole = min((np.abs(one[: len(f)] - f).max(initial=0), -len(f)) for f in fits)
        assert whole[0] == 0
        assert -whole[1] >= len(one) - BLOCK
        if not slack and len(one) > 0:  # all of it, but where the next piece may begin half a block early
            was = before[a : a + n - (BLOCK if right else 0)]
            error = after[max(b, 0) : b + len(was)] - was[max(-b, 0) : len(after) - b]
            assert np.sum(error**2) <= 1e-4 * np.sum(was**2)  # 40 dB


def test_joins_of_sound_are_seamless(tmp_path):
    """A tone that goes on through three joins, replaced by itself: no click, as a block decoded alone would make."""
    n, fps = 150, Fraction(25)
    tone = 0.5 * np.sin(2 * np.pi * 441 * np.arange(n * 1764) / 44100).astype(np.float32)
    path = write(tmp_path / "a.mp4", replace(synthetic(n, fps), audio=np.stack([tone, tone], 1)))
    video = Video(path)
    assert video.uncopied == ""
    out = Video(
        video.splice([(2.0, 2.8, video.window(2.0, 2.8)), (3.6, 4.0, video.window(3.6, 4.0))], tmp_path / "b.mp4")
    )
    assert video.told([(2.0, 2.8, video.window(2.0, 2.8))])["copied"]
    error = out.audio[4096:-4096] - video.audio[4096:-4096]
    assert np.abs(error).max() < 0.01


def test_open_groups_are_not_joined(tmp_path):
    options = {"x264-params": "open-gop=1:keyint=30:min-keyint=30:scenecut=0", "bf": "3"}
    video = Video(footage(tmp_path / "open.mp4", 200, NTSC, options=options))
    keys = sum(key for *_, key in packets(video.path))
    assert keys > 4, "the file has no open groups"
    edits = [edit(70, 80, 13, NTSC)]
    told = kinds(video, edits)
    assert [kind for kind, old in told if old is not None and old >= 80] == ["re-encoded"] * 120
    assert told[60][0] == "copied"  # what comes before needs no restart
    out = Video(video.splice(edits, tmp_path / "out.mp4"))
    assert numbers(out.clip()) == expected(edits, 200, NTSC)


def test_what_cannot_be_copied_is_encoded_and_says_why(tmp_path, talk):
    marks = [0, 1, 2, 5, 6, 7, 8, 9, 10, 11]
    cases = {
        "it is not H.264": encode(tmp_path / "a.mp4", 50, codec="mpeg4"),
        "it is not H.264 as": encode(tmp_path / "b.ts", 50),
        "its pixels are yuv422p": encode(tmp_path / "c.mp4", 50, pixels="yuv422p"),
        "its frame rate varies": encode(tmp_path / "d.mp4", 10, 30, times=(Fraction(1, 30), marks)),
        "its sound is not AAC": encode(tmp_path / "e.mkv", 50, sound=("flac", np.zeros(2 * 44100), 0)),
        "its sound is not AAC-LC w": encode(tmp_path / "f.mov", 50, sound=("pcm_s16le", np.zeros(2 * 44100), 0)),
    }
    for why, path in cases.items():
        video = Video(path)
        assert video.uncopied.startswith(why)
        cut = [(4 / video.fps, 6 / video.fps, Clip(np.zeros((0, *video.size, 3), np.uint8), video.fps, *silence))]
        told = video.told(cut)
        assert (told["copied"], told["why"]) == ([], video.uncopied)
        assert Video(video.splice(cut, tmp_path / "out.mp4")).n_frames == video.n_frames - 2
    told = talk.told(EDITS["same"], exact=True)
    assert (told["copied"], told["why"]) == ([], "the file is lossless")
    assert (
        Video(footage(tmp_path / "one.mp4", 50, sound=False, options={"g": "250"})).told([edit(0, 9, 9)])["copied"]
        == []
    )


silence = (np.zeros((0, 1), np.float32), 16000)


def test_where_blocks_outlast_frames_all_sound_is_encoded_in_place(tmp_path):
    clip = synthetic(150, 60, seed=5)
    video = Video(write(tmp_path / "a.mp4", clip))
    edits = [edit(30, 40, 17, Fraction(60))]
    assert video.told(edits)["copied"]
    out = Video(video.splice(edits, tmp_path / "b.mp4"))
    assert numbers(out.clip()) == expected(edits, 150, video.fps)
    rest, was = out.audio[47 * 735 + 2048 : -4096], video.audio[40 * 735 + 2048 : -4096]
    assert np.sum((rest - was) ** 2) < 1e-2 * np.sum(was**2)  # loud noise; a sample out of step would be 0.25


@pytest.mark.parametrize("turn", [90, 180])
def test_turned_pictures_stay_turned(tmp_path, turn):
    video = Video(footage(tmp_path / "t.mp4", 100, sound=False, turn=turn))
    new = silent(video.window(1.2, 1.6))
    edits = [(0.4, 0.8, new)]
    out = Video(video.splice(edits, tmp_path / "out.mp4"))
    assert out.size == video.size
    assert same_planes(video, out, (25, 100), (25, 100))
    assert psnr(out.window(0.4, 0.8).frames, new.frames) > 30
    assert video.told(edits)["copied"][-1] == (1.0, 4.0)


def test_a_result_can_be_edited_again(talk, tmp_path):
    once = Video(talk.splice(EDITS["three"], tmp_path / "1.mp4"))
    frames = expected(EDITS["three"], 150, talk.fps)
    edits = [edit(9, 20, 3, at=3000), edit(66, 66, 2, at=3100)]
    twice = Video(once.splice(edits, tmp_path / "2.mp4"))
    assert numbers(twice.clip()) == [*frames[:9], *range(3000, 3003), *frames[20:66], 3100, 3101, *frames[66:]]
    assert once.told(edits)["copied"]
    kept = [u for p, *_ in packets(once.path)[80:] for u in units(p) if u[0] & 31 in (1, 5)]
    assert {u for p, *_ in packets(twice.path) for u in units(p)} >= set(kept[60:])


# --- Chromium

PICTURE = """async ({source, times}) => {
    const video = document.body.appendChild(document.createElement("video"));
    const bytes = Uint8Array.from(atob(source), (c) => c.charCodeAt(0));
    video.src = URL.createObjectURL(new Blob([bytes], {type: "video/mp4"}));
    await new Promise((go, fail) => { video.onloadeddata = go; video.onerror = () => fail(video.error.message); });
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const pen = canvas.getContext("2d", {willReadFrequently: true}), seen = [], played = [];
    const look = () => {  // the number that the frame shows
        pen.drawImage(video, 0, 0);
        const bits = Array.from({length: 12}, (_, bit) => pen.getImageData(8 * bit + 12, 20, 1, 1).data[0] > 140);
        return bits.reduce((sum, set, bit) => sum + (set ? 1 << bit : 0), 0);
    };
    for (const time of times) {
        const done = new Promise((go) => { video.onseeked = go; });
        video.currentTime = time;
        await done;
        await new Promise((go) => setTimeout(go, 30));
        seen.push(look());
    }
    const note = (_, told) => {
        played.push([told.mediaTime, look()]);
        video.requestVideoFrameCallback(note);
    };
    video.currentTime = 0;
    await new Promise((go) => { video.onseeked = go; });
    video.requestVideoFrameCallback(note);
    video.muted = true;
    await video.play();
    await Promise.race([new Promise((go) => { video.onended = go; }), new Promise((go) => setTimeout(go, 20000))]);
    return {seen, played, error: video.error && video.error.message, ended: video.ended, duration: video.duration};
}"""


@pytest.mark.parametrize("name", ["three", "start", "head cut off", "deleted", "end"])
def test_chromium_plays_and_seeks_across_the_joins(talk, tmp_path, name):
    out = Video(talk.splice(EDITS[name], tmp_path / "out.mp4"))
    frames = expected(EDITS[name], 150, talk.fps)
    with browser.chromium() as chromium:
        page = chromium.new_page()
        source = base64.b64encode(out.path.read_bytes()).decode()
        order = [*range(0, len(frames), 3), *range(len(frames) - 1, 0, -7)]
        found = page.evaluate(PICTURE, {"source": source, "times": [(k + 0.5) / 25 for k in order]})
    assert found["seen"] == [frames[k] for k in order]
    assert (found["ended"], found["error"]) == (True, None)
    assert found["duration"] == pytest.approx(len(frames) / 25, abs=0.05)
    assert len(found["played"]) > 0.5 * len(frames)  # a busy machine drops some
    late = [
        (t, seen) for t, seen in found["played"] if seen not in frames[max(0, round(t * 25) - 1) : round(t * 25) + 3]
    ]
    assert not late
