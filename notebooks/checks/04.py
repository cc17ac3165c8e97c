"""Answers to the exercises of notebook 04, judged."""

import numpy as np
import torch

from thlib.course import Check, choices
from thlib.editing import context


def _borders(edit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left, right = context.borders(torch.from_numpy(edit)[None])
    return left[0].numpy(), right[0].numpy()


def judge_borders(borders) -> str:
    for size, first, stop in ((6, 2, 5), (9, 0, 3), (9, 4, 9), (5, 2, 3)):
        edit = (np.arange(size) >= first) & (np.arange(size) < stop)
        made, what = borders(edit), f"with frames {first} to {stop - 1} of {size} masked"
        if not isinstance(made, tuple) or len(made) != 2:
            return f"return two arrays, left and right, not {type(made).__name__}"
        for mine, right, side in zip(made, _borders(edit), ("left", "right")):
            mine = np.asarray(mine)
            if mine.shape != (size,):
                return f"{what} the {side} steps have the shape {mine.shape}, not ({size},)"
            if not np.array_equal(mine[edit], right[edit]):
                return f"{what} the steps to the {side} are {right[edit]} in the run; you give {mine[edit]}"
            if not np.array_equal(mine, right):
                return f"{what} the formula goes on to {right} on the {side}; you give {mine}"
    return ""


def _fixed_gate(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    sides = np.exp(-np.stack([left, right], -1) / 4)
    sound = (1 - sides.sum(-1, keepdims=True)).clip(0.05)
    return np.concatenate([sides, sound], -1) / (sides.sum(-1, keepdims=True) + sound)


def judge_fixed_gate(fixed_gate) -> str:
    for count in (20, 6, 1):
        left = np.arange(1.0, count + 1)
        made, right = np.asarray(fixed_gate(left, left[::-1])), _fixed_gate(left, left[::-1])
        if made.shape != (count, 3):
            return f"for {count} frames the shape is {made.shape}, not ({count}, 3)"
        if (made < 0).any():
            return f"in an edit of {count} frames a share is {made.min():.2f}: the sound keeps at least 0.05"
        if not np.allclose(made.sum(1), 1):
            return f"in an edit of {count} frames the shares of frame 1 sum to {made[0].sum():.3f}, not 1"
        if not np.allclose(made, right):
            worst = int(np.abs(made - right).sum(1).argmax())
            what = f"frame {worst + 1} of {count} has left, right, sound"
            return f"{what} {right[worst].round(3)}; you give {made[worst].round(3)}"
    return ""


def _unsure(left: np.ndarray, right: np.ndarray, memory: float) -> np.ndarray:
    a, b = np.exp(-2 * np.asarray(left) / memory), np.exp(-2 * np.asarray(right) / memory)
    return np.sqrt((1 - a) * (1 - b) / (1 - a * b))


def judge_unsure(unsure) -> str:
    left = np.array([1.0, 5, 20])
    alone, right = unsure(left, np.inf, 10), np.sqrt(1 - np.exp(-2 * left / 10))
    if np.allclose(alone, right**2) or np.allclose(unsure(left, left[::-1], 10), _unsure(left, left[::-1], 10) ** 2):
        return "that is the variance; the deviation is its root"
    if not np.allclose(alone, right):
        far = f"with the right border infinitely far and the left one {left[1]:.0f} frames away, memory 10"
        return f"{far}, {right[1]:.3f} is left; you give {np.broadcast_to(alone, 3)[1]:.3f}"
    for a, b in ((1.0, 1.0), (3.0, 12.0), (12.0, 3.0), (40.0, 40.0)):
        made, right = float(unsure(a, b, 10)), float(_unsure(a, b, 10))
        if not np.isclose(made, right):
            return f"{a:.0f} frames from the left and {b:.0f} from the right, {right:.3f} is left; you give {made:.3f}"
    return ""


def _split(samples: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    one, mean = np.square(samples - truth).mean(), np.square(samples.mean(0) - truth).mean()
    return one, mean, samples.var(0).mean()


def judge_split(split) -> str:
    dice = np.random.default_rng(0)
    samples, truth = dice.normal(1, 2, (5, 7, 40, 2)), dice.normal(size=(7, 40, 2))
    made, right = split(samples, truth), _split(samples, truth)
    if len(made) != 3 or any(np.shape(part) for part in made):
        return "return three numbers: one sample's, the mean's, the spread"
    if np.isclose(made[2], samples.var(0, ddof=1).mean()):
        return "the spread is divided by S - 1; here it is a plain mean over the samples"
    if np.isclose(made[1], right[1] ** 0.5) or np.isclose(made[2], right[2] ** 0.5):
        return "these are roots of mean squares; only the squares add up"
    for part, mine, value in zip(("one sample's", "the mean's", "the spread"), made, right):
        if not np.isclose(mine, value):
            return f"for the samples of the check {part} is {value:.4f}; you give {float(mine):.4f}"
    return ""


WHOSE = {
    "motion is made from sound and surrounding motion": "known",
    "the surrounding motion is given on both sides": "inferred",
    "the loss counts only what is masked": "sibling",
    "a gate shares each frame between left, right and sound": "ours",
}


CHECKS = {
    "borders": Check(
        judge_borders, library=_borders, hint="the last real frame is first − 1; the next one is first + count."
    ),
    "fixed_gate": Check(
        judge_fixed_gate, library=_fixed_gate, hint="np.maximum(1 − l − r, 0.05), then divide by the sum of all three."
    ),
    "unsure": Check(
        judge_unsure, library=_unsure, hint="1 / variance = from_left + from_right − 1; take the root of the variance."
    ),
    "split": Check(judge_split, library=_split, hint="(middle − truth)² and (samples − middle)², each with .mean()."),
    "whose": choices(WHOSE, hint="the table above carries the tags; a guess makes the build ours."),
}
