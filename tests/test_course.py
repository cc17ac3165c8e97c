"""What a notebook sees: seeds, devices, metrics that say something, errors that are taught."""

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
