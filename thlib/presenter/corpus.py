"""What the presenter says, and a data set of it: (seed, index) -> a clip with everything that is known about it.

    data = PresenterCorpus("train", n=1000)             # a torch Dataset; other people and sentences than in "test"
    item = data[7]                                      # {"frames": uint8 (T, 128, 128, 3), "controls": ...}

Sentences come from a grammar and from a list, written for this project, in which every phone of English occurs."""

# T frames  S samples  W words  P phones
import functools
import hashlib
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from thlib import data
from thlib.behaviour import EMOTIONS
from thlib.errors import DataError
from thlib.footage import Footage
from thlib.landmarks import FaceTrack
from thlib.presenter.face import displacement, shape
from thlib.presenter.render import person
from thlib.presenter.speak import Performance, curves, perform, utter
from thlib.speech import log_mel, phone_shares

SPLITS = {"train": range(8), "validation": (8,), "test": (9,)}  # last digits of a sentence's hash, and of identities
PEOPLE = 500  # for each digit
BALANCED, GRAMMAR = data.shipped("sentences.yaml").values()  # sentences; a slot -> what may fill it


def sentence(split: str, rng: np.random.Generator) -> str:
    """A sentence of one split alone, three in ten from BALANCED, else of GRAMMAR. DataError for an unknown split."""
    own = sentences(split)
    if rng.random() < 0.3:
        return own[rng.integers(len(own))]
    while True:
        text = "{sentence}"
        while slot := re.search(r"{(\w+)}", text):
            filled = str(rng.choice(GRAMMAR[slot[1].lower()].split("|")))
            filled = filled.capitalize() if slot[1].istitle() else filled
            text = text[: slot.start()] + filled + text[slot.end() :]
        if _digit(text) in SPLITS[split]:
            return text


@functools.cache
def sentences(split: str) -> tuple[str, ...]:
    """The phonetically balanced sentences of a split. DataError where there is no such split."""
    if split not in SPLITS:
        raise DataError(f"The presenter's corpus has no split {split!r}: take {', '.join(SPLITS)}.")
    return tuple(text for text in re.split(r"(?<=[.?]) ", " ".join(BALANCED.split())) if _digit(text) in SPLITS[split])


def _digit(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10


class PresenterCorpus(Dataset):
    """n clips of presenters who speak; clip i of a split is the same for the same seed, size and fps, whatever n is.
    An item is a dict of arrays: frames uint8 (T, size, size, 3), audio float32 (S,) at 16 kHz, controls (T, 52), points
    (T, 478, 3), pose (T, 4, 4), visible (T,), head (T, 3), words and phones str (W,), (P,), their times word_times and
    phone_times (W, 2), (P, 2) in s, identity, emotion (its place in behaviour.EMOTIONS), intensity, style.
    Clips differ in length: batch them by `batch_size=None`, or cut windows. What was drawn once stays in the cache."""

    def __init__(self, split: str, *, n: int = 1000, seed: int = 0, size: int = 128, fps: Fraction | float = 25):
        """split: "train", "validation" or "test"; they share neither identities nor sentences. DataError for others."""
        sentences(split)
        self.split, self.n, self.seed, self.size, self.fps = split, n, seed, size, Fraction(fps)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        key = [_recipe(), self.split, self.seed, range(self.n)[index], self.size, str(self.fps)]
        return data.cached("presenter", key, lambda: _arrays(self.performance(index)))

    def performance(self, index: int) -> Performance:
        """Clip `index` as a Performance, drawn now; `performance(i).save("clip.mp4")` writes it with its sidecars."""
        identity, said, moved, manner = self._spoken(index)
        return perform(identity, moved, said.audio, size=(self.size, self.size))._replace(speech=said, **manner)

    def footage(self, index: int) -> Footage:
        """Clip `index` as what lips learn from, points exact; no picture is drawn, so it takes a tenth of a second."""
        identity, said, moved, _ = self._spoken(index)
        rest = shape(np.array(person(identity).identity))
        controls = moved.to("mediapipe").values.clip(0, 1)
        points = 100 * (rest + displacement(controls, shape=rest)) + [160, 160, 0]
        track = FaceTrack(points.astype(np.float32), np.ones(len(points), bool), (320, 320), self.fps)
        mel, phones = log_mel(said.audio, self.fps, len(points)), phone_shares(said.phones, self.fps, len(points))
        return Footage.of(f"{self.split} {index}", track, mel=mel, words=said.words)._replace(phones=phones)

    def _spoken(self, index: int) -> tuple:
        rng = np.random.default_rng((9, self.seed, [*SPLITS].index(self.split), range(self.n)[index]))
        identity = int(10 * rng.integers(PEOPLE) + rng.choice(SPLITS[self.split]))
        text, emotion, style = sentence(self.split, rng), str(rng.choice(EMOTIONS)), int(rng.integers(2))
        manner = {"emotion": emotion, "intensity": float(rng.uniform(0.4, 1.2)), "style": style}
        said, manner = utter(text, identity, emotion=emotion), manner | {"seed": int(rng.integers(2**31))}
        return identity, said, curves(said, fps=self.fps, **manner), manner


def _arrays(done: Performance) -> dict[str, np.ndarray]:
    track, spans = done.track, {"word": done.words, "phone": done.phones}
    arrays = {"frames": done.clip.frames, "audio": done.speech.audio, "head": done.curves.head}
    arrays |= {name: getattr(track, name) for name in ("controls", "points", "pose", "visible")}
    arrays |= {f"{name}s": np.array([span.text for span in of]) for name, of in spans.items()}
    arrays |= {f"{name}_times": np.array([(span.start, span.end) for span in of]) for name, of in spans.items()}
    arrays |= {name: np.array(getattr(done, name)) for name in ("identity", "intensity", "style")}
    return arrays | {"emotion": np.array(EMOTIONS.index(done.emotion))}


@functools.cache
def _recipe() -> str:
    """What clips depend on: the sentences, the code and the models that draw them."""
    here = Path(__file__).parents[1]
    files = [*sorted((here / "presenter").glob("*.py")), *sorted((here / "weights").glob("*.npz"))]
    files += [*sorted((here / "static").glob("*.yaml")), *(here / f"{n}.py" for n in ("behaviour", "espeak", "speech"))]
    return hashlib.sha256("".join(map(data.sha256, files)).encode()).hexdigest()
