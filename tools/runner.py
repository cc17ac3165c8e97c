"""Runs notebooks by papermill: in a process of its own, cut off from the network, with a budget for the whole notebook.

Where the system has network namespaces (Linux), nothing but loopback can be reached, from native code neither.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

from thlib import data
from thlib.course import METRIC, RUN
from thlib.errors import CourseError

BUDGETS = {"smoke": 60.0, "laptop": 300.0, "gpu": 600.0}  # seconds of a whole notebook on two idle cores
WORK = 0.0175  # seconds that the work of `_slowness` takes Python 3.11 on the machine of these budgets
WITNESS = Path(__file__).resolve().parent / "witness"
OFFLINE = {"HF_HUB_OFFLINE": "1", "THLIB_OFFLINE": "1", "MPLBACKEND": "agg", "PYTHONHASHSEED": "0"}
# Brings the loopback interface of a fresh network namespace up (SIOCSIFFLAGS, UP | RUNNING), then becomes argv[1:].
_LOOPBACK = (
    "import fcntl, os, socket, struct, sys\n"
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh22x', b'lo', 0x41))\n"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


@dataclass
class Outcome:
    """What became of one execution. status: "passed", "failed" or "not run"; seconds of wall time; memory in MB.

    slowness: how many times as long as on the machine of the budgets work takes here.
    opened: data files ("set/file") that the run opened, and the paths of pictures, sounds and videos that no manifest
    knows; None where nobody looked. digest: SHA-256 of the executed notebook.
    """

    name: str
    profile: str
    seed: int
    status: str = "failed"
    reason: str = ""
    seconds: float = 0.0
    peak_mb: float = 0.0
    slowness: float = 1.0
    isolated: bool = False
    date: str = ""
    run: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    opened: list[str] | None = None
    digest: str = ""


def notebooks(folder: str | Path = "notebooks") -> list[Path]:
    """The course's notebooks in their order. CourseError if the folder has none, or is none."""
    if not (found := sorted(Path(folder).glob("[0-9][0-9]_*.ipynb"))):
        raise CourseError(f"there is no notebook in {folder}: run from the root of a clone, or name the right folder")
    return found


def missing(notebook: str | Path) -> list[str]:
    """What of the notebook's `metadata.thlib.needs` ("set" or "set/file") is not on this machine."""
    needs = json.loads(Path(notebook).read_text())["metadata"].get("thlib", {}).get("needs", [])
    return data.missing(*needs)


def execute(
    notebook: str | Path,
    folder: str | Path,
    *,
    profile: str = "smoke",
    seed: int = 0,
    env: Mapping[str, str] | None = None,
    budget: float | None = None,
) -> Outcome:
    """Run a notebook by papermill into `folder`: `<name>.ipynb`, `.log`, `.json` (the outcome), `metrics.jsonl`.

    env: added to the environment. budget: seconds on idle cores, default that of the profile; a slow or busy machine
    gets up to four times as long. What goes wrong is told by the outcome; CourseError only for an unknown profile.
    """
    if profile not in BUDGETS:
        raise CourseError(f"there is no profile {profile!r}: choose one of {', '.join(BUDGETS)}")
    source, folder = Path(notebook).resolve(), Path(folder).resolve()
    work, executed = folder / "work" / source.stem, folder / source.name
    work.mkdir(parents=True, exist_ok=True)
    executed.unlink(missing_ok=True)
    outcome = Outcome(source.stem, profile, seed, isolated=bool(_cut_off()), date=time.strftime("%Y-%m-%d %H:%M:%S"))
    parameters = {"PROFILE": profile, "SEED": str(seed), "DEVICE": "auto" if profile == "gpu" else "cpu"}
    if absent := missing(source):
        outcome.status, outcome.reason = "not run", f"needs {', '.join(absent)}: set THLIB_MIRROR, or fetch it"
    elif unknown := sorted(set(parameters) - _parameters(source)):
        outcome.reason = f"it has no parameter {', '.join(unknown)} in a cell tagged `parameters`"
    else:
        command = [*_cut_off(), sys.executable, "-m", "papermill", str(source), str(executed)]
        command += ["-k", "python3", "-l", "python", "--cwd", str(work), "--no-progress-bar"]
        command += [text for pair in parameters.items() for text in ("-p", *pair)]
        log = executed.with_suffix(".log")
        environment = _witnessed(_environment(env or {}), executed.with_suffix(".opened"))
        in_time = _watch(command, log, environment, budget or BUDGETS[profile], outcome)
        _still(executed)
        _judge(outcome, executed, log, in_time)
        outcome.opened = named(executed.with_suffix(".opened"), environment["THLIB_WITNESSED"].split(os.pathsep))
        outcome.digest = data.sha256(executed) if executed.is_file() else ""
    executed.with_suffix(".json").write_text(json.dumps(asdict(outcome), indent=1))
    with (folder / "metrics.jsonl").open("a") as stream:
        run = {"notebook": outcome.name, "profile": profile, "seed": seed, "date": outcome.date}
        stream.writelines(json.dumps(run | row) + "\n" for row in outcome.metrics)
    return outcome


def _watch(command: list[str], log: Path, env: dict[str, str], budget: float, outcome: Outcome) -> bool:
    """Run to the end or to the end of the budget; fills in seconds and peak memory; False if it was over budget."""
    outcome.slowness = round(_slowness(), 2)
    begin, in_time = time.monotonic(), True
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env=env, start_new_session=True)
    try:
        while in_time and process.poll() is None:
            time.sleep(0.1)
            outcome.peak_mb = max(outcome.peak_mb, sum(map(_resident, _tree(process.pid))) / 1e6)
            load = max(1.0, psutil.getloadavg()[0] / (os.cpu_count() or 1))
            in_time = time.monotonic() - begin < budget * min(4.0, load * outcome.slowness)
    finally:
        members = _tree(process.pid)  # the kernel leads a session of its own: ending papermill's is not enough
        for member in members:
            with suppress(psutil.Error):
                member.kill()
        psutil.wait_procs(members, timeout=10)
        process.wait()
    outcome.seconds = round(time.monotonic() - begin, 1)
    return in_time


