"""Answers to the exercises of notebook 06, judged."""

import numpy as np
import torch
from scipy.spatial.distance import cdist

from thlib.course import Check, choices


def _nearest(target: np.ndarray, real: np.ndarray) -> np.ndarray:
    return cdist(target, real, "sqeuclidean").argmin(1)


def judge_nearest(nearest) -> str:
    dice = np.random.default_rng(0)
    real = dice.normal(size=(9, 6))
    for target in (real[[3, 0, 8, 3]] + 0.01, dice.normal(size=(5, 6)), dice.normal(size=(20, 6))):
        made, right = np.asarray(nearest(target, real)), _nearest(target, real)
        if made.shape != right.shape:
            return f"for {len(target)} frames wanted and 9 real ones the shape is {made.shape}, not {right.shape}"
        if not np.array_equal(made, right):
            k = int((made != right).argmax())
            off = cdist(target[k : k + 1], real, "sqeuclidean")[0]
            what = f"frame {k} of {len(target)}: real frame {right[k]} is off by {off[right[k]]:.3f} (squared)"
            return f"{what}; you take {made[k]}" + (f", off by {off[int(made[k])]:.3f}" if 0 <= made[k] < 9 else "")
    return ""


def judge_unshuffle(unshuffle) -> str:
    dice = torch.Generator().manual_seed(0)
    for (b, c, h, w), edge in (((1, 1, 4, 4), 2), ((2, 3, 8, 12), 4), ((1, 2, 6, 9), 3), ((2, 3, 4, 6), 1)):
        pictures = torch.randn((b, c, h, w), generator=dice)
        made, right = unshuffle(pictures, edge), torch.nn.functional.pixel_unshuffle(pictures, edge)
        what = f"of pictures {b, c, h, w} in blocks of {edge} × {edge}"
        if made.shape != right.shape:
            return f"{what} you make {tuple(made.shape)}, not {tuple(right.shape)}"
        if not torch.equal(made, right):
            wrong = [k for k in range(c * edge**2) if not torch.equal(made[:, k], right[:, k])]
            first, rest = wrong[0] // edge**2, wrong[0] % edge**2
            place = f"pixel ({rest // edge}, {rest % edge}) of each block of channel {first}"
            return f"{what} channel {wrong[0]} of the result is to hold {place}, and holds something else"
    return ""


def averaged(one: float, limit: float, n: int) -> float:
    return limit + (one - limit) / n


def extrapolated(one: float, few: float, n: int) -> float:
    return (n * few - one) / (n - 1)


def judge_law(law) -> str:
    if not isinstance(law, tuple) or len(law) != 2 or not all(map(callable, law)):
        return "give both functions: law = averaged, extrapolated"
    for one, limit, n in ((8.0, 2.0, 1), (8.0, 2.0, 3), (5.0, 5.0, 4), (9.0, 0.0, 2), (10.0, 4.0, 10**6)):
        made, right = law[0](one, limit, n), averaged(one, limit, n)
        what = f"one sample has {one:g}, infinitely many averaged {limit:g}"
        if not np.isclose(made, right, atol=1e-4):
            return f"{what}: the mean of {n} has {right:.4g}; you say {float(made):.4g}"
        if n > 1 and not np.isclose(back := law[1](one, right, n), limit, atol=1e-4):
            return f"one sample has {one:g}, {n} have {right:.4g}: the limit is {limit:g}; you say {float(back):.4g}"
    return ""


def taught(truth, warped, mouths, guess, fine):
    return truth - mouths, fine(truth - guess), truth - warped


def judge_lessons(lessons) -> str:
    dice = np.random.default_rng(0)
    truth, warped, mouths, guess = given = dice.normal(100, 20, (4, 2, 6, 8, 3))

    def fine(picture):  # not linear, so that it tells what was put in
        return np.where(np.abs(picture) < 15, picture, 0)

    made, right = lessons(*given, fine), taught(*given, fine)
    if not isinstance(made, tuple) or len(made) != 3:
        return "return three residuals: the predictor's, the refiner's, the paper's"
    names = "the predictor", "the refiner", "the paper's network"
    has = {"the truth": truth, "the warped picture": warped, "the picture with real mouths": mouths, "the guess": guess}
    for name, mine, one in zip(names, made, right):
        if np.shape(mine) != one.shape:
            return f"what {name} learns has the shape {np.shape(mine)}, not {one.shape}"
        if np.allclose(mine, one):
            continue
        if np.allclose(mine, -one):
            return f"what {name} learns has the wrong sign: it is to be added, and to give the truth"
        if np.allclose(mine, fine(truth) - guess):
            return f"what {name} learns is made fine too early: first the difference, then fine(…) of it"
        for what, picture in has.items():
            if np.allclose(mine, truth - picture) or np.allclose(mine, fine(truth - picture)):
                return f"what {name} learns is a residual to {what}; look again at what it adds to, and at what is fine"
        return f"what {name} learns does not lead from what it has to the truth"
    return ""


def _flickers(steady: float, spread: float) -> float:
    return np.hypot(steady, 6**0.5 * spread)


def judge_flickers(flickers) -> str:
    for steady, spread in ((0.0, 1.0), (3.0, 0.0), (2.0, 0.5), (1.0, 4.0)):
        made, right = float(flickers(steady, spread)), float(_flickers(steady, spread))
        if spread and np.isclose(made, np.hypot(steady, 2 * spread)):
            return "a sum of independent errors has the weights *squared* in its variance: 1² + 2² + 1²"
        if spread != spread**2 and np.isclose(made, (steady**2 + 6 * spread) ** 0.5):
            return "a deviation is squared to be a variance: the spread, too"
        if not np.isclose(made, right):
            return (
                f"a clip of flicker {steady:g} with errors of deviation {spread:g} has {right:.4f}; you say {made:.4f}"
            )
    return ""


WHOSE = {
    "a diffusion is conditioned on warped frames": "known",
    "stage 2 hears the sound": "summary",
    "pictures diffuse in the latent space of an autoencoder": "sibling",
    "a predictor says the mean, a diffusion its residual": "ours",
}


CHECKS = {
    "nearest": Check(
        judge_nearest, library=_nearest, hint="((target[:, None] − real) ** 2).sum(−1) is (N, M); then argmin(1)."
    ),
    "unshuffle": Check(
        judge_unshuffle,
        library=torch.nn.functional.pixel_unshuffle,
        hint="permute(0, 1, 3, 5, 2, 4), then reshape(b, c · edge², h // edge, w // edge).",
    ),
    "law": Check(
        judge_law,
        library=(averaged, extrapolated),
        hint="limit + (one − limit) / n; and backwards the rest is (one − few) · n / (n − 1).",
    ),
    "lessons": Check(
        judge_lessons, library=taught, hint="truth − mouths; fine(truth − guess); truth − warped, in this order."
    ),
    "flickers": Check(
        judge_flickers, library=_flickers, hint="weights 1, −2, 1; their squares sum to 6; add 6 · spread² to steady²."
    ),
    "whose": choices(WHOSE, hint="the table above carries the tags; what no column 'paper' tells is ours."),
}
