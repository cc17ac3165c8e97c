"""Wrong answers to the exercises of notebook 05: each a plausible mistake that its check must reject."""

import numpy as np
import torch

from thlib import warp


def looked(frame, flow, *, sign=1, swapped=False, nearest=False, wrap=False):
    height, width = frame.shape[:2]
    y, x = np.mgrid[:height, :width]
    x, y = x + sign * flow[..., int(swapped)], y + sign * flow[..., 1 - swapped]
    if wrap:
        x, y = x % (width - 1), y % (height - 1)
    x, y = x.clip(0, width - 1), y.clip(0, height - 1)
    if nearest:
        return frame[np.rint(y).astype(int), np.rint(x).astype(int)]
    x0, y0 = x.astype(int).clip(max=width - 2), y.astype(int).clip(max=height - 2)
    right, low = (x - x0)[..., None], (y - y0)[..., None]
    upper = (1 - right) * frame[y0, x0] + right * frame[y0, x0 + 1]
    lower = (1 - right) * frame[y0 + 1, x0] + right * frame[y0 + 1, x0 + 1]
    return (1 - low) * upper + low * lower


def shares_exchanged(frame, flow):  # the nearer row gets the smaller share
    height, width = frame.shape[:2]
    y, x = np.mgrid[:height, :width]
    x, y = (x + flow[..., 0]).clip(0, width - 1), (y + flow[..., 1]).clip(0, height - 1)
    x0, y0 = x.astype(int).clip(max=width - 2), y.astype(int).clip(max=height - 2)
    right, low = (x - x0)[..., None], (y - y0)[..., None]
    upper = (1 - right) * frame[y0, x0] + right * frame[y0, x0 + 1]
    lower = (1 - right) * frame[y0 + 1, x0] + right * frame[y0 + 1, x0 + 1]
    return low * upper + (1 - low) * lower


def bent(points, values, query, stiffness=0.0, *, phi=None, plane=True):
    phi = phi or (lambda r: r**2 * np.log(r.clip(1e-12)))

    def bumps(at):
        return phi(np.linalg.norm(at[:, None] - points, axis=-1))

    def flat(at):
        return np.column_stack([np.ones(len(at)), at])

    n, zeros = len(points), np.zeros((3, 3 + values.shape[1]))
    system = np.block([[bumps(points) + stiffness * np.eye(n), flat(points)], [flat(points).T, zeros[:, :3]]])
    weights = np.linalg.solve(system, np.concatenate([values, zeros[:, 3:]]))
    return bumps(query) @ weights[:n] + plane * flat(query) @ weights[n:]


def flowed(nails, values, size):
    edge = warp.border_points(size)
    spline = warp.ThinPlateSpline(torch.from_numpy(np.concatenate([nails, edge])))
    y, x = np.mgrid[: size[0], : size[1]]
    centres = torch.from_numpy(np.stack([x, y], -1).reshape(-1, 2) + 0.5)
    return spline.apply(torch.from_numpy(np.concatenate([values, 0 * edge])), centres).numpy().reshape(*size, 2)


def between(ends, points, target, u, order, move, *, mix=None, at=None, last=None):
    mix, at = u if mix is None else mix, u if at is None else at
    middle = (1 - at) * points[0] + at * points[1]
    goal = target if order == "warp_blend" else middle
    first, second = (move(frame, of, goal) for frame, of in zip(ends, points))
    mixed = (1 - mix) * first + mix * second
    if order == "warp_blend" or last == "none":
        return mixed
    return move(mixed, points[0] if last == "first" else middle, target)


def stretched(flow, *, one=1, crossed=False, inverse=True, sign=1):
    right, down = np.gradient(flow, axis=1), np.gradient(flow, axis=0)
    right, down = (down, right) if crossed else (right, down)
    area = (one + right[..., 0]) * (one + down[..., 1]) - sign * right[..., 1] * down[..., 0]
    return 1 / area.clip(0.01) if inverse else area


RIGHT = {
    "first in-between frames, then the warp": "known",
    "a thin-plate spline makes the flow": "ours",
    "a ring around the face follows the skull": "ours",
    "the interpolator is of the kind of FILM or RIFE": "inferred",
}

WRONG = {
    "look_up": [
        lambda frame, flow: looked(frame, flow, sign=-1),
        lambda frame, flow: looked(frame, flow, swapped=True),
        lambda frame, flow: looked(frame, flow, nearest=True),
        lambda frame, flow: looked(frame, flow, wrap=True),
        shares_exchanged,
    ],
    "spline": [
        lambda *given: bent(*given, phi=lambda r: r**2 * np.log((r**2).clip(1e-12)) / 2 + r**3),
        lambda *given: bent(*given, phi=lambda r: r**3),
        lambda *given: bent(*given, phi=lambda r: np.log(r.clip(1e-12))),
        lambda *given: bent(*given, plane=False),
        lambda points, values, query, stiffness=0.0: bent(points, values, query),
        lambda *given: bent(*given)[:, ::-1],
    ],
    "flow_of": [
        lambda here, there, size: flowed(here, there - here, size),
        lambda here, there, size: flowed(there, there - here, size),
        lambda here, there, size: flowed(here, here - there, size),
        lambda here, there, size: flowed(there, here, size),
    ],
    "in_between": [
        lambda *given: between(*given, mix=1 - given[3]),
        lambda *given: between(*given, at=1 - given[3]),
        lambda *given: between(*given, at=0.5),
        lambda *given: between(*given, last="none"),
        lambda *given: between(*given, last="first"),
    ],
    "stretch": [
        lambda flow: stretched(flow, one=0),
        lambda flow: stretched(flow, crossed=True),
        lambda flow: stretched(flow, inverse=False),
        lambda flow: stretched(flow, sign=-1),
        lambda flow: stretched(flow, sign=0),
    ],
    "whose": [
        RIGHT | {"a thin-plate spline makes the flow": "known"},
        RIGHT | {"the interpolator is of the kind of FILM or RIFE": "known"},
    ],
}
