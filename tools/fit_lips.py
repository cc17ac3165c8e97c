"""Fit the classical lips (ridge and regressor) that ship with thlib, and write their card.

    THLIB_MIRROR=... python tools/fit_lips.py [--steps 900]

`default`: GRID's s1 (240 train clips) and one clip each of seven other speakers. `stranger`: those seven alone, for
what a speaker never seen gets. Only tier A footage; the 40 test clips of s1 are left for the figures in the card.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from thlib import metrics
from thlib.editing.motion import LipNet, fit_regressor, fit_ridge
from thlib.editing.pipeline import WEIGHTS
from thlib.footage import Footage, grid
from thlib.landmarks import LIPS

CARD = """# Lips from sound, classically

Two small networks from log-mel (80 bands at the video's rate) to head-fixed landmarks, see `thlib/editing/motion.py`:
`ridge` (one convolution over 13 frames, closed form) and `regressor` (five convolutions over 5 frames each).

| weights | trained on | network | lips % | opening r (median) | parameters |
|---|---|---|---|---|---|
{rows}

Lips: mean distance to the truth over the spoken frames of the 40 test clips of GRID's s1, in % of the distance of the
eye corners (no motion at all: {still:.2f}). Made by `tools/fit_lips.py --steps {steps}`, seed 0, fp16.

Footage: GRID audiovisual sentence corpus (Cooke, Barker, Cunningham & Shao 2006, doi 10.1121/1.2229005), CC BY 4.0.
Limits: one camera angle, read sentences of a small grammar; `stranger` has seen 21 seconds of footage in all.
"""


def score(net: LipNet, test: Sequence[Footage]) -> tuple[float, float]:
    """Lip error and median opening r of a network on footage it has not seen."""
    errors, follows = [], []
    for f in test:
        lips, truth = net.predict(f.mel)[f.spoken][:, LIPS, :2], f.motion[f.spoken][:, LIPS, :2]
        rest = f.rest[LIPS, :2]
        errors.append(metrics.lip_error(lips, truth))
        follows.append(metrics.correlation(metrics.opening(lips + rest), metrics.opening(truth + rest)))
    return float(np.mean(errors)), float(np.median(follows))


def main() -> None:
    """Fit, judge, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=900, help="training steps of the regressors")
    steps = parser.parse_args().steps
    s1, others, test = grid("train"), grid("others"), grid("test")
    rows = []
    for name, footage, alpha in (("default", s1 + others, 100.0), ("stranger", others, 3000.0)):
        few = steps if name == "default" else steps // 3
        for kind, net in (("ridge", fit_ridge(footage, alpha=alpha)), ("regressor", fit_regressor(footage, steps=few))):
            error, follows = score(net, test)
            count = sum(p.numel() for p in net.parameters())
            rows.append(f"| {name} | {len(footage)} clips | {kind} | {error:.2f} | {follows:.2f} | {count:,} |")
            print(rows[-1], flush=True)
            net.half().save_pretrained(WEIGHTS / name / kind)
    moves = [f.motion[f.spoken][:, LIPS, :2] for f in test]
    still = float(np.mean([metrics.lip_error(np.zeros_like(m), m) for m in moves]))
    (WEIGHTS / "README.md").write_text(CARD.format(rows="\n".join(rows), still=still, steps=steps))


if __name__ == "__main__":
    main()
