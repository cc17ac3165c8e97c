"""Method 2, EmoFace: speech and an emotion -> the curves of a face rig, with blinks and eye movement.

    rig = EmoFacePipeline.from_pretrained()
    curves = rig(audio, emotion="happy", intensity=1.0, seed=0)     # 16 kHz mono -> Curves at 60 frames/s
    curves.save("talk.csv")                                         # .arkit (T, 52), .metahuman (T, 174), .head (T, 3)

The steps are those of Liu et al. 2024 ("EmoFace: audio-driven emotional 3D face animation"): predict, smooth, blink,
look around. `method="classic"` predicts by ridge regression from log-mel and adds a hand-made expression."""

# T frames  B mel bands (80)  K controls (52)
from fractions import Fraction
from pathlib import Path
from typing import Self

import numpy as np
from safetensors.numpy import load_file

from thlib.behaviour import add_blinks, add_gaze, expression, head_motion
from thlib.errors import DataError, SpeechError
from thlib.rig import Curves
from thlib.speech import RATE, log_mel, standardised, windows

WEIGHTS = Path(__file__).parent / "weights" / "emoface"
FPS = Fraction(25)  # of the footage that the ridge was fitted on
REACH = 6  # frames on both sides that it hears
QUIET, LOUD = -45.0, -25.0  # dB below the loudest: from silence to full motion of the mouth


class EmoFacePipeline:
    """Curves from sound; the weights are a linear map from log-mel +- REACH frames to the tracker's controls."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray):
        """weight (13 * 80, 52) and bias (52,) of the ridge: how far each control leaves its rest."""
        self.weight, self.bias = weight, bias

    @classmethod
    def from_pretrained(cls, name: str = "default") -> Self:
        """The shipped weights `name`, or a `.safetensors` file of that name. DataError where there are none."""
        file = Path(name) if Path(name).is_file() else WEIGHTS / f"{name}.safetensors"
        if not file.is_file():
            raise DataError(f"There are no weights {name!r} for EmoFace; take 'default' or a .safetensors file.")
        arrays = load_file(file)
        return cls(*(arrays[key].astype(np.float32) for key in ("weight", "bias")))

    def __call__(
        self, audio: np.ndarray, emotion: str = "neutral", *, intensity: float = 1.0, seed: int = 0,
        fps: Fraction | float = 60, method: str = "classic",
    ) -> Curves:  # fmt: skip
        """Curves of the ARKit rig at `fps` for mono 16 kHz `audio` (S,), as long as the sound to a frame.
        emotion    one of `behaviour.EMOTIONS`; intensity 0 to 1.5. Silence gives a face that listens: it blinks, looks
                   around and keeps its lips together.
        SpeechError for sound shorter than a frame or not finite, DataError for another emotion or method."""
        if method != "classic":
            raise DataError(f"There is no method {method!r}; take 'classic'.")
        if audio.ndim != 1 or len(audio) < RATE / fps or not np.isfinite(audio).all():
            raise SpeechError(f"Sound {audio.shape} cannot be animated; give mono 16 kHz, finite, of at least a frame.")
        felt = Curves(expression(emotion, intensity)[None], "mediapipe", fps).arkit
        said, middles = self.speech(audio).arkit, (np.arange(round(len(audio) / RATE * fps)) + 0.5) / float(fps)
        at = middles * float(FPS) - 0.5  # both frame rates show the middles of their frames
        spoken = np.stack([np.interp(at, np.arange(len(said)), control) for control in said.T], 1)
        curves = Curves((spoken + felt).clip(0, 1), "arkit", fps).smoothed()
        loudness = np.interp(middles, *_loudness(audio))
        curves = add_gaze(add_blinks(curves, seed=seed), seed=seed)
        return Curves(curves.values.clip(0, 1), "arkit", fps, head_motion(loudness, fps, seed=seed))

    def speech(self, audio: np.ndarray) -> Curves:
        """What speech alone does to the tracker's 52 controls, at FPS; none of it where the sound is silent."""
        frames = max(1, round(len(audio) / RATE * FPS))
        rows = windows(standardised(log_mel(audio, FPS, frames)), REACH, mode="constant")
        voiced = np.interp(np.arange(frames) / float(FPS), *_loudness(audio))
        return Curves((voiced[:, None] * (rows @ self.weight + self.bias)).clip(0, 1), "mediapipe", FPS)


def _loudness(audio: np.ndarray, hop: int = RATE // 100) -> tuple[np.ndarray, np.ndarray]:
    """Times and loudness from 0 (silence) to 1, a hundred a second: over 50 ms, against the loudest of it."""
    power = np.convolve(audio.astype(float) ** 2, np.full(5 * hop, 1 / (5 * hop)), "same")[::hop]
    level = 10 * np.log10(power + 1e-8)
    return np.arange(len(level)) / 100, ((level - max(level.max(), -30) - QUIET) / (LOUD - QUIET)).clip(0, 1)
