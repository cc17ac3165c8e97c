"""What a face does besides speaking: blinks, gaze, expressions, head motion; and blinks found in eye aspect ratios.

curves = add_gaze(add_blinks(curves, seed=1), seed=1)   # as EmoFace (Liu et al. 2024, and its code)
smile = expression("happy", 0.8, style=1)               # (52,) offsets on the tracker's controls
head = head_motion(loudness, fps, seed=1)               # (T, 3) degrees"""

# T frames; a seed is an int or a numpy Generator
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from thlib import data
from thlib.errors import DataError
from thlib.landmarks import BLENDSHAPES
from thlib.rig import ARKIT, LOOKS, Curves, Rate

Seed = int | np.random.Generator
BLINK = (0.95, 0.75, 0.55, 0.3, 0, 0.05, 0.15, 0.25, 0.35, 0.45, 0.6, 0.75, 0.9)  # openness of the eye, at 60 fps
LAW = (3.518, 0.532)  # mean and deviation of the logarithm of the blinks in a minute
RATES = (15, 100)  # the fewest and most of them
SHUT, SHORTEST = 0.21, 0.1  # eye aspect ratio below which an eye is shut, and for how many seconds at least in a blink
LIDS = 0.3  # how far the lids follow an eye that looks down
SWAY, NOD, FURTHEST = (3.5, 2.0, 1.5), 5.0, 8.0  # degrees: of yaw, pitch and roll; pitch with the stress; at most
EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")  # in EmoFace's order
UNITS, STYLES = data.shipped("expressions.yaml").values()  # action units' controls; of emotions two sets of units


def blink_shape(fps: Rate) -> np.ndarray:
    """Openness (n,) of the eye in the frames of one blink: BLINK sampled at `fps` so that one frame is fully closed."""
    knots, shut = np.array((1, *BLINK, 1)), 1 + BLINK.index(0)
    before, after = (int(side * fps / 60 - 1e-9) for side in (shut, len(knots) - 1 - shut))
    return np.interp(shut + np.arange(-before, after + 1) * float(60 / fps), np.arange(len(knots)), knots)


def blink_frames(n: int, fps: Rate, *, seed: Seed = 0) -> np.ndarray:
    """Frames int (B,) of n at which blinks begin, 60 fps / f from end to next; f a minute, LogNormal(LAW) in RATES."""
    most, length = int(n * RATES[1] / (60 * fps)) + 1, len(blink_shape(fps))
    rates = np.random.default_rng(seed).lognormal(*LAW, most).clip(*RATES)
    starts = np.cumsum((60 * float(fps) / rates).astype(int) + length) - length
    return starts[starts < n]


def add_blinks(curves: Curves, *, seed: Seed = 0) -> Curves:
    """The curves with blinks: b <- 1 - (1 - b) k at the openness k, so that an eye closes whatever else it does."""
    shape, n = blink_shape(curves.fps), len(curves.values)
    openness = np.ones(n + len(shape))
    for start in blink_frames(n, curves.fps, seed=seed):
        openness[start : start + len(shape)] = shape
    return _narrowed(curves, openness[:n])


def _narrowed(curves: Curves, openness: np.ndarray) -> Curves:
    """Lids at `openness` (T,) of what they were; ARKit's eyeWide, MetaHuman's blink below 0, scales with it."""
    values = curves.values.astype(float)
    for name, column in zip(curves.names, values.T):
        if "eyeBlink" in name or "eye_blink" in name:
            column[:] = 1 - (1 - column) * openness
        elif "eyeWide" in name:
            column *= openness
    return replace(curves, values=values)


def blinks(ear: np.ndarray, fps: Rate, *, shut: Callable | None = None) -> list[tuple[int, int]]:
    """Frames [start, end) of blinks, from eye aspect ratios (T,) or (T, 2 eyes): shut for at least SHORTEST.
    shut  says of windows (T, 7), the mean of both eyes from 0.1 s before to 0.1 s after, where the eyes are shut, such
          as `predict` of a support vector machine (EmoFace); None: where the ratio is below SHUT."""
    ear, frame = np.asarray(ear, float).reshape(len(ear), -1).mean(1), np.arange(len(ear))
    windows = np.interp(frame[:, None] + np.arange(-3, 4) * float(fps / 30), frame, ear)
    closed = ear < SHUT if shut is None else np.asarray(shut(windows), bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], closed, [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2) if b - a >= max(1, round(SHORTEST * fps))]


