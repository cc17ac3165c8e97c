"""The checks of notebook 03: each tries an answer on small cases of its own, and knows one that is right."""

import torch

from thlib.course import Check, choices

WHOSE = {
    "both stages are conditional diffusion": "known",
    "a cosine schedule of 1000 levels": "sibling",
    "the network names the clean data": "sibling",
    "a guidance scale of 1": "ours",
}


def doubles(*values):
    """Numbers as tensors of double precision, whatever the notebook's default is."""
    return [torch.tensor(value, dtype=torch.float64) for value in values]


def noised(clean, noise, a):
    """The leap of exercise 1."""
    return a**0.5 * clean + (1 - a) ** 0.5 * noise


def judge_noised(answer) -> str:
    """The two ends, both factors, shares that differ from dot to dot."""
    for clean, noise, name in ((1.0, 0.0, "the clean data"), (0.0, 1.0, "the noise")):
        given, true = float(answer(clean, noise, 0.36)), noised(clean, noise, 0.36)
        if abs(given - true) > 1e-9:
            return (
                f"at share 0.36 {name} enters by the factor {given:.4g}, so it brings the variance {given**2:.3g}; "
                f"a factor of {true:.2g} would bring {true**2:.2g}"
            )
    clean, noise, a = doubles([[1.0], [2.0]], [[3.0], [4.0]], [[0.2], [0.7]])
    if not torch.allclose(answer(clean, noise, a), noised(clean, noise, a)):
        return "the factors are right for one share, but not where each dot has a share of its own"
    return ""


def posterior_mean(x, a, weights, means, sds):
    """The perfect denoiser of exercise 2, one Gaussian after the other."""
    logs, guesses = [], []
    for weight, mean, sd in zip(weights, means, sds):
        var, off = a * sd**2 + 1 - a, x - a**0.5 * mean  # of the noised Gaussian; (B, D)
        logs.append(weight.log() - off.square().sum(-1) / (2 * var) - x.shape[1] / 2 * var.log())
        guesses.append(mean + a**0.5 * sd**2 / var * off)
    return (torch.stack(logs).softmax(0)[..., None] * torch.stack(guesses)).sum(0)


def judge_posterior_mean(answer) -> str:
    """One Gaussian by hand, two whose guesses are weighed, two dimensions."""
    x, one, zero, far = doubles([[1.0]], [1.0], [[0.0]], [[2.0]])
    given, case = answer(x, 0.64, one, zero, one), "for x = 1, a = 0.64 and the one Gaussian N(0, 1)"
    if tuple(given.shape) != (1, 1):
        return f"{case} your answer has shape {tuple(given.shape)}, not (1, 1): one guess for each x, (B, D)"
    if abs(float(given) - 0.8) > 1e-9:
        return f"{case} you guess {float(given):.4g}; the gain is √a s² / var = 0.8 · 1 / 1, so 0.8"
    given, true = float(answer(x, 0.64, one, far, 0.5 * one)), 2 + 0.8 * 0.25 / 0.52 * (1 - 1.6)
    if abs(given - true) > 1e-9:
        return f"for x = 1, a = 0.64 and the one Gaussian N(2, 0.5²) you guess {given:.4g}, not {true:.4g}"
    x, *mixed = doubles([[0.1]], [0.3, 0.7], [[-1.0], [1.0]], [0.2, 0.4])
    given, true = float(answer(x, 0.5, *mixed)), float(posterior_mean(x, 0.5, *mixed))
    if abs(given - true) > 1e-9:
        return (
            f"each Gaussian's guess is right, but for two of them you answer {given:.4g} and not {true:.4g}: weigh them"
        )
    plane = doubles([[0.1, 0.5], [1.0, -1.0]], [0.3, 0.7], [[-1.0, 0.0], [1.0, 1.0]], [0.2, 0.4])
    x, *mixed = plane
    if not torch.allclose(answer(x, 0.5, *mixed), posterior_mean(x, 0.5, *mixed)):
        return "it is right in one dimension, but not in two"
    return ""


def step(x, clean, a, to, eta=0.0, fresh=0.0):
    """The step of exercise 3."""
    sd = eta * ((1 - to) * (a - to) / (a - 1) / to) ** 0.5
    return to**0.5 * clean + ((1 - to - sd**2) / (1 - a)) ** 0.5 * (x - a**0.5 * clean) + sd * fresh


