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
