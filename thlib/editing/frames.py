"""Stage 2 of text-based editing, classically: landmarks to pictures, from the real frames of the same video alone.

The two real frames at the borders of the edit are warped to the landmarks wanted (thin-plate spline) and dissolved, so
that pose, background, hair and clothes drift from one to the other. Mouth and jaw, which no warp can open, come from
the real frames whose lips are nearest, warped to the same landmarks, kept steady over time by dynamic programming,
pasted with matched colour through a feathered mask. At both ends everything converges to the real neighbours.

Sources: in-betweening and warping as in Han et al. 2024 ("Text-based talking video editing with cascaded conditional
diffusion"); retrieval of real mouths as in Bregler, Covell & Slaney 1997 ("Video Rewrite"); the fine detail of one
frame on the coarse light of several as in Burt & Adelson 1983 ("A multiresolution spline")."""

# N new frames  M library frames  L landmarks (478)  P control points  K blended frames  H height  W width
from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
from scipy.spatial.distance import cdist

from thlib.errors import EditError
from thlib.landmarks import LIPS, Head
from thlib.warp import clipped, control_points, cut_of, face_flows, fade_out, sample, surroundings

JAW = np.array([164, 205, 187, 58, 136, 149, 176, 152, 400, 378, 365, 288, 411, 425])  # outline of what is replaced
REACH = 0.5  # in face scales: how far beyond the face's ring a warp may move anything
SPREAD = 0.007  # in eye-corner units: how much worse than the best a mouth may fit and still be blended in
BLENDED = 6  # frames blended at most
JUMP = 1e-4  # squared eye-corner units: what a jump in the library must gain
DETAIL = 0.02  # in face scales: detail finer than this comes from one frame alone
FEATHER = 0.06  # width of the seam around mouth and jaw, in face scales
FADE = 3  # frames over which the ends converge to the real neighbours

End = tuple[np.ndarray, np.ndarray] | None  # a frame uint8 (H, W, 3) and its landmarks float32 (L, 3)
Library = tuple[Sequence[np.ndarray], np.ndarray]  # frames and landmarks (M, L, 3)


def render(
    left: End, right: End, *, target: np.ndarray, library: Library | None = None, order: str = "warp_blend"
) -> np.ndarray:
    """New frames uint8 (N, H, W, 3) that show `target`, between the real frames `left` and `right`.
    left, right  (frame, landmarks) just before and just after the edit; one may be None at an end of the video.
    target       landmarks float32 (N, 478, 3) of the new frames, in pixels; N may be 0.
    library      (frames, landmarks) of real frames of the same video and size to take mouths from. `frames` needs only
                 `frames[k]`: of a long video give a dict of the frames that `nearest_mouths` names. The border frames
                 are always added. None: the border frames alone.
    order        "warp_blend" (warp both, then dissolve: sharper) or "interpolate_warp" (the paper's: the reverse).
    EditError where both sides are missing, or shapes or order are not these."""
    ends = [end for end in (left, right) if end is not None]
    if not ends:
        raise EditError("No real frame stands before or after the edit; an edit needs at least one neighbour.")
    if order not in ("warp_blend", "interpolate_warp"):
        raise EditError(f"The order {order!r} is unknown; take 'warp_blend' or 'interpolate_warp'.")
    if ends[0][0].shape != ends[-1][0].shape:
        raise EditError(f"The border frames have sizes {ends[0][0].shape} and {ends[-1][0].shape}; give the same size.")
    if target.ndim != 3 or target.shape[1:] != ends[0][1].shape:
        raise EditError(f"The target's shape is {target.shape}; give (N, *{ends[0][1].shape}) as at the borders.")
    if not len(target):
        return np.empty((0, *ends[0][0].shape), np.uint8)
    frames = inbetween(left, right, target=target, order=order)
    return np.stack(list(with_mouths(frames, left, right, target=target, library=library)))


