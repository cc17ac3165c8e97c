"""Write thlib/weights/face_model.npz: a neutral face, modes of identity and 52 control displacements of the mesh.

    THLIB_MIRROR=... python tools/fit_face.py [--judge]

Clips of several people are tracked; each person's motion about their own mean is regressed on the blendshape scores
(ridge, every frame also mirrored, people weighted alike): points = neutral + identity + controls @ displacements.
Displacements are confined to their control's region, made each other's mirror image, and then corrected in the
principal components of all motion until the blendshape network reads c from a face with the control at c. Controls
that the footage hardly contains are drawn by hand as smooth displacements (AUTHORED). `--judge` leaves out one person
at a time and prints how much of their motion the model explains. Only means over people are written: nobody's face.
Footage: GRID (Cooke et al. 2006, CC BY 4.0), portraits in the public domain, talking-clips (for these means only).
"""

# N frames  K controls (52)  I identity modes  D components
from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial import Delaunay

from thlib import clip, data, landmarks
from thlib.landmarks import BLENDSHAPES, EYES, LIPS, LIPS_INNER, OVAL, Head, mirror_index
from thlib.mesh import FaceMesh
from thlib.presenter.face import LIP_PAIRS, LIP_SHARE

OUT = Path(landmarks.__file__).parent / "weights" / "face_model.npz"
FLIP = np.array([-1.0, 1, 1])
SWAP = [BLENDSHAPES.index(n.replace("Left", "#").replace("Right", "Left").replace("#", "Right")) for n in BLENDSHAPES]
TALKING = [
    "echomimic_a",
    "echomimic_c",
    "latentsync_demo1_small_face",
    "lp_d0",
    "lp_d13",
    "lp_d18_silent_expressions",
    "lp_d3",
    "lp_d6",
    "lp_d9",
    "may_512",
    "obama_weekly_450",
    "retalk_1_vfr",
    "synctalk_demo",
    "wda_katiehill",
]
PORTRAITS = ("astronaut.png", "biden_tall.jpg")
AUTHORED = [
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "jawForward",
    "mouthClose",
    "noseSneerLeft",
    "noseSneerRight",
    "eyeBlinkLeft",
    "eyeBlinkRight",
]
GAIN = {  # what the networks see of a drawn movement falls short of it
    "mouthSmile": 1.75, "mouthFunnel": 1.4, "mouthStretch": 1.3, "mouthPucker": 1.3, "jawOpen": 1.05,
    "browInnerUp": 1.25,
}  # fmt: skip
KEPT = ("mouthFunnel",)  # as the regression has it: corrected, no network would see it for what it is
ALL = np.arange(468)  # the points that aren't irises
MODES, RIDGE, COMPONENTS, PRIOR = 12, 5.0, 40, 0.6


def mirrored(shapes: np.ndarray) -> np.ndarray:
    """Mirror images of shapes or displacements (..., 478, 3)."""
    return (shapes * FLIP)[..., mirror_index(), :]


