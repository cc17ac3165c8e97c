"""The runner: what is run and recorded, and every way in which a run can fail, each planted in a tiny notebook."""

import json
import re
import socket
import time

import nbformat
import psutil
import pytest
import runner
from conftest import require

from thlib.errors import CourseError

START = "import thlib.course\nrun = thlib.course.start(PROFILE, SEED, DEVICE)"
METRIC = "run.metric('error', 0.25, 'px', better='lower', next_best=0.5)"


@pytest.fixture
def notebook(tmp_path):
    """A function that writes a notebook of the given cells, with its parameters, and returns its path."""

    def write(*cells, parameters="PROFILE = 'smoke'\nSEED = 0\nDEVICE = 'auto'", needs=()):
        nb = nbformat.v4.new_notebook(metadata={"thlib": {"needs": list(needs)}})
        nb.cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
        nb.cells += [
            nbformat.v4.new_code_cell(cell, metadata={"tags": re.findall("# tag: (.*)", cell)}) for cell in cells
        ]
        path = tmp_path / "01_tiny.ipynb"
        nbformat.write(nb, path)
        return path

    return write


def test_a_run_is_recorded(notebook, tmp_path):
    path = notebook(START, METRIC, "import os\nassert os.environ['MPLBACKEND'] == 'agg' and SEED == 3")
    before = path.read_bytes()
    outcome = runner.execute(path, tmp_path / "out", seed=3)
    assert outcome.status == "passed", outcome.reason
    row = {"name": "error", "value": 0.25, "unit": "px", "better": "lower", "next_best": 0.5, "needs": ""}
    assert outcome.metrics == [row]
    assert outcome.run["device"] == "cpu"
    assert outcome.run["seed"] == 3
    assert outcome.run["versions"]["thlib"]
    assert 0 < outcome.seconds < 60
    assert outcome.peak_mb > 50
    logged = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert logged == [{"notebook": "01_tiny", "profile": "smoke", "seed": 3, "date": outcome.date, **row}]
    assert json.loads((tmp_path / "out" / "01_tiny.json").read_text())["status"] == "passed"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        pytest.param(["1"], "no metric", id="no metric"),
        pytest.param(
            ["assert 1 == 2, 'one is not two'", "1"], "AssertionError: one is not two (in cell 2", id="assertion"
        ),
        pytest.param(["import os\nos._exit(1)", "1"], "Kernel died", id="dead kernel"),
        pytest.param(["# tag: raises-exception\n1 / 0"], "ZeroDivisionError", id="hidden error"),
    ],
)
def test_a_run_that_must_not_pass(notebook, tmp_path, cells, reason):
    outcome = runner.execute(notebook(*cells), tmp_path / "out")
    assert outcome.status == "failed"
    assert reason in outcome.reason


def test_an_unknown_parameter_is_refused_before_the_run(notebook, tmp_path):
    outcome = runner.execute(
        notebook(START, METRIC, parameters="PROFIL = 'smoke'\nSEED = 0\nDEVICE = ''"), tmp_path / "o"
    )
    assert outcome.status == "failed"
    assert "no parameter PROFILE " in outcome.reason
    assert not (tmp_path / "o" / "01_tiny.ipynb").exists()


def test_over_budget_ends_the_kernel_and_its_children_and_names_the_cell(notebook, tmp_path):
    stuck = (
        "import subprocess, sys\nsleeper = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(987)'])\n"
    )
    stuck += f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{sleeper.pid}}')\nwhile True: pass"
    begin = time.monotonic()
    outcome = runner.execute(notebook("import os", stuck), tmp_path / "out", budget=12)
    assert outcome.status == "failed"
    assert "over its budget" in outcome.reason
    assert "import subprocess, sys" in outcome.reason
    assert time.monotonic() - begin < 4 * 12 + 10
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_slower_machine_gets_longer(notebook, tmp_path, monkeypatch):
    """The same stuck notebook is ended after 2 seconds, or later where work takes longer: four times at the most."""
    monkeypatch.setattr(runner, "WORK", runner.WORK / 100)
    assert 50 < runner._slowness() < 2000
    found = {}
    for slower in (1.0, 3.0, 100.0):
        monkeypatch.setattr(runner, "_slowness", lambda slower=slower: slower)
        monkeypatch.setattr(runner.psutil, "getloadavg", lambda: (0.0, 0.0, 0.0))
        found[slower] = runner.execute(notebook("while True: pass"), tmp_path / str(slower), budget=2)
        assert "over its budget" in found[slower].reason
        assert found[slower].slowness == slower
    assert found[1.0].seconds < 5 < 5.9 < found[3.0].seconds < found[100.0].seconds < 12


def test_a_run_cannot_reach_the_network(notebook, tmp_path):
    require("namespace", bool(runner._cut_off()), "this system gives no network namespaces")
    here = socket.create_server(("127.0.0.1", 0))  # on the loopback of this machine, not of the run's namespace
    knock = "import socket\ntry:\n    socket.create_connection(('127.0.0.1', %d), timeout=5)"
    knock += "\nexcept ConnectionRefusedError:\n    socket.create_connection(('192.0.2.1', 9), timeout=5)"
    outcome = runner.execute(notebook(knock % here.getsockname()[1]), tmp_path / "out")
    assert outcome.isolated
    assert "Network is unreachable" in outcome.reason


def test_what_is_not_there_is_not_run(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("THLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("THLIB_MIRROR", raising=False)
    path = notebook(START, METRIC, needs=["grid-s1/bbaf4p.mpg"])
    assert runner.missing(path) == ["grid-s1/bbaf4p.mpg"]
    outcome = runner.execute(path, tmp_path / "out")
    assert outcome.status == "not run"
    assert "THLIB_MIRROR" in outcome.reason


def test_notebooks_are_listed_in_order(tmp_path):
    for name in ("02_b.ipynb", "01_a.ipynb", "README.md", "draft.ipynb"):
        (tmp_path / name).touch()
    assert [path.stem for path in runner.notebooks(tmp_path)] == ["01_a", "02_b"]
    with pytest.raises(CourseError, match="no notebook in"):
        runner.notebooks(tmp_path / "absent")
