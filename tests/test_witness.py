"""The witness of a run: whatever way a picture, a sound or a video is opened, it is written down."""

import os
import subprocess
import sys
import textwrap
import time
from fractions import Fraction

import numpy as np
import pytest
import runner
import soundfile
import yaml
from PIL import Image

from thlib import clip, data

OLD = time.time() - 1000


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A mirror with a data set `tiny` of a picture, a sound, a video and a table, and a picture of one's own."""
    folder = tmp_path / "mirror" / "tiny"
    folder.mkdir(parents=True)
    frames = np.zeros((5, 32, 32, 3), np.uint8)
    Image.fromarray(frames[0]).save(folder / "face.png")
    soundfile.write(folder / "voice.wav", np.zeros(800), 16000)
    clip.write(folder / "talk.mp4", clip.Clip(frames, Fraction(25), np.zeros((3200, 1), np.float32), 16000))
    (folder / "points.bin").write_bytes(b"12345678")
    Image.fromarray(frames[0] + 9).save(tmp_path / "mine.jpg")
    for file in (*folder.iterdir(), tmp_path / "mine.jpg"):
        os.utime(file, (OLD, OLD))
    terms = {"title": "Tiny", "homepage": "h", "licence": "l", "citation": "c", "tier": "B"}
    terms |= {"consent": {"edit": "unknown", "publish": "no"}}
    terms["files"] = {file.name: {"sha256": data.sha256(file)} for file in folder.iterdir() if file.suffix != ".json"}
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "tiny.yaml").write_text(yaml.safe_dump(terms))
    monkeypatch.setenv("THLIB_MANIFESTS", str(tmp_path / "manifests"))
    monkeypatch.setenv("THLIB_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("THLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path


def opened(files, code, **more):
    """What a program opened, by its witness."""
    log = files / "run.opened"
    env = runner._witnessed({**os.environ, **more}, log)
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=env, check=True, cwd=files)
    return runner.named(log, env["THLIB_WITNESSED"].split(os.pathsep))


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from thlib import data; data.path('tiny/points.bin')", "points.bin"),
        ("open('mirror/tiny/points.bin', 'rb').read()", "points.bin"),
        ("from PIL import Image; Image.open('mirror/tiny/face.png')", "face.png"),
        ("import cv2; assert cv2.imread('mirror/tiny/face.png') is not None", "face.png"),
        ("import cv2; assert cv2.VideoCapture('mirror/tiny/talk.mp4').read()[0]", "talk.mp4"),
        ("import av; av.open('mirror/tiny/talk.mp4')", "talk.mp4"),
        ("from thlib.clip import read; read('mirror/tiny/talk.mp4')", "talk.mp4"),
        ("import soundfile; soundfile.read('mirror/tiny/voice.wav')", "voice.wav"),
        ("import subprocess; subprocess.run(['cp', 'mirror/tiny/talk.mp4', 'x'])", "talk.mp4"),
        (
            "import subprocess, sys; subprocess.run([sys.executable, '-c', 'open(\"mirror/tiny/face.png\")'])",
            "face.png",
        ),
    ],
)
def test_every_way_to_open_a_file_is_seen(files, code, found):
    assert opened(files, code) == [f"tiny/{found}"]


def test_a_file_is_known_by_its_content_and_an_unknown_one_by_its_path(files):
    (files / "other.png").write_bytes((files / "mirror" / "tiny" / "face.png").read_bytes())
    os.utime(files / "other.png", (OLD, OLD))
    assert opened(files, "open('other.png')") == ["tiny/face.png"]
    assert opened(files, "open('mine.jpg')") == [str(files / "mine.jpg")]


def test_what_a_run_makes_itself_and_what_shows_nobody_is_no_matter(files):
    code = """
        from pathlib import Path
        from PIL import Image
        Image.new("RGB", (8, 8)).save("made.png")
        Image.open("made.png")
        Path("notes.txt").write_text("a"), Path("notes.txt").read_text()
        import matplotlib
        open(matplotlib.get_data_path() + "/images/home.png", "rb")
        open("mirror/tiny/absent.png") if Path("mirror/tiny/absent.png").exists() else None
    """
    assert opened(files, code) == []


def test_another_sitecustomize_goes_on_working(files):
    (files / "own").mkdir()
    (files / "own" / "sitecustomize.py").write_text("import builtins\nbuiltins.PLANTED = 7\n")
    code = "assert PLANTED == 7; open('mirror/tiny/face.png')"
    assert opened(files, code, PYTHONPATH=str(files / "own")) == ["tiny/face.png"]
