"""Bad input through the command line: one sentence, exit code 2, nothing written, nothing that was given touched."""

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import soundfile
from test_data import BODY, HEAD, entry, serve  # noqa: F401

from thlib import cli, clip

TEXT = "bin blue by f six now"
MODEL = "mediapipe-face-landmarker/face_landmarker.task"


def sound_file(path, *, rate=44100, video=False):
    """A second of noise, with a video stream that holds no frame where `video` asks for it."""
    with av.open(str(path), "w") as file:
        if video:
            stream = file.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream = file.add_stream("aac", rate=rate, layout="mono")
        noise = np.random.default_rng(0).normal(0, 0.1, (1, rate)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
        frame.sample_rate = rate
        file.mux([*stream.encode(frame), *stream.encode(None)])


def index_last(source, path):
    """The same packets with the index behind them, as cameras write it."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        streams = [new.add_stream_from_template(stream) for stream in old.streams]
        for packet in old.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)


def half(path, share=0.5):
    data = path.read_bytes()
    return data[: int(share * len(data))]


def texts(folder, align):
    """Transcripts, good and bad."""
    later = [(int(a) + 90_000, int(b) + 90_000, word) for a, b, word in map(str.split, align.splitlines())]
    files = {"talk.txt": TEXT, "talk.align": align, "wrong.txt": "she sells sea shells on the sea shore"}
    files |= {"blank.txt": "", "dots.txt": "... --- !", "markup.txt": "bin <b>blue</b> by f six now"}
    files |= {"letters.align": align.replace("2", "z"), "long.align": align.replace("six", "six seven")}
    files |= {"late.align": "".join(f"{a} {b} {word}\n" for a, b, word in later), "pause.align": "0 74500 sil\n"}
    files |= {
        "tight.align": "500 5500 now\n",
        "order.align": "\n".join(reversed(align.splitlines())),
        "bad.TextGrid": "File type",
    }
    files |= {"huge.txt": "word " * 20_000, "out.vtt": TEXT, "text.mp4": "not a video\n" * 100, "empty.mp4": ""}
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "latin.txt").write_bytes("café".encode("latin-1"))


@pytest.fixture(scope="session")
def folder(mirror, tmp_path_factory):
    """A sentence of GRID as talk.mp4, and all that can be wrong with it."""
    folder, grid = tmp_path_factory.mktemp("given"), mirror / "grid-s1"
    talk = clip.read(grid / "bbbf6n.mpg")
    grey = np.full_like(talk.frames, 128)
    faces = {"wall": grey, "comes": talk.frames.copy(), "gone": talk.frames.copy(), "talk": talk.frames}
    faces["comes"][30:50], faces["gone"][40:] = 90, 90
    faces["tiny"] = np.stack([cv2.resize(frame, (16, 16)) for frame in talk.frames])
    for name, frames in faces.items():
        clip.write(folder / f"{name}.mp4", replace(talk, frames=frames))
    clip.write(folder / "silent.mp4", replace(talk, audio=np.zeros((0, 1), np.float32), audio_rate=16000))
    clip.write(folder / "mute.mp4", replace(talk, audio=np.zeros_like(talk.audio)))
    clip.write(folder / "short.mp4", talk.cut(20, 22))
    clip.write(folder / "tight.mp4", talk.cut(46, 52))
    sound_file(folder / "audio.mp4")
    sound_file(folder / "zero.mkv", video=True)
    cv2.imwrite(str(folder / "picture.png"), talk.frames[0])
    (folder / "picture.png").rename(folder / "picture.mp4")
    index_last(folder / "talk.mp4", folder / "camera.mp4")
    cv2.imwrite(str(folder / "talk.png"), talk.frames[0][..., ::-1])
    cv2.imwrite(str(folder / "wall.png"), grey[0])
    cv2.imwrite(str(folder / "tiny.png"), cv2.resize(talk.frames[0][60:260, 80:280, ::-1], (36, 36)))
    (folder / "two.jpg").write_bytes((mirror / "portraits" / "two_people.jpg").read_bytes())
    hum = np.sin(np.arange(16000) / 20).astype(np.float32) / 4
    soundfile.write(folder / "hum.wav", hum, 16000)
    soundfile.write(folder / "click.wav", hum[:200], 16000)
    (folder / "cut-camera.mp4").write_bytes(half(folder / "camera.mp4"))
    (folder / "cut.mp4").write_bytes(half(folder / "talk.mp4"))
    (folder / "cut-end.mp4").write_bytes(half(folder / "talk.mp4", 0.97))
    (folder / "cut.mpg").write_bytes(half(grid / "bbbf6n.mpg"))
    (folder / "new.mpg").write_bytes((grid / "bbbf7s.mpg").read_bytes())
    (folder / "folder.mp4").mkdir()
    texts(folder, (grid / "bbbf6n.align").read_text())
    return folder


def below(root):
    """All that lies below a folder, with its bytes."""
    return {file: file.is_file() and hashlib.sha256(file.read_bytes()).digest() for file in root.rglob("*")}


@pytest.fixture
def thlib(monkeypatch, capfd):
    """A function that runs the command line in this process: (exit code, stdout, stderr), native code's included."""

    def run(line):
        monkeypatch.setattr(sys, "argv", ["thlib", *shlex.split(line)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, *capfd.readouterr()

    return run


def assert_refused(answer, sentence):
    code, out, err = answer
    assert code == 2, err
    assert out == ""
    assert err.startswith("thlib: ")
    assert err.count("\n") == 1
    assert sentence in err


VIDEOS = [
    ("no.mp4", "does not exist"),
    ("folder.mp4", "is a folder"),
    ("text.mp4", "cannot be read as a video"),
    ("empty.mp4", "cannot be read as a video"),
    ("picture.mp4", "cannot be read as a video"),
    ("audio.mp4", "no video stream"),
    ("zero.mkv", "no frames"),
    ("cut-camera.mp4", "cannot be read as a video"),
    ("cut.mp4", "is cut off"),
    ("cut-end.mp4", "is cut off"),
    ("cut.mpg", "'six' lies at 1.53-1.85 s of 1.52 s"),
    ("cut.mpg --transcript talk.txt", "does not say"),
    ("silent.mp4", "has no sound"),
    ("silent.mp4 --transcript talk.txt", "has no sound"),
    ("mute.mp4", "has no sound"),
    ("mute.mp4 --transcript talk.txt", "is silent"),
    ("wall.mp4", "No face was found in 75 frames"),
    ("comes.mp4", "No face is seen at"),
    ("gone.mp4", "No face is seen at"),
    ("tiny.mp4", "No face"),
    ("short.mp4", "lies at 0.72-0.96 s of 0.08 s"),
]
WORDS = [
    ("no.txt", "cannot be read as text"),
    ("folder.mp4", "cannot be read as text"),
    ("latin.txt", "UTF-8"),
    ("talk.mp4", "cannot be read as text"),
    ("wrong.txt", "the sound does not say 'she sells"),
    ("blank.txt", "has no words"),
    ("dots.txt", "has no words"),
    ("markup.txt", "markup '<b>'"),
    ("letters.align", "no GRID alignment"),
    ("long.align", "no GRID alignment"),
    ("late.align", "'bin' lies at 4.32-4.56 s of 3.00 s"),
    ("order.align", "words in order"),
    ("pause.align", "has no words"),
    ("bad.TextGrid", "no Praat TextGrid"),
]
EDITS = [
    ("", "No edit was given"),
    ("--replace now=now", "same words"),
    ("--text talk.txt", "same words"),
    ("--text blank.txt", "no words"),
    ("--text no.txt", "cannot be read as text"),
    ("--text huge.txt", "20000 new words"),
    ("--text talk.txt --delete bin", "together with single edits"),
    ("--replace green=red", 'no "green"'),
    ("--replace now", 'write it as "old=new"'),
    ("--replace now#2=soon", "only as #1"),
    ("--replace now=soon --delete now", "another command"),
    (f"--delete '{TEXT}'", "no words"),
    ("--replace 'now=<b>soon</b>'", "markup"),
    (f"--replace 'now={'supercalifragilisticexpialidocious ' * 8}'", "an edit may have 12 s"),
    ("--replace now=soon --method magic", "'magic' is unknown"),
    ("--replace now=soon --seed abc", "Invalid value for '--seed'"),
    ("--replace now=soon --frobnicate", "No such option: --frobnicate"),
    ("--replace now=soon other.mp4", "unexpected extra argument"),
    ("--replace now=soon --sound no.wav", "cannot be read as sound"),
    ("--replace now=soon --sound talk.txt", "cannot be read as sound"),
    ("--replace now=soon --sound silent.mp4", "cannot be read as sound"),
    ("--replace now=soon --sound mute.mp4", "is silent"),
    ("--replace now=soon --sound audio.mp4", "does not say"),
    ("--replace now=soon --sound-text 'bin blue'", "without --sound"),
    (f"--replace now=please --sound new.mpg --sound-text '{TEXT[:14]} seven soon'", 'not "please"'),
]
OUTS = [
    ("talk.mp4", "name another file"),
    ("./folder.mp4/../talk.mp4", "name another file"),
    ("out.avi", "name another file"),
    ("''", "name another file"),
    ("folder.mp4", "is a folder"),
    ("no/out.mp4", "takes no new file"),
    ("talk.txt/out.mp4", "takes no new file"),
    ("/proc/out.mp4", "takes no new file"),
]
START = "--transcript talk.align"
LINES = [(f"edit {START} {given} --replace now=soon -o out.mp4", sentence) for given, sentence in VIDEOS]
LINES += [(f"edit talk.mp4 --transcript {given} --replace now=soon -o out.mp4", told) for given, told in WORDS]
LINES += [(f"edit talk.mp4 {START} {given} -o out.mp4", sentence) for given, sentence in EDITS]
LINES += [(f"edit talk.mp4 {START} --replace now=soon -o {given}", sentence) for given, sentence in OUTS]
LINES += [("edit talk.mp4 --transcript out.vtt --replace now=soon -o out.mp4", "name another file")]
LINES += [("edit talk.mp4 --replace now=soon -o out.mp4", "give its text with --transcript")]
LINES += [(f"edit talk.mp4 {START} --replace six=seven --sound new.mpg -o new.mp4 --sound-text '{TEXT}'", "not say")]
LINES += [("verify no.mp4", "does not exist"), ("verify folder.mp4", "is a folder")]
LINES += [(f"verify {name}", "cannot be read") for name in ("text.mp4", "empty.mp4")]
LINES += [("edit tight.mp4 --transcript tight.align --replace now=soon -o out.mp4", "covers all of the video")]
LINES += [("fry talk.mp4", "No such command 'fry'")]
LINES += [
    ("train ostnet -o weights", "take one of editing.motion, editing.frames, editing.regressor"),
    ("train editing.regressor wall.mp4 -o weights", "No face was found"),
    ("train editing.regressor silent.mp4 -o weights", "no sound"),
    ("presenter say '...' -o out.mp4", "has no words"),
    ("presenter say hello --emotion bored -o out.mp4", "angry, disgust, fear"),
    ("presenter say hello --size 9 -o out.mp4", "choose 64 to 2048"),
    ("presenter say hello -o out.avi", "name another file"),
]
PORTRAITS = [
    ("no.png", "cannot be read as a picture"),
    ("talk.txt", "cannot be read as a picture"),
    ("folder.mp4", "is a folder"),
    ("wall.png", "shows 0 faces"),
    ("two.jpg", "shows 2 faces; crop it to one, or name one"),
    ("two.jpg --face 2", "shows 2 faces; give one"),
    ("tiny.png", "pixels high"),
    ("talk.png --mode ost", "take one of classic, closed_form"),
]
DRIVERS = [(name, sentence) for name, sentence in VIDEOS[:8] if name != "zero.mkv"]
DRIVERS += [("wall.mp4", "No face was found in 75 frames"), ("tiny.mp4", "pixels high")]
LINES += [(f"reenact {given} talk.mp4 -o out.mp4", sentence) for given, sentence in PORTRAITS]
LINES += [(f"reenact talk.png {given} -o out.mp4", sentence) for given, sentence in DRIVERS]
LINES += [(f"reenact talk.png talk.mp4 -o {given}", sentence) for given, sentence in OUTS]
SPEECHES = [
    ("no.wav", "cannot be read as sound"),
    ("silent.mp4", "cannot be read as sound"),
    ("talk.txt", "cannot be read as sound"),
    ("click.wav", "of at least a frame"),
    ("hum.wav --emotion bored", "angry, disgust, fear, happy, neutral, sad"),
    ("hum.wav --intensity 9", "intensity"),
    ("hum.wav --intensity nan", "intensity"),
    ("hum.wav --fps 0.2", "choose 1 to 240"),
    ("hum.wav --fps nan", "choose 1 to 240"),
]
LINES += [(f"animate {given} -o out.csv", sentence) for given, sentence in SPEECHES]
LINES += [(f"animate talk.mp4 -o {given}", sentence) for given, sentence in OUTS if given not in ("out.avi", "''")]
LINES += [(f"animate hum.wav -o {given}", "ending in .csv, .txt, .mp4") for given in ("out.avi", "''", "hum.wav")]
LINES += [("animate hum.wav --portrait talk.png -o out.csv", "an .mp4, since a portrait was given")]
LINES += [(f"animate hum.wav --portrait {given} -o out.mp4", sentence) for given, sentence in PORTRAITS[:5]]


@pytest.mark.parametrize(("line", "sentence"), LINES)
def test_a_sentence_and_nothing_written(thlib, folder, monkeypatch, line, sentence):
    monkeypatch.chdir(folder)
    before = below(folder)
    assert_refused(thlib(line), sentence)
    assert below(folder) == before


@pytest.mark.parametrize(
    "line",
    [
        f"edit talk.mp4 {START} --replace green=red -o out.mp4",
        f"edit talk.mp4 {START} --text talk.txt -o out.mp4",
        f"edit talk.mp4 {START} --text huge.txt -o out.mp4",
        f"edit talk.mp4 {START} --replace now=soon -o no/out.mp4",
        f"edit talk.mp4 {START} --replace now=soon --sound mute.mp4 -o out.mp4",
        f"edit cut.mp4 {START} --replace now=soon -o out.mp4",
    ],
)
def test_what_is_cheap_to_find_is_found_before_speaking_and_tracking(thlib, folder, monkeypatch, line):
    from thlib.editing import pipeline, sound

    def late(*_, **__):
        raise AssertionError("too late")

    monkeypatch.chdir(folder)
    monkeypatch.setattr(pipeline, "track", late)
    monkeypatch.setattr(sound, "say", late)
    assert thlib(line)[0] == 2


def test_all_words_of_a_video_can_be_replaced(thlib, folder, tmp_path, monkeypatch):
    """No frame inside a kept word is left to learn the speaker's rest from."""
    monkeypatch.chdir(folder)
    (tmp_path / "new.txt").write_text("completely different words here")
    out = tmp_path / "out.mp4"
    code, told, err = thlib(f"edit talk.mp4 {START} --text {tmp_path}/new.txt -o {out}")
    assert (code, err) == (0, "")
    assert all(str(file) in told for file in (out, out.with_suffix(".vtt"), out.with_suffix(".provenance.json")))


# --- data -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty cache and mirror and a folder of manifests; a function that writes one."""
    for name in ("cache", "mirror", "manifests"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"THLIB_{name.upper()}", str(tmp_path / name))
    monkeypatch.delenv("THLIB_OFFLINE", raising=False)

    def manifest(name="f", **fields):
        (tmp_path / "manifests/set.yaml").write_text(f"{HEAD}, files: {json.dumps({name: entry(**fields)})}}}")
        return tmp_path

    return manifest


@pytest.mark.parametrize(
    ("name", "fields", "sentence"),
    [
        ("f", {"sha256": "0" * 63}, "is not 64 hexadecimal digits"),
        ("f", {"url": "ftp://x.org/f"}, "the scheme of ftp://x.org/f is not"),
        ("f", {"url": "gopher://x.org/f"}, "the scheme of gopher://x.org/f is not"),
        ("../f", {}, "leads out of the folder"),
        ("/etc/f", {}, "leads out of the folder"),
        ("a/../../f", {}, "leads out of the folder"),
        ("f", {"colour": "blue"}, "is refused"),
        ("f", {"url": "file:///no/such/file"}, "is not at hand"),
    ],
)
def test_bad_manifests(thlib, place, name, fields, sentence):
    root = place(name, **fields)
    before = below(root)
    for line in ("data fetch set", f"data fetch 'set/{name}'", f"data mirror {root}/mirror set"):
        assert_refused(thlib(line), sentence)
    assert [file for file in below(root) if file not in before and file.is_file()] == []


def test_a_manifest_with_another_hash(thlib, place, serve):  # noqa: F811
    server = serve(cuts=0)
    root = place(url=f"{server.url}/f", sha256="0" * 64)
    assert_refused(thlib("data fetch set/f"), "serves other bytes than its manifest states")
    assert [file for file in (root / "cache").rglob("*") if file.is_file()] == []
    (root / "mirror/set").mkdir()
    (root / "mirror/set/f").write_bytes(BODY)
    assert_refused(thlib("data fetch set/f"), "has not the size or SHA-256")
    assert (root / "mirror/set/f").read_bytes() == BODY


def test_a_mirror_that_lacks_a_file(thlib, place, folder, monkeypatch):
    root = place()
    monkeypatch.setenv("THLIB_OFFLINE", "1")
    assert_refused(thlib("data fetch set"), "put it into a mirror folder as set/f")
    monkeypatch.chdir(folder)
    before = below(folder)
    assert_refused(thlib(f"edit talk.mp4 {START} --replace now=soon -o out.mp4"), f"mirror folder as {MODEL}")
    assert below(folder) == before
    monkeypatch.setenv("THLIB_MIRROR", str(root / "nothing"))
    assert_refused(thlib("data fetch set"), "is no folder")


def test_a_download_cut_off_half_way_goes_on(thlib, place, serve):  # noqa: F811
    server = serve(cuts=1)
    root = place(url=f"{server.url}/f")
    assert_refused(thlib("data fetch set/f"), "can't be downloaded")
    assert [file.name for file in (root / "cache").rglob("*") if file.is_file()] == ["f.partial"]
    code, out, err = thlib("data fetch set/f")
    assert (code, err) == (0, "")
    assert Path(out.strip()).read_bytes() == BODY
    assert server.asked[-1] > 0


def killed(line, when):
    """Run the command line in a process of its own and kill it as soon as `when()` is true."""
    process = subprocess.Popen([sys.executable, "-m", "thlib.cli", *shlex.split(line)], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not when() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_kill_during_a_download(thlib, place, serve):  # noqa: F811
    server = serve(cuts=0, pause=0.1)
    root = place(url=f"{server.url}/f")
    part = root / "cache/thlib-downloads/set/f.partial"
    killed("data fetch set/f", lambda: part.is_file() and part.stat().st_size > 50_000)
    assert [file.name for file in (root / "cache").rglob("*") if file.is_file()] == ["f.partial"]
    server.pause = 0
    code, out, _ = thlib("data fetch set/f")
    assert code == 0
    assert Path(out.strip()).read_bytes() == BODY


def test_kill_during_a_write(thlib, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    line, before = f"edit talk.mp4 {START} --replace now=soon -o {tmp_path}/out.mp4", below(folder)
    killed(line, lambda: [*tmp_path.iterdir()])
    assert [file.suffix for file in tmp_path.iterdir()] == [".partial"]
    code, _, err = thlib(line)
    assert (code, err) == (0, "")
    assert {file.name for file in tmp_path.iterdir() if file.suffix != ".partial"} == {
        "out.mp4",
        "out.vtt",
        "out.provenance.json",
    }
    assert below(folder) == before
