"""Faces as landmarks: tracking, one type for all of them (`FaceTrack`), normalisation, scale, pose, drawing."""

# T frames  L landmarks (478 or 68)
from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np


@dataclass(frozen=True)
class FaceTrack:
    """One face through a clip.

    points   float32 (T, L, 3), pixels; x right, y down, pixel i covers [i, i+1); z in the same unit, smaller is nearer.
    visible  bool (T,): False where no face was found (points there are the nearest visible ones).
    size     (H, W) of the frames; fps of the clip.
    controls float32 (T, 52) blendshape scores in [0, 1], or None; pose float32 (T, 4, 4), or None.
    scheme   "mesh478" or "ibug68".
    """

    points: np.ndarray
    visible: np.ndarray
    size: tuple[int, int]
    fps: Fraction
    controls: np.ndarray | None = None
    pose: np.ndarray | None = None
    scheme: str = "mesh478"
