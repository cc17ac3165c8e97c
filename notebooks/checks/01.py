"""The checks of notebook 01: each tries an answer on small cases of its own, and knows one that is right."""

import numpy as np
from scipy.spatial.transform import Rotation

from thlib.course import Check, choices
from thlib.landmarks import Head, mouth_opening, neutral

KINDS = {
    "the box is the mean of neighbouring anchors, weighted by score": "known",
    "rotation, scale and shift by a singular value decomposition": "known",
    "smooth the head's similarity, never the lips": "ours",
    "fill five frames at most, and mark them": "ours",
}


def crop_map(x, y, side, angle, pixels):
    """The map of exercise 1, by the place of three points of the crop."""
    along, down = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    corner = np.array([x, y]) - side / 2 * (along + down)
    return np.column_stack([side / pixels * along, side / pixels * down, corner])


def judge_crop_map(answer) -> str:
    """Size of a crop's pixel, place of its middle, tilt."""
    for case in ((30, 40, 6, 0.5, 256), (200, 90, 100, -0.3, 128), (64, 64, 128, 0, 128)):
        (x, y, side, angle, pixels), call = case, f"crop_map{case}"
        given = np.asarray(answer(*case), float)
        if given.shape != (2, 3):
            return f"{call} has shape {given.shape}, not (2, 3): A is 2 × 2, and b has 2 numbers"
        wide, middle = np.hypot(*given[:, 0]), given @ (pixels / 2, pixels / 2, 1)
        if not np.isclose(wide, side / pixels):
            true = side / pixels
            return f"{call}: {pixels} crop pixels cover {side} of the frame, so one covers {true:.4g}, not {wide:.4g}"
        if not np.allclose(middle, (x, y)):
            return f"{call}: the crop's middle lands on ({middle[0]:.4g}, {middle[1]:.4g}), not on ({x}, {y})"
        if not np.allclose(given, crop_map(*case)):
            return f"{call}: size and middle are right, but the square is not turned by {angle}"
    return ""


def similarity(q, p):
    """The similarity of exercise 2, by Umeyama's formulas."""
    q0, p0 = q - q.mean(0), p - p.mean(0)
    u, d, vt = np.linalg.svd(p0.T @ q0)
    sign = np.array([1, 1, np.linalg.det(u @ vt)])
    rotation, scale = u * sign @ vt, (d * sign).sum() / (q0**2).sum()
    return rotation, scale, p.mean(0) - scale * rotation @ q.mean(0)


def judge_similarity(answer) -> str:
    """Exact points, trembling points, and mirrored points."""
    rng = np.random.default_rng(0)
    q, turn = rng.normal(size=(20, 3)) + (3, 1, 2), Rotation.from_euler("YXZ", [30, -10, 20], degrees=True)
    p = 80 * turn.apply(q) + (200, 150, 10)
    rotation, scale, shift = answer(q, p)
    if np.shape(scale) != () or np.shape(shift) != (3,):
        return f"the scale has shape {np.shape(scale)} and the shift {np.shape(shift)}: they should be () and (3,)"
    if not np.isclose(scale, 80):
        return f"for points that were made 80 times as large your scale is {scale:.4g}"
    if not np.allclose(rotation, turn.as_matrix()):
        return "for points that were only turned and enlarged your rotation is another: leave that line as it was"
    if not np.allclose(shift, (200, 150, 10)):
        return f"for points that were turned, enlarged, then moved by (200, 150, 10) your shift is {np.round(shift, 1)}"
    noisy = p + rng.normal(0, 30, p.shape)
    if not np.isclose(answer(q, noisy)[1], best := similarity(q, noisy)[1]):
        return f"for points that also tremble the best scale is {best:.2f}, and yours {answer(q, noisy)[1]:.2f}"
    if not np.isclose(answer(q, -p)[1], best := similarity(q, -p)[1]):
        return f"for mirrored points the last strength counts less than nothing: {best:.2f}, not {answer(q, -p)[1]:.2f}"
    return ""


def count_blinks(curve, below=0.21, frames=3):
    """The blinks of exercise 3, frame by frame."""
    count, run = 0, 0
    for value in [*curve, np.inf]:
        count, run = count + (run >= frames and value >= below), run + 1 if value < below else 0
    return int(count)


