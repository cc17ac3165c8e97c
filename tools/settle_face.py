"""Settle the presenter's face: move the neutral's points to where the networks find them on faces that it draws.

    THLIB_MIRROR=... python tools/settle_face.py [--rounds 2]

On a brow, an eye or a lip a landmark is a place that is seen. On cheek, forehead or jaw it is wherever the networks'
habit puts it, and a smooth drawn cheek shows no other: there the mean difference between found and true points over
many drawn people is added to the neutral. Runs after fit_face.py; build_head.py must run again after it.
"""

# N drawn faces
from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from fit_face import OUT, mirrored, smooth

from thlib.landmarks import BROWS, EYES, LIPS, Head, head_fixed
from thlib.mesh import FaceMesh
from thlib.presenter import face, render

FEATURES = np.concatenate([*EYES, *BROWS, LIPS, [98, 327, 97, 326, 48, 278, 64, 294, 129, 358]])


def differences(count: int, seed: int) -> np.ndarray:
    """Found less true points (478, 3), head-fixed, mean over `count` drawn faces; z is left as it is."""
    net, rng, out = FaceMesh(), np.random.default_rng(seed), []
    for k in range(count):
        angles = rng.uniform(-1, 1, (1, 3)) * [12, 6, 5]
        drawn = render.render(render.person(seed + k), np.zeros((1, 52)), head=render.place(angles, (256, 256)))
        faces = net.faces(drawn.frames[0])
        if not faces:
            continue
        found = net.locate(drawn.frames[0], net.locate(drawn.frames[0], faces[0]).face)
        points = found.points[None] + np.array([0.5, 0.5, 0])  # the networks count pixels' centres from 0
        points[..., 2] = drawn.points[..., 2]
        head = Head.fit(drawn.points)
        out.append(head.fix(points)[0] - head.fix(drawn.points)[0])
    mean = np.median(out, axis=0) * [1, 1, 0]
    return (mean + mirrored(mean)) / 2


def free(neutral: np.ndarray) -> np.ndarray:
    """How far each point (478, 1) is from anything that is seen, 0 to 1."""
    away = np.linalg.norm(neutral[:, None, :2] - neutral[None, FEATURES, :2], axis=2).min(1)
    return smooth(away, 0.02, 0.14)[:, None]


def main() -> None:
    """Draw, find, move, write; as often as asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="how often")
    parser.add_argument("--seed", type=int, default=50_000, help="the first of 100 people")
    options = parser.parse_args()
    with np.load(OUT) as file:
        arrays = dict(file)
    move = differences(100, options.seed)
    move -= move[FEATURES].mean(0)
    settled = face.model().neutral + 0.8 * free(face.model().neutral) * move
    arrays["neutral"] = head_fixed(settled[None])[0].astype(np.float16)
    np.savez_compressed(OUT, **arrays)
    subprocess.run([sys.executable, str(Path(__file__).with_name("build_head.py"))], check=True)
    if options.rounds > 1:
        subprocess.run([sys.executable, __file__, "--rounds", str(options.rounds - 1)], check=True)


if __name__ == "__main__":
    main()
