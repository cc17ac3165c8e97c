"""Every exercise: its solution passes its check, its stub counts as unanswered, and planted wrong answers are rejected.

python tests/test_checks.py notebooks/01_landmarks.ipynb     what is wrong with the exercises of one notebook
"""

import ast
import importlib.util
import inspect
import linecache
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
import build_course
import exercises as judge
import matplotlib
import pytest
from conftest import ROOT, require

from thlib import course, data

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
KINDS = ("exercise", "solution", "check")


@dataclass(frozen=True)
class Exercise:
    """An exercise of a notebook: the texts of its cells, and the prelude that they may rely on."""

    notebook: str
    key: str  # of the check, without the notebook's number
    name: str  # of the variable that holds the answer
    stub: str
    solution: str
    prelude: str
    needs: tuple[str, ...]


def cells(notebook: Path) -> list[tuple[str, set[str]]]:
    """The text and tags of the code cells."""
    found = build_course.read(notebook)["cells"]
    return [("".join(c["source"]), build_course.tags(c)) for c in found if c["cell_type"] == "code"]


def called(text: str) -> tuple[str, str, str] | None:
    """Number, key and variable of a cell `ear = course.check("01.ear", ear)`; None if it is another."""
    match ast.parse(text).body:
        case [ast.Assign([ast.Name(name)], ast.Call(function, [ast.Constant(str(full)), ast.Name(given)], []))]:
            if ast.unparse(function) == "course.check" and name == given:
                return (*full.split(".", 1), name) if "." in full else None
    return None


def exercises(notebook: Path) -> tuple[list[Exercise], list[str]]:
    """The exercises of a notebook, and what hinders finding them."""
    code, found, told = cells(notebook), [], []
    prelude = "\n".join([text for text, _ in code[:1]] + [_without_start(text) for text, _ in code[1:2]])
    for k, (text, tags) in enumerate(code):
        expected = ["exercise", "solution", "check"] if "exercise" in tags else []
        group = code[k : k + 3]
        if expected and [sorted(t & set(KINDS)) for _, t in group] != [[kind] for kind in expected]:
            told.append(f"the exercise `{_top(text)}` is not followed by its solution and its check")
        elif expected and not (call := called(group[2][0])):
            told.append(f"`{_top(group[2][0])}` is not `name = course.check('NN.key', name)` and nothing else")
        elif expected and call[0] != notebook.name[:2]:
            told.append(f"check {call[0]}.{call[1]} belongs to another notebook")
        elif expected:
            needs = {n for t, _ in group if t.startswith("# needs:") for n in _top(t).split()[2:]}
            stub, solution = text, group[1][0]
            found.append(Exercise(notebook.stem, *call[1:], stub, solution, prelude, tuple(sorted(needs))))
        for kind, back in (("solution", 1), ("check", 2)):
            if kind in tags and "exercise" not in (code[k - back][1] if k >= back else set()):
                told.append(f"the {kind} `{_top(text)}` has no exercise before it")
    return found, told


def _top(text: str) -> str:
    return (text.splitlines() or [""])[0]


def _without_start(text: str) -> str:
    """The import cell without course.start: a test needs neither its table nor its settings."""
    tree = ast.parse(text)
    tree.body = [node for node in tree.body if "course.start(" not in ast.unparse(node)]
    return ast.unparse(tree)


def planted(number: str, folder: Path = ROOT / "tests" / "wrong") -> dict[str, list]:
    """The planted wrong answers of a notebook by check."""
    if not (file := folder / f"{number}.py").is_file():
        return {}
    spec = importlib.util.spec_from_file_location(f"wrong_{number}", file)
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module.WRONG


def structure(notebook: Path, wrong: dict[str, list]) -> list[str]:
    """Exercises without check, stub or solution; checks without exercise or wrong answers; stubs that are no stubs."""
    found, told = exercises(notebook)
    number = notebook.name[:2]
    known = course.checks(number) if found or (course.CHECKS / f"{number}.py").is_file() else {}
    used = [exercise.key for exercise in found]
    told += [f"{number}.{key} is checked by two exercises" for key in {k for k in used if used.count(k) > 1}]
    told += [f"{number}.{key} is not in notebooks/checks/{number}.py" for key in used if key not in known]
    for key, check in known.items():
        told += [f"{number}.{key} is the check of no exercise"] * (key not in used)
        told += [f"{number}.{key} has no wrong answer in tests/wrong/{number}.py"] * (not wrong.get(key))
        told += [f"{number}.{key} has no hint"] * (not check.hint.strip())
    told += [f"tests/wrong/{number}.py answers {key}, which no check asks" for key in wrong if key not in known]
    for exercise in found:
        told += [f"{number}.{exercise.key}: {fault}" for fault in differs(exercise.stub, exercise.solution)]
    return told


def is_blank(node: ast.AST) -> bool:
    """Whether a node of a stub is `...`, as an expression or a statement."""
    node = node.value if isinstance(node, ast.Expr) else node
    return isinstance(node, ast.Constant) and node.value is ...


