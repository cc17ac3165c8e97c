"""The builds of the course: what each has and lacks, what is written into them, and how `make lab` opens them."""

import json
import re
import subprocess
import sys

import baselines
import build_course
import lab
import pytest
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
CELLS = [
    ("markdown", "", "# 07 · Tiny\n\n**A promise.**"),
    ("markdown", "", "**You will be able to**"),
    ("code", "parameters", "PROFILE = 'smoke'"),
    ("markdown", "", "### Exercise"),
    ("code", "exercise", "x = ..."),
    ("code", "solution", "x = 1"),
    ("code", "check", "x = course.check('07.x', x)"),
    ("markdown", "instructor", "Five minutes; they forget the one."),
]
PROJECT = '[project]\nname = "x"\n'
GITHUB = f'{PROJECT}[project.urls]\nRepository = "https://github.com/we/heads.git"\n'


@pytest.fixture
def cut(tmp_path, monkeypatch):
    """A function that cuts a role's build from a tiny notebook, with a pyproject.toml and recorded runs."""

    def make(role: str, project: str = PROJECT, runs: dict | None = None) -> dict:
        monkeypatch.setattr(baselines, "load", lambda profile: (runs or {}).get(profile, {}))
        cells = [
            {"cell_type": kind, "id": str(k), "metadata": {"tags": tag.split()}, "source": [text]}
            for k, (kind, tag, text) in enumerate(CELLS)
        ]
        for name in ("07_tiny.ipynb", "08_next.ipynb"):
            build_course.write(tmp_path / name, {"metadata": {}, "cells": cells})
        (tmp_path / "pyproject.toml").write_text(project)
        return build_course.build(tmp_path / "07_tiny.ipynb", role, tmp_path / "pyproject.toml")

    return make


@pytest.mark.parametrize(
    ("role", "ids"), [("student", "0 1 2 3 4 6"), ("instructor", "0 1 2 3 5 6 7"), ("colab", "0 1 colab 2 3 4 6")]
)
def test_a_build_has_what_its_readers_need(cut, role, ids):
    assert [cell["id"] for cell in cut(role)["cells"]] == ids.split()


def test_place_badges_and_cost_are_written_into_the_first_two_cells(cut):
    runs = {"laptop": {"07_tiny": {"seconds": 130.0, "peak_mb": 1240}}}
    runs |= {"gpu": {"07_tiny": {"seconds": 20.0, "peak_mb": 2600}}}
    first, second, *_ = cut("student", GITHUB, runs)["cells"]
    assert first["source"].splitlines()[4:] == [
        "*The path:* **07 tiny** → [08 next](08_next.ipynb)",
        "",
        "*Without installing:* [open in Colab](https://colab.research.google.com/github/we/heads/blob/colab/07_tiny.ipynb)"
        " · [open on Binder](https://mybinder.org/v2/gh/we/heads/HEAD?urlpath=lab/tree/course/07_tiny.ipynb)",
    ]
    assert second["source"].endswith("\n\n*Runs on:* CPU 2 min / GPU 1 min, peak 2.6 GB.")


def test_nothing_is_said_that_is_not_known(cut):
    first, second, *_ = cut("student")["cells"]
    assert "Colab" not in first["source"]
    assert "".join(second["source"]) == CELLS[1][2]
    assert "Colab" not in cut("student", GITHUB.replace("github.com", "git.example.org"))["cells"][0]["source"]
    assert cut("student", runs={"laptop": {"07_tiny": {"metrics": {}}}})["cells"][1]["source"] == [CELLS[1][2]]


def test_a_build_is_its_own_build_whatever_is_cut_from_it(cut, tmp_path):
    built = cut("student")
    build_course.write(tmp_path / "07_tiny.ipynb", built)
    assert build_course.build(tmp_path / "07_tiny.ipynb", "instructor", tmp_path / "pyproject.toml") == built


@pytest.mark.parametrize("project", [PROJECT, GITHUB], ids=["no address", "an address"])
def test_the_set_up_of_colab_does_nothing_where_thlib_is(cut, project, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *a, **o: pytest.fail("it installs what is there"))
    before = list(sys.path)
    exec(cut("colab", project)["cells"][2]["source"], {})
    assert sys.path == before


