"""Plausible wrong answers to the exercises of notebook 01: each must be rejected."""

from functools import partial

import numpy as np
from scipy.signal import savgol_filter

from thlib import landmarks


def rotation(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def upside_down(x, y, side, angle, pixels):
    a = pixels / side * rotation(angle)
    return np.column_stack([a, (x, y) - a @ (pixels / 2, pixels / 2)])


def from_the_corner(x, y, side, angle, pixels):
    return np.column_stack([side / pixels * rotation(angle), (x, y)])


def shifted_unturned(x, y, side, angle, pixels):
    return np.column_stack([side / pixels * rotation(angle), np.array([x, y]) - side / 2])


def turned_back(x, y, side, angle, pixels):
    a = side / pixels * rotation(-angle)
    return np.column_stack([a, (x, y) - a @ (pixels / 2, pixels / 2)])


def umeyama(scale, shift):
    """Exercise 2 with other lines for scale and shift."""

    def similarity(q, p):
        q0, p0 = q - q.mean(0), p - p.mean(0)
        u, d, vt = np.linalg.svd(p0.T @ q0)
        sign = np.array([1, 1, np.linalg.det(u @ vt)])
        s = scale(q0, p0, d, sign)
        return u * sign @ vt, s, shift(q, p, s, u * sign @ vt)

    return similarity


def right_scale(q0, p0, d, sign):
    return (d * sign).sum() / (q0**2).sum()


def right_shift(q, p, s, r):
    return p.mean(0) - s * r @ q.mean(0)


def shut_frames(curve, below=0.21, frames=3):
    return int((curve < below).sum() >= frames)


def runs_of_any_length(curve, below=0.21, frames=3):
    return int((np.diff(np.concatenate([[0], curve < below, [0]])) == 1).sum())


def longer_than(curve, below=0.21, frames=3):
    step = np.diff(np.concatenate([[0], curve < below, [0]]))
    return int((np.flatnonzero(step == -1) - np.flatnonzero(step == 1) > frames).sum())


def lengths(curve, below=0.21, frames=3):
    step = np.diff(np.concatenate([[0], curve < below, [0]]))
    return np.flatnonzero(step == -1) - np.flatnonzero(step == 1) >= frames


def filtered(points, frames, *, face=lambda head, points: head.fix(points), parts="rst", unfix=True):
    """Exercise 4 with another face, or fewer parts of the head that pass the filter."""
    head = landmarks.Head.fit(points)
    values = {"r": head.rotation, "s": head.scale, "t": head.shift}
    calm = {k: savgol_filter(v, frames, 2, axis=0) if k in parts else v for k, v in values.items()}
    u, _, vt = np.linalg.svd(calm["r"])
    found = face(head, points)
    return landmarks.Head(u @ vt, calm["s"], calm["t"]).unfix(found) if unfix else found


def in_another_order(points, frames, *, order):
    """Exercise 4 with the similarity's arrays in another order."""
    head = landmarks.Head.fit(points)
    values = {"r": head.rotation, "s": head.scale, "t": head.shift}
    r, s, t = (savgol_filter(values[k], frames, 2, axis=0) for k in order)
    u, _, vt = np.linalg.svd(r)
    return landmarks.Head(u @ vt, s, t).unfix(head.fix(points))


def fixed_by_the_calm_head(points, frames):
    calm = landmarks.Head.fit(points).smoothed(frames)
    return calm.unfix(calm.fix(points))


def kinds(*values):
    return dict(
        zip(
            (
                "the box is the mean of neighbouring anchors, weighted by score",
                "rotation, scale and shift by a singular value decomposition",
                "smooth the head's similarity, never the lips",
                "fill five frames at most, and mark them",
            ),
            values,
        )
    )


WRONG = {
    "crop_map": [
        upside_down,
        from_the_corner,
        shifted_unturned,
        turned_back,
        lambda *given: np.eye(2),
        lambda x, y, side, angle, pixels: x.mean(),
    ],
    "similarity": [
        umeyama(lambda q0, p0, d, sign: d.sum() / (q0**2).sum(), right_shift),
        umeyama(lambda q0, p0, d, sign: np.sqrt((p0**2).sum() / (q0**2).sum()), right_shift),
        umeyama(lambda q0, p0, d, sign: d * sign / (q0**2).sum(), right_shift),
        umeyama(right_scale, lambda q, p, s, r: p.mean(0) - q.mean(0)),
        umeyama(right_scale, lambda q, p, s, r: p.mean(0) - r @ q.mean(0)),
        umeyama(right_scale, lambda q, p, s, r: p.mean(0)),
    ],
    "count_blinks": [shut_frames, runs_of_any_length, longer_than, lengths],
    "head_only": [
        lambda points, frames: savgol_filter(points, frames, 2, axis=0),
        lambda points, frames: points,
        lambda points, frames: filtered(points, frames, face=lambda head, points: points),
        lambda points, frames: filtered(points, frames, unfix=False),
        lambda points, frames: filtered(points, frames, parts="t"),
        fixed_by_the_calm_head,
        *(partial(in_another_order, order=order) for order in ("srt", "rts", "trs", "str")),
        lambda points, frames: filtered(
            points, frames, face=lambda head, points: savgol_filter(head.fix(points), frames, 2, axis=0)
        ),
    ],
    "kinds": [
        kinds("ours", "known", "ours", "ours"),
        kinds("known", "known", "known", "ours"),
        kinds("known", "known", "ours", "our own"),
        {"smooth the head's similarity, never the lips": "ours"},
    ],
}
