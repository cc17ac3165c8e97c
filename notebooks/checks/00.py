"""The checks of notebook 00."""

import numpy as np

from thlib.clip import Word
from thlib.course import Check

LIPS = {
    "bat": "is the word itself, and no twin of it",
    "fat": "begins with the lower lip at the teeth: look at its picture",
    "hat": "begins with a breath and open lips: look at its picture",
    "vat": "begins with the lower lip at the teeth: look at its picture",
}
ORIGIN = {
    "diffusion moves the landmarks": "known",
    "a convolution moves them, corrected at both borders": "ours",
    "border frames are in-betweened and warped": "known",
    "mouths are taken from real frames": "ours",
}


def judge_twins(words: set[str]) -> str:
    """The words whose first sound closes the lips."""
    if isinstance(words, str):
        return f"you give one text, {words!r}; a set has braces and commas: {{'hat', 'fat'}}"
    given = {str(word).lower() for word in words}
    for word in sorted(given - {"mat", "pat"}):
        return f"{word!r} {LIPS.get(word, 'is none of the six')}"
    return "" if given == {"mat", "pat"} else "there is one more word whose lips close as they do for b"


def judge_mean_error(mean_error) -> str:
    """In milliseconds, early as bad as late."""
    true = [Word("one", 0.1, 0.3), Word("two", 0.5, 0.7)]
    found = [Word("one", 0.13, 0.3), Word("two", 0.49, 0.7)]
    given = float(mean_error(found, true))
    told = f"for one word found 30 ms late and one 10 ms early you give {given:.4g}; the mean of 30 and 10 is 20"
    for answer, reason in ((10, "early and late must not cancel"), (0.02, "a second has 1000 milliseconds")):
        if np.isclose(abs(given), answer):
            return f"{told}: {reason}"
    return "" if np.isclose(given, 20) else told


def mean_error(found, true) -> float:
    """The mean error of word starts, ms."""
    return 1000 * float(np.mean([abs(a.start - b.start) for a, b in zip(found, true)]))


def judge_real_frames(real_frames) -> str:
    """On frames of noise, with edits that make a video longer and shorter, and one that changes a real frame."""
    rng = np.random.default_rng(0)
    film = rng.integers(0, 256, (10, 4, 4, 3), np.uint8)
    for first, last, grown in ((3, 8, 2), (4, 5, -2), (2, 6, 0)):
        made = rng.integers(0, 256, (last - first, 4, 4, 3), np.uint8)
        edited = np.concatenate([film[:first], made, film[last - grown :]])
        given = np.asarray(real_frames(film, edited, first, last))
        right = ~np.isin(np.arange(len(edited)), np.arange(first, last))
        told = (
            f"of 10 frames, {last - first} were made from frame {first} on, and the video is {grown:+d} frames longer: "
        )
        if given.shape != right.shape:
            return f"{told}you give shape {given.shape}, not {right.shape}, one value a frame of the edited video"
        if not np.array_equal(given, right):
            return f"{told}you call the frames {np.flatnonzero(given)} real; they are {np.flatnonzero(right)}"
    edited[1, 0, 0, 0] ^= 1
    if real_frames(film, edited, first, last)[1]:
        return "one bit of a frame before the edit was changed, and you still call it real"
    return ""


def real_frames(original, edited, first, last):
    """Whether each frame of the edited video is one of the original, bit for bit, (T,)."""
    source = np.arange(len(edited))
    source[last:] -= len(edited) - len(original)
    real = np.array([np.array_equal(frame, original[k % len(original)]) for frame, k in zip(edited, source)])
    real[first:last] = False
    return real


def judge_cross_fade(cross_fade) -> str:
    """Straight, evenly spaced, without the borders."""
    before, after = np.random.default_rng(0).normal(size=(2, 478, 3))
    for n in (1, 3):
        given = np.asarray(cross_fade(before, after, n))
        if given.shape != (n, 478, 3):
            return f"for n = {n} you give shape {given.shape}, not {(n, 478, 3)}"
        share = [float(np.vdot(frame - before, after - before) / np.square(after - before).sum()) for frame in given]
        wanted = [(k + 1) / (n + 1) for k in range(n)]
        if not np.allclose(share, wanted):
            told = f"for n = {n} the shares of the points after are {np.round(share, 2).tolist()}, not {wanted}"
            return told + ": a border is among them" * bool(np.isclose(share[0], 0) or np.isclose(share[-1], 1))
        if not np.allclose(given, before + np.reshape(wanted, (-1, 1, 1)) * (after - before)):
            return f"for n = {n} the points are not on the straight line from those before to those after"
    return ""


def cross_fade(before, after, n):
    """n faces evenly spaced between two, without them, (n, 478, 3)."""
    return np.linspace(before, after, n + 2)[1:-1]


def judge_origin(origin: dict[str, str]) -> str:
    """Which choices are the paper's."""
    for choice, right in ORIGIN.items():
        given = origin[choice]
        if given not in ("known", "ours"):
            return f"of {choice!r} you say {given!r}: say 'known' or 'ours'"
        if given != right:
            other = "the table marks it as known" if right == "known" else "no row of the paper's column says so"
            return f"{choice!r} is not {given}: {other}"
    return ""


CHECKS = {
    "twins": Check(judge_twins, library={"mat", "pat"}, hint="In which of the pictures are the lips closed, as for b?"),
    "mean_error": Check(judge_mean_error, library=mean_error, hint="Differences, their sizes, their mean, times 1000."),
    "real_frames": Check(
        judge_real_frames, library=real_frames, hint="What comes after the edit has moved by `grown`."
    ),
    "cross_fade": Check(judge_cross_fade, library=cross_fade, hint="The k-th of n frames has the share k / (n + 1)."),
    "origin": Check(judge_origin, library=ORIGIN, hint="Read the table again: what is marked *known*?"),
}
