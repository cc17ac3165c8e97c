"""Answers to the exercises of notebook 05, judged."""

import numpy as np
import torch

from thlib import warp
from thlib.course import Check, choices


def _look_up(frame: np.ndarray, flow: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    y, x = np.mgrid[:height, :width]
    x, y = (x + flow[..., 0]).clip(0, width - 1), (y + flow[..., 1]).clip(0, height - 1)
    made = np.zeros(frame.shape)
    for row, share in ((np.floor(y), 1 - y % 1), (np.ceil(y), y % 1)):
        for column, part in ((np.floor(x), 1 - x % 1), (np.ceil(x), x % 1)):
            made += (share * part)[..., None] * frame[row.astype(int), column.astype(int)]
    return made


def judge_look_up(look_up) -> str:
    dice = np.random.default_rng(0)
    frame, flow = dice.integers(0, 256, (6, 8, 3)).astype(np.uint8), np.zeros((6, 8, 2))
    if not np.allclose(look_up(frame, flow), frame):
        return "with a flow of zero everywhere the frame must come back, and yours does not"
    moved = np.asarray(look_up(frame, flow + (2, 0)), float)
    if np.allclose(moved[1, 3], frame[1, 1]):
        return "with a flow of (2, 0) the pixel in row 1, column 3 looks at column 1; flow is where to look: column 5"
    if np.allclose(moved[1, 3], frame[3, 3]):
        return "with a flow of (2, 0) you look two rows down; [..., 0] is x, two columns to the right"
    if not np.allclose(moved, _look_up(frame, flow + (2, 0))):
        return "with a flow of (2, 0) the pixel in row 1, column 3 is that of row 1, column 5; yours is another"
    for step, name in (((0.25, 0), "right"), ((0, 0.75), "down"), ((0.3, -0.6), "right and up")):
        made, right = np.asarray(look_up(frame, flow + step), float), _look_up(frame, flow + step)
        if not np.allclose(made, right):
            what = f"with a flow of {step} ({name}) the red of row 2, column 3 is"
            return f"{what} {right[2, 3, 0]:.2f}; you give {made[2, 3, 0]:.2f}"
    flow = dice.normal(0, 3, (6, 8, 2))
    made, right = np.asarray(look_up(frame, flow), float), _look_up(frame, flow)
    return "" if np.allclose(made, right) else "past the edge of the frame yours differs; there the edge goes on"


def _spline(points: np.ndarray, values: np.ndarray, query: np.ndarray, stiffness: float = 0.0) -> np.ndarray:
    found = warp.ThinPlateSpline(torch.from_numpy(points), smoothing=stiffness)
    return found.apply(torch.from_numpy(values), torch.from_numpy(query)).numpy()


def judge_spline(spline) -> str:
    dice = np.random.default_rng(1)
    nails, values, places = dice.random((9, 2)), dice.normal(size=(9, 2)), dice.random((7, 2))
    made = np.asarray(spline(nails, values, places))
    if made.shape != (7, 2):
        return f"for 9 nails, values (9, 2) and 7 places the answer has the shape {made.shape}, not (7, 2)"
    if not np.allclose(spline(nails, nails + 3, places), places + 3, atol=1e-6):
        return "nails that are all shifted by 3 must shift every place by 3: is the plane in your sum?"
    at = np.asarray(spline(nails, values, nails))
    if not np.allclose(at, values, atol=1e-6):
        return f"the first nail's value is {values[0].round(3)}; at that nail you give {at[0].round(3)}"
    right = _spline(nails, values, places)
    if not np.allclose(made, right, atol=1e-6):
        return f"all nails are hit, but between them the sheet is another: {right[0].round(3)}, not {made[0].round(3)}"
    made, right = np.asarray(spline(nails, values, places, 0.1)), _spline(nails, values, places, 0.1)
    return "" if np.allclose(made, right, atol=1e-6) else "with a stiffness of 0.1 the sheet is another"


def _flow_of(from_points: np.ndarray, to_points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    edge = warp.border_points(size)
    nails, values = np.concatenate([to_points, edge]), np.concatenate([from_points - to_points, 0 * edge])
    return warp.dense_flow(nails, values, box=(0, 0, *size[::-1]), step=1)


def judge_flow_of(flow_of) -> str:
    here, there = np.array([[8.5, 6.5], [14.5, 9.5]]), np.array([[11.5, 6.5], [14.5, 9.5]])
    made, right = np.asarray(flow_of(here, there, (16, 24))), _flow_of(here, there, (16, 24))
    if made.shape != (16, 24, 2):
        return f"for a picture of 16 rows and 24 columns the flow has the shape {made.shape}, not (16, 24, 2)"
    at, was = made[6, 11].round(2), made[6, 8].round(2)
    told = "a point goes from column 8 to column 11. In column 11 of the result one must look at column 8: the flow is"
    if np.allclose(was, (3, 0), atol=1e-3):
        return f"{told} (-3, 0) there; yours is (3, 0) in column 8, where the point was, and leads the other way"
    if np.allclose(at, (3, 0), atol=1e-3):
        return f"{told} (-3, 0) there, and yours is (3, 0): it leads the other way"
    if np.allclose(was, (-3, 0), atol=1e-3):
        return f"{told} (-3, 0) there; yours is so in column 8, where the point was: the nails stand where it shall be"
    if not np.allclose(made[6, 11], (-3, 0), atol=1e-3):
        return f"{told} (-3, 0) there; yours is ({at[0]:g}, {at[1]:g})"
    if not np.allclose(made, right, atol=1e-3):
        return "it is right at the points, but not around them: do the edge's points stand still?"
    return ""


def _in_between(ends, points, target, u, order, move):
    if order == "warp_blend":
        return (1 - u) * move(ends[0], points[0], target) + u * move(ends[1], points[1], target)
    middle = (1 - u) * points[0] + u * points[1]
    mixed = (1 - u) * move(ends[0], points[0], middle) + u * move(ends[1], points[1], middle)
    return move(mixed, middle, target)


def judge_in_between(in_between) -> str:
    ends, points = (np.zeros(3), np.full(3, 20.0)), (np.zeros((2, 2)), np.full((2, 2), 4.0))
    target = np.full((2, 2), 3.0)
    for order in ("warp_blend", "interpolate_warp"):
        calls = []

        def move(frame, of, to, calls=calls):  # a toy: halves a picture, and adds how far its points go
            calls.append((np.asarray(of, float), np.asarray(to, float)))
            return np.asarray(frame, float) / 2 + (np.asarray(to, float) - of).mean()

        made, right = np.asarray(in_between(ends, points, target, 0.25, order, move)), None
        given, calls[:] = list(calls), []
        right = _in_between(ends, points, target, 0.25, order, move)
        if order == "interpolate_warp" and len(given) != 3:
            return f"{order} moves three times, both ends and then the mixture; yours moves {len(given)} times"
        for k, ((of, to), (right_of, right_to)) in enumerate(zip(given, calls)):
            which = ("the first end", "the second end", "the mixture")[k]
            if not (np.allclose(of, right_of) and np.allclose(to, right_to)):
                way = f"from points at {right_of[0, 0]:g} to {right_to[0, 0]:g}"
                return f"u = 0.25, {order}: {which} is moved {way}; you move it from {of[0, 0]:g} to {to[0, 0]:g}"
        if not np.allclose(made, right):
            return f"u = 0.25, {order}: mixed three to one; you give {made.flat[0]:g} instead of {right[0]:g}"
    return ""


def _stretch(flow: np.ndarray) -> np.ndarray:
    right, down = np.gradient(flow, axis=1), np.gradient(flow, axis=0)
    area = (1 + right[..., 0]) * (1 + down[..., 1]) - right[..., 1] * down[..., 0]
    return 1 / area.clip(0.01)


def judge_stretch(stretch) -> str:
    y, x = np.mgrid[:7, :9].astype(float)
    at = np.stack([x, y], -1)
    cases = {
        "a flow of zero": np.eye(2),
        "a zoom by 2": np.eye(2) / 2,
        "a zoom by 2 across and 4 down": np.diag([0.5, 0.25]),
        "a turn by 37 degrees": np.array([[0.8, -0.6], [0.6, 0.8]]),
        "a shear": np.array([[1, 0.7], [0, 1]]),
        "a turn with a zoom by 2": np.array([[0.4, -0.3], [0.3, 0.4]]),
    }
    for name, matrix in cases.items():
        right, made = 1 / np.linalg.det(matrix), np.asarray(stretch(at @ matrix.T - at))
        if made.shape != (7, 9):
            return f"for a flow of shape (7, 9, 2) the stretch has the shape {made.shape}, not (7, 9)"
        if not np.allclose(made, right):
            return f"{name} has the stretch {right:g} everywhere; you give {made[3, 4]:.3g}"
    flow = np.random.default_rng(2).normal(0, 0.1, (7, 9, 2))
    return (
        ""
        if np.allclose(stretch(flow), _stretch(flow))
        else "where the flow differs from place to place yours is wrong"
    )


WHOSE = {
    "first in-between frames, then the warp": "known",
    "a thin-plate spline makes the flow": "ours",
    "a ring around the face follows the skull": "ours",
    "the interpolator is of the kind of FILM or RIFE": "inferred",
}


CHECKS = {
    "look_up": Check(
        judge_look_up, library=_look_up, hint="x + flow[..., 0], y + flow[..., 1]; (1 − low) · upper + low · lower."
    ),
    "spline": Check(
        judge_spline, library=_spline, hint="r**2 * np.log(r.clip(1e-12)); bumps(query) @ weights[:n] + flat(query) @ …"
    ),
    "flow_of": Check(judge_flow_of, library=_flow_of, hint="nails at to_points, their values from_points − to_points."),
    "in_between": Check(
        judge_in_between, library=_in_between, hint="(1 − u) · first + u · second; then move(mixed, middle, target)."
    ),
    "stretch": Check(
        judge_stretch, library=_stretch, hint="sides (1 + right x, right y), (down x, 1 + down y); area a · d − b · c."
    ),
    "whose": choices(WHOSE, hint="the table above carries the tags; what the paper does not tell is ours."),
}
