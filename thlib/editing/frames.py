"""Stage 2 of text-based editing, classically: landmarks to pictures, from the real frames of the same video alone.

1. In-between the two real frames at the borders of the edit: pose, background, hair and clothes drift from one to
   the other. 2. Warp to the landmarks wanted (thin-plate spline). 3. The mouth and jaw, which no warp can open, come
from the real frames whose lips are nearest, warped to the same landmarks, kept steady over time by dynamic programming.
4. They are pasted with matched colour through a feathered mask. At both ends everything converges to the real frames.

Sources: in-betweening and warping as in Han et al. 2024 ("Text-based talking video editing with cascaded conditional
diffusion"); retrieval of real mouths as in Bregler, Covell & Slaney 1997 ("Video Rewrite"); the fine detail of one
frame on the coarse light of several as in Burt & Adelson 1983 ("A multiresolution spline").
"""

# N new frames  M library frames  L landmarks (478)  P control points  K blended frames  H height  W width
from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from thlib.errors import EditError
from thlib.landmarks import BROWS, EYES, LIPS, OVAL, Head, neutral
from thlib.warp import border_points, dense_flow, sample

FACE = np.unique(
    np.concatenate(
        [LIPS, OVAL, *EYES, *BROWS]
    ).tolist()  # what a face shows, and a few points of cheeks, nose and chin to fill the gaps
    + [50, 280, 205, 425, 101, 330, 118, 347, 187, 411, 207, 427, 216, 436, 168, 6, 197, 195, 5, 4, 1, 2, 98, 327]
    + [64, 294, 164, 18, 200, 199, 175, 57, 287, 43, 273, 106, 335, 182, 406, 83, 313]
)
JAW = np.array([164, 205, 187, 58, 136, 149, 176, 152, 400, 378, 365, 288, 411, 425])  # outline of what is replaced
STIFFNESS = 0.015  # smoothing of the spline over the squared face scale: bends less than the tracker trembles
RING = 1.2  # a ring around the face that follows the skull: the jaw moves, hair and collar don't
SPREAD = 0.007  # in eye-corner units: how much worse than the best a mouth may fit and still be blended in
BLENDED = 6  # frames blended at most
JUMP = 1e-4  # squared eye-corner units: what a jump in the library must gain
DETAIL = 0.02  # in face scales: detail finer than this comes from one frame alone
FADE = 3  # frames over which the ends converge to the real neighbours

Still = tuple[np.ndarray, np.ndarray]  # a frame uint8 (H, W, 3) and its landmarks float32 (L, 3)
Library = tuple[Sequence[np.ndarray], np.ndarray]  # frames and landmarks (M, L, 3)


def render(
    left: Still | None,
    right: Still | None,
    *,
    target: np.ndarray,
    library: Library | None = None,
    order: str = "warp_blend",
    mouth: bool = True,
) -> np.ndarray:
    """New frames uint8 (N, H, W, 3) that show `target`, between the real frames `left` and `right`.

    left, right  (frame, landmarks) just before and just after the edit; one may be None at an end of the video.
    target       landmarks float32 (N, 478, 3) of the new frames, in pixels; N may be 0.
    library      (frames, landmarks) of real frames of the same video and size to take mouths from. `frames` needs only
                 `frames[k]`: of a long video give a dict of the frames that `nearest_mouths` names. The border frames
                 are always added. None: the border frames alone.
    order        "warp_blend" warps both border frames to the target and dissolves (sharper); "interpolate_warp"
                 dissolves at in-between landmarks first and warps the result, as the paper does.
    mouth        False leaves out the library: warped border frames only.

    EditError where both sides are missing, or shapes or order are not these.
    """
    ends = [end for end in (left, right) if end is not None]
    _check(ends, target, order)
    if not len(target):
        return np.empty((0, *ends[0][0].shape), np.uint8)
    base = inbetween(left, right, target=target, order=order)
    if mouth:
        base = _with_mouths(base, left, right, target=target, library=library)
    return np.stack([np.rint(frame.clip(0, 255)).astype(np.uint8) for frame in base])


