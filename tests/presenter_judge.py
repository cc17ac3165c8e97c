"""How truly the networks see the presenter: faces found, landmark errors, controls read. For tests and benchmarks.

People of unseen seeds, turned by up to 25° (yaw) and 15° (pitch), in their own light: a few frames as speech and
behaviour make them, then one control alone from 0 to 1. Every frame is detected afresh, as a single picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thlib.landmarks import BLENDSHAPES, LIPS
from thlib.mesh import FaceMesh
from thlib.presenter import speak
from thlib.presenter.render import person, place, render

AT = {name: k for k, name in enumerate(BLENDSHAPES)}
SWEPT = ["jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "mouthSmileLeft", "mouthSmileRight", "mouthPucker", "mouthFunnel"]
SWEPT += ["browInnerUp", "mouthStretchLeft", "mouthStretchRight"]
SENTENCES = (
    "Please call Stella and bring the maps.",
    "Why would you move that blue box over here?",
    "My mother often goes to the park on Sunday.",
    "She showed us five huge red shoes.",
)
EMOTIONS = ("neutral", "happy", "angry", "sad", "surprise", "fear")
ACTED, STEPS = 3, 5  # frames of a person as behaviour makes them, and of a control swept


def acted() -> np.ndarray:
    """Controls (N, 52) as speech, emotions, blinks and gaze make them."""
    said = [speak.utter(text, k) for k, text in enumerate(SENTENCES)]
    moved = [speak.curves(one, emotion=e, seed=k) for k, one in enumerate(said) for e in EMOTIONS]
    return np.concatenate([curves.to("mediapipe").values.clip(0, 1) for curves in moved])


@dataclass
class Seen:
    """Of N frames: person's tone, control swept ("" where acted), controls set (N, 52), read (N, 52), the errors of the
    points (N, 478) in % of the distance of the outer eye corners, and of the pupils; NaN where no face was found."""

    tone: np.ndarray
    swept: np.ndarray
    given: np.ndarray
    read: np.ndarray
    error: np.ndarray
    by_pupils: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """In which frames the face was found."""
        return ~np.isnan(self.read[:, 0])

    def correlation(self, name: str) -> float:
        """Of a control, over the acted frames and those in which it alone was swept."""
        at = self.found & ((self.swept == "") | (self.swept == name))
        return float(np.corrcoef(self.given[at, AT[name]], self.read[at, AT[name]])[0, 1])

    def median(
        self, where: np.ndarray | slice = slice(468), *, tones: tuple[int, int] = (1, 10), pupils=False
    ) -> float:
        """Median error of the points `where` in people of the skin tones."""
        at = self.found & (self.tone >= tones[0]) & (self.tone <= tones[1])
        return float(np.median((self.by_pupils if pupils else self.error)[at][:, where]))


def look(people: range, *, size: tuple[int, int] = (256, 256)) -> Seen:
    """Draw the people of these seeds and see what the networks find."""
    net, pool, rows = FaceMesh(), acted(), []
    for n, seed in enumerate(people):
        rng, who, name = np.random.default_rng(seed), person(seed), SWEPT[n % len(SWEPT)]
        controls = np.zeros((ACTED + STEPS, 52), np.float32)
        controls[:ACTED] = pool[rng.integers(len(pool), size=ACTED)]
        controls[ACTED:, AT[name]] = np.linspace(0, 1, STEPS)
        angles = rng.uniform(-1, 1, (len(controls), 3)) * [25, 15, 8]
        drawn = render(who, controls, head=place(angles, size, height=rng.uniform(0.45, 0.6)), size=size)
        for t, frame in enumerate(drawn.frames):
            read, error = _judge(net, frame, drawn.points[t])
            wide = np.linalg.norm(drawn.points[t, 33] - drawn.points[t, 263])
            pupils = np.linalg.norm(drawn.points[t, 468] - drawn.points[t, 473])
            swept = "" if t < ACTED else name
            rows.append((who.tone, swept, controls[t], read, 100 * error / wide, 100 * error / pupils))
    return Seen(*map(np.array, zip(*rows)))


def _judge(net: FaceMesh, frame: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores (52,) and errors (478,) in pixels; NaN where there is no face."""
    faces = net.faces(frame)
    first = max(faces, key=lambda face: face.region.side, default=None)
    here = first and net.locate(frame, first)
    here = here and net.locate(frame, here.face)
    if not here:
        return np.full(52, np.nan), np.full(478, np.nan)
    return here.controls, np.linalg.norm(here.points[:, :2] - points[:, :2], axis=1)


def mouth(seen: Seen, **options) -> float:
    """Median error around the mouth."""
    return seen.median(LIPS, **options)
