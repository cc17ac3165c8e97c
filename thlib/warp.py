"""Warping pictures by landmarks: thin-plate splines (Bookstein 1989), dense backward warps, in-betweening.

A thin-plate spline is the smoothest map that takes N source points to N targets (least bending energy):
`f(p) = a0 + A p + sum_i w_i phi(|p - c_i|)`, `phi(r) = r^2 log r`, weights and affine part from one linear system.
Pictures are warped *backwards*: for every pixel of the result the spline says where in the source to look.
Pixel i covers [i, i+1), so its centre lies at i + 0.5."""

# N control points  M query points  D value dimensions  K sets of values  H height  W width
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from thlib.landmarks import BROWS, EYES, LIPS, NAMED, OVAL, Head, neutral

Array = np.ndarray
FACE = np.unique(np.concatenate([LIPS, OVAL, *EYES, *BROWS, NAMED["filling"]]))  # the landmarks that carry a warp
STIFFNESS = 0.015  # smoothing of the spline over the squared face scale: it leaves out the tracker's trembling
RING = 1.2  # a ring around the face that follows the skull: the jaw moves, hair and collar don't


def _phi(squared: torch.Tensor) -> torch.Tensor:
    # r^2 log r from r^2; the clamp keeps value and gradient 0 at r = 0.
    return 0.5 * squared * torch.log(squared.clamp_min(1e-30))


