"""Write thlib/weights/face_neutral.npz: the mean face of the mesh, symmetric and frontal, statistics of several people.

Frames with a closed mouth and open eyes of openly licensed clips (GRID, CC BY 4.0) are aligned to their common mean on
the rigid points (generalised Procrustes analysis, Gower 1975), every speaker weighing the same, turned to look straight
ahead as the speakers do on average, and made symmetric with the mirror image.   Run: python tools/fit_neutral.py
"""

# P people  N frames
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from thlib import clip, data, landmarks
from thlib.landmarks import RIGID, Head

OUT = Path(landmarks.__file__).parent / "weights" / "face_neutral.npz"
PEOPLE = [["grid-s1/bbaf4p.mpg", "grid-s1/lgbm2n.mpg", "grid-s1/swih6n.mpg"]] + [
    [f"grid-speakers/{name}.mpg"]
    for name in ("brbk7n", "id2_vcd_swwp2s", "lbax4n", "lbbc2a", "lrwp9a", "pwij3p", "sbwe5n")
]
FLIP = np.array([-1.0, 1, 1])


def at_rest(points: np.ndarray) -> np.ndarray:
    """The frames of (N, 478, 3) with the mouth among the most closed third and the eyes wider than the median."""
    width = np.linalg.norm(points[:, 33] - points[:, 263], axis=-1)
    opening = np.linalg.norm(points[:, 13] - points[:, 14], axis=-1) / width
    eyes = landmarks.ear(points).min(1)
    return points[(opening <= np.quantile(opening, 0.33)) & (eyes >= np.median(eyes))]


def centred(shape: np.ndarray) -> np.ndarray:
    """The shape (478, 3) with the eye corners' middle at 0 and their distance 1."""
    shape = shape - (shape[33] + shape[263]) / 2
    return shape / np.linalg.norm(shape[33] - shape[263])


def mean_shape(people: list[np.ndarray], rounds: int = 10) -> np.ndarray:
    """Procrustes mean (478, 3) of P people's points (N, 478, 3), turned as they look on average."""
    shape = centred(people[0][0].astype(float))
    for _ in range(rounds):
        heads = [Head.fit(p, shape=shape) for p in people]
        fixed = np.mean([h.fix(p).mean(0) for h, p in zip(heads, people)], axis=0)
        u, _, vt = np.linalg.svd(np.mean([h.rotation.mean(0) for h in heads], axis=0))
        shape = centred(fixed @ (u @ vt).T)
    return shape


def mirror_index(shape: np.ndarray) -> np.ndarray:
    """For each point the one at its mirrored place (478,), an involution."""
    distance = np.linalg.norm((shape * FLIP)[:, None] - shape[None], axis=-1)
    index = linear_sum_assignment(distance**2)[1]
    if not np.array_equal(index[index], np.arange(len(index))):
        raise ValueError("The mirror index is no involution: the mean face is too far from symmetric.")
    return index


def symmetric(shape: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The mean of the shape (478, 3) and its mirror image, the plane of symmetry at x = 0."""
    for _ in range(5):
        image = (shape * FLIP)[index]
        turned = Head.fit(shape[None], shape=image).unfix(image[None])[0]
        across = (shape - shape[index])[RIGID[-8:]]  # from a point to its mirror point: along x in the end
        axis = (across * np.sign(across[:, :1])).sum(0)
        axis /= np.linalg.norm(axis)
        frame = np.stack([axis, np.cross([0, 0, 1], axis), [0, 0, 1]])
        q, r = np.linalg.qr(frame.T)
        shape = centred((shape + turned) / 2 @ (q * np.sign(np.diag(r))))
    return centred((shape + (shape * FLIP)[index]) / 2)


def main() -> None:
    """Track the clips, fit, write."""
    people = []
    for names in PEOPLE:
        tracks = [landmarks.track(clip.read(data.path(n)), smooth=0) for n in names]
        people.append(at_rest(np.concatenate([t.points[t.visible] for t in tracks])))
    shape = mean_shape(people)
    index = mirror_index(shape)
    np.savez_compressed(OUT, points=symmetric(shape, index).astype(np.float16), mirror=index.astype(np.int16))


if __name__ == "__main__":
    main()
