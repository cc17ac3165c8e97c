"""Wrong answers to the exercises of notebook 07: each a plausible mistake that its check must reject."""

import difflib

import numpy as np

from thlib.editing import script
from thlib.errors import EditError


def spans(old, new, *, key=script.key, kept=("equal",), typed=True, end=0):
    keys = [[key(word) for word in some] for some in (old, new)]
    codes = difflib.SequenceMatcher(None, *keys, autojunk=False).get_opcodes()
    return [(i, j + end, tuple((new if typed else keys[1])[a:b])) for tag, i, j, a, b in codes if tag not in kept]


def reach(k0, k1, n_frames, total, margin=2):  # the margin is not cut short
    return k0 - margin, k1 + margin, n_frames + 2 * margin


def uncut(k0, k1, n_frames, total, margin=2):  # n does not know that the margin was cut short
    return max(0, k0 - margin), min(total, k1 + margin), n_frames + 2 * margin


def as_long(k0, k1, n_frames, total, margin=2):  # as many new frames as old ones
    first, last = max(0, k0 - margin), min(total, k1 + margin)
    return first, last, last - first


def no_margin(k0, k1, n_frames, total, margin=2):
    return k0, k1, n_frames


def seams(steps, own, first, last, *, shift=-1, limit=95, end=0):
    joins = steps[[first + shift, last + shift + end]]
    return np.mean(joins > np.percentile(own, limit))


def came_from(total, edits, *, made=-1, on=lambda first, last, n: last):
    source, at = [], 0
    for first, last, n in edits:
        source += [*range(at, first), *[made] * n]
        at = on(first, last, n)
    return np.array(source + [*range(at, total)])


def refusal():
    raise EditError("tick the box: all who are seen must give their consent")


def read_first(given, consent, read):
    if not given:
        return None
    video = read(given)
    return video if consent else refusal()


def silent(given, consent, read):
    return read(given) if given and consent else None


RIGHT = {
    "two stages, each usable alone": "known",
    "words are masked and made again as a test": "inferred",
    "lips change two frames before the sound does": "ours",
    "the file says which seconds were made": "ours",
}

WRONG = {
    "spans": [
        lambda old, new: spans(old, new, key=str),
        lambda old, new: spans(old, new, kept=("equal", "insert")),
        lambda old, new: spans(old, new, kept=()),
        lambda old, new: spans(old, new, typed=False),
        lambda old, new: spans(old, new, end=-1),
        lambda old, new: [list(span) for span in spans(old, new)],
    ],
    "reach": [reach, uncut, as_long, no_margin],
    "seams": [
        lambda steps, own, first, last: seams(steps, own, first, last, shift=0),
        lambda steps, own, first, last: seams(steps, own, first, last, end=-1),
        lambda steps, own, first, last: seams(steps, own, first, last, limit=99),
        lambda steps, own, first, last: seams(steps, own, first, last, limit=50),
        lambda steps, own, first, last: np.mean(steps[[first - 1, last - 1]] > 0.95),
        lambda steps, own, first, last: np.mean(steps[[first - 1, last - 1]] > 1.3 * own.mean()),
    ],
    "came_from": [
        lambda total, edits: came_from(total, edits, on=lambda first, last, n: first),
        lambda total, edits: came_from(total, edits, on=lambda first, last, n: first + n),
        lambda total, edits: came_from(total, edits, made=0),
        lambda total, edits: came_from(total, edits[:1]),
    ],
    "opened": [
        read_first,
        silent,
        lambda given, consent, read: read(given) if consent else refusal(),
        lambda given, consent, read: read(given) if given else None,
    ],
    "whose": [
        RIGHT | {"lips change two frames before the sound does": "known"},
        RIGHT | {"words are masked and made again as a test": "known"},
    ],
}