def test_the_set_up_of_colab_installs_a_clone_or_says_what_to_set(cut, monkeypatch):
    commands = []
    monkeypatch.setattr(subprocess, "run", lambda command, **o: commands.append((command, o)))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "path", [])
    exec(cut("colab", GITHUB)["cells"][2]["source"], {})
    (clone, strict), (install, also_strict) = commands
    assert "https://github.com/we/heads.git" in clone
    assert install[-2:] == ["--editable", clone[-1]]
    assert strict == also_strict == {"check": True}
    assert sys.path == [clone[-1]]
    with pytest.raises(SystemExit, match=r"set Repository in \[project.urls\] of pyproject.toml"):
        exec(cut("colab")["cells"][2]["source"], {})


def test_the_command_cuts_every_notebook(tmp_path):
    command = [sys.executable, ROOT / "tools" / "build_course.py", "colab", "--out", tmp_path]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.split() == [str(tmp_path / notebook.name) for notebook in NOTEBOOKS]
    for notebook in NOTEBOOKS:
        built = json.loads((tmp_path / notebook.name).read_text())
        assert not [cell for cell in built["cells"] if build_course.tags(cell) & {"solution", "instructor"}]
        assert "**" + notebook.stem.replace("_", " ") + "**" in built["cells"][0]["source"]


def test_a_reader_gets_the_build_of_his_role_and_keeps_his_edits(tmp_path, capsys):
    lab.main("student", str(tmp_path / "course"))
    copy = tmp_path / "course" / NOTEBOOKS[0].name
    assert not [c for c in json.loads(copy.read_text())["cells"] if "solution" in build_course.tags(c)]
    copy.write_text(copy.read_text().replace("PROFILE", "MINE"))
    lab.main("student", str(tmp_path / "course"))
    assert f"{NOTEBOOKS[0].name}: kept" in capsys.readouterr().out
    assert "MINE" in copy.read_text()
    lab.main("instructor", str(tmp_path / "teaching"))
    cells = json.loads((tmp_path / "teaching" / NOTEBOOKS[0].name).read_text())["cells"]
    assert not [c for c in cells if "exercise" in build_course.tags(c)]


def opened(command: str) -> list[str]:
    """What is unsafe in a command that opens Jupyter: other machines reach it, or it asks for no token."""
    options = dict(re.findall(r"--([\w.]+)(?:[= ]\"?([^\s\"]*))?", command))
    loose = re.compile("token|password|allow_origin|allow_remote|disable_check")
    told = [f"--{name} lets others in" for name in options if loose.search(name)]
    own = {name: value for name, value in options.items() if name.split(".")[-1] == "ip"}
    return told + [f"it listens on {own or 'any address'}"] * (set(own.values()) != {"127.0.0.1"})


@pytest.mark.parametrize(("role", "folder"), [("student", "course"), ("instructor", "course-instructor")])
def test_make_lab_opens_the_build_of_a_role_for_this_machine_alone(role, folder):
    given = ["make", "-n", "lab", f"ROLE={role}"] if role != "student" else ["make", "-n", "lab"]
    told = subprocess.run(given, cwd=ROOT, capture_output=True, text=True, check=True).stdout.replace("\\\n", " ")
    assert f"tools/lab.py {role} {folder}\n" in told
    (command,) = [line for line in told.splitlines() if "jupyter lab" in line]
    assert f'root_dir="{ROOT}/{folder}"' in command
    assert opened(command) == []
    assert subprocess.run(["git", "check-ignore", "-q", f"{folder}/a"], cwd=ROOT).returncode == 0


def test_no_configuration_of_jupyter_is_in_the_clone():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not re.findall(r".*jupyter.*_config.*", listed)


@pytest.mark.parametrize(
    "breach",
    [
        "jupyter lab",
        "jupyter lab --ServerApp.ip=0.0.0.0",
        "jupyter lab --ServerApp.ip=127.0.0.1 --IdentityProvider.token=''",
        "jupyter lab --ServerApp.ip=127.0.0.1 --ServerApp.password=''",
        "jupyter lab --ServerApp.ip=127.0.0.1 --ServerApp.allow_origin='*'",
        "jupyter lab --ServerApp.ip=127.0.0.1 --ip=0.0.0.0",
    ],
)
def test_a_server_open_to_others_is_seen(breach):
    assert opened(breach)
