"""Answers to the exercises of notebook 02, judged."""

from fractions import Fraction

import numpy as np

from thlib import mux
from thlib.course import Check, choices


def _triangles(edges: np.ndarray, bins: np.ndarray) -> np.ndarray:
    corners = zip(edges, edges[1:], edges[2:])
    return np.stack([np.interp(bins, three, (0, 2 / (three[2] - three[0]), 0)) for three in corners])


def judge_triangles(triangles) -> str:
    edges, bins = np.array([0.0, 100, 300, 400]), np.arange(0, 450, 50.0)
    made, right = np.asarray(triangles(edges, bins)), _triangles(edges, bins)
    if made.shape != right.shape:
        return f"for 4 edges and 9 bins the shape is {made.shape}; there are 2 triangles, so it must be (2, 9)"
    if (made < -1e-9).any():
        return f"a triangle is negative ({made.min():.3g}) outside its edges; there it is 0"
    tops = made.max(1)
    if np.allclose(tops, 1):
        return "every triangle has height 1; it must be 2 / (edge k + 2 − edge k), so that all have the same area"
    if not np.allclose(made, right):
        row, column = np.argwhere(~np.isclose(made, right))[0]
        three = ", ".join(f"{edge:.0f}" for edge in edges[row : row + 3])
        where = f"the triangle over {three} Hz, at {bins[column]:.0f} Hz"
        return f"{where}, is {right[row, column]:.5f}, yours is {made[row, column]:.5f}"
    return ""


def _samples_of(k: int, fps: float, rate: int) -> tuple[int, int]:
    return mux.sample_at(k, fps, rate), mux.sample_at(k + 1, fps, rate)


CLOCKS = [(25, 16000), (Fraction(30000, 1001), 44100), (24, 22050)]  # frames and samples a second
SLIPS = {  # how the samples of a frame go wrong
    "you round the length of a frame once, and an error once made is multiplied by k": lambda k, fps, rate: (
        k * round(rate / fps),
        (k + 1) * round(rate / fps),
    ),
    "you round down, and are off by up to a whole sample: round to the nearest": lambda k, fps, rate: (
        int(k / fps * rate),
        int((k + 1) / fps * rate),
    ),
    "your end is the last sample of the frame: the end asked for is one past it": lambda k, fps, rate: (
        mux.sample_at(k, fps, rate),
        mux.sample_at(k + 1, fps, rate) - 1,
    ),
}


def judge_samples_of(samples_of) -> str:
    cases = [(k, fps, rate) for fps, rate in CLOCKS for k in (0, 1, 2, 999, 107_892)]
    made = [tuple(samples_of(*case)) for case in cases]
    for told, slip in SLIPS.items():
        if made == [slip(*case) for case in cases]:
            return told
    for (k, fps, rate), (first, last) in zip(cases, made):
        what = f"frame {k} at {float(fps):.5g} frames and {rate} samples a second"
        if first != int(first) or last != int(last):
            return f"{what} begins at sample {first} and ends at {last}; samples are whole numbers"
        off = max(abs(first - k * rate / fps), abs(last - (k + 1) * rate / fps))
        if off > 0.5001:
            return f"{what} is off by {float(off):.1f} samples; half a sample is the most that rounding needs"
        if last != samples_of(k + 1, fps, rate)[0]:
            return f"{what} ends at {last}, and the next begins at {samples_of(k + 1, fps, rate)[0]}"
    return ""


def _look_alikes(spelt: dict[str, str], viseme: dict[str, str]) -> list[list[str]]:
    seen = {word: [viseme[phone] for phone in phones.split()] for word, phones in spelt.items()}
    groups = [[word for word in spelt if seen[word] == look] for look in seen.values()]
    return [group for k, group in enumerate(groups) if len(group) > 1 and group not in groups[:k]]


def judge_look_alikes(look_alikes) -> str:
    viseme = {"B": "shut", "M": "shut", "T": "tip", "N": "tip", "AE": "wide"}
    cases = [{"bat": "B AE T", "man": "M AE N", "tab": "T AE B"}, {"at": "AE T", "bat": "B AE T", "tat": "T AE T"}]
    cases += [{"bat": "B AE T", "tab": "T AE B"}, {"bat": "B AE T", "bam": "B AE M"}]
    cases += [{"bad": "B AE T", "am": "AE M", "mat": "M AE T", "ab": "AE B"}]
    for spelt in cases:
        made, right = look_alikes(dict(spelt), viseme), _look_alikes(spelt, viseme)
        if sorted(map(sorted, made)) != sorted(map(sorted, right)):
            words = ", ".join(f"{word} ({phones})" for word, phones in spelt.items())
            return f"of {words}, with B = M and T = N, {right or 'none'} look alike; you say {list(made)}"
    return ""


