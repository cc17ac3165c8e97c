"""What the presenter says, and a data set of it: (seed, index) -> a clip with everything that is known about it.

    data = PresenterCorpus("train", n=1000)             # a torch Dataset; other people and sentences than in "test"
    item = data[7]                                      # {"frames": uint8 (T, 128, 128, 3), "controls": ...}

Sentences come from a grammar and from a list, written for this project, in which every phone of English occurs.
"""

# T frames  S samples  W words  P phones
from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from thlib import data
from thlib.behaviour import EMOTIONS
from thlib.errors import DataError
from thlib.presenter.speak import Performance, curves, perform, utter

SPLITS = {"train": range(8), "validation": (8,), "test": (9,)}  # last digits of a sentence's hash, and of identities
PEOPLE = 500  # for each digit
BALANCED = """
A young judge chose fresh orange juice. We measure pleasure by the hour, not by the page. Both thieves saw smooth
weather on the path. Five brave vets gave the fox a warm bath. My boy enjoys noisy toys and oily soil. Who would choose
blue shoes for the zoo? The king sang along while the bell was ringing. She put a good book under the wooden hook. Our
cow found a brown mouse near the house. Nine white kites fly high in the bright sky. The early bird heard her first
words. Go home slowly and close the old stone gate. Take eight grey plates away from the table. Pam bought a bumpy map
for Bob and Mum. Few people believe every vivid story. His usual vision is a casual decision. Chuck watched the children
reach the church. Yes, you used yellow yarn yesterday. Father calmly parked the large car in the yard. All four tall
walls fall before dawn. Hot coffee, chopped onions and a lot of pots. Ben said ten red hens slept in the shed. The fat
cat sat on a black mat and ran back. Six little pigs lived in this big inn. Some of the young ones come up for lunch.
Three green trees bend in a deep sea breeze. Thank the author for those thin blue threads. He heard her behind the huge
house. What a quick wind would we want on Wednesday? Please stop at the spring shop past the bridge. The clown played
cold drums with great skill. Six extra boxes go in the next taxi. My mother met a farmer from Rome. Put the paper cup by
the purple pipe. Fluffy leaves fell off the roof of the cave. Let the yellow lemon roll along the hall. Zoe is easily
amazed by zebras and bees. Good dogs dig deep in the garden. Keep the cake in the kitchen, Karen. Tell Tim to tie two
tight knots. Run around the rough road before it rains. Never mention money on a Monday morning. Sue sees seven small
suns set in the south. Shall we wash the fish in the ocean? Jane and George manage a large garage. Anger is no longer
among the songs of the singers. The poor tour guide sure lost her voice. The deer appear near the pier without fear.
Their rare bear shares a square chair. Open the window, it is warm above the stove. Beige curtains hide a secret
treasure. Mothers and brothers breathe the smooth air. She can point at the coin and avoid the noise. How loud can a
proud owl shout now? A woman could pull a bull, but should she push? Boats float over the cold ocean at noon. Peter
helps Barbara plump up the pillows. Five wolves leave twelve loaves for the cook. Bring me the long string from the
swing. Thumbs up, the math of the month is worth it.
"""
GRAMMAR = {  # a slot -> what may fill it
    "sentence": "{name} {did} the {kind} {thing} {where}.|{name} and {name} {did} the {thing} {when}.|"
    "Please {do} the {thing} {where} {when}.|Could you {do} {number} {kind} {thing}s?|The {kind} {thing} was {where}.|"
    "{When} we {did} a {thing} and {number} {thing}s.|I {did} {number} {kind} {thing}s {when}.|"
    "Why was the {thing} so {kind} {when}?|Nobody {did} my {kind} {thing} {where}.|{name} will {do} {number} {thing}s.",
    "name": "Anna|Bill|Maria|Tom|Grace|Joe|Victor|Emma|Paul|Lucy|Frank|Ruth|Mike|Sophie|Peter|Olivia",
    "did": "found|moved|painted|bought|lost|watched|opened|carried|fixed|sold|pushed|borrowed|washed|showed me",
    "do": "find|move|paint|buy|bring|watch|open|carry|fix|sell|push|borrow|wash|show me",
    "kind": "big|old|purple|warm|heavy|bright|new|round|quiet|yellow|broken|famous|soft|brown|empty|cheap",
    "thing": "boat|piano|table|window|garden|camera|book|map|picture|lamp|bottle|machine|chair|coat|farm|video",
    "where": "by the river|at home|in the village|behind the shop|near the bridge|on the ship|at the museum|"
    "under the roof|in the valley|above the beach|beside the pool|in front of the bank",
    "when": "this morning|on Monday|before lunch|every summer|last week|after the film|at noon|in May|on Friday",
    "number": "two|three|four|five|seven|eight|nine|ten|twelve|fifteen",
}