def tracked(names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Head-fixed points (N, 478, 3) about the person's own mean shape, and scores (N, 52), of one person's files."""
    tracks = [track(name) for name in names]
    points = np.concatenate([t.points[t.shown] for t in tracks]).astype(float)
    shape = Head.fit(points).fix(points).mean(0)
    return Head.fit(points, shape=shape).fix(points), np.concatenate([t.controls[t.shown] for t in tracks])


def track(name: str) -> landmarks.FaceTrack:
    """A clip's or a picture's track."""
    path = data.path(name)
    if path.suffix != ".png" and path.suffix != ".jpg":
        return landmarks.track(clip.Video(path), smooth=0)
    picture = np.ascontiguousarray(Image.open(path).convert("RGB"))[None]
    return landmarks.track(clip.Clip(picture, Fraction(25), np.zeros((1, 1), np.float32), 16000), smooth=0)


def people() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What was tracked of each person: the name of their file -> points and scores."""
    files = {f: e for f, e in sorted(data.manifest("grid-s1").files.items()) if f.endswith(".mpg")}
    names = {"s1": [f"grid-s1/{f}" for f, e in files.items() if e.split == "train"][::5]}
    names |= {f: [f"grid-speakers/{f}"] for f in data.manifest("grid-speakers").files if f.endswith(".mpg")}
    names |= {f: [f"talking-clips/{f}.mp4"] for f in TALKING}
    names |= {f: [f"portraits/{f}"] for f in PORTRAITS}
    return {name: tracked(files) for name, files in names.items()}


def moments(points: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """A person's scores by scores and scores by motion (52, 52 + 478 * 3), mirrored too; 500 frames' worth at most."""
    motion, score, out = points - points.mean(0), scores - scores.mean(0), 0.0
    for y, x in ((motion, score), (mirrored(motion), score[:, SWAP])):
        out = out + min(1, 500 / len(x)) * x.T @ np.concatenate([x, y.reshape(len(y), -1)], axis=1)
    return out


def solved(sums: np.ndarray) -> np.ndarray:
    """Displacements (52, 478, 3) by ridge regression, from everybody's moments summed."""
    return np.linalg.solve(sums[:, :52] + RIDGE * np.eye(52), sums[:, 52:]).reshape(52, 478, 3)


def regression(known: dict) -> np.ndarray:
    """Displacements (52, 478, 3) of several people's motion by their scores, symmetric."""
    return solved(sum(moments(*one) for one in known.values()))


def left_out(known: dict) -> dict[str, tuple[float, float]]:
    """How much of each person's motion, everywhere and at the lips, a model of the others explains."""
    sums = {name: moments(*one) for name, one in known.items() if len(one[0]) > 1}
    models = {name: solved(sum(sums.values()) - own) for name, own in sums.items()}
    return {n: tuple(explained(*known[n], model, where) for where in (ALL, LIPS)) for n, model in models.items()}


def explained(points: np.ndarray, scores: np.ndarray, model: np.ndarray, where: np.ndarray) -> float:
    """Share of a person's motion in the picture plane, at the points `where`, that the scores explain."""
    motion = (points - points.mean(0))[:, where, :2]
    rest = motion - np.tensordot(scores - scores.mean(0), model[:, where, :2], 1)
    return 1 - np.square(rest).sum() / np.square(motion).sum()


def smooth(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between (also downwards, where low > high)."""
    u = np.clip((value - low) / (high - low), 0, 1)
    return u * u * (3 - 2 * u)


def region(name: str, neutral: np.ndarray) -> np.ndarray:
    """How far each point (478,) may follow a control, 0 to 1."""
    x, y = neutral[:, 0], neutral[:, 1]
    if name.startswith("brow"):
        mask = smooth(y, 0.05, -0.06)
        edge = (-0.02, 0.12)
    elif name.startswith(("eye", "cheekSquint")):
        middle = neutral[[33, 133]].mean(0) * [1, 1, 1]
        away = np.minimum(*[np.hypot(x - s * abs(middle[0]), (y - middle[1]) * 1.2) for s in (-1, 1)])
        mask, edge = smooth(away, 0.42, 0.22), (-0.02, 0.1)
    elif name.startswith(("jaw", "noseSneer")):
        mask, edge = smooth(y, 0.1, 0.4), (-0.1, 0.1)
    else:
        mask, edge = smooth(y, 0.1, 0.35), (-0.35, 0.1)
    if name.endswith(("Left", "Right")) and name not in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
        side = 1 if name.endswith("Left") else -1
        mask = mask * smooth(side * x, *edge)
    return mask


def blob(neutral: np.ndarray, centre: tuple, spread: tuple, move: tuple) -> np.ndarray:
    """A displacement (478, 3) by `move` at `centre` (x, y) that fades like a Gaussian of `spread` (x, y)."""
    away = (neutral[:, :2] - centre) / spread
    return np.exp(-0.5 * (away**2).sum(1))[:, None] * np.array(move)


def authored(name: str, neutral: np.ndarray) -> np.ndarray:
    """The hand-drawn displacement (478, 3) of a control in AUTHORED; lids and lips are closed by thlib's own rules."""
    n = neutral
    if name == "cheekPuff":
        both = [blob(n, (s * 0.52, 0.78), (0.16, 0.2), (s * 0.07, 0, -0.09)) for s in (-1, 1)]
        return both[0] + both[1]
    if name == "jawForward":
        return smooth(n[:, 1], 0.85, 1.1)[:, None] * np.array([0, 0.0, -0.1])
    side = 1 if name.endswith("Left") else -1
    if name.startswith("cheekSquint"):
        return blob(n, (side * 0.42, 0.27), (0.17, 0.11), (0, -0.055, -0.035))
    if name.startswith("noseSneer"):
        wing = blob(n, (side * 0.17, 0.46), (0.07, 0.1), (side * 0.012, -0.06, 0))
        return wing + blob(n, (side * 0.13, 0.2), (0.08, 0.12), (-side * 0.01, -0.03, -0.01))
    if name.startswith("eyeBlink"):  # what surrounds the lids
        return blob(n, (side * 0.36, -0.06), (0.16, 0.035), (0, 0.035, 0))
    return np.zeros_like(n)


def components(known: dict, neutral: np.ndarray) -> np.ndarray:
    """Principal components (D, 478 * 3) of everybody's motion, mirrored too, each as long as it deviates."""
    motion = [(p - p.mean(0))[:: max(1, len(p) // 200)] for p, _ in known.values() if len(p) > 1]
    motion = np.concatenate([m for one in motion for m in (one, mirrored(one))]).reshape(-1, 478 * 3)
    _, size, axes = np.linalg.svd(motion, full_matrices=False)
    return axes[:COMPONENTS] * size[:COMPONENTS, None] / np.sqrt(len(motion))


class Reader:
    """The blendshape network on head-fixed shapes, the mean over a face and its mirror image."""

    def __init__(self):
        self.net = FaceMesh()

    def __call__(self, shape: np.ndarray) -> np.ndarray:
        """Scores (52,) of a shape (478, 3)."""
        return (self._one(shape) + self._one(mirrored(shape))[SWAP]) / 2

    def _one(self, shape: np.ndarray) -> np.ndarray:
        return self.net.blendshapes((shape * 100 + 128).astype(np.float32))


def corrected(k: int, start: np.ndarray, basis: np.ndarray, faces: np.ndarray, read: Reader) -> np.ndarray:
    """Displacement (478, 3) near `start` from which the network reads control k as it is set, and few others.

    Gauss-Newton in the coordinates of `basis` (D, 478, 3), deviations of natural motion, with finite differences.
    """
    weight = np.full(52, 0.35)
    weight[SWAP[k]], weight[k], coefficients = 0.8, 1.0, np.zeros(len(basis))
    zero = [read(face) for face in faces]

    def residual(a: np.ndarray) -> np.ndarray:
        move, out = start + np.tensordot(a, basis, 1), []
        for face, at in zip(faces, zero):
            for c in (0.5, 1.0):
                told = read(face + c * move) - at
                told[k] -= (0.5 if c == 0.5 else 0.95) - at[k]
                out.append(weight * told)
        return np.concatenate([*out, PRIOR * a])

    for _ in range(4):
        now = residual(coefficients)
        jacobian = np.stack([(residual(coefficients + 0.2 * e) - now) / 0.2 for e in np.eye(len(basis))], 1)
        step = np.linalg.lstsq(jacobian, -now, rcond=None)[0]
        tries = [coefficients + s * step for s in (1.0, 0.5, 0.2, 0.0)]
        coefficients = min(tries, key=lambda a: np.square(residual(a)).sum())
    return start + np.tensordot(coefficients, basis, 1)


def controls(known: dict, neutral: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Displacements (52, 478, 3): regression, confined, corrected or authored, twins each other's mirror image."""
    raw, parts, read = regression(known), components(known, neutral).reshape(-1, 478, 3), Reader()
    out = np.zeros((52, 478, 3))
    for k, name in enumerate(BLENDSHAPES[1:], 1):
        if name.endswith("Right"):
            out[k] = mirrored(out[SWAP[k]])
            continue
        mask = region(name, neutral)[:, None]
        if name in AUTHORED:
            out[k] = authored(name, neutral)
            continue
        basis = parts * mask
        middle = SWAP[k] == k
        basis = (basis + mirrored(basis)) / 2 if middle else basis
        start = raw[k] * mask
        move = (start + mirrored(start)) / 2 if middle else start
        move = move if name in KEPT else corrected(k, move, basis, faces, read)
        out[k] = GAIN.get(name.removesuffix("Left"), 1.0) * move
    return out


def rest_shapes(known: dict, displacements: np.ndarray) -> np.ndarray:
    """Everybody's face at rest (people, 478, 3), in the neutral's frame."""
    rest = [p.mean(0) - np.tensordot(c.mean(0), displacements, 1) for p, c in known.values()]
    return np.concatenate([Head.fit(shape[None]).fix(shape[None]) for shape in rest])


def expressionless(shapes: np.ndarray, displacements: np.ndarray) -> np.ndarray:
    """Differences of faces at rest (people, 478, 3) less what is like a smile, a frown, raised brows, wide eyes."""
    looks = ("mouthSmile", "mouthFrown", "browDown", "browInnerUp", "browOuterUp", "eyeWide", "eyeSquint", "jawOpen")
    moves = displacements[[k for k, name in enumerate(BLENDSHAPES) if name.startswith(looks)]].reshape(-1, 478 * 3)
    flat = shapes.reshape(len(shapes), -1)
    amounts = np.linalg.solve(moves @ moves.T + 0.02 * np.eye(len(moves)), moves @ flat.T)
    return (flat - amounts.T @ moves).reshape(shapes.shape)


def triangles(layout: np.ndarray) -> np.ndarray:
    """Triangles (F, 3) of the mesh, symmetric, counter-clockwise seen from the front (y down); eyes and mouth are open.

    Delaunay's triangulation of one half of a layout with an open mouth (478, 2), and its mirror image.
    """
    holes = [*EYES, LIPS_INNER]
    own = np.arange(468)
    half = own[layout[own, 0] <= 1e-4]
    cells = half[Delaunay(layout[half]).simplices]
    middles = layout[cells].mean(1)
    keep = inside(middles, layout[OVAL]) & ~np.any([inside(middles, layout[h]) for h in holes], axis=0)
    a, b, c = np.moveaxis(layout[cells], 1, 0)
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    cells = np.where((area > 0)[:, None], cells, cells[:, ::-1])[keep & (abs(area) > 1e-6)]
    return np.concatenate([cells, mirror_index()[cells][:, ::-1]])


def inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Which of points (N, 2) lie in a closed polygon (M, 2)."""
    a, b = polygon, np.roll(polygon, -1, axis=0)
    x, y = points[:, None, 0], points[:, None, 1]
    crosses = (a[:, 1] > y) != (b[:, 1] > y)
    at = a[:, 0] + (y - a[:, 1]) / np.where(b[:, 1] == a[:, 1], 1, b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0])
    return (crosses & (x < at)).sum(1) % 2 == 1


def layout(neutral: np.ndarray, displacements: np.ndarray) -> np.ndarray:
    """The mesh laid flat (478, 2), by the angle about a vertical axis and the height, eyes and mouth a little open."""
    wide = [BLENDSHAPES.index(n) for n in ("eyeWideLeft", "eyeWideRight", "jawOpen")]
    shape = neutral + np.tensordot([0.6, 0.6, 0.5], displacements[wide], 1)
    flat = np.stack([np.arctan2(shape[:, 0], 0.75 - shape[:, 2]), shape[:, 1]], 1)
    return (flat + flat[mirror_index()] * [-1, 1]) / 2


def lip_weights(neutral: np.ndarray) -> np.ndarray:
    """How much of each lip pair's way the points go with, (2 lips, 478, 9): 1 on the lip itself, fading around it."""
    rest, weights = neutral[:, :2], np.zeros((2, 478, len(LIP_PAIRS[0])))
    below = rest[:, 1] > rest[LIP_PAIRS[0], 1].mean() + 0.004
    for lip, pair in enumerate(LIP_PAIRS):
        away = np.linalg.norm((rest[:, None] - rest[pair]) / [0.12, 0.2], axis=2)
        near = np.exp(-2 * away**2)
        weights[lip] = near / near.sum(1, keepdims=True).clip(1e-9) * np.exp(-(away.min(1, keepdims=True) ** 2))
        weights[lip][below != (lip == 1)] = 0
    for lip, pair in enumerate(LIP_PAIRS):
        weights[:, pair] = 0
        weights[lip, pair, np.arange(len(pair))] = 1
    return weights


def sealed(neutral: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The neutral face with its lips together."""
    gap = neutral[LIP_PAIRS[1]] - neutral[LIP_PAIRS[0]]
    return neutral + (1 - LIP_SHARE) * weights[0] @ gap - LIP_SHARE * weights[1] @ gap


def judge(known: dict) -> None:
    """Print the share of motion explained of each person by a model of the others."""
    shares = left_out(known)
    for name, (whole, mouth) in (shares | {"mean of people": np.mean(list(shares.values()), axis=0)}).items():
        print(f"{name:30s} {whole:6.1%} {mouth:6.1%}")


def main() -> None:
    """Track, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--judge", action="store_true", help="print the motion explained, one person left out")
    known = people()
    if parser.parse_args().judge:
        return judge(known)
    rest = rest_shapes(known, regression(known))
    neutral = Head.fit(rest.mean(0)[None]).fix((rest.mean(0) + mirrored(rest.mean(0)))[None] / 2)[0]
    neutral = (neutral + mirrored(neutral)) / 2
    lips = lip_weights(neutral)
    neutral = sealed(neutral, lips)
    both = expressionless(np.concatenate([rest, mirrored(rest)]) - neutral, regression(known))
    _, size, modes = np.linalg.svd(both.reshape(len(both), -1), full_matrices=False)
    modes, deviations = modes[:MODES].reshape(-1, 478, 3), size[:MODES] / np.sqrt(len(both) - 1)
    faces = neutral + np.concatenate([np.zeros((1, 478, 3)), 1.2 * deviations[:3, None, None] * modes[:3]])
    moves = controls(known, neutral, faces)
    flat = layout(neutral, moves)
    arrays = {
        "neutral": neutral,
        "modes": modes,
        "deviations": deviations,
        "controls": moves,
        "layout": flat,
        "lips": lips,
    }
    small = {name: a.astype(np.float16) for name, a in arrays.items()}
    marked = np.array([name in AUTHORED for name in BLENDSHAPES])
    np.savez_compressed(OUT, **small, triangles=triangles(flat).astype(np.int16), authored=marked)


if __name__ == "__main__":
    main()