def _check(ends: list[Still], target: np.ndarray, order: str) -> None:
    if not ends:
        raise EditError("No real frame stands before or after the edit; an edit needs at least one neighbour.")
    if order not in ("warp_blend", "interpolate_warp"):
        raise EditError(f"The order {order!r} is unknown; take 'warp_blend' or 'interpolate_warp'.")
    if target.ndim != 3 or target.shape[1:] != ends[0][1].shape:
        raise EditError(
            f"The target landmarks have shape {target.shape} and the border frame's {ends[0][1].shape}; "
            f"give (N, {', '.join(map(str, ends[0][1].shape))})."
        )


# --- The border frames, in between ------------------------------------------------------------------------------------


def control_points(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Where the spline holds a face: landmarks (T, 478, 3), frame size (H, W) -> float64 (T, P, 2), pixels.

    120 points of the face; a ring around it that follows the skull; the frame's edge, fixed (moved outwards where the
    face reaches it).
    """
    head = Head.fit(points)
    ring = neutral()[OVAL[::3]] * [RING, RING, 1]
    ring = head.unfix(np.broadcast_to(ring, (len(points), *ring.shape)))[..., :2]
    low, high = ring.min((0, 1)).clip(max=0), ring.max((0, 1)).clip(min=size[::-1])
    edge = low + border_points((1, 1)) * (high - low)
    edge = np.broadcast_to(edge, (len(points), *edge.shape))
    return np.concatenate([points[:, FACE, :2], ring, edge], axis=1)


def _flow(target: np.ndarray, sources: Sequence[np.ndarray], *, box: tuple, scale: float) -> list[np.ndarray]:
    """Flows (h, w, 2) into pictures with control points `sources`, all by one spline on the target's (P, 2)."""
    values = np.concatenate([source - target for source in sources], axis=1)  # (P, 2K)
    step = max(2, round(scale / 16))
    flow = dense_flow(target, values, box=box, step=step, smoothing=STIFFNESS * scale**2)
    return [flow[..., 2 * k : 2 * k + 2] for k in range(len(sources))]


def inbetween(
    left: Still | None, right: Still | None, *, target: np.ndarray, order: str = "warp_blend"
) -> Iterator[np.ndarray]:
    """The border frames warped to `target` (N, 478, 3) and dissolved: N frames float32 (H, W, 3), one at a time.

    The arguments are those of `render`.
    """
    ends = [end for end in (left, right) if end is not None]
    size, n = ends[0][0].shape[:2], len(target)
    shares = (np.arange(n) + 1) / (n + 1) if len(ends) == 2 else np.zeros(n)
    scale = float(Head.fit(target).scale.mean())
    known = np.stack([points for _, points in ends])  # (1 or 2, L, 3)
    middle = known[0] + shares[:, None, None] * (known[-1] - known[0])  # (N, L, 3)
    controls = control_points(np.concatenate([known, middle, target]), size)
    borders, middles, targets = np.split(controls, [len(ends), len(ends) + n])
    box = (0, 0, size[1], size[0])
    for u, between, wanted in zip(shares, middles, targets):
        goal = wanted if order == "warp_blend" else between
        flows = _flow(goal, borders, box=box, scale=scale)
        warped = [sample(end[0], flow, box=box).astype(np.float32) for end, flow in zip(ends, flows)]
        frame = warped[0] + np.float32(u) * (warped[-1] - warped[0])
        if order == "interpolate_warp":
            frame = sample(frame, _flow(wanted, [between], box=box, scale=scale)[0], box=box)
        yield frame


# --- Mouths from elsewhere --------------------------------------------------------------------------------------------


def _mouth_features(points: np.ndarray) -> np.ndarray:
    # The shape of the lips (head-fixed) and how they look from here (in the image plane), in eye-corner units.
    head = Head.fit(points)
    fixed = head.fix(points)[:, LIPS, :2]
    seen = (points[:, LIPS, :2] - head.shift[:, None, :2]) / head.scale[:, None, None]
    return np.concatenate([fixed, seen], axis=1).reshape(len(points), -1) / np.sqrt(2 * len(LIPS))


