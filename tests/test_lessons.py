"""What the teaching texts say is so: the path and its costs, the doctor's complaints, links, commands, sections."""

import ast
import json
import re
from pathlib import Path

import baselines
import numpy as np
import pytest
import syllabus
import typer
import yaml
from conftest import ROOT
from PIL import Image

from thlib import cli

TEXTS = sorted((ROOT / "notebooks").glob("*.md"))
PLANS = (ROOT / "notebooks" / "README.md").read_text()


def complaints(source: str) -> list[str]:
    """All that a doctor can say: its `yield`ed sentences, "…" for what is filled in."""
    found = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Yield)]
    return ["".join(getattr(part, "value", 0) if isinstance(part, ast.Constant) else "…" for part in
            (value.values if isinstance(value, ast.JoinedStr) else [value])) for value in found]  # fmt: skip


def unanswered(source: str, text: str) -> list[str]:
    """Complaints of a doctor that the page lacks as headings, and headings that he never utters."""
    section = text.partition("## What `thlib doctor` says")[2].partition("\n## ")[0]
    headings, said = set(re.findall(r"^### (.*)$", section, re.M)), set(complaints(source))
    return sorted(said ^ headings)


def test_every_complaint_of_the_doctor_has_an_entry():
    source = (ROOT / "tools" / "doctor.py").read_text()
    text = (ROOT / "notebooks" / "troubleshooting.md").read_text()
    assert len(complaints(source)) >= 6
    assert unanswered(source, text) == []
    more = source + '\n\ndef _more():\n    yield f"The moon is {1 + 1} days old: wait."\n'
    assert unanswered(more, text) == ["The moon is … days old: wait."]
    fewer = text.replace("### … is …, … is needed: make setup installs it.\n", "")
    assert unanswered(source, fewer) == ["… is …, … is needed: make setup installs it."]
    for heading, entry in re.findall(r"^### (.*)\n\n((?:(?!###? ).*\n)*)", text, re.M):
        assert len(entry.split()) > 8, f"{heading} has no answer"


def test_the_path_is_in_step_with_the_recorded_runs():
    assert syllabus.written(PLANS) == PLANS, "run python tools/syllabus.py"


def test_a_new_run_and_a_new_notebook_change_the_path(monkeypatch, tmp_path):
    runs = {"smoke": {"00_start_here": {"seconds": 31.0, "peak_mb": 1240, "device_name": "a laptop"}}}
    runs |= {"laptop": {"01_landmarks": {"seconds": 130.0, "peak_mb": 2060, "device_name": "a laptop"}}}
    runs["laptop"]["99_elsewhere"] = {"seconds": 999.0, "peak_mb": 9000, "device_name": "a laptop"}
    monkeypatch.setattr(baselines, "load", lambda profile: runs.get(profile, {}))
    for name in ("00_start_here", "01_landmarks", "12_more"):
        (tmp_path / f"{name}.ipynb").touch()
    monkeypatch.setattr(syllabus, "README", tmp_path / "README.md")
    monkeypatch.setattr(syllabus.path, "__defaults__", (tmp_path,))
    text = (
        f"before\n{syllabus.BEGIN}\nold\n{syllabus.END}\nbetween\n{syllabus.CLASS}\nold\n{syllabus.CLASS_END}\nafter\n"
    )
    new = syllabus.written(text)
    assert syllabus.written(new) == new
    assert (new.startswith("before\n"), "\nbetween\n" in new, new.endswith("\nafter\n"), "old" in new) == (1, 1, 1, 0)
    rows = dict(re.findall(r"^\| \[?(\w+)\]?.*?\| [^|]*\| (.*) \|$", new, re.M))
    assert rows["00_start_here"] == "31 s, 1.2 GB | not yet recorded | not yet recorded"
    assert rows["01_landmarks"] == "not yet recorded | 2 min, 2.1 GB | not yet recorded"
    assert rows["12_more"].count("not yet recorded") == 3
    assert "| 07_text_editing *(planned)* |" in new
    assert "[07_text_editing]" not in new
    assert "recorded for 1 of 3 notebooks, the longest run takes 130 s (`01_landmarks`, a laptop)" in new


def test_the_path_has_all_twelve_and_whatever_else_is_there():
    assert [int(name[:2]) for name in syllabus.PATH] == list(range(12))
    assert {file.stem for file in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")} <= set(syllabus.path())


@pytest.mark.parametrize("text", [*TEXTS, ROOT / "README.md", ROOT / "ETHICS.md"], ids=lambda file: file.name)
def test_links_lead_somewhere(text):
    for place in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text.read_text()):
        if not place.startswith(("http", "mailto")) and not place.startswith("out/"):  # out/: made by a command
            assert (text.parent / place).exists(), place


def options(command) -> set[str]:
    """The options of a command and of all below it."""
    found = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    return found.union(*map(options, getattr(command, "commands", {}).values()))