def _slowness() -> float:
    """How many times as long as on the machine of `BUDGETS` a fixed piece of work takes, at least 1 (best of ten)."""

    def once() -> float:
        begin = time.process_time()
        sum(i * i for i in range(500_000))
        return time.process_time() - begin

    return max(1.0, min(once() for _ in range(10)) / WORK)


def _still(executed: Path) -> None:
    """Take the widgets' states out: a page made of the notebook then shows the still forms, and needs no network."""
    if executed.is_file():
        notebook = json.loads(executed.read_text())
        if notebook["metadata"].pop("widgets", None):
            executed.write_text(json.dumps(notebook, indent=1) + "\n")


def _judge(outcome: Outcome, executed: Path, log: Path, in_time: bool) -> None:
    """Read the executed notebook: what it recorded, and the first reason that it can't count as passed.

    papermill's own word is not enough: it calls cells completed that a dead kernel never saw, and passes errors in
    cells with the tag `raises-exception`.
    """
    cells = json.loads(executed.read_text())["cells"] if executed.is_file() else []
    cells = [cell for cell in cells if "papermill-error-cell-tag" not in cell["metadata"].get("tags", [])]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    bundles = [output["data"] for output in outputs if "data" in output]
    outcome.run = next((bundle[RUN] for bundle in bundles if RUN in bundle), {})
    outcome.metrics = [bundle[METRIC] for bundle in bundles if METRIC in bundle]
    errors = [f"{out['ename']}: {out['evalue']}" for out in outputs if out["output_type"] == "error"]
    code = [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    halts = [cell for cell in code if not cell["execution_count"] or any("ename" in out for out in cell["outputs"])]
    where = (
        f"in cell {cells.index(halts[0])} `{''.join(halts[0]['source']).splitlines()[0]}`" if halts else "at its end"
    )
    last = log.read_text(errors="replace").strip().splitlines()[-1:]
    if not in_time:
        outcome.reason = f"over its budget after {outcome.seconds:.0f} s, {where}"
    elif errors:
        outcome.reason = f"{errors[0]} ({where})"
    elif not code or halts:
        outcome.reason = f"stopped {where}, before or while it ran: {' '.join(last)}"
    elif not outcome.metrics or not outcome.run:
        outcome.reason = "no metric was recorded: call thlib.course.start and run.metric"
    else:
        outcome.status = "passed"


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    env = {**os.environ, **OFFLINE, **extra}
    mirror = env.get("THLIB_MIRROR", "")
    return env | ({"THLIB_MIRROR": os.path.abspath(mirror)} if os.path.isdir(mirror) else {})


def _witnessed(env: dict[str, str], log: Path) -> dict[str, str]:
    """An environment in which what is opened to be seen or heard is written into `log` (tools/witness)."""
    log.write_text("")
    folders = [str(Path(env.get("THLIB_CACHE") or data.cache()).expanduser().absolute() / "thlib-downloads")]
    folders += [env["THLIB_MIRROR"]] if os.path.isdir(env.get("THLIB_MIRROR", "")) else []
    path = os.pathsep.join(filter(None, [str(WITNESS), env.get("PYTHONPATH", "")]))
    told = {"THLIB_WITNESS": str(log), "THLIB_WITNESSED": os.pathsep.join(folders), "THLIB_SINCE": str(time.time())}
    return env | told | {"PYTHONPATH": path}


def named(log: Path, folders: list[str]) -> list[str]:
    """What a witness wrote down: "set/file" where a manifest knows the content (all that do), else the path.

    Unknown files are left out where they came with Python or its packages, and lie in none of the `folders` of data.
    """
    known, names = {}, set()
    for entry in (f"{name}/{file}" for name in data.names() for file in data.manifest(name).files):
        known.setdefault(data.manifest(entry.partition("/")[0]).files[entry.partition("/")[2]].sha256, []).append(entry)
    installed = (os.path.realpath(sys.prefix) + os.sep, os.path.realpath(sys.base_prefix) + os.sep)
    for file in map(Path, sorted(set(log.read_text(encoding="utf-8").splitlines()))):
        entries = known.get(data.sha256(file), []) if file.is_file() else []
        foreign = str(file).startswith(installed) and not any(file.is_relative_to(os.path.realpath(f)) for f in folders)
        names |= set(entries) if entries else set() if foreign else {str(file)}
    return sorted(names)


def _parameters(notebook: Path) -> set[str]:
    """The names assigned in the cell tagged `parameters` (papermill itself only warns of one that is not there)."""
    cells = json.loads(notebook.read_text())["cells"]
    tagged = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    nodes = [node for source in tagged[:1] for node in ast.walk(ast.parse(source))]
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


@lru_cache(maxsize=1)
def _cut_off() -> tuple[str, ...]:
    """The command that goes before another to run it with no network but loopback; () where the system can't."""
    prefix = ("unshare", "-rn", sys.executable, "-c", _LOOPBACK)
    able = shutil.which("unshare") and subprocess.run([*prefix, "true"], capture_output=True).returncode == 0
    return prefix if able else ()


def _tree(pid: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        return [*root.children(recursive=True), root]
    return []


def _resident(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return process.memory_info().rss
    return 0