def judge_step(answer) -> str:
    """Known noise comes out at the next level; the last step; with fresh noise the variance adds up."""
    clean, noise, a, to = 0.5, 2.0, 0.36, 0.64
    x = 0.6 * clean + 0.8 * noise
    if abs((given := answer(x, clean, a, to)) - (true := 0.8 * clean + 0.6 * noise)) > 1e-9:
        return f"clean 0.5 and noise 2 make x = {x:.2g} at a = 0.36; at 0.64 they make {true:.4g}, and you {given:.4g}"
    if abs(answer(x, clean, a, 1.0) - clean) > 1e-9:
        return (
            f"the last step, to = 1, should end at the clean data, {clean}, and not at {answer(x, clean, a, 1.0):.4g}"
        )
    kept = answer(x, clean, a, to, 1.0) - 0.8 * clean
    sd = answer(x, clean, a, to, 1.0, 1.0) - answer(x, clean, a, to, 1.0)
    if abs(kept**2 / noise**2 + sd**2 - 0.36) > 1e-9:
        shares = f"the old noise brings {kept**2 / noise**2:.3g} and the fresh {sd**2:.3g}"
        return f"with eta = 1 {shares}: together they should bring {1 - to:.2g}"
    if abs(answer(x, clean, a, to, 0.5, 2.0) - step(x, clean, a, to, 0.5, 2.0)) > 1e-9:
        return "it is right for eta 0 and 1, but not between: leave the line of sd as it was"
    return ""


def guided(x, a, loud, scale):
    """The guided answer of exercise 4."""
    known = 0.8 * loud + a**0.5 * 0.36 / (a * 0.36 + 1 - a) * (x - a**0.5 * 0.8 * loud)
    return scale * known + (1 - scale) * a**0.5 * x


def judge_guided(answer) -> str:
    """Deaf, as it is, exaggerated."""
    x, a, loud = 0.4, 0.25, 1.0
    named = (
        (0.0, "the blind answer, √a · x"),
        (1.0, "the known one"),
        (3.0, "three times as far from blind as known is"),
    )
    for scale, what in named:
        given, true = float(answer(x, a, loud, scale)), guided(x, a, loud, scale)
        if abs(given - true) > 1e-9:
            told = f"for x = 0.4, a = 0.25, loud = 1 the scale {scale:g} should give {what}"
            return f"{told}, {true:.4g}: you give {given:.4g}"
    return ""


def expected_error(sd, k):
    """The distance of exercise 5, from its square."""
    return (sd**2 + sd**2 / k) ** 0.5


def judge_expected_error(answer) -> str:
    """The mean of very many, one sample, between."""
    if abs((given := float(answer(0.6, 1e12))) - 0.6) > 1e-6:
        return f"the mean of very many samples is the regressor, off by sd = 0.6: you give {given:.3g}"
    if abs((given := float(answer(1.0, 1))) - 2**0.5) > 1e-9:
        return f"one sample and the truth are two draws of deviation 1: √2 = 1.414 apart, and you say {given:.4g}"
    for sd, k in ((0.6, 8), (2.0, 2)):
        if abs((given := float(answer(sd, k))) - expected_error(sd, k)) > 1e-9:
            return f"for sd = {sd} and k = {k} it is {expected_error(sd, k):.4g}, and you say {given:.4g}"
    return ""


CHECKS = {
    "noised": Check(judge_noised, library=noised, hint="What is multiplied by f has f² times the variance."),
    "posterior_mean": Check(
        judge_posterior_mean,
        library=posterior_mean,
        hint="gain: a**0.5 * sds**2 / var; then the sum over K of share[..., None] * guesses.",
    ),
    "step": Check(
        judge_step,
        library=step,
        hint="noise: (x - a**0.5 * clean) / (1 - a) ** 0.5; it comes back with the root of 1 - to - sd**2.",
    ),
    "guided": Check(
        judge_guided, library=guided, hint="blind: a**0.5 * x; then blind + scale times the way from blind to known."
    ),
    "expected_error": Check(
        judge_expected_error,
        library=expected_error,
        hint="Variances of independent draws add: sd² of the truth, sd² / k of the mean.",
    ),
    "whose": choices(WHOSE, hint="Known: the paper says so. Sibling: its relatives do it."),
}
