"""What a notebook sees: `start` begins a run, `Run.metric` records a number, `check` answers an exercise.

Metrics and verdicts are outputs of MIME types of their own, so the executed notebook carries them."""

import importlib.util
import os
import platform
import random
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from IPython import display, get_ipython

import thlib
from thlib import data
from thlib.errors import CourseError

PROFILES = ("smoke", "laptop", "gpu")
RUN, METRIC, CHECK = (f"application/vnd.thlib.{kind}+json" for kind in ("run", "metric", "check"))
CHECKS, EXERCISES = (Path(__file__).resolve().parents[1] / file for file in ("notebooks/checks", "tools/exercises.py"))


class Run(namedtuple("Run", "profile seed device")):
    """A notebook's run. device: "cpu" or "cuda", as torch takes it."""

    def metric(
        self, name: str, value: float, unit: str, *, better: str, next_best: float | None = None, needs: str = ""
    ) -> None:
        """Record a number: a line on the page, and an output that the runner compares with its baseline.
        better: "lower" or "higher"; next_best: the nearest rival's value in the notebook's own table, which must stay
        distinguishable; needs: a data set or "set/file" without which this metric may be missing. CourseError if a
        value is not finite or `better` is neither.
        >>> run.metric("lip error of the edit", 0.031, "face scales", better="lower", next_best=0.048)"""
        if better not in ("lower", "higher"):
            raise CourseError(f"better={better!r} says nothing of metric {name!r}: give 'lower' or 'higher'")
        numbers = [float(v) for v in (value, next_best) if v is not None]
        if not np.isfinite(numbers).all():
            raise CourseError(f"metric {name!r} is {numbers}, not finite: find the cell that made it so")
        row = {"name": name, "value": numbers[0], "unit": unit, "better": better, "needs": needs}
        row["next_best"] = (numbers + [None])[1]
        if self.device == "cuda":
            import torch

            row["gpu_mb"] = torch.cuda.max_memory_allocated() / 1e6
        tell(f"{name}: {numbers[0]:.4g} {unit} ({better} is better)", METRIC, row=row)


def start(profile: str, seed: int, device: str) -> Run:
    """Begin a notebook: seed everything, ask for deterministic algorithms, show device, versions, data and weights.
    device: "cpu", "cuda", or "auto" for the quickest at hand. CourseError for what is not there. From here on a cell
    that begins with `# needs: grid-s1/bbaf4p.mpg portraits` is passed over, with a word, where these data are missing.
    >>> run = thlib.course.start(PROFILE, SEED, DEVICE)"""
    import torch

    if profile not in PROFILES:
        raise CourseError(f"PROFILE is {profile!r}: set it to one of {', '.join(PROFILES)}")
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if chosen not in ("cpu", "cuda") or (chosen == "cuda" and not torch.cuda.is_available()):
        raise CourseError(f"DEVICE is {device!r}, which this machine lacks: set it to 'auto' or 'cpu'")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (for libraries that still draw from the global generator)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    name = torch.cuda.get_device_name() if chosen == "cuda" else f"{platform.machine()} × {os.cpu_count()} cores"
    versions = {"python": platform.python_version()} | {m.__name__: m.__version__ for m in (thlib, torch, np)}
    found = [name for name in data.names() if (places := data.status(name)) and "absent" not in places.values()]
    folder = Path(__file__).parent / "weights"
    weights = [str(file.parent.relative_to(folder)) for file in folder.rglob("*.safetensors")]
    lines = [f"{profile} · seed {seed} · {chosen} ({name})", " · ".join(f"{k} {v}" for k, v in versions.items())]
    lines += [f"data: {', '.join(found) or 'none'}", f"weights: {', '.join(sorted(weights)) or 'none'}"]
    if shell := get_ipython():
        old = [step for step in shell.input_transformers_post if getattr(step, "__name__", "") != _passed_over.__name__]
        shell.input_transformers_post = [*old, _passed_over]
    row = {"profile": profile, "seed": seed, "device": chosen, "device_name": name, "versions": versions}
    tell("\n".join(lines), RUN, row=row)
    return Run(profile, seed, chosen)


def _passed_over(lines: list[str]) -> list[str]:
    """The lines of a cell, or, where the first says "# needs:" data that are missing, one that says how to get them."""
    needs = lines[0].removeprefix("# needs:").split() if lines and lines[0].startswith("# needs:") else []
    if not (lacking := data.missing(*needs)):
        return lines
    told = f"This cell is passed over, for its data are not here: thlib data fetch {' '.join(lacking)}"
    return [f"print({told!r})\n"]


@contextmanager
def expect_error(kind: type[Exception]) -> Iterator[None]:
    """Show the error that this block teaches; CourseError if the block does not raise it.
    >>> with expect_error(thlib.errors.EditError):
    ...     editor(video, words, "")"""
    try:
        yield
    except kind as error:
        tell(f"{type(error).__name__}: {error}")
    else:
        raise CourseError(f"the block was to raise {kind.__name__} and raised nothing: what it teaches is gone")


class Check(namedtuple("Check", "judge library hint")):
    """How an exercise is answered: notebooks/checks/NN.py has `CHECKS`, a dict of these by name.
    judge: takes the answer; "" if it is right, else a sentence that says what is wrong. library: what the notebook
    goes on with as long as it is not right. hint: told from the third answer on."""


def check(name: str, answer: Any) -> Any:
    """Show whether an answer is right, and return it if it is, else the library's: the notebook goes on either way.
    name: "01.ear" is the check `ear` of notebook 01. A blank (`...`, None) counts as not answered. CourseError for an
    unknown name, and where the environment has THLIB_STRICT=1, for every answer that is not right.
    >>> ear = course.check("01.ear", ear)"""
    return _loaded(EXERCISES).check(name, answer)


def progress() -> None:
    """Show a table of this notebook's exercises: their verdicts, and how often each was answered."""
    _loaded(EXERCISES).progress()


def choices(right: dict[str, str], *, hint: str) -> Check:
    """The check of an exercise that gives each key of `right` one of the values there, as "known" or "ours"."""

    def judge(answer: dict[str, str]) -> str:
        wrong = [choice for choice, kind in right.items() if answer.get(choice) != kind]
        return f"look again at {wrong[0]!r}: you say {answer.get(wrong[0])!r}" if wrong else ""

    return Check(judge, right, hint)


def checks(number: str) -> dict[str, Check]:
    """The checks of notebook `number` ("01") by name. CourseError where they are not: outside a clone."""
    return _loaded(CHECKS / f"{number}.py").CHECKS


@cache
def _loaded(file: Path):
    """A module of a clone: exercises and their checks are not in a wheel."""
    if not file.is_file():
        raise CourseError(f"there is no {file}: the exercises need a clone of the repository (make setup)")
    spec = importlib.util.spec_from_file_location(f"of_clone_{file.stem}", file)
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module


class _Note(str):
    """A text that displays itself with a `bundle` of machine-readable MIME types."""

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return {"text/plain": str(self)} | self.bundle

    __repr__ = str.__str__


def tell(text: str, mime: str = "", *, row: Any = None) -> None:
    """Show a text, and give the notebook `row` with it as an output of the MIME type `mime`."""
    note = _Note(text)
    note.bundle = {mime: row} if mime else {}
    display.display(note)