def inbetween(left: End, right: End, *, target: np.ndarray, order: str = "warp_blend") -> Iterator[np.ndarray]:
    """The border frames warped to `target` (N, 478, 3) and dissolved: N frames uint8 (H, W, 3), one at a time.
    The arguments are those of `render`. Beyond the head's surroundings nothing is warped, only dissolved."""
    ends = [end for end in (left, right) if end is not None]
    size, n = ends[0][0].shape[:2], len(target)
    shares = (np.arange(n) + 1) / (n + 1) if len(ends) == 2 else np.zeros(n)
    scale = float(Head.fit(target).scale.mean())
    known = np.stack([points for _, points in ends])  # (1 or 2, L, 3)
    middle = known[0] + shares[:, None, None] * (known[-1] - known[0])  # (N, L, 3)
    controls = control_points(np.concatenate([known, middle, target]))
    box, edge = surroundings(controls, REACH * scale)
    controls = np.concatenate([controls, np.broadcast_to(edge, (len(controls), *edge.shape))], axis=1)
    borders, middles, targets = np.split(controls, [len(ends), len(ends) + n])
    fade = fade_out(box, 0.2 * scale)
    box, fade = clipped(box, size), fade[cut_of(clipped(box, size), box)]
    cut = cut_of(box, (0, 0))
    for u, between, wanted in zip(shares, middles, targets):
        frame = cv2.addWeighted(ends[0][0], 1 - u, ends[-1][0], u, 0)
        goal = wanted if order == "warp_blend" else between
        flows = face_flows(goal, borders, box=box, scale=scale)
        warped = [sample(end[0], flow * fade, box=box) for end, flow in zip(ends, flows)]
        frame[cut] = cv2.addWeighted(warped[0], 1 - u, warped[-1], u, 0)
        if order == "interpolate_warp":
            frame[cut] = sample(frame, face_flows(wanted, [between], box=box, scale=scale)[0] * fade, box=box)
        yield frame


def _mouth_features(points: np.ndarray) -> np.ndarray:
    # The shape of the lips (head-fixed) and how they look from here (in the image plane), in eye-corner units.
    head = Head.fit(points)
    fixed = head.fix(points)[:, LIPS, :2]
    seen = (points[:, LIPS, :2] - head.shift[:, None, :2]) / head.scale[:, None, None]
    return np.concatenate([fixed, seen], axis=1).reshape(len(points), -1) / np.sqrt(2 * len(LIPS))


def nearest_mouths(target: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The real frames to take each target frame's mouth from: indices int (N, K + 1) and weights float (N, K + 1).
    target (N, 478, 3), points (M, 478, 3): landmarks, M >= 1.
    Column 0 (weight 0): Viterbi's steady path, for the fine detail; the others, the nearest mouths: coarse light."""
    cost = cdist(_mouth_features(target), _mouth_features(points), "sqeuclidean")  # (N, M)
    k = min(BLENDED, len(points))
    chosen = np.argpartition(cost, k - 1, axis=1)[:, :k]
    near = np.take_along_axis(cost, chosen, 1)
    best = near.min(1, keepdims=True)
    weights = np.exp(-(near - best) / (2 * SPREAD**2 + best / 2))  # wider where no mouth fits well
    weights /= weights.sum(1, keepdims=True)
    return np.column_stack([_steady(cost), chosen]), np.column_stack([np.zeros(len(cost)), weights])


def _steady(cost: np.ndarray) -> np.ndarray:
    """Viterbi's path (N,) through costs (N, M): free to the same or a neighbouring frame, JUMP to any other."""
    index, total, back = np.arange(cost.shape[1]), cost[0], []
    for row in cost[1:]:
        padded = np.pad(total, 1, constant_values=np.inf)
        beside = np.stack([padded[1:-1], padded[:-2], padded[2:]])  # same, previous, next
        leap = total.min() + JUMP
        back.append(np.where(beside.min(0) <= leap, index + np.array([0, -1, 1])[beside.argmin(0)], total.argmin()))
        total = np.minimum(beside.min(0), leap) + row
    path = [int(total.argmin())]
    for pointers in reversed(back):
        path.append(int(pointers[path[-1]]))
    return np.array(path[::-1])


def mouth_mask(points: np.ndarray, size: tuple[int, int], *, scale: float) -> tuple[np.ndarray, tuple]:
    """Feathered mask float32 (h, w) in [0, 1] of mouth and jaw, and its box (x0, y0, x1, y1) in the frame.
    points (478, 2+) landmarks in a frame of `size` (H, W); scale: pixels per eye-corner unit."""
    jaw, margin = points[JAW, :2], 3 * FEATHER * scale
    box = (*np.floor(jaw.min(0) - margin).astype(int).tolist(), *np.ceil(jaw.max(0) + margin).astype(int).tolist())
    box = clipped(box, size)
    mask = np.zeros((box[3] - box[1], box[2] - box[0]), np.float32)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.floor(jaw - box[:2]).astype(np.int32)), 1.0)
    return cv2.GaussianBlur(mask, (0, 0), FEATHER * scale), box


