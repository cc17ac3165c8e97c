"""Planted wrong answers to the exercises of notebook 00."""

import importlib.util
from pathlib import Path

import numpy as np

spec = importlib.util.spec_from_file_location(
    "c", Path(__file__).resolve().parents[2] / "notebooks" / "checks" / "00.py"
)
spec.loader.exec_module(right := importlib.util.module_from_spec(spec))


def unmoved(original, edited, first, last):
    """Forgets that what follows the edit has moved."""
    n = min(len(original), len(edited))
    real = np.zeros(len(edited), bool)
    real[:n] = [np.array_equal(a, b) for a, b in zip(original[:n], edited[:n])]
    return real


def believed(original, edited, first, last):
    """Does not look at the frames."""
    real = np.ones(len(edited), bool)
    real[first:last] = False
    return real


def swapped(choice: str) -> dict[str, str]:
    """One of the four is wrong."""
    return right.ORIGIN | {choice: "ours" if right.ORIGIN[choice] == "known" else "known"}


WRONG = {
    "twins": [{"pat"}, {"mat", "pat", "fat", "vat"}, {"pat", "mat", "bat"}, "pat", {"hat"}],
    "mean_error": [
        lambda found, true: 1000 * np.mean([a.start - b.start for a, b in zip(found, true)]),
        lambda found, true: np.mean([abs(a.start - b.start) for a, b in zip(found, true)]),
        lambda found, true: 1000 * np.sum([abs(a.start - b.start) for a, b in zip(found, true)]),
        lambda found, true: 1000 * np.sqrt(np.mean([(a.start - b.start) ** 2 for a, b in zip(found, true)])),
    ],
    "real_frames": [
        unmoved,
        believed,
        lambda original, edited, first, last: ~believed(original, edited, first, last),
        lambda original, edited, first, last: believed(original, edited, first, last)[: len(original)],
    ],
    "cross_fade": [
        lambda before, after, n: np.linspace(before, after, n),
        lambda before, after, n: np.linspace(after, before, n + 2)[1:-1],
        lambda before, after, n: np.linspace(before, after, n + 1)[1:],
        lambda before, after, n: np.repeat(before[None], n, 0),
        lambda before, after, n: before + np.linspace(0, 1, n + 2)[1:-1] * (after - before),
    ],
    "origin": [*map(swapped, right.ORIGIN), dict.fromkeys(right.ORIGIN, "known"), dict.fromkeys(right.ORIGIN, "mine")],
}
