"""Wrong answers to the exercises of notebook 04: each a plausible mistake that its check must reject."""

import numpy as np


def shifted(edit):  # 0 on the first and on the last frame of the run
    at, first, count = np.arange(len(edit)), edit.argmax(), edit.sum()
    return at - first, first + count - 1 - at


def mirrored(edit):
    at, first, count = np.arange(len(edit)), edit.argmax(), edit.sum()
    return first + count - at, at - first + 1


def to_the_end(edit):  # the right border is taken for the end of the film
    at, first = np.arange(len(edit)), edit.argmax()
    return at - first + 1, len(edit) - at


def gate(left, right, *, least=0.05, axis=-1, reach=4):
    l, r = np.exp(-left / reach), np.exp(-right / reach)
    three = np.stack([l, r, np.maximum(1 - l - r, least)], -1)
    return three / three.sum(axis, keepdims=True)


def no_sum(left, right):
    l, r = np.exp(-left / 4), np.exp(-right / 4)
    return np.stack([l, r, np.maximum(1 - l - r, 0.05)], -1)


def unsure(left, right, memory, *, prior=1, power=0.5):
    a, b = (1 / (1 - np.exp(-2 * np.asarray(d) / memory)) for d in (left, right))
    return (1 / (a + b - prior)) ** power


def averaged(left, right, memory):
    a, b = (1 - np.exp(-2 * np.asarray(d) / memory) for d in (left, right))
    return ((a + b) / 2) ** 0.5


def unsquared(left, right, memory):  # exp(-d / memory) where its square belongs
    return unsure(left, right, 2 * memory)


def split(samples, truth, *, ddof=0):
    return ((samples - truth) ** 2).mean(), ((samples.mean(0) - truth) ** 2).mean(), samples.var(0, ddof=ddof).mean()


RIGHT = {
    "motion is made from sound and surrounding motion": "known",
    "the surrounding motion is given on both sides": "inferred",
    "the loss counts only what is masked": "sibling",
    "a gate shares each frame between left, right and sound": "ours",
}

WRONG = {
    "borders": [shifted, mirrored, to_the_end],
    "fixed_gate": [
        no_sum,
        lambda left, right: gate(left, right, least=-9),
        lambda left, right: gate(left, right, axis=0),
        lambda left, right: gate(left, right, reach=3),
        lambda left, right: gate(left, right)[:, [1, 0, 2]],
    ],
    "unsure": [
        averaged,
        unsquared,
        lambda left, right, memory: unsure(left, right, memory, prior=0),
        lambda left, right, memory: unsure(left, right, memory, power=1),
    ],
    "split": [
        lambda samples, truth: split(samples, truth, ddof=1),
        lambda samples, truth: tuple(np.sqrt(split(samples, truth))),
        lambda samples, truth: (*split(samples, truth)[:2], ((samples - truth) ** 2).mean()),
        lambda samples, truth: (split(samples, truth)[0], *split(samples, truth)[:0:-1]),
    ],
    "whose": [
        RIGHT | {"a gate shares each frame between left, right and sound": "known"},
        RIGHT | {"the surrounding motion is given on both sides": "known"},
    ],
}
