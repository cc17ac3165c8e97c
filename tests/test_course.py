"""What a notebook sees: seeds, devices, metrics that say something, errors that are taught."""

import numpy as np
import pytest

from thlib import course
from thlib.errors import CourseError, EditError


def test_start_seeds_everything_and_refuses_what_is_not_there():
    import random

    import numpy as np
    import torch

    draws = []
    for _ in range(2):
        run = course.start("smoke", 7, "cpu")
        draws.append((random.random(), np.random.rand(), torch.rand(()).item()))  # noqa: NPY002
    torch.use_deterministic_algorithms(False)
    assert draws[0] == draws[1]
    assert run.device == "cpu"
    with pytest.raises(CourseError, match="PROFILE is 'fast'"):
        course.start("fast", 0, "cpu")
    with pytest.raises(CourseError, match="DEVICE is 'tpu'"):
        course.start("smoke", 0, "tpu")


@pytest.mark.parametrize(("value", "better"), [(float("nan"), "lower"), (float("inf"), "lower"), (1.0, "smaller")])
def test_a_metric_that_says_nothing_is_refused(value, better):
    with pytest.raises(CourseError):
        course.Run("smoke", 0, "cpu").metric("error", value, "px", better=better)


def test_expect_error_wants_the_error():
    with course.expect_error(EditError):
        raise EditError("shown, not raised")
    with pytest.raises(CourseError, match="raised nothing"), course.expect_error(EditError):
        pass
    with pytest.raises(ValueError, match="another"), course.expect_error(EditError):
        raise ValueError("another")


