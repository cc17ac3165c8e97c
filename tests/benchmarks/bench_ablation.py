"""What each part of stage 1 is worth, and how much footage it needs: all variants with the same few steps of training.

`--steps n` sets them (1,500: about ten minutes on two cores); `--limit n` judges every n-th of GridEdit's edits.
Read differences against the table's intervals: one seed each.
"""

import numpy as np
import protocol
import pytest
import tables
import torch

from thlib import metrics
from thlib.editing.context import MotionDiffusion, fit_diffusion
from thlib.editing.motion import decode, encode
from thlib.landmarks import LIPS
from thlib.training import Settings

VARIANTS = {
    "full": {},
    "gate fixed": {"weights": "fixed_exp"},
    "gate uniform": {"weights": "uniform"},
    "context left": {"context": "left"},
    "context none": {"context": "none"},
    "loss unmasked": {"masked": False},
}
SIZES = (30, 60, 120)  # clips; "full" has them all


@pytest.fixture(scope="module")
def cases(request, mirror):
    """GridEdit's edits, or every n-th."""
    test = {f.name: f for f in protocol.clips("test")}
    return [
        protocol.grid_edit(test[a], test[b]) for a, b in protocol.grid_pairs()[:: request.config.getoption("limit")]
    ]


def trained(footage, steps: int, **kind) -> MotionDiffusion:
    """A small diffusion of motion, seed 0, no presenters."""
    torch.manual_seed(0)
    return fit_diffusion(
        footage, Settings(steps, weight_decay=0.02, ema=0.995, precision="bf16"), net=MotionDiffusion(**kind)
    )


def judged(case: protocol.Case, net: MotionDiffusion) -> dict[str, float]:
    """One sample and the mean of 8, as landmarks; and whether lips jump at the borders."""
    w, (rest, _) = case.window, protocol.rest_of(case)
    motion = net.motion(w.sound, w.motion, edit=w.edit, samples=8)
    lips = motion[:, w.edit][:, :, LIPS, :2]
    one, mean = (protocol.judge(case, part, rest=rest[LIPS, :2]) for part in (lips[0], lips.mean(0)))
    real = decode(net, torch.from_numpy(encode(net, w.motion)))  # the context in the same basis
    joined = np.where(w.edit[:, None, None], motion[0], real)[:, LIPS]
    steps = metrics.motion_steps(joined)
    inside = w.edit[1:] | w.edit[:-1]
    joins = [steps[k] for k in np.flatnonzero(w.edit[1:] != w.edit[:-1])]
    picked = ("lips %", "opening r", "digits")
    return (
        {f"{k}, mean": mean[k] for k in picked}
        | {f"{k}, one": one[k] for k in picked}
        | {"deviation": one["deviation"], "seams": metrics.share_above(joins, steps[~inside])}
    )


def test_ablations(request, cases):
    """Gates, contexts and the masked loss; then less and less footage."""
    steps, train = request.config.getoption("steps"), protocol.clips("train")
    nets = {name: trained(train, steps, **kind) for name, kind in VARIANTS.items()}
    nets |= {f"{n} clips": trained(train[:: len(train) // n][:n], steps) for n in SIZES}
    values = protocol.collect({name: [judged(c, net) for c in cases] for name, net in nets.items()})
    print(f"\nAblations, {steps} steps each\n{tables.table(values, median=('opening r, mean', 'opening r, one'))}")
    for name in values:
        assert np.mean(values[name]["lips %, mean"]) < 2.1, f"{name} is no better than a mouth that does not move"