def gaze(n: int, fps: Rate, *, seed: Seed = 0, compat: bool = False) -> np.ndarray:
    """Where the eyes look, (n, 2): left and up, 1 as far as they turn. Fixations of 25 to 45 frames at 60 fps, then 5
    frames straight to the next: 40 % ahead, else 0.1 to 0.2 away. `compat`: EmoFace's code, always ahead again."""
    rng, scale, here = np.random.default_rng(seed).spawn(1)[0], float(fps) / 60, np.zeros(2)
    path, quick = [np.zeros((0, 2))], np.linspace(0, 1, max(1, round(5 * scale)) + 1)[1:, None]
    while sum(map(len, path)) < n:
        radius, angle = rng.uniform(0.1, 0.2) * (rng.random() >= 0.4), rng.uniform(0, 2 * np.pi)
        there = radius * np.array((np.cos(angle), np.sin(angle)))
        path += [np.tile(here, (round(rng.integers(25, 46) * scale), 1)), here + quick * (there - here)]
        here = here if compat else there
    return np.concatenate(path)[:n]


def add_gaze(curves: Curves, *, seed: Seed = 0, compat: bool = False) -> Curves:
    """The curves with the eyes' motion replaced by `gaze`; the lids follow a look down, but not with `compat`."""
    look, values = gaze(len(curves.values), curves.fps, seed=seed, compat=compat), curves.values.copy()
    if curves.rig == "metahuman":
        values[:, :2] = look  # C_eye
    for way, axis, _, control in LOOKS if curves.rig != "metahuman" else ():
        values[:, curves.names.index(ARKIT[control])] = (way * look[:, "XY".index(axis)]).clip(0)
    return _narrowed(replace(curves, values=values), 1 - (0 if compat else LIDS) * (-look[:, 1]).clip(0))


def expression(emotion: str, intensity: float = 1.0, *, style: int = 0) -> np.ndarray:
    """What an emotion (or its first three letters, EmoFace's code) adds to the tracker's 52 controls: float32 (52,),
    `intensity` (0 to 1.5) times the units of its `style` (0 or 1) in STYLES. DataError for anything else."""
    name = next((name for name in EMOTIONS if emotion in (name, name[:3])), None)
    if name is None or style not in (0, 1) or not 0 <= intensity <= 1.5:
        known = f"one of {', '.join(EMOTIONS)}, an intensity of 0 to 1.5 and the style 0 or 1"
        raise DataError(f"The expression {emotion!r}, {intensity}, {style} is unknown: it takes {known}.")
    added = dict.fromkeys(BLENDSHAPES, 0.0)
    for unit, amount in STYLES[name][style].items():
        added |= {UNITS[unit].replace("*", side): amount * intensity for side in ("Left", "Right")}
    return np.array([*added.values()], np.float32).clip(0, 1)


def head_motion(energy: np.ndarray, fps: Rate, *, seed: Seed = 0) -> np.ndarray:
    """Yaw, pitch, roll float32 (T, 3) in degrees of a speaking head: slow sway, more in speech, nods where
    the loudness, energy (T,) in [0, 1], exceeds its surroundings (Busso et al. 2007); a seed sways alike at any fps."""
    loud, seconds = np.clip(energy, 0, 1).astype(float), np.arange(len(energy)) / float(fps)
    knots = np.random.default_rng(seed).spawn(2)[1].normal(size=(int(len(loud) / fps / 0.6) + 4, 3))
    near, far = (gaussian_filter1d(loud, width * float(fps), mode="nearest") for width in (0.1, 0.5))
    turns = CubicSpline(0.6 * np.arange(-1, len(knots) - 1), knots)(seconds) * SWAY * (0.5 + 0.5 * far[:, None])
    turns[:, 1] += NOD * (near - far)
    return (FURTHEST * np.tanh(turns / FURTHEST)).astype(np.float32)