def test_a_metric_is_a_line_and_a_row(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    course.Run("smoke", 0, "cpu").metric("error", 0.25, "px", better="lower", next_best=0.5)
    row = {"name": "error", "value": 0.25, "unit": "px", "better": "lower", "next_best": 0.5, "needs": ""}
    assert repr(shown[0]) == "error: 0.25 px (lower is better)"
    assert shown[0]._repr_mimebundle_() == {"text/plain": repr(shown[0]), course.METRIC: row}


def test_a_cell_whose_data_are_missing_is_passed_over_with_a_word(monkeypatch, tmp_path):
    from IPython.core.interactiveshell import InteractiveShell

    monkeypatch.setenv("THLIB_CACHE", str(tmp_path))
    monkeypatch.setenv("THLIB_MIRROR", str(tmp_path / "mirror"))
    (tmp_path / "mirror" / "grid-s1").mkdir(parents=True)
    (tmp_path / "mirror" / "grid-s1" / "bbaf4p.mpg").touch()
    shell = InteractiveShell.instance()
    try:
        for _ in range(2):
            course.start("smoke", 0, "cpu")
        shell.run_cell("# needs: grid-s1/bbaf4p.mpg\nhere = 1")
        shell.run_cell("# needs: grid-s1/bbaf4p.mpg portraits\naway = 1")
        shell.run_cell("# needs nothing\nfree = 1")
        assert {name: name in shell.user_ns for name in ("here", "away", "free")} == {"here": 1, "away": 0, "free": 1}
        assert shell.transform_cell("# needs: portraits\nx = 1").count("thlib data fetch portraits") == 1
        assert len([step for step in shell.input_transformers_post if step is course._passed_over]) == 1
    finally:
        InteractiveShell.clear_instance()


@pytest.fixture
def exercise(monkeypatch, tmp_path):
    """A function that writes a notebook's checks and returns the texts that `check` and `progress` then show."""
    shown = []
    monkeypatch.setattr(course, "CHECKS", tmp_path)
    monkeypatch.setattr("IPython.display.display", shown.append)
    course._loaded.cache_clear()
    (tmp_path / "07.py").write_text(
        "from thlib.course import Check\nSQUARE = lambda x: x * x\n"
        "def judge(f):\n    return '' if f(2) == 4 else f'for 2 you give {f(2)}; the square is 4'\n"
        "CHECKS = {'square': Check(judge, library=SQUARE, hint='Multiply it by itself.'),\n"
        "          'choice': Check(lambda v: '' if v['a'] == 'ours' else 'no', library={'a': 'ours'}, hint='')}\n"
    )
    yield shown
    course._loaded.cache_clear()


def blank_expression(x):
    return x * ...


def blank_statement(x):
    ...
    return x


class BlankMethod:
    def forward(self, x):
        return ...


def sliced(x):
    return x**2 if np.ones((2, 2))[..., 0].all() else None


def stumbles(x):
    return [x][3]


@pytest.mark.parametrize("blank", [None, ..., blank_expression, blank_statement, BlankMethod, {"a": ...}, [1, None]])
def test_a_blank_is_an_open_exercise_and_the_notebook_goes_on(exercise, blank):
    assert course.check("07.square", blank) is course.checks("07")["square"].library
    assert "07.square: not answered yet" in exercise[0]


def test_a_right_answer_comes_back_and_a_wrong_one_is_told(exercise):
    assert course.check("07.square", sliced) is sliced
    assert exercise[-1] == "✓ 07.square: passed"
    assert course.check("07.square", lambda x: x + 1) is course.checks("07")["square"].library
    assert "✗ 07.square: not right yet: for 2 you give 3; the square is 4\n" in exercise[-1]
    assert exercise[-1]._repr_mimebundle_()[course.CHECK]["verdict"] == "not right yet"


def test_the_hint_comes_with_the_third_wrong_answer_and_a_blank_is_none(exercise):
    for answer in (..., lambda x: x + 1, ..., lambda x: x + 3, lambda x: 3 * x, lambda x: x - 1):
        course.check("07.square", answer)
    until, hint = "Until then the notebook goes on with the library's answer.", "Hint: Multiply it by itself."
    two, one = "Two more tries, then a hint.", "One more try, then a hint."
    assert [text.splitlines()[1] for text in exercise] == [until, two, until, one, hint, hint]
    assert not any("Multiply" in text for text in exercise[:4])


def test_the_library_s_answer_is_nobody_s_answer(exercise):
    square = course.check("07.square", lambda x: x + 1)
    assert course.check("07.square", square) is square  # only the check's cell is run again
    assert "not answered yet: run the cell with your answer" in exercise[-1]


def test_what_an_answer_raises_is_a_sentence_with_its_line(exercise):
    assert course.check("07.square", stumbles) is course.checks("07")["square"].library
    assert "IndexError: list index out of range (in your line `return [x][3]`)" in exercise[-1]
    assert course.check("07.square", 4) is course.checks("07")["square"].library
    assert "TypeError: 'int' object is not callable" in exercise[-1]
    assert course.check("07.choice", {}) == {"a": "ours"}
    assert "KeyError: 'a'" in exercise[-1]


def test_strict_runs_raise_for_all_but_passed(exercise, monkeypatch):
    monkeypatch.setenv("THLIB_STRICT", "1")
    assert course.check("07.square", sliced) is sliced
    with pytest.raises(CourseError, match="07.square is not answered yet: fill in its blanks"):
        course.check("07.square", ...)
    with pytest.raises(CourseError, match="not right yet: for 2 you give 3"):
        course.check("07.square", lambda x: x + 1)


def test_the_progress_table_has_every_exercise_of_the_notebook(exercise):
    for answer in (..., lambda x: x + 1, sliced):
        course.check("07.square", answer)
    course.progress()
    lines = [line.split() for line in exercise[-1].splitlines()]
    assert " ".join(lines[0]) == "1 of 2 exercises passed"
    assert lines[2:] == [["07.square", "passed", "2"], ["07.choice", "not", "answered", "yet", "0"]]
    html = exercise[-1]._repr_mimebundle_()["text/html"]
    assert "<tr><th>exercise<th>verdict<th>answers<tr><td>07.square<td>passed<td>2<tr>" in html


def test_an_unknown_check_is_refused(exercise):
    with pytest.raises(CourseError, match=r"no check '07.cube': choose from 07.square, 07.choice"):
        course.check("07.cube", 1)
    with pytest.raises(CourseError, match="need a clone"):
        course.check("08.square", 1)
