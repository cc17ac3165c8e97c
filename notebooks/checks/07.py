"""Answers to the exercises of notebook 07, judged."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from thlib import metrics
from thlib.clip import Word
from thlib.course import Check, choices
from thlib.editing import script
from thlib.errors import EditError

TEXTS = (
    ("we meet on tuesday at nine", "we meet on wednesday at nine", "one word is replaced"),
    ("we meet on tuesday at nine", "we all meet on tuesday at nine", "a word is inserted"),
    ("we meet on tuesday at nine", "we meet at nine", "two words are deleted"),
    ("we meet on tuesday at nine", "Now we meet on friday at nine, please", "three changes are made"),
    ("we meet on tuesday at nine", "We meet, on Tuesday, at nine.", "only capitals and commas are new"),
    ("one two three", "one Three, four", "words are typed with capitals and commas"),
)


def _spans(old: Sequence[str], new: Sequence[str]) -> list[tuple]:
    if [*map(script.key, old)] == [*map(script.key, new)]:
        return []
    return [(span.first, span.last, span.new) for span in script.diff([Word(w, 0, 0) for w in old], " ".join(new))]


def judge_spans(spans: Callable) -> str:
    for old, new, what in TEXTS:
        made, right = spans(old.split(), new.split()), _spans(old.split(), new.split())
        if not isinstance(made, list) or not all(isinstance(span, tuple) and len(span) == 3 for span in made):
            return f"return a list of tuples (first, last, new); you give {made!r}"
        if made != right:
            return f"from {old!r} to {new!r} {what}: the spans are {right}, yours are {made}"
    return ""


def _reach(k0: int, k1: int, n_frames: int, total: int, margin: int = 2) -> tuple[int, int, int]:
    first, last = max(k0 - margin, 0), min(k1 + margin, total)
    return first, last, n_frames + (k0 - first) + (last - k1)


def judge_reach(reach: Callable) -> str:
    cases = (
        (50, 60, 14, 100, 2, "in the middle of a video"),
        (50, 60, 5, 100, 2, "in the middle of a video"),
        (1, 9, 12, 100, 2, "a frame after the beginning"),
        (90, 100, 4, 100, 2, "at the end of the video"),
        (40, 40, 6, 100, 3, "with a margin of three frames, where nothing is taken out"),
    )
    for k0, k1, n_frames, total, margin, what in cases:
        made, right = tuple(map(int, reach(k0, k1, n_frames, total, margin))), _reach(k0, k1, n_frames, total, margin)
        told = f"{what}, frames {k0} to {k1 - 1} of {total} become {n_frames}"
        for name, mine, value in zip(("first", "last", "n"), made, right):
            if mine != value:
                return f"{told}: {name} is {value}, you give {mine}"
    return ""


def _seams(steps: np.ndarray, own: np.ndarray, first: int, last: int) -> float:
    return metrics.share_above([steps[first - 1], steps[last - 1]], own)


def judge_seams(seams: Callable) -> str:
    own = np.random.default_rng(0).permutation(np.linspace(0, 1, 101))
    for large, right, what in (
        ([4, 9], 1.0, "both steps over the joins are large"),
        ([4], 0.5, "only the step from frame 4 to frame 5 is large"),
        ([9], 0.5, "only the step from frame 9 to frame 10 is large"),
        ([5, 10], 0.0, "large steps follow each join, and none is over one"),
        ([3, 8], 0.0, "large steps come before each join, and none is over one"),
        ([], 0.0, "no step is large"),
    ):
        steps = np.full(20, 0.94)
        steps[large] = 0.97
        made = float(seams(steps, own, 5, 10))
        if not np.isclose(made, right):
            return f"frames 5 to 9 were made and {what}: {right:g} of the seams show, you give {made:g}"
    doubled = float(seams(np.full(20, 1.2), np.linspace(0, 2, 101), 5, 10))
    return "" if doubled == 0 else "the limit must come from `own`, the recording's steps, not from a fixed number"


def _came_from(total: int, edits: Sequence[tuple[int, int, int]]) -> np.ndarray:
    source = np.arange(total)
    for first, last, n in reversed(edits):
        source = np.concatenate([source[:first], np.full(n, -1), source[last:]])
    return source


def judge_came_from(came_from: Callable) -> str:
    for edits in ([(2, 4, 3)], [(0, 1, 2)], [(8, 10, 1)], [(3, 3, 2)], [(1, 3, 4), (6, 8, 1)], [(1, 4, 0), (6, 7, 3)]):
        made, right = np.asarray(came_from(10, edits)), _came_from(10, edits)
        told = f"of ten frames with the edits {edits}"
        if made.shape != right.shape:
            return f"{told} the result has {len(right)} frames; yours has the shape {made.shape}"
        if not np.array_equal(made, right):
            k = int(np.flatnonzero(made != right)[0])
            return f"{told} frame {k} of the result is {right[k]}, you say {made[k]}"
    return ""


def _opened(given: Any, consent: bool, read: Callable) -> Any:
    if given and not consent:
        raise EditError("Nothing was read: tick the box once all who are seen or heard gave their consent.")
    return read(given) if given else None


def judge_opened(opened: Callable) -> str:
    looked = []

    def read(given: Any) -> str:
        looked.append(given)
        return f"the video {given}"

    for consent in (False, True):
        if opened("", consent, read) is not None or looked:
            return "where nothing is given, nothing is read and None is returned, ticked or not"
    try:
        opened("me.mp4", False, read)
    except EditError as error:
        if "consent" not in str(error):
            return f"the sentence must ask for consent; yours is {str(error)!r}"
    else:
        return "the box is not ticked, and no EditError was raised"
    if looked:
        return "the box is not ticked, and the file was read before you said no"
    made = opened("me.mp4", True, read)
    return (
        "" if made == "the video me.mp4" and looked == ["me.mp4"] else f"with the tick return read(given), not {made!r}"
    )


WHOSE = {
    "two stages, each usable alone": "known",
    "words are masked and made again as a test": "inferred",
    "lips change two frames before the sound does": "ours",
    "the file says which seconds were made": "ours",
}


CHECKS = {
    "spans": Check(
        judge_spans, library=_spans, hint="keys by script.key(word); (i, j, tuple(new[a:b])) where tag is not equal."
    ),
    "reach": Check(
        judge_reach, library=_reach, hint="n = last − first + n_frames − (k1 − k0), after both are cut short."
    ),
    "seams": Check(judge_seams, library=_seams, hint="steps[[first − 1, last − 1]] against np.percentile(own, 95)."),
    "came_from": Check(judge_came_from, library=_came_from, hint="range(at, first), then n times −1; then at = last."),
    "opened": Check(judge_opened, library=_opened, hint="if not consent: raise …; and only then return read(given)."),
    "whose": choices(WHOSE, hint="the table above carries the tags; what the paper does not tell is ours."),
}