def differs(stub: str, solution: str) -> list[str]:
    """Where a stub is more or less than its solution minus blanks, [] if it is just that."""
    mine, whole = ast.parse(stub), ast.parse(solution)
    if not fits(mine, whole):
        return ["the stub is not its solution with `...` in some places"]
    return ["the stub has no blank"] if fits(whole, mine) else []


def fits(stub: object, solution: object) -> bool:
    """Whether a part of a stub is that of the solution; a blank stands for an expression, or for statements."""
    if isinstance(stub, ast.expr) and isinstance(solution, ast.expr) and is_blank(stub):
        return True
    if isinstance(stub, list) and isinstance(solution, list):
        if not stub or not solution:
            return stub == solution
        if isinstance(stub[0], ast.Expr) and is_blank(stub[0]):
            return any(fits(stub[1:], solution[n:]) for n in range(1, len(solution) + 1))
        return fits(stub[0], solution[0]) and fits(stub[1:], solution[1:])
    if isinstance(stub, ast.AST) and type(stub) is type(solution):
        return all(fits(getattr(stub, field, None), getattr(solution, field, None)) for field in stub._fields)
    return type(stub) is type(solution) and stub == solution


def answer(exercise: Exercise, text: str) -> object:
    """What the variable of an exercise is after the import cell and the given cell, run alone."""
    space = {"__name__": "notebook"}
    with matplotlib.rc_context():
        for part, source in (("prelude", exercise.prelude), (f"{exercise.key} {hash(text)}", text)):
            file = f"<{exercise.notebook} {part}>"
            linecache.cache[file] = (len(source), None, source.splitlines(True), file)  # for inspect.getsource
            exec(compile(source, file, "exec"), space)
    return space[exercise.name]


def verdicts(exercise: Exercise, check: course.Check, wrong: list) -> list[str]:
    """What its check says wrongly: of the solution, of the stub, of the library's answer, of the wrong ones."""
    told, given = [], [("solution", exercise.solution, judge.PASSED), ("stub", exercise.stub, judge.OPEN)]
    for what, text, right in given:
        try:
            verdict, why = judge.judged(check, answer(exercise, text))
        except Exception as error:
            verdict, why = "no verdict", f"run alone it stops with {type(error).__name__}: {error}"
        told += [f"its {what} is {verdict!r}, not {right!r}: {why}"] * (verdict != right)
    verdict, why = judge.judged(check, check.library)
    told += [f"the library's answer is {verdict!r}: {why}"] * (verdict != judge.PASSED)
    reasons = [judge.judged(check, one) for one in wrong]
    told += [f"wrong answer {k} is {verdict!r}" for k, (verdict, _) in enumerate(reasons) if verdict != judge.WRONG]
    if not any(verdict == judge.WRONG and not why.startswith("it stopped with") for verdict, why in reasons):
        told.append("no wrong answer is told by the judge itself: all of them stop it")
    return told


def lacking(exercise: Exercise) -> list[str]:
    return data.missing(*exercise.needs)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_exercise_is_whole(notebook):
    told = structure(notebook, planted(notebook.name[:2]))
    assert not told, "\n".join([f"{notebook.name}:", *told])
    assert exercises(notebook)[0], f"{notebook.name} has no exercise"


ALL = [exercise for notebook in NOTEBOOKS for exercise in exercises(notebook)[0]]


@pytest.mark.parametrize("exercise", ALL, ids=lambda exercise: f"{exercise.notebook[:2]}.{exercise.key}")
def test_a_check_tells_right_from_wrong(exercise):
    require("mirror", not lacking(exercise), f"{exercise.key} needs {', '.join(lacking(exercise))}")
    number = exercise.notebook[:2]
    told = verdicts(exercise, course.checks(number)[exercise.key], planted(number)[exercise.key])
    assert not told, "\n".join(told)


