"""Plausible wrong answers to the exercises of notebook 03: each must be rejected."""

import torch


def posterior(gain, weigh):
    """Exercise 2 with another gain, or other weights of the guesses."""

    def posterior_mean(x, a, weights, means, sds):
        var = a * sds**2 + 1 - a
        off = x[:, None] - a**0.5 * means
        logs = weights.log() - off.square().sum(-1) / (2 * var) - x.shape[1] / 2 * var.log()
        guesses = means + gain(a, sds, var)[:, None] * off
        return weigh(logs.softmax(-1), guesses)

    return posterior_mean


def right_gain(a, sds, var):
    return a**0.5 * sds**2 / var


def right_weigh(share, guesses):
    return (share[..., None] * guesses).sum(1)


def stepped(noise, factor):
    """Exercise 3 with another noise, or another factor on it."""

    def step(x, clean, a, to, eta=0.0, fresh=0.0):
        sd = eta * ((1 - to) / (1 - a) * (1 - a / to)) ** 0.5
        return to**0.5 * clean + factor(a, to, sd) * noise(x, clean, a) + sd * fresh

    return step


def right_noise(x, clean, a):
    return (x - a**0.5 * clean) / (1 - a) ** 0.5


def right_factor(a, to, sd):
    return (1 - to - sd**2) ** 0.5


def known(x, a, loud):
    return 0.8 * loud + a**0.5 * 0.36 / (a * 0.36 + 1 - a) * (x - a**0.5 * 0.8 * loud)


def whose(*values):
    return dict(
        zip(
            (
                "both stages are conditional diffusion",
                "a cosine schedule of 1000 levels",
                "the network names the clean data",
                "a guidance scale of 1",
            ),
            values,
        )
    )


WRONG = {
    "noised": [
        lambda clean, noise, a: a * clean + (1 - a) * noise,
        lambda clean, noise, a: a**0.5 * clean + (1 - a) * noise,
        lambda clean, noise, a: a**0.5 * clean + (1 - a**0.5) * noise,
        lambda clean, noise, a: clean + (1 - a) ** 0.5 * noise,
        lambda clean, noise, a: (1 - a) ** 0.5 * clean + a**0.5 * noise,
        lambda clean, noise, a: float(a) ** 0.5 * clean + (1 - float(a)) ** 0.5 * noise,
    ],
    "posterior_mean": [
        posterior(lambda a, sds, var: sds**2 / var, right_weigh),
        posterior(lambda a, sds, var: a * sds**2 / var, right_weigh),
        posterior(lambda a, sds, var: a**0.5 * sds / var, right_weigh),
        posterior(lambda a, sds, var: a**-0.5 + 0 * sds, right_weigh),
        posterior(right_gain, lambda share, guesses: guesses.mean(1)),
        posterior(right_gain, lambda share, guesses: guesses[torch.arange(len(share)), share.argmax(-1)]),
        posterior(right_gain, lambda share, guesses: share[..., None] * guesses),
    ],
    "step": [
        stepped(lambda x, clean, a: x - clean, right_factor),
        stepped(lambda x, clean, a: x - a**0.5 * clean, right_factor),
        stepped(lambda x, clean, a: (x - clean) / (1 - a) ** 0.5, right_factor),
        stepped(lambda x, clean, a: (x - a**0.5 * clean) / (1 - a), right_factor),
        stepped(right_noise, lambda a, to, sd: (1 - to) ** 0.5),
        stepped(right_noise, lambda a, to, sd: (1 - to) ** 0.5 - sd),
        stepped(right_noise, lambda a, to, sd: (1 - a) ** 0.5),
    ],
    "guided": [
        lambda x, a, loud, scale: known(x, a, loud) + scale * (known(x, a, loud) - a**0.5 * x),
        lambda x, a, loud, scale: x + scale * (known(x, a, loud) - x),
        lambda x, a, loud, scale: scale * known(x, a, loud),
        lambda x, a, loud, scale: a**0.5 * x + scale * (a**0.5 * x - known(x, a, loud)),
        lambda x, a, loud, scale: known(x, a, loud),
    ],
    "expected_error": [
        lambda sd, k: sd / k**0.5,
        lambda sd, k: sd * (1 + 1 / k),
        lambda sd, k: sd + sd / k**0.5,
        lambda sd, k: sd * 2**0.5,
        lambda sd, k: sd * (1 + 1 / k**2) ** 0.5,
    ],
    "whose": [
        whose("known", "known", "sibling", "ours"),
        whose("known", "sibling", "ours", "ours"),
        whose("known", "sibling", "sibling", "sibling"),
        whose("known", "sibling", "sibling", "mine"),
        {"both stages are conditional diffusion": "known"},
    ],
}