def judge_count_blinks(answer) -> str:
    """Runs that are long enough, too short, at the ends, none."""
    o, c = 0.3, 0.1
    cases = {
        "one blink of three frames": [o, c, c, c, o],
        "a run of two frames, which is no blink yet": [o, c, c, o, o],
        "one long blink": [o, c, c, c, c, c, c, o],
        "two blinks and a flicker": [o, c, c, c, o, c, o, c, c, c, c, o],
        "an eye that stays open": [o, o, o, o],
        "a blink that lasts to the last frame": [o, o, c, c, c],
    }
    for name, curve in cases.items():
        given, true = answer(np.array(curve)), count_blinks(curve)
        if np.shape(given) != () or given != true:
            return f"{name}, {curve}, should count as {true}; you give {given}"
    if (given := answer(np.array([o, c, c, o, c, o]), frames=2)) != 1:
        return f"with frames=2 a run of two counts and a single frame does not: 1, and you give {given}"
    return ""


def head_only(points, frames):
    """The filter of exercise 4, by the library's Head."""
    head = Head.fit(points)
    return head.smoothed(frames).unfix(head.fix(points))


def judge_head_only(answer) -> str:
    """A head that nods and trembles, with lips that open and close in two frames."""
    rng, time = np.random.default_rng(0), np.arange(60)
    face = np.tile(neutral(), (60, 1, 1))
    face[:, 14, 1] += 0.1 * (time % 5 < 2)
    angles = np.stack([10 * np.sin(time / 10), 5 * np.cos(time / 9), time / 10], 1) + rng.normal(0, 0.5, (60, 3))
    turn = Rotation.from_euler("YXZ", angles, degrees=True).as_matrix()
    shift = rng.normal(0, 0.5, (60, 3)) + (200, 150, 0)
    points = Head(turn, 100 + rng.normal(0, 0.5, 60), shift).unfix(face)
    try:
        given, best = np.asarray(answer(points.copy(), 7)), head_only(points, 7)
    except (np.linalg.LinAlgError, ValueError) as error:
        told = f"{type(error).__name__}: {error}"
        return f"the order of R, s, t is rotation, scale, shift: is yours another? It stopped with {told}"
    if given.shape != points.shape:
        return f"{points.shape} come back as {given.shape}; R, s, t have the order: rotation, scale, shift"
    if np.allclose(given, points, atol=0.01):
        return "the points come back as they were: did you fix with the calm head? Use the old one"
    if np.abs(given).max() < 5:
        return "the points come back in eye-corner units, not in pixels: the calm head has to unfix them"
    if not 50 < given.mean() < 400:
        where = f"{given.mean():.0f} pixels and were at {points.mean():.0f}"
        return f"the points come back at {where}: unfix wants a face in eye-corner units, not pixels"
    lips = np.abs(mouth_opening(given) - mouth_opening(points)).max()
    if lips > 0.002:
        return f"the opening of the lips has changed by up to {100 * lips:.1f} % of the eye corners: it should stay"
    bend = [np.abs(np.diff(p[:, 6], n=2, axis=0)).mean() for p in (given, points, best)]
    if bend[0] > 1.2 * bend[2]:
        return "the nose bends by {:.2f} pixels a frame: {:.2f} before any filter, and it can be {:.2f}".format(*bend)
    return (
        "" if np.allclose(given, best, atol=0.05) else "lips and nose are right, but the head is not where it should be"
    )


CHECKS = {
    "crop_map": Check(
        judge_crop_map,
        library=crop_map,
        hint="A scales by side / pixels; b puts the crop's middle, not its corner, on (x, y).",
    ),
    "similarity": Check(
        judge_similarity,
        library=similarity,
        hint="scale: (d * sign).sum() over the sum of q0**2; shift: p.mean(0) less scale * rotation @ q.mean(0).",
    ),
    "count_blinks": Check(
        judge_count_blinks,
        library=count_blinks,
        hint="A run begins where step is 1 and has ended where it is -1; ends minus beginnings are the lengths.",
    ),
    "head_only": Check(
        judge_head_only,
        library=head_only,
        hint="Filter rotation, scale and shift of head; give the calm head the face that head.fix(points) finds.",
    ),
    "kinds": choices(KINDS, hint="Whose name would you cite for it? Without one, it is ours."),
}