def sentence(split: str, rng: np.random.Generator) -> str:
    """A sentence of a split, drawn by `rng`: three in ten from BALANCED, the others from GRAMMAR.

    No sentence is in two splits. DataError where there is no such split.
    """
    own = sentences(split)
    if rng.random() < 0.3:
        return own[rng.integers(len(own))]
    while _digit(text := _expand("{sentence}", rng)) not in SPLITS[split]:
        pass
    return text


@functools.cache
def sentences(split: str) -> tuple[str, ...]:
    """The phonetically balanced sentences of a split. DataError where there is no such split."""
    if split not in SPLITS:
        raise DataError(f"The presenter's corpus has no split {split!r}: take {', '.join(SPLITS)}.")
    return tuple(text for text in re.split(r"(?<=[.?]) ", " ".join(BALANCED.split())) if _digit(text) in SPLITS[split])


def _expand(text: str, rng: np.random.Generator) -> str:
    while slot := re.search(r"{(\w+)}", text):
        filled = str(rng.choice(GRAMMAR[slot[1].lower()].split("|")))
        filled = filled.capitalize() if slot[1].istitle() else filled
        text = text[: slot.start()] + filled + text[slot.end() :]
    return text


def _digit(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10


class PresenterCorpus(Dataset):
    """n clips of presenters who speak; clip i of a split is the same for the same seed, size and fps, whatever n is.

    An item is a dict of arrays: frames uint8 (T, size, size, 3), audio float32 (S,) at 16 kHz, controls (T, 52), points
    (T, 478, 3), pose (T, 4, 4), visible (T,), head (T, 3), words and phones str (W,), (P,), their times word_times and
    phone_times (W, 2), (P, 2) in s, identity, emotion (its place in behaviour.EMOTIONS), intensity, style.
    Clips differ in length: batch them by `batch_size=None`, or cut windows. What was drawn once stays in the cache.
    """

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
        rng = np.random.default_rng((9, self.seed, [*SPLITS].index(self.split), range(self.n)[index]))
        identity = int(10 * rng.integers(PEOPLE) + rng.choice(SPLITS[self.split]))
        text, emotion, style = sentence(self.split, rng), str(rng.choice(EMOTIONS)), int(rng.integers(2))
        manner = {"emotion": emotion, "intensity": float(rng.uniform(0.4, 1.2)), "style": style}
        said, manner = utter(text, identity, emotion=emotion), manner | {"seed": int(rng.integers(2**31))}
        moved = curves(said, fps=self.fps, **manner)
        return replace(perform(identity, moved, said.audio, size=(self.size, self.size)), speech=said, **manner)


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
    """What clips depend on: the code and the models that draw them."""
    here = Path(__file__).parents[1]
    files = [*sorted((here / "presenter").glob("*.py")), *sorted((here / "weights").glob("*_model.npz"))]
    files += [here / f"{name}.py" for name in ("behaviour", "speech", "espeak", "rig")]
    return hashlib.sha256("".join(map(data.sha256, files)).encode()).hexdigest()
