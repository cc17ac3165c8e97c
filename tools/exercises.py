"""How a notebook's exercises are answered: the verdict on an answer, the words that go with it, and the table of all.

`thlib.course.check` and `progress` come here; a wheel has neither notebooks nor checks."""

import ast
import inspect
import os
import textwrap
import traceback
from html import escape
from typing import Any

from thlib import course
from thlib.errors import CourseError

PASSED, WRONG, OPEN = "passed", "not right yet", "not answered yet"
tried: dict[str, tuple[str, int]] = {}  # check -> its last verdict and the number of answers, of this session


def check(name: str, answer: Any) -> Any:
    """What `thlib.course.check` does: show the verdict, return the answer if it is right, else the library's."""
    number, _, key = name.partition(".")
    known = course.checks(number)
    if key not in known:
        raise CourseError(f"there is no check {name!r}: choose from {', '.join(f'{number}.{key}' for key in known)}")
    verdict, told = judged(known[key], answer)
    if answer is known[key].library and not isinstance(answer, str | float | int):  # of an earlier call
        verdict, told = OPEN, "run the cell with your answer, then this one"
    tried[name] = (verdict, tries := tried.get(name, ("", 0))[1] + (verdict != OPEN))
    text = f"{'✓✗…'[(PASSED, WRONG, OPEN).index(verdict)]} {name}: {verdict}" + f": {told}" * bool(told)
    hint = {1: "Two more tries, then a hint.", 2: "One more try, then a hint."}.get(tries, f"Hint: {known[key].hint}")
    text += f"\n{hint}" * (verdict == WRONG)
    text += "" if verdict == PASSED else "\nUntil then the notebook goes on with the library's answer."
    course.tell(text, course.CHECK, row={"name": name, "verdict": verdict, "told": told})
    if verdict != PASSED and os.environ.get("THLIB_STRICT") == "1":
        raise CourseError(f"{name} is {verdict}: {told or 'fill in its blanks'}")
    return answer if verdict == PASSED else known[key].library


def progress() -> None:
    """What `thlib.course.progress` does: show the table of verdicts."""
    numbers = sorted({name.partition(".")[0] for name in tried})
    names = [f"{number}.{key}" for number in numbers for key in course.checks(number)]
    rows = [("exercise", "verdict", "answers"), *((n, *map(str, tried.get(n, (OPEN, 0)))) for n in names)]
    told = f"{sum(verdict == PASSED for _, verdict, _ in rows)} of {len(names)} exercises passed"
    cells = ["".join(f"<t{'hd'[k > 0]}>{escape(value)}" for value in row) for k, row in enumerate(rows)]
    html = f"<table><caption>{told}</caption><tr>{'<tr>'.join(cells)}</table>"
    course.tell("\n".join([told, *(f"{a:24} {b:18} {c}" for a, b, c in rows)]), "text/html", row=html)


def judged(exercise: course.Check, answer: Any) -> tuple[str, str]:
    """The verdict on an answer, and what is wrong with it; whatever the answer raises is told in a sentence."""
    if _has_blank(answer):
        return OPEN, ""
    try:
        told = exercise.judge(answer)
    except Exception as error:  # of a student's code: anything
        told = f"it stopped with {type(error).__name__}: {' '.join(str(error).split())}"
        files = {function.__code__.co_filename for function in _functions(answer)}
        lines = [f.line for f in traceback.extract_tb(error.__traceback__) if f.filename in files and f.line]
        told += f" (in your line `{lines[-1]}`)" if lines else ""
    return (WRONG, told) if told else (PASSED, "")


def _functions(answer: Any) -> list[Any]:
    found = vars(answer).values() if inspect.isclass(answer) else [answer]
    return [value for value in found if inspect.isfunction(value)]


def _has_blank(answer: Any) -> bool:
    """Whether a value is or holds None or `...`, or a function's text does (`x[..., 0]` is no blank)."""
    if isinstance(answer, dict | list | tuple):
        return any(map(_has_blank, answer.values() if isinstance(answer, dict) else answer))
    for function in _functions(answer):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        except (OSError, SyntaxError):  # no text, or a lambda in the middle of a line
            continue
        meant = {id(e) for n in ast.walk(tree) if isinstance(n, ast.Subscript) for e in getattr(n.slice, "elts", [])}
        if any(getattr(n, "value", 0) is ... and id(n) not in meant for n in ast.walk(tree)):
            return True
    return answer is None or answer is ...
