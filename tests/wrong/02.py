"""Wrong answers to the exercises of notebook 02: each a plausible mistake that its check must reject."""

import numpy as np


def tents(edges, bins, height=None, floor=0.0):
    low, top, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    sides = np.minimum((bins - low) / (top - low), (high - bins) / (high - top))
    return (2 / (high - low) if height is None else height) * np.maximum(floor, sides)


def boxes(edges, bins):
    low, high = edges[:-2, None], edges[2:, None]
    return ((bins >= low) & (bins <= high)) / (high - low)


def bags(spelt, viseme):  # the order of the visemes is lost
    groups = {}
    for word, phones in spelt.items():
        groups.setdefault(frozenset(viseme[p] for p in phones.split()), []).append(word)
    return [words for words in groups.values() if len(words) > 1]


def by_first(spelt, viseme):
    groups = {}
    for word, phones in spelt.items():
        groups.setdefault(viseme[phones.split()[0]], []).append(word)
    return [words for words in groups.values() if len(words) > 1]


def singles(spelt, viseme):  # words that look like none stay in
    groups = {}
    for word, phones in spelt.items():
        groups.setdefault(tuple(viseme[p] for p in phones.split()), []).append(word)
    return list(groups.values())


def solved(x, y, alpha, *, centred=True):
    dx, dy = (x - x.mean(0), y - y.mean(0)) if centred else (x, y)
    return np.linalg.solve(dx.T @ dx + alpha * np.eye(x.shape[1]), dx.T @ dy)


def everywhere(x, y, alpha):  # α on every entry of xᵀx, not on its diagonal alone
    dx, dy = x - x.mean(0), y - y.mean(0)
    weights = np.linalg.solve(dx.T @ dx + alpha, dx.T @ dy)
    return weights, y.mean(0) - x.mean(0) @ weights


def raw(x, y, alpha):  # y is centred, x is not
    weights = np.linalg.solve(x.T @ x + alpha * np.eye(x.shape[1]), x.T @ (y - y.mean(0)))
    return weights, y.mean(0) - x.mean(0) @ weights


def nearest(x, means, scatter):
    return np.linalg.norm(x[:, None] - means, axis=-1).argmin(1)


def divided(x, means, scatter):  # as if coordinates did not vary together
    return ((x[:, None] - means) ** 2 / np.diag(scatter)).sum(-1).argmin(1)


def multiplied(x, means, scatter):  # the scatter, not its inverse
    away = x[:, None] - means
    return (away @ scatter * away).sum(-1).argmin(1)


def half(x, means, scatter):  # δᵀS⁻¹, and its entries summed
    return ((x[:, None] - means) @ np.linalg.inv(scatter)).sum(-1).argmin(1)


RIGHT = {
    "wav2vec 2.0 in EmoFace": "known",
    "words timed by a forced aligner": "inferred",
}
RIGHT |= {"a mel row centred on each frame": "ours", "a lip-reader as judge": "ours"}

WRONG = {
    "triangles": [
        lambda edges, bins: tents(edges, bins, height=1),
        lambda edges, bins: tents(edges, bins, floor=-1.0),
        lambda edges, bins: tents(edges, bins).T,
        boxes,
    ],
    "samples_of": [
        lambda k, fps, rate: (k * round(rate / fps), (k + 1) * round(rate / fps)),
        lambda k, fps, rate: (round(k / fps * rate), round(k / fps * rate) + round(rate / fps)),
        lambda k, fps, rate: (int(k / fps * rate), int((k + 1) / fps * rate)),
        lambda k, fps, rate: (round(k / fps * rate), round((k + 1) / fps * rate) - 1),
        lambda k, fps, rate: (k / fps * rate, (k + 1) / fps * rate),
        lambda k, fps, rate: (round((k - 0.5) / fps * rate), round((k + 0.5) / fps * rate)),
    ],
    "look_alikes": [bags, by_first, singles],
    "ridge": [
        lambda x, y, alpha: (solved(x, y, 0), y.mean(0) - x.mean(0) @ solved(x, y, 0)),
        lambda x, y, alpha: (solved(x, y, alpha, centred=False), y.mean(0)),
        everywhere,
        raw,
        lambda x, y, alpha: (solved(x, y, alpha), y.mean(0)),
        lambda x, y, alpha: (solved(x, y, alpha * len(x)), y.mean(0) - x.mean(0) @ solved(x, y, alpha * len(x))),
    ],
    "read": [nearest, divided, multiplied, half],
    "whose": [RIGHT | {"a lip-reader as judge": "known"}, RIGHT | {"words timed by a forced aligner": "known"}],
}