def with_mouths(base: Iterable, left: End, right: End, *, target: np.ndarray, library: Library | None) -> Iterator:
    """Frames of `base` (H, W, 3), changed in place: mouths from the library. Other arguments: those of `render`."""
    ends = [end for end in (left, right) if end is not None]
    frames, points = library if library is not None else ([], np.empty((0, *target.shape[1:]), np.float32))
    m, scale = len(points), float(Head.fit(target).scale.mean())
    points = np.concatenate([points, *(end[1][None] for end in ends)])
    first, last = (None if left is None else m), (None if right is None else len(points) - 1)
    chosen, weights = _converge(*nearest_mouths(target, points), first=first, last=last)
    used, where = np.unique(chosen, return_inverse=True)
    where = where.reshape(chosen.shape)
    controls = control_points(np.concatenate([points[used], target]))
    for i, frame in enumerate(base):
        mask, box = mouth_mask(target[i], frame.shape[:2], scale=scale)
        live = np.r_[0, np.flatnonzero(weights[i])]
        sources = [frames[k] if k < m else ends[k - m][0] for k in chosen[i, live].tolist()]
        flows = face_flows(controls[len(used) + i], controls[where[i, live]], box=box, scale=scale)
        crops = [sample(source, flow, box=box).astype(np.float32) for source, flow in zip(sources, flows)]
        cut = cut_of(box, (0, 0))
        frame[cut] = _paste(frame[cut], crops, weights[i, live], mask, DETAIL * scale)
        yield frame


def _converge(chosen: np.ndarray, weights: np.ndarray, *, first: int | None, last: int | None):
    """Add the border frames to the blend, weighing 1 at the borders and 0 from FADE new frames on."""
    n = len(chosen)
    ahead = np.arange(n)
    for end, away in ((first, ahead + 1), (last, n - ahead)):
        if end is None:
            continue
        share = (1 - away / (FADE + 1)).clip(0)  # (N,)
        chosen = np.column_stack([chosen, np.full(n, end)])
        weights = np.column_stack([weights * (1 - share)[:, None], share])
    return chosen, weights


def _paste(frame: np.ndarray, crops: list, weights: Sequence, mask: np.ndarray, sigma: float) -> np.ndarray:
    """Put the detail of crops[0] on the light of their weighted mean into `frame` (h, w, 3) where mask (h, w) is 1."""
    light = sum(np.float32(w) * crop for w, crop in zip(weights, crops))
    mouth = crops[0] + cv2.GaussianBlur(light - crops[0], (0, 0), sigma)
    seam = (mask * (1 - mask))[..., None]  # where the two meet: their mean colours shall agree there
    mouth += ((frame - mouth) * seam).sum((0, 1)) / max(float(seam.sum()), 1e-6)
    return np.rint(frame + mask[..., None] * (mouth - frame)).clip(0, 255)