CHECKS = """
from thlib.course import Check
def judge(f):
    return "" if f(2, 3) == 5 else f"for 2 and 3 you give {f(2, 3)}; their sum is 5"
CHECKS = {"add": Check(judge, library=lambda a, b: b + a, hint="What is the sign of a sum?")}
"""
STUB, SOLUTION = "def add(a, b):\n    c = ...\n    return c", "def add(a, b):\n    c = a + b\n    return c"
CHECK = "add = course.check('07.add', add)"
WRONG = {"add": [lambda a, b: a - b, lambda a, b: a[0]]}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A function that writes notebook 07 with one exercise, whose cells and checks may be replaced; its path."""

    def write(stub=STUB, solution=SOLUTION, check=CHECK, checks=CHECKS, imports="import numpy as np"):
        given = [("PROFILE = 'smoke'", "parameters"), (f"{imports}\nrun = course.start(PROFILE, 0, 'cpu')", "")]
        given += [(text, tag) for text, tag in zip((stub, solution, check), KINDS) if text]
        build_course.write(
            tmp_path / "07_tiny.ipynb",
            {
                "metadata": {},
                "cells": [{"cell_type": "code", "source": t, "metadata": {"tags": tag.split()}} for t, tag in given],
            },
        )
        (tmp_path / "07.py").write_text(checks)
        course._loaded.cache_clear()
        return tmp_path / "07_tiny.ipynb"

    monkeypatch.setattr(course, "CHECKS", tmp_path)
    yield write
    course._loaded.cache_clear()


def faults(notebook: Path, wrong: dict[str, list] = WRONG) -> list[str]:
    """All that is wrong with the exercises of a notebook."""
    known = course.checks(notebook.name[:2])
    answers = [e for e in exercises(notebook)[0] if e.key in known]
    return structure(notebook, wrong) + [f for e in answers for f in verdicts(e, known[e.key], wrong.get(e.key, []))]


def test_a_whole_exercise_is_not_reported(tiny):
    assert faults(tiny()) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"stub": ""}, "the solution `def add(a, b):` has no exercise before it"),
        ({"solution": ""}, "is not followed by its solution and its check"),
        ({"check": ""}, "is not followed by its solution and its check"),
        ({"check": "print(course.check('07.add', add))"}, "and nothing else"),
        ({"check": "add = course.check('06.add', add)"}, "belongs to another notebook"),
        ({"check": "add = course.check('07.sum', add)"}, "07.sum is not in notebooks/checks/07.py"),
        ({"check": "add = course.check('07.sum', add)"}, "07.add is the check of no exercise"),
        ({"checks": CHECKS.replace("What is the sign of a sum?", "")}, "has no hint"),
        ({"stub": STUB.replace("return c", "return a")}, "not its solution with `...`"),
        ({"stub": SOLUTION}, "the stub has no blank"),
        ({"stub": SOLUTION}, "its stub is 'passed', not 'not answered yet'"),
        ({"stub": f"{STUB}\nadd(1, 2) + 1", "solution": f"{SOLUTION}\nadd(1, 2) + 1"}, "it stops with TypeError"),
        ({"solution": SOLUTION.replace("+", "-")}, "its solution is 'not right yet', not 'passed': for 2 and 3"),
        ({"solution": SOLUTION.replace("a + b", "helper(a, b)")}, "'helper' is not defined"),
        ({"checks": CHECKS.replace("b + a", "b - a")}, "the library's answer is 'not right yet'"),
        ({"checks": CHECKS.replace("== 5", "in (5, -1)")}, "wrong answer 0 is 'passed'"),
    ],
)
def test_a_breach_is_seen(tiny, change, told):
    assert any(told in fault for fault in faults(tiny(**change))), faults(tiny(**change))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({}, "07.add has no wrong answer in tests/wrong/07.py"),
        ({"add": []}, "07.add has no wrong answer in tests/wrong/07.py"),
        ({"add": [lambda a, b: b + a]}, "wrong answer 0 is 'passed'"),
        ({"add": [None]}, "wrong answer 0 is 'not answered yet'"),
        ({"add": [lambda a: a]}, "all of them stop it"),
        ({**WRONG, "sub": [1]}, "answers sub, which no check asks"),
    ],
)
def test_wrong_answers_that_prove_nothing_are_seen(tiny, wrong, told):
    assert any(told in fault for fault in faults(tiny(), wrong)), faults(tiny(), wrong)


@pytest.mark.parametrize(
    ("stub", "fit"),
    [
        ("x = a[..., 0]\ny = x + 1", True),  # no blank, and equal
        ("...\ny = x + 1", True),
        ("x = ...\ny = x + ...", True),
        ("...", True),
        ("...\n...", True),
        ("x = a[..., 0]\ny = x + 1\n...", False),  # a blank stands for something
        ("x = a[..., 1]\ny = ...", False),
        ("x = ...", False),
        ("z = ...\ny = x + 1", False),
        ("x = a[..., 0]\ny = x + True", False),
    ],
)
def test_a_stub_is_its_solution_minus_blanks(stub, fit):
    assert fits(ast.parse(stub), ast.parse("x = a[..., 0]\ny = x + 1")) == fit


def test_the_prelude_is_the_import_cell_without_its_start(tiny):
    (exercise,), _ = exercises(tiny(imports="import numpy as np\nk = 3"))
    assert exercise.prelude == "PROFILE = 'smoke'\nimport numpy as np\nk = 3"


def test_what_an_exercise_needs_is_read_from_all_of_its_cells(tiny):
    (exercise,), _ = exercises(tiny(stub=f"# needs: a b/c\n{STUB}", check=f"# needs: d\n{CHECK}"))
    assert exercise.needs == ("a", "b/c", "d")


def test_the_text_of_a_solution_is_there_for_its_judge(tiny):
    (exercise,), _ = exercises(tiny())
    assert inspect.getsource(answer(exercise, exercise.stub)).startswith("def add(a, b):\n    c = ...")


if __name__ == "__main__":
    for given in map(Path, sys.argv[1:]):
        wrong = planted(given.name[:2])
        print(*(structure(given, wrong) or ["every exercise is whole"]), sep="\n")
        for exercise in exercises(given)[0]:
            if exercise.key in (known := course.checks(given.name[:2])):
                told = verdicts(exercise, known[exercise.key], wrong.get(exercise.key, []))
                told = [f"not run, for want of {lacking(exercise)}"] if lacking(exercise) else told
                print(*(f"{exercise.key}: {fault}" for fault in told or ["well"]), sep="\n")
