"""Video and sound in memory and on disk: `Clip` (a window in memory), `Video` (a file, read lazily), `Word`, `Phone`."""

# T frames  H height  W width  S samples  C channels
from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np


@dataclass(frozen=True)
class Word:
    """A word of a transcript with its start and end in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Phone:
    """A phone (ARPAbet or espeak mnemonic) with its start and end in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Clip:
    """A window of video in memory: frames uint8 (T, H, W, 3) RGB at `fps`, audio float32 (S, C) at `audio_rate`."""

    frames: np.ndarray
    fps: Fraction
    audio: np.ndarray
    audio_rate: int