@pytest.mark.parametrize("text", [*TEXTS, ROOT / "README.md"], ids=lambda file: file.name)
def test_commands_that_the_texts_name_exist(text):
    group = typer.main.get_command(cli.app)
    code = re.findall(r"`(thlib [^`]+)`|^(thlib .*)$", text.read_text().replace("\\\n", " "), re.M)
    for line in (a or b for a, b in code):
        verb, *rest = line.partition("#")[0].split()[1:]
        if verb.startswith("-"):
            continue
        assert verb in group.commands, line
        named = {word for word in rest if word.startswith("--")}
        assert named <= options(group.commands[verb]) | {"--help", "--out"}, line


def test_sections_and_exercises_that_the_plans_name_exist():
    """`00, "Type a sentence"` is a section of notebook 00; "exercises 4 – 6" of 02 are there."""
    named = re.findall(r"\| ([01]\d), \"([^\"|]+?)\"", PLANS)
    assert len(named) >= 5
    for number, title in named:
        (file,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
        headings = re.findall(r"^##+ (.*)$", "\n".join(_texts(file)), re.M)
        assert any(heading.startswith(title.rstrip("?.")) for heading in headings), (number, title)
    for number, last in (("00", 5), ("01", 5), ("02", 6)):
        (file,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
        assert re.findall(r"^### Exercise (\d+)", "\n".join(_texts(file)), re.M)[-1] == str(last), (
            "the plans name these"
        )


def _texts(file: Path) -> list[str]:
    cells = json.loads(file.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]


def test_ten_questions_have_answers_and_say_what_to_read():
    text = (ROOT / "notebooks" / "prerequisites.md").read_text()
    questions = re.split(r"^\*\*(\d+)\. ", text, flags=re.M)[1:]
    assert questions[::2] == [str(k) for k in range(1, 11)]
    for question in questions[1::2]:
        asked, _, answer = question.partition("<details><summary>Answer</summary>")
        assert "?" in asked
        assert "if it failed" in " ".join(answer.lower().replace("*", "").split())
        assert answer.rstrip().endswith("</details>")


def test_answers_to_the_questions_are_right():
    frames = np.zeros((75, 8, 10, 3))
    assert (frames[10].shape, frames[:, :, :, 0].shape, frames[::2].shape) == ((8, 10, 3), (75, 8, 10), (38, 8, 10, 3))
    with pytest.raises(ValueError, match="broadcast"):
        np.zeros((75, 478, 3)) - np.zeros((75, 3))
    assert (np.array([[0, -1], [1, 0]]) @ [2, 1]).tolist() == [-1, 2]
    assert np.allclose(np.polyfit([0, 1, 2, 3, 4], [1, 3, 5, 7, 19], 1), [4, -1])
    assert ((3 * 1.9 - 6) ** 2, np.std([0, 0, 0, 8])) == (pytest.approx(0.09), pytest.approx(12**0.5))
    assert (16000 // 25, 1040 * 24 + 24) == (640, 24984)


def test_the_glossary_has_two_languages_and_no_word_twice():
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]*)\|$", _glossary().partition("## Words")[2], re.M)[2:]
    assert len(rows) >= 50
    assert len({english for english, *_ in rows}) == len(rows)
    assert [english for english, chinese, _ in rows if not re.search("[一-鿿]{2}", chinese)] == []
    for english, chinese in (
        ("landmark, keypoint", "关键点"),
        ("blendshape", "混合变形"),
        ("viseme", "视位"),
        ("co-articulation", "协同发音"),
        ("classifier-free guidance", "无分类器引导"),
        ("thin-plate spline (TPS)", "薄板样条"),
        ("cross-reenactment", "跨身份重演"),
    ):
        assert chinese in {a: b for a, b, _ in rows}[english]


def test_what_the_notation_names_is_in_the_library():
    import importlib

    for module, name in re.findall(r"`(landmarks|metrics|speech)\.(\w+)", _glossary()):
        assert hasattr(importlib.import_module(f"thlib.{module}"), name), name


def _glossary() -> str:
    return (ROOT / "notebooks" / "glossary.md").read_text()


def durations(image) -> list[float]:
    """How long each frame of a moving picture is shown, in milliseconds."""
    found = []
    for k in range(image.n_frames):
        image.seek(k)
        image.load()
        found.append(image.info["duration"])
    return found


def test_pictures_move_loop_and_are_light():
    listed = yaml.safe_load((ROOT / "docs" / "pictures.yaml").read_text())
    moving = [name for name in listed if name.endswith(".webp")]
    assert len(moving) == 3
    for name in moving:
        image, shown = Image.open(ROOT / name), (ROOT / "README.md").read_text()
        assert listed[name]["sources"] == ["drawn"]  # presenters alone
        assert (ROOT / name).stat().st_size < 1.2e6
        assert image.n_frames >= 20
        assert image.info["loop"] == 0
        assert 75 <= float(np.median(durations(image))) <= 125  # milliseconds: 8 to 13 frames a second
        assert re.search(rf"!\[[^\]]{{40,}}\]\({re.escape(name)}\)", shown), f"the README lacks {name}, or its alt text"