def _ridge(x: np.ndarray, y: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    with_one = np.column_stack([x, np.ones(len(x))])
    price = np.diag([alpha] * x.shape[1] + [0.0])  # b costs nothing
    both = np.linalg.solve(with_one.T @ with_one + price, with_one.T @ y)
    return both[:-1], both[-1]


def judge_ridge(ridge) -> str:
    dice = np.random.default_rng(0)
    x, y = dice.normal(2, 1, (40, 3)), dice.normal(-5, 1, (40, 2))
    (weights, bias), (right, offset) = ridge(x, y, 10.0), _ridge(x, y, 10.0)
    if np.shape(weights) != (3, 2) or np.shape(bias) != (2,):
        return (
            f"for x (40, 3) and y (40, 2) the shapes are {np.shape(weights)} and {np.shape(bias)}, not (3, 2) and (2,)"
        )
    if np.allclose(weights, _ridge(x, y, 0.0)[0]):
        return "these are the weights of plain least squares: α does nothing"
    dx, dy, one = x - x.mean(0), y - y.mean(0), np.eye(3)
    if np.allclose(weights, np.linalg.solve(dx.T @ dx + 10, dx.T @ dy)):
        return "α is added to every entry of xᵀx; it belongs on the diagonal alone: multiply it by the identity"
    if any(np.allclose(weights, np.linalg.solve(x.T @ x + 10 * one, x.T @ goal)) for goal in (y, dy)):
        return "x is not centred: take its mean away first, or b is paid for too"
    if not np.allclose(weights, right):
        return (
            f"the first weight is {right[0, 0]:.4f} for x and y of the check with α = 10, yours is {weights[0, 0]:.4f}"
        )
    if not np.allclose(bias, offset):
        return f"b is {offset.round(3)}, yours is {np.round(bias, 3)}: the line must go through the means of x and y"
    return ""


def _read(x: np.ndarray, means: np.ndarray, scatter: np.ndarray) -> np.ndarray:
    root = np.linalg.inv(np.linalg.cholesky(scatter)).T
    return np.linalg.norm((x @ root)[:, None] - means @ root, axis=-1).argmin(1)


def judge_read(read) -> str:
    means, scatter = np.array([[0.0, 0], [4, 1]]), np.array([[9.0, 0], [0, 0.01]])
    few = np.asarray(read(np.array([[3.0, 0], [1, 1], [0, 0.1]]), means, scatter))
    if few.shape != (3,):
        return f"for three words the shape is {few.shape}, not (3,)"
    dice = np.random.default_rng(0)
    mixed = dice.normal(size=(4, 4))
    x, centres, s = dice.normal(size=(60, 4)), dice.normal(size=(5, 4)), mixed @ mixed.T + 0.1 * np.eye(4)
    made = np.asarray(read(x, centres, s))
    slips = {  # what is told, and the scatter that reads so
        "you multiplied by S, not by its inverse: what scatters widely must count less": np.linalg.inv(s),
        "that is the nearest by plain distance: what scatters widely counts as much as what hardly does": np.eye(4),
        "you divide by the diagonal of S alone, as if coordinates did not vary together": np.diag(np.diag(s)),
    }
    for told, other in slips.items():
        if np.array_equal(made, _read(x, centres, other)):
            return told
    if few.tolist() != [0, 1, 0]:
        return f"means (0, 0) and (4, 1), variances 9 and 0.01: words (3, 0), (1, 1), (0, 0.1) are 0 1 0, not {few}"
    wrong = int((made != _read(x, centres, s)).sum())
    return f"{wrong} of 60 words are read otherwise where coordinates vary together" if wrong else ""


WHOSE = {
    "wav2vec 2.0 in EmoFace": "known",
    "words timed by a forced aligner": "inferred",
    "a mel row centred on each frame": "ours",
    "a lip-reader as judge": "ours",
}


CHECKS = {
    "triangles": Check(
        judge_triangles, library=_triangles, hint="rising is (bins − low) / (top − low); falling mirrors it."
    ),
    "samples_of": Check(
        judge_samples_of, library=_samples_of, hint="frame k begins at k / fps seconds; multiply by rate, then round."
    ),
    "look_alikes": Check(
        judge_look_alikes, library=_look_alikes, hint="group by the tuple of visemes, keep groups of two and more."
    ),
    "ridge": Check(
        judge_ridge, library=_ridge, hint="on the left xᵀx with α on its diagonal; b is what the means leave over."
    ),
    "read": Check(
        judge_read, library=_read, hint="with δᵀS⁻¹ (n, c, d) in hand, its scalar product with δ is left, pair by pair."
    ),
    "whose": choices(WHOSE, hint="said by a paper or its code? needed there, but not told? or in neither?"),
}
