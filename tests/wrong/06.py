"""Wrong answers to the exercises of notebook 06: each a plausible mistake that its check must reject."""

import numpy as np


def permuted(*axes):
    def unshuffle(pictures, edge):
        b, c, h, w = pictures.shape
        blocks = pictures.reshape(b, c, h // edge, edge, w // edge, edge)
        return blocks.permute(*axes).reshape(b, c * edge**2, h // edge, w // edge)

    return unshuffle


def reshaped(pictures, edge):  # every shape is right, every pixel is wrong
    b, c, h, w = pictures.shape
    return pictures.reshape(b, c * edge**2, h // edge, w // edge)


def averaged(one, limit, n):
    return limit + (one - limit) / n


def extrapolated(one, few, n):
    return one - (one - few) * n / (n - 1)


RIGHT = {
    "a diffusion is conditioned on warped frames": "known",
    "stage 2 hears the sound": "summary",
    "pictures diffuse in the latent space of an autoencoder": "sibling",
    "a predictor says the mean, a diffusion its residual": "ours",
}

WRONG = {
    "nearest": [
        lambda target, real: ((target[:, None] - real) ** 2).sum(-1).argmin(0),
        lambda target, real: (target[:, None] - real).sum(-1).argmin(1),
        lambda target, real: ((target[:, None] - real) ** 2).sum(-1).min(1),
        lambda target, real: ((target[:, None] - real) ** 2).sum(-1).argmax(1),
    ],
    "unshuffle": [reshaped, permuted(0, 1, 5, 3, 2, 4), permuted(0, 3, 5, 1, 2, 4), permuted(0, 1, 2, 4, 3, 5)],
    "law": [
        (lambda one, limit, n: one / n, extrapolated),
        (lambda one, limit, n: limit + (one - limit) / n**0.5, extrapolated),
        (averaged, lambda one, few, n: one - (one - few) * n),
        (averaged, lambda one, few, n: few),
        averaged,
    ],
    "lessons": [
        lambda truth, warped, mouths, guess, fine: (mouths - truth, fine(guess - truth), warped - truth),
        lambda truth, warped, mouths, guess, fine: (truth - mouths, truth - guess, truth - warped),
        lambda truth, warped, mouths, guess, fine: (truth - mouths, fine(truth) - guess, truth - warped),
        lambda truth, warped, mouths, guess, fine: (truth - warped, fine(truth - guess), truth - mouths),
        lambda truth, warped, mouths, guess, fine: (truth - mouths, fine(truth - mouths), truth - warped),
    ],
    "flickers": [
        lambda steady, spread: (steady**2 + 4 * spread**2) ** 0.5,
        lambda steady, spread: (steady**2 + 6 * spread) ** 0.5,
        lambda steady, spread: steady + 6**0.5 * spread,
        lambda steady, spread: np.hypot(steady, spread),
    ],
    "whose": [
        RIGHT | {"a predictor says the mean, a diffusion its residual": "known"},
        RIGHT | {"stage 2 hears the sound": "known"},
    ],
}
