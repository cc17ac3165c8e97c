"""The command line: what it hands on, what it writes, and bad input answered by one sentence and exit code 2."""

import json
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import doctor
import numpy as np
import picture
import pytest
import yaml

from thlib import cli, clip, data
from thlib.errors import ThlibError

ALIGN = "0 12500 sil\n12500 25000 bin\n25000 37500 blue\n37500 50000 now\n50000 75000 sil\n"


@pytest.fixture
def thlib(monkeypatch, capsys):
    """A function that runs the command line in this process: (exit code, stdout, stderr)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["thlib", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        told = capsys.readouterr()
        return end.value.code, told.out, told.err

    return run


@pytest.fixture
def talk(tmp_path):
    """A small video with sound and its word times."""
    frames = np.random.default_rng(0).integers(0, 255, (75, 48, 64, 3), np.uint8)
    sound = np.random.default_rng(1).normal(0, 0.1, (48000, 1)).astype(np.float32)
    video = clip.write(tmp_path / "talk.mp4", clip.Clip(frames, Fraction(25), sound, 16000))
    video.with_suffix(".align").write_text(ALIGN)
    return video


@pytest.fixture
def pipeline(monkeypatch):
    """What the editing pipeline was called with, instead of its work."""
    from thlib import editing

    calls = {}

    class Fake:
        @classmethod
        def from_pretrained(cls, *, lips):
            calls.update(lips=lips)
            return cls()

        def __call__(self, video, words, text, **options):
            calls.update(video=video, words=words, text=text, **options)
            return SimpleNamespace(notes=("spoken by espeak",), spans=[(1.0, 1.5)], save=self.save)

        def save(self, path, **options):
            calls.update(out=path, **options)

    monkeypatch.setattr(editing, "TextEditPipeline", Fake)
    return calls


def test_edit_hands_on_what_it_was_given(thlib, talk, pipeline, tmp_path):
    edits = ["--replace", "now=soon", "--insert", "blue=>very", "--delete", "bin", "--no-badge", "--exact", "--seed", 3]
    edits += ["--lips", "diffusion"]
    out = tmp_path / "out.mp4"
    code, told, _ = thlib("edit", talk, "--transcript", talk.with_suffix(".align"), *edits, "-o", out)
    assert code == 0
    assert [word.text for word in pipeline["words"]] == ["bin", "blue", "now"]
    assert pipeline["lips"] == "diffusion"
    assert pipeline["words"][1].start == pytest.approx(1.0)
    assert pipeline["text"] == "blue very soon"
    assert pipeline["seed"] == 3
    assert pipeline["speech"] is None
    assert (pipeline["out"], pipeline["exact"], pipeline["badge"]) == (out, True, False)
    assert "spoken by espeak" in told
    assert "generated 1.00-1.50 s" in told


def test_edit_takes_a_whole_text_and_a_recording(thlib, talk, pipeline, tmp_path, monkeypatch):
    from thlib import speech

    words = (clip.Word("bin", 0.1, 0.4), clip.Word("green", 0.4, 0.8))
    heard = {"bin green": words}
    monkeypatch.setattr(speech, "align_speech", lambda audio, text: speech.Speech(audio, heard[text], ()))
    (tmp_path / "edited.txt").write_text("bin green now\n")
    options = [
        "--text",
        tmp_path / "edited.txt",
        "--sound",
        talk,
        "--sound-text",
        "bin green",
        "-o",
        tmp_path / "o.mp4",
    ]
    code, _, err = thlib("edit", talk, "--transcript", talk.with_suffix(".align"), *options)
    assert code == 0, err
    assert pipeline["text"].split() == ["bin", "green", "now"]
    assert pipeline["speech"].words == words
    assert len(pipeline["speech"].audio) == pytest.approx(48000, abs=2048)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("edit {no} --transcript {align} --replace now=soon -o {out}", "no.mp4"),
        ("edit {text} --transcript {align} --replace now=soon -o {out}", "text.mp4"),
        ("edit {talk} --transcript {no} --replace now=soon -o {out}", "no.mp4"),
        ("edit {talk} --transcript {align} -o {out}", "No edit was given"),
        ("edit {talk} --transcript {align} --delete green -o {out}", 'no "green"'),
        ("edit {talk} --transcript {align} --replace now=soon -o {talk}", "name another file"),
        ("edit {talk} --transcript {align} --replace now=soon -o out.avi", "name another file"),
        ("edit {talk} --transcript {align} --replace now=soon --text {align} -o {out}", "together with single edits"),
        ("edit {talk} --transcript {align} --text {talk} -o {out}", "cannot be read as text"),
        ("edit {talk} --transcript {align} --replace now=soon --sound {align} -o {out}", "cannot be read as sound"),
        ("verify {no}", "no.mp4"),
        ("data fetch atlantis", "no data set is called 'atlantis'"),
        ("data fetch hdtf", "not downloaded by thlib"),
        ("data purge everything", "nothing called 'everything'"),
        ("course run 99_none --notebooks {course}", "no notebook 99_none"),
        ("course list --notebooks {no}", "no notebook in"),
        ("course run --profile fast --notebooks {course}", "no profile 'fast'"),
        ("course report -o {no}", "no.mp4"),
        ("course run --notebooks {empty}", "no notebook"),
    ],
)
def test_bad_input_is_one_sentence(thlib, talk, tmp_path, words, sentence):
    (tmp_path / "text.mp4").write_text("not a video")
    files = {"talk": talk, "align": talk.with_suffix(".align"), "text": tmp_path / "text.mp4"}
    files |= {"no": tmp_path / "no.mp4", "out": tmp_path / "out.mp4"}
    files |= {"course": tmp_path / "course", "empty": tmp_path / "empty"}
    (tmp_path / "empty").mkdir()
    (tmp_path / "course").mkdir()
    (tmp_path / "course" / "01_a.ipynb").write_text('{"metadata": {}, "cells": []}')
    before = sorted(tmp_path.iterdir())
    code, _, err = thlib(*words.format(**files).split())
    line = [line for line in err.splitlines() if line.startswith("thlib: ")]
    assert code == 2
    assert len(line) == 1
    assert sentence in line[0]
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_data_lists_fetches_mirrors_and_purges(thlib, tmp_path, monkeypatch):
    source = tmp_path / "source.bin"
    source.write_bytes(b"x" * 1000)
    entry = {"url": source.as_uri(), "bytes": 1000, "sha256": data.sha256(source)}
    terms = {"title": "Tiny", "homepage": "h", "licence": "CC0", "citation": "c", "tier": "A"}
    terms |= {"consent": {"edit": "yes", "publish": "yes"}, "files": {"a.bin": entry}}
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "tiny.yaml").write_text(yaml.safe_dump(terms))
    monkeypatch.setenv("THLIB_MANIFESTS", str(tmp_path / "manifests"))
    monkeypatch.setenv("THLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("THLIB_MIRROR", raising=False)
    assert "tiny: Tiny · 1 files" in thlib("data", "list")[1]
    assert thlib("data", "status", "tiny")[1] == "tiny: 1 absent\n"
    code, told, _ = thlib("data", "fetch", "tiny/a.bin")
    assert code == 0
    assert Path(told.strip()).read_bytes() == source.read_bytes()
    assert thlib("data", "fetch", "tiny")[0] == 0
    assert thlib("data", "status", "tiny")[1] == "tiny: 1 cache\n"
    assert thlib("data", "mirror", tmp_path / "mirror", "tiny")[0] == 0
    assert (tmp_path / "mirror" / "tiny" / "a.bin").read_bytes() == source.read_bytes()
    assert thlib("data", "purge", "tiny")[1].startswith("0.0 MB deleted")
    assert thlib("data", "status", "tiny")[1] == "tiny: 1 absent\n"


def test_verify_prints_the_marks(thlib, talk):
    code, told, _ = thlib("verify", talk)
    assert code == 0
    assert "no marks" in told


def test_doctor_names_what_is_missing(thlib, tmp_path, monkeypatch):
    monkeypatch.setenv("THLIB_CACHE", str(tmp_path))
    monkeypatch.delenv("THLIB_MIRROR", raising=False)
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    (tmp_path / "requirements.lock").write_text(
        "numpy==0.1\nunheard-of==2.0\ncolorama==0.1 ; sys_platform == 'win32'\n"
    )
    code, told, _ = thlib("doctor")
    assert code == 1
    for sentence in ("numpy is", "unheard-of is absent, 2.0", "landmark model is not here", "THLIB_MIRROR is not set"):
        assert sentence in told
    assert "colorama" not in told


def test_course_lists_runs_and_reports(thlib, tmp_path, monkeypatch):
    monkeypatch.setenv("THLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("THLIB_MIRROR", raising=False)
    notebook = {"metadata": {"thlib": {"needs": ["grid-s1"]}}, "cells": [], "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "01_a.ipynb").write_text(json.dumps(notebook))
    assert thlib("course", "list", "--notebooks", tmp_path)[1] == "01_a: needs grid-s1\n"
    out = tmp_path / "out"
    code, _, err = thlib("course", "run", "--notebooks", tmp_path, "-o", out)
    assert code == 0, err
    code, told, _ = thlib("course", "report", "-o", out)
    assert code == 0
    assert told.strip() == str(out / "index.html")
    assert "not run" in (out / "index.html").read_text()
    assert "notebooks" in thlib("course", "run", "--help")[1]
    monkeypatch.setattr(cli, "ROOT", tmp_path)  # as in a wheel
    assert "clone the repository" in thlib("course", "list")[2]


def test_a_grid_sentence_is_edited(thlib, mirror, tmp_path):
    grid, out = mirror / "grid-s1", tmp_path / "edited.mp4"
    options = ["--transcript", grid / "bbbf6n.align", "--replace", "six now=seven soon", "-o", out]
    options += ["--sound", grid / "bbbf7s.mpg", "--sound-text", "bin blue by f seven soon"]
    code, told, err = thlib("edit", grid / "bbbf6n.mpg", *options)
    assert code == 0, err
    assert "generated" in told
    assert clip.Video(out).size == (288, 360)
    assert "seven soon" in out.with_suffix(".vtt").read_text()
    assert thlib("verify", out)[0] == 0


def test_a_presenter_is_animated_reenacted_and_seen_in_a_sheet(thlib, tmp_path):
    said, moved, again, curves = (tmp_path / name for name in ("said.mp4", "moved.mp4", "again.mp4", "moved.csv"))
    code, told, err = thlib("presenter", "say", "hello", "--identity", 7, "--size", 96, "-o", said)
    assert (code, err) == (0, "")
    assert "1 words, neutral" in told
    assert {"said.track.npz", "said.TextGrid", "said.provenance.json"} < {file.name for file in tmp_path.iterdir()}
    for out in (moved, curves):
        assert thlib("animate", said, "--emotion", "happy", "-o", out)[0] == 0
    assert len(curves.read_text().splitlines()) == pytest.approx(60 * clip.Video(said).duration, abs=5)  # AAC pads
    assert clip.Video(moved).n_frames == pytest.approx(clip.Video(said).n_frames, abs=2)
    assert thlib("reenact", said, moved, "-o", again)[0] == 0
    assert clip.Video(again).size == (96, 96)
    picture.presenters(tmp_path / "sheet.png", size=32)
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_training_hands_on_its_options_and_makes_weights_that_load(thlib, tmp_path, monkeypatch):
    from thlib import footage
    from thlib.editing import TextEditPipeline

    said, read, load = tmp_path / "said.mp4", [], footage.load
    monkeypatch.setattr(footage, "load", lambda path, words: read.append(words) or load(path, words))
    thlib("presenter", "say", "my own voice says a few words here", "--size", 64, "-o", said)
    code, told, err = thlib("train", "editing.regressor", said, "--steps", 2, "-o", tmp_path / "mine")
    assert (code, "2 steps on 1 clips" in told) == (0, True), err
    assert list(TextEditPipeline.from_pretrained(str(tmp_path / "mine")).nets) == ["regressor"]
    options = "--steps", 2, "--presenters", 2, "-o", tmp_path / "mine"
    assert thlib("train", "editing.motion", said, *options)[0] == 0
    assert "diffusion" in TextEditPipeline.from_pretrained(str(tmp_path / "mine"), lips="diffusion").nets
    assert " ".join(w.text for w in read[-1]) == "my own voice says a few words here"  # of the TextGrid beside it
    said.with_suffix(".TextGrid").unlink()
    thlib("train", "editing.regressor", said, "--steps", 1, "-o", tmp_path / "wordless")
    assert read[-1] == ()
    monkeypatch.setattr(footage, "grid", lambda split: [split])
    with pytest.raises(AttributeError):  # the corpus is what is taken where no video is given
        thlib("train", "editing.regressor", "-o", tmp_path / "theirs")


def test_the_family_of_errors_ends_with_code_2(thlib, monkeypatch):
    def fail(**_):
        raise ThlibError("what was given,\n what is needed")

    monkeypatch.setattr(cli, "app", fail)
    assert thlib()[::2] == (2, "thlib: what was given, what is needed\n")
