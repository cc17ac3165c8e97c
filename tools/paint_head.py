"""The masks that the presenter's textures are mixed of, painted on the mesh laid flat; build_head.py writes them.

Of the face (PATCH², by landmarks): blush, hollow, line, hole (nostrils), lips, brow0 to brow2 (thin to thick), beard,
freckle, grain; of the hair (half as high): straight, curly; of the shoulders unrolled: bare0 to bare2 (necklines), hem0
to hem2. uint8, 0 to 255; grain, straight and curly are noise about 128.
"""

# H, W pixels
from __future__ import annotations

import cv2
import numpy as np

from thlib.landmarks import EYES, LIPS_INNER, LIPS_OUTER


def ids(text: str) -> np.ndarray:
    """Landmark numbers from a text of numbers."""
    return np.array(text.split(), dtype=int)


PATCH = 512
BROWS = (ids("70 63 105 66 107"), ids("46 53 52 65 55")), (ids("300 293 334 296 336"), ids("276 283 282 295 285"))
CREASE = ids("247 30 29 27 28 56 190"), ids("467 260 259 257 258 286 414")
NOSTRIL = ids("238 20 99 60 166 79"), ids("458 250 328 290 392 309")
BEARD = ids("132 58 172 136 150 149 176 148 152 377 400 378 379 365 397 288 361 323 410 270 269 267 0 37 39 40 186 93")


def noise(rng: np.random.Generator, size: tuple[int, int], blur: tuple[float, float]) -> np.ndarray:
    """Smooth noise (H, W) of deviation 1; blur (x, y) in pixels."""
    out = cv2.GaussianBlur(rng.normal(size=size).astype(np.float32), (0, 0), blur[0], sigmaY=blur[1])
    return out / out.std()


def drawn(lines: list, width: int, blur: float, *, size: tuple[int, int] = (PATCH, PATCH)) -> np.ndarray:
    """Mask (H, W) in [0, 1]: polylines of a width in pixels, or, with width 0, filled polygons; blurred."""
    mask = np.zeros(size, np.uint8)
    for line in lines:
        xy = np.round(np.asarray(line) * 16).astype(np.int32)
        if width:
            cv2.polylines(mask, [xy], False, 255, width, cv2.LINE_AA, 4)
        else:
            cv2.fillPoly(mask, [xy], 255, cv2.LINE_AA, 4)
    out = mask.astype(np.float32) / 255
    return cv2.GaussianBlur(out, (0, 0), blur) if blur else out


def blot(at: np.ndarray, radius: tuple[float, float]) -> np.ndarray:
    """A Gaussian (PATCH, PATCH) at a place, in pixels."""
    y, x = np.mgrid[:PATCH, :PATCH].astype(np.float32)
    return np.exp(-0.5 * (((x - at[0]) / radius[0]) ** 2 + ((y - at[1]) / radius[1]) ** 2))


def either(masks: list[np.ndarray]) -> np.ndarray:
    """Masks laid over each other."""
    return 1 - np.prod([1 - m for m in masks], axis=0)


def brow(rng: np.random.Generator, top: np.ndarray, low: np.ndarray, thick: float) -> np.ndarray:
    """Hairs between a brow's upper and lower edge (5, 2), from its outer end inwards."""
    middle, lines, at = (top + low) / 2, [], np.linspace(0, 1, 5)
    top, low = (middle + (edge - middle) * thick for edge in (top, low))

    def point(u: float, w: float) -> np.ndarray:
        return np.array([np.interp(u, at, low[:, c] * (1 - w) + top[:, c] * w) for c in (0, 1)])

    for u, w in rng.uniform(0, 1, (130, 2)):
        start, reach = point(u, w * 0.8), rng.uniform(0.08, 0.16)
        lines.append([start, point(max(u - reach, 0), min(1, w * 0.7 + 0.45 * u))])
    whole = drawn([np.concatenate([top, low[::-1]])], 0, 2.0)
    return (0.55 * whole + 0.75 * drawn(lines, 1, 0.6)).clip(0, 1)


def face(xy: np.ndarray) -> dict[str, np.ndarray]:
    """The face's masks, from the landmarks (468, 2) in pixels of the patch."""
    rng, lips = np.random.default_rng(8), drawn([xy[LIPS_OUTER]], 0, 2.2) * (1 - drawn([xy[LIPS_INNER]], 0, 0))
    lids = [xy[eye] for eye in EYES]
    holes = [xy[n].mean(0) + 0.75 * (xy[n] - xy[n].mean(0)) for n in NOSTRIL]
    cheeks = [(xy[a] + xy[b]) / 2 for a, b in ((205, 117), (425, 346))]
    seam = [xy[LIPS_INNER[:11]], xy[LIPS_INNER[10:]], xy[LIPS_INNER[[19, 0]]]]
    grain = np.clip(0.7 + 0.18 * noise(rng, (PATCH, PATCH), (0.9, 1.6)), 0, 1)
    spots = [
        blot(xy[5] + rng.normal(size=2) * [62, 22] + [0, 10], (r, r)) for r in rng.uniform(0.9, 1.5, 45)
    ]  # fmt: skip
    lines = [
        drawn([xy[c] for c in CREASE], 2, 1.6) * 0.8,
        drawn([lid[:9] for lid in lids], 2, 1.2),
        drawn([xy[ids("129 98 97")], xy[ids("358 327 326")]], 3, 2.5) * 0.6,
        drawn(seam, 2, 1.2),
    ]
    hollows = [blot(xy[n], (16, 15)) for n in (133, 362)] + [0.5 * blot(xy[n] - [0, 6], (30, 9)) for n in (159, 386)]
    out = {"blush": either([blot(c, (30, 26)) for c in cheeks] + [0.4 * blot(xy[5], (14, 30))])}
    out |= {"hollow": either(hollows), "line": either(lines), "hole": drawn(holes, 0, 1.5), "lips": lips * 0.9}
    for k, thick in enumerate((0.75, 0.97, 1.2)):
        out[f"brow{k}"] = either([brow(rng, xy[top], xy[low], thick) for top, low in BROWS])
    out |= {"beard": drawn([xy[BEARD]], 0, 8) * (1 - lips) * grain, "freckle": 0.6 * either(spots)}
    return out | {"grain": 0.5 + 0.125 * noise(rng, (PATCH, PATCH), (9, 9)).clip(-4, 4)}


def rest() -> dict[str, np.ndarray]:
    """The masks of hair and shoulders."""
    rng, size, u = np.random.default_rng(9), (PATCH // 2, PATCH), np.linspace(0, PATCH, 65)
    fine, broad = noise(rng, size, (1.6, 40)), noise(rng, size, (8, 60))
    out = {"straight": 0.5 + 0.1 * (fine + 0.6 * broad), "curly": 0.5 + 0.1 * noise(rng, size, (4, 4))}
    for k, depth in enumerate((0.05, 0.4, 0.95)):
        line = np.stack([u, 44 + (14 + 70 * depth) * np.exp(-0.5 * ((u - PATCH / 2) / (30 + 14 * depth)) ** 2)], 1)
        out[f"bare{k}"] = drawn([np.concatenate([line, [[PATCH, 0], [0, 0]]])], 0, 1.0, size=size)
        out[f"hem{k}"] = drawn([line], 6, 1.0, size=size)
    return out


def masks(xy: np.ndarray) -> dict[str, np.ndarray]:
    """All masks, uint8."""
    return {name: np.round(m.clip(0, 1) * 255).astype(np.uint8) for name, m in (face(xy) | rest()).items()}