def _pairwise(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    # Squared distances (..., M, N) of (..., M, 2) and (..., N, 2); not by matrix products, which round near 0.
    return sum((a[..., :, None, i] - b[..., None, :, i]) ** 2 for i in (0, 1))


class ThinPlateSpline:
    """Thin-plate spline on fixed source points: factorised once, applied to any values, differentiable throughout.
    source     float (..., N, 2), N >= 3, not all on one line; leading axes are batches.
    smoothing  0 interpolates; larger values bend less and miss the targets (added to the kernel's diagonal, in the
               squared unit of `source`, as in `scipy.interpolate.RBFInterpolator`).
    >>> spline = ThinPlateSpline(points)              # (N, 2)
    >>> spline.apply(targets, grid)                   # (N, D), (M, 2) -> (M, D)
    Raises ValueError for another shape. Source: Bookstein 1989; Wahba 1990 for the smoothing."""

    def __init__(self, source: torch.Tensor, *, smoothing: float = 0.0):
        if source.ndim < 2 or source.shape[-1] != 2 or source.shape[-2] < 3:
            raise ValueError(f"source has shape {tuple(source.shape)}; a spline needs (..., N, 2) with N >= 3.")
        # Centred and scaled to about [-1, 1], which keeps the system well conditioned and changes nothing else.
        self.centre = source.mean(-2, keepdim=True)
        self.scale = (source - self.centre).abs().amax((-2, -1), keepdim=True)
        self.points = (source - self.centre) / self.scale  # (..., N, 2)
        eye = torch.eye(source.shape[-2], dtype=source.dtype, device=source.device)
        kernel = _phi(_pairwise(self.points, self.points)) + smoothing / self.scale**2 * eye
        affine = F.pad(self.points, (1, 0), value=1)  # (..., N, 3)
        top = torch.cat([kernel, affine], -1)
        bottom = torch.cat([affine.mT, affine.new_zeros((*affine.shape[:-2], 3, 3))], -1)
        self.matrix = torch.cat([top, bottom], -2)  # (..., N+3, N+3)
        self._lu = torch.linalg.lu_factor(self.matrix)

    def apply(self, target: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """Values (..., M, D) at `query` (..., M, 2), in its precision, of the spline to `target` (..., N, D)."""
        weights = torch.linalg.lu_solve(*self._lu, torch.cat([target, torch.zeros_like(target[..., :3, :])], -2))
        weights, points = weights.to(query.dtype), self.points.to(query.dtype)  # (..., N+3, D), (..., N, 2)
        n = points.shape[-2]
        query = (query - self.centre.to(query.dtype)) / self.scale.to(query.dtype)
        affine = F.pad(query, (1, 0), value=1)
        return _phi(_pairwise(query, points)) @ weights[..., :n, :] + affine @ weights[..., n:, :]


def border_points(size: tuple[int, int], *, per_side: int = 4) -> Array:
    """Evenly spaced points on the edge of a picture of `size` (H, W): float64 (4 * per_side, 2) as x, y."""
    t = np.arange(per_side) / per_side
    sides = [(t, 0 * t), (0 * t + 1, t), (1 - t, 0 * t + 1), (0 * t, 1 - t)]
    return np.concatenate([np.stack(side, -1) for side in sides]) * np.array(size[::-1], float)


def dense_flow(source: Array, values: Array, *, box: tuple, step: int = 4, smoothing: float = 0) -> Array:
    """Spline through `values` (N, D) at `source` (N, 2), at every pixel centre of `box`: float32 (H, W, D).
    box   (x0, y0, x1, y1) in whole pixels.
    step  the spline is evaluated every `step` pixels and interpolated bilinearly in between (1: everywhere); the
          error is at most step^2 / 4 times the spline's largest second derivative."""
    x0, y0, x1, y1 = box
    width, height = x1 - x0, y1 - y0
    xs = x0 + (torch.arange(-(-width // step) + 2, dtype=torch.float32) - 0.5) * step  # centres of step x step cells,
    ys = y0 + (torch.arange(-(-height // step) + 2, dtype=torch.float32) - 0.5) * step  # one more cell on each side
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1).reshape(-1, 2)
    spline = ThinPlateSpline(torch.as_tensor(source, dtype=torch.float64), smoothing=smoothing)
    target = torch.as_tensor(values, dtype=torch.float64)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # parts are small: on a busy machine two threads wait for each other, fifty times as long
    try:
        flow = torch.cat([spline.apply(target, part) for part in grid.split(2048)])  # parts that stay in the cache
    finally:
        torch.set_num_threads(threads)
    flow = cv2.resize(flow.numpy().reshape(len(ys), len(xs), -1), None, fx=step, fy=step)  # bilinearly
    return flow.reshape(*flow.shape[:2], -1)[step : step + height, step : step + width]


def sample(frame: Array, flow: Array, *, box: tuple) -> Array:
    """The picture `frame` (H, W, C) looked up at every pixel centre of `box` displaced by `flow` (h, w, 2): (h, w, C).
    Bicubic; outside of the frame its edge goes on. Zero flow gives the frame's own pixels, exactly."""
    x = np.arange(box[0], box[2], dtype=np.float32) + flow[..., 0]
    y = np.arange(box[1], box[3], dtype=np.float32)[:, None] + flow[..., 1]
    return cv2.remap(frame, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def warp_frame(frame: Array, from_points: Array, *, to_points: Array, step: int = 4) -> Array:
    """The picture with what lies at `from_points` (N, 2+) moved to `to_points` (N, 2+), pixels: same shape and type.
    Points on the frame's edge are held fixed. Equal points give the frame back, exactly."""
    return _warps([frame], [from_points], to_points, step=step)[0]


def interpolate(
    frame_a: Array, frame_b: Array, *, points_a: Array, points_b: Array, u: float, target: Array | None = None
) -> Array:
    """The picture a share `u` in [0, 1] of the way from `frame_a` to `frame_b`, uint8 (H, W, 3): both warped to the
    landmarks (N, 2+) interpolated at u, or to `target`, and dissolved. Without a target u = 0 and 1 give the ends."""
    if target is None:
        target = (1 - u) * np.asarray(points_a, np.float64) + u * np.asarray(points_b, np.float64)
    a, b = _warps([frame_a, frame_b], [points_a, points_b], target)
    return np.rint((1 - u) * a.astype(np.float32) + u * b.astype(np.float32)).astype(frame_a.dtype)


def _warps(frames: list, points: list, target: Array, *, step: int = 4) -> list:
    # One spline on the target's points serves all the frames: the displacements are its values side by side.
    edge, box = border_points(frames[0].shape[:2]), (0, 0, *frames[0].shape[1::-1])
    target, *points = (np.concatenate([np.asarray(p, np.float64)[:, :2], edge]) for p in (target, *points))
    moves = np.concatenate([p - target for p in points], axis=1)  # (N + edge, 2K)
    flow = dense_flow(target, moves, box=box, step=step)
    return [sample(frame, flow[..., 2 * k : 2 * k + 2], box=box) for k, frame in enumerate(frames)]


def control_points(points: Array) -> Array:
    """Where the spline holds a face: landmarks (T, 478, 3) -> (T, P, 2), FACE and a ring fixed to the skull."""
    head = Head.fit(points)
    ring = neutral()[OVAL[::3]] * [RING, RING, 1]
    ring = head.unfix(np.broadcast_to(ring, (len(points), *ring.shape)))
    return np.concatenate([points[:, FACE, :2], ring[..., :2]], axis=1)


def face_flows(target: Array, sources: Sequence, *, box: tuple, scale: float, stiffness: float = STIFFNESS) -> list:
    """Flows (h, w, 2) into pictures with control points `sources`, all by one spline on the target's (P, 2)."""
    values = np.concatenate([source - target for source in sources], axis=1)  # (P, 2K)
    flow = dense_flow(target, values, box=box, step=max(2, round(scale / 16)), smoothing=stiffness * scale**2)
    return [flow[..., 2 * k : 2 * k + 2] for k in range(len(sources))]


def surroundings(controls: Array, reach: float) -> tuple[tuple, Array]:
    """The box (x0, y0, x1, y1) of control points (T, P, 2) and `reach` pixels around, and points on its edge."""
    low, high = np.floor(controls.min((0, 1)) - reach), np.ceil(controls.max((0, 1)) + reach)
    return (*low.astype(int).tolist(), *high.astype(int).tolist()), low + border_points((1, 1)) * (high - low)


def clipped(box: tuple, size: tuple[int, int]) -> tuple:
    """The part of `box` (x0, y0, x1, y1) that lies inside a frame of `size` (H, W)."""
    return max(box[0], 0), max(box[1], 0), min(box[2], size[1]), min(box[3], size[0])


def cut_of(box: tuple, of: tuple) -> tuple[slice, slice]:
    """Rows and columns of `box` in an array whose first pixel is the first of the box `of`."""
    return slice(box[1] - of[1], box[3] - of[1]), slice(box[0] - of[0], box[2] - of[0])


def fade_out(box: tuple, width: float) -> Array:
    """Weights float32 (h, w, 1) that fall to 0 over `width` pixels towards the edge of `box`."""
    x, y = (np.minimum(np.arange(n) + 0.5, np.arange(n)[::-1] + 0.5) for n in (box[2] - box[0], box[3] - box[1]))
    return (np.minimum(x, y[:, None]) / width).clip(max=1).astype(np.float32)[..., None]