def nearest_mouths(target: np.ndarray, points: np.ndarray, *, first: int | None = None, last: int | None = None):
    """The real frames to take each target frame's mouth from: indices int (N, K + 1) and weights float (N, K + 1).

    target (N, 478, 3), points (M, 478, 3): landmarks; `first`, `last`: indices of the border frames in `points`.
    Column 0 is the steady choice that gives the fine detail (weight 0: Viterbi's path over mouth distance and jumps);
    the others are the nearest mouths whose mean gives the coarse light, weights falling as a Gaussian of the distance.
    """
    wanted, known = _mouth_features(target), _mouth_features(points)
    cost = ((wanted[:, None] - known[None]) ** 2).sum(-1)  # (N, M)
    path = _steady(cost, first, last)
    k = min(BLENDED, len(points))
    chosen = np.argpartition(cost, k - 1, axis=1)[:, :k]
    near = np.take_along_axis(cost, chosen, 1)
    weights = np.exp(-(near - near.min(1, keepdims=True)) / (2 * SPREAD**2))
    weights /= weights.sum(1, keepdims=True)
    return np.column_stack([path, chosen]), np.column_stack([np.zeros(len(path)), weights])


def _steady(cost: np.ndarray, first: int | None, last: int | None) -> np.ndarray:
    """Viterbi's path (N,) through costs (N, M): free to the same or a neighbouring frame, JUMP to any other."""
    m = cost.shape[1]
    index = np.arange(m)
    jump = JUMP * (np.abs(index[:, None] - index) > 1)
    total = cost[0] + (0 if first is None else jump[first])
    back = []
    for row in cost[1:]:
        through = total[:, None] + jump  # (from, to)
        back.append(through.argmin(0))
        total = through.min(0) + row
    path = [int((total + (0 if last is None else jump[last])).argmin())]
    for pointers in reversed(back):
        path.append(int(pointers[path[-1]]))
    return np.array(path[::-1])


def mouth_mask(points: np.ndarray, size: tuple[int, int], *, scale: float) -> np.ndarray:
    """Feathered mask float32 (H, W) in [0, 1] of mouth and jaw for landmarks (478, 2+) in a frame of `size` (H, W)."""
    mask = np.zeros(size, np.float32)
    hull = cv2.convexHull(np.round(points[JAW, :2]).astype(np.int32))
    cv2.fillConvexPoly(mask, hull, 1.0)
    return cv2.GaussianBlur(mask, (0, 0), 0.06 * scale)


def _with_mouths(base: Iterator[np.ndarray], left, right, *, target: np.ndarray, library) -> Iterator[np.ndarray]:
    ends = [end for end in (left, right) if end is not None]
    size = ends[0][0].shape[:2]
    frames, points = library if library is not None else ([], np.empty((0, *target.shape[1:]), np.float32))
    m, scale = len(points), float(Head.fit(target).scale.mean())
    points = np.concatenate([points, *(end[1][None] for end in ends)])

    def frame_at(k: int) -> np.ndarray:
        return frames[k] if k < m else ends[k - m][0]

    first, last = (None if left is None else m), (None if right is None else len(points) - 1)
    chosen, weights = nearest_mouths(target, points, first=first, last=last)
    chosen, weights = _converge(chosen, weights, first, last)
    used, where = np.unique(chosen, return_inverse=True)
    controls = control_points(np.concatenate([points[used], target]), size)
    for i, frame in enumerate(base):
        mask = mouth_mask(target[i], size, scale=scale)
        box = cv2.boundingRect((mask > 1e-3).astype(np.uint8))
        box = (box[0], box[1], box[0] + box[2], box[1] + box[3])
        rows = where.reshape(chosen.shape)[i]
        flows = _flow(controls[len(used) + i], controls[rows], box=box, scale=scale)
        crops = [sample(frame_at(k), f, box=box).astype(np.float32) for k, f in zip(chosen[i], flows)]
        cut = np.s_[box[1] : box[3], box[0] : box[2]]
        frame[cut] = _paste(frame[cut], crops, weights[i], mask[cut], DETAIL * scale)
        yield frame


def _converge(chosen: np.ndarray, weights: np.ndarray, first: int | None, last: int | None):
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


def _paste(frame: np.ndarray, crops: list[np.ndarray], weights: np.ndarray, mask: np.ndarray, sigma: float):
    """Put the detail of crops[0] on the light of their weighted mean into `frame` (h, w, 3) where mask (h, w) is 1."""
    light = sum(np.float32(w) * crop for w, crop in zip(weights, crops) if w > 0)
    mouth = crops[0] + cv2.GaussianBlur(light - crops[0], (0, 0), sigma)
    seam = (mask * (1 - mask))[..., None]  # where the two meet: their mean colours shall agree there
    mouth += ((frame - mouth) * seam).sum((0, 1)) / max(float(seam.sum()), 1e-6)
    return frame + mask[..., None] * (mouth - frame)
