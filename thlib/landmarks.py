"""Faces as landmarks: tracking, one type for all of them (`FaceTrack`), normalisation, scale, pose, drawing."""

# T frames  L landmarks (478 or 68)
from __future__ import annotations

import functools
import os
import zipfile
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.signal import savgol_filter

from thlib.clip import Clip
from thlib.errors import DataError, FaceError
from thlib.mesh import Face, FaceMesh, region_of

TRACKER = 1  # raise it when the numbers of `track` change: it is part of the key of every cached track
SMOOTH = 5  # frames
LONGEST_GAP = 5  # frames without a face that are filled by interpolation


def _ids(text: str) -> np.ndarray:
    return np.array(text.split(), dtype=int)


RIGID = _ids("10 151 9 8 168 6 197 195 5 4 33 263 133 362 127 356 234 454")  # they move with the skull alone
LIPS = _ids(
    "61 146 91 181 84 17 314 405 321 375 291 185 40 39 37 0 267 269 270 409 "
    "78 95 88 178 87 14 317 402 318 324 308 191 80 81 82 13 312 311 310 415"
)
LIPS_OUTER = _ids("61 146 91 181 84 17 314 405 321 375 291 409 270 269 267 0 37 39 40 185")  # closed polylines
LIPS_INNER = _ids("78 95 88 178 87 14 317 402 318 324 308 415 310 311 312 13 82 81 80 191")
OVAL = _ids(
    "10 338 297 332 284 251 389 356 454 323 361 288 397 365 379 378 400 377 "
    "152 148 176 149 150 136 172 58 132 93 234 127 162 21 54 103 67 109"
)
EYES = (  # the eye at the image's left of an unmirrored face (the person's right), then the other
    _ids("33 7 163 144 145 153 154 155 133 173 157 158 159 160 161 246"),
    _ids("263 249 390 373 374 380 381 382 362 398 384 385 386 387 388 466"),
)
BROWS = (_ids("70 63 105 66 107 55 65 52 53 46"), _ids("300 293 334 296 336 285 295 282 283 276"))
IRIS = (_ids("468 469 470 471 472"), _ids("473 474 475 476 477"))  # centre, then four points of the rim
EAR = _ids("33 160 158 133 153 144"), _ids("362 385 387 263 373 380")  # corners and lids, order of Soukupová & Čech
IBUG68 = _ids(
    "127 234 93 58 172 136 149 148 152 377 378 365 397 288 323 454 356 "  # jaw, 0-16
    "70 63 105 66 107 336 296 334 293 300 "  # brows, 17-26
    "168 197 5 4 75 97 2 326 305 "  # nose, 27-35
    "33 160 158 133 153 144 362 385 387 263 373 380 "  # eyes, 36-47
    "61 39 37 0 267 269 291 405 314 17 84 181 "  # outer lips, 48-59
    "78 82 13 312 308 317 14 87"  # inner lips, 60-67
)  # the mesh point nearest to each of the 68 points of Sagonas et al. 2013 (300-W, "ibug68")
BLENDSHAPES = tuple(
    [
        "_neutral",
        "browDownLeft",
        "browDownRight",
        "browInnerUp",
        "browOuterUpLeft",
        "browOuterUpRight",
        "cheekPuff",
        "cheekSquintLeft",
        "cheekSquintRight",
        "eyeBlinkLeft",
        "eyeBlinkRight",
        "eyeLookDownLeft",
        "eyeLookDownRight",
        "eyeLookInLeft",
        "eyeLookInRight",
        "eyeLookOutLeft",
        "eyeLookOutRight",
        "eyeLookUpLeft",
        "eyeLookUpRight",
        "eyeSquintLeft",
        "eyeSquintRight",
        "eyeWideLeft",
        "eyeWideRight",
        "jawForward",
        "jawLeft",
        "jawOpen",
        "jawRight",
        "mouthClose",
        "mouthDimpleLeft",
        "mouthDimpleRight",
        "mouthFrownLeft",
        "mouthFrownRight",
        "mouthFunnel",
        "mouthLeft",
        "mouthLowerDownLeft",
        "mouthLowerDownRight",
        "mouthPressLeft",
        "mouthPressRight",
        "mouthPucker",
        "mouthRight",
        "mouthRollLower",
        "mouthRollUpper",
        "mouthShrugLower",
        "mouthShrugUpper",
        "mouthSmileLeft",
        "mouthSmileRight",
        "mouthStretchLeft",
        "mouthStretchRight",
        "mouthUpperUpLeft",
        "mouthUpperUpRight",
        "noseSneerLeft",
        "noseSneerRight",
    ]
)


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

    def to68(self) -> FaceTrack:
        """The same face as 68 points (T, 68, 3), scheme "ibug68": the mesh points IBUG68."""
        if self.scheme == "ibug68":
            return self
        return replace(self, points=self.points[:, IBUG68], scheme="ibug68")

    def window(self, first: int, last: int) -> FaceTrack:
        """Frames [first, last) as a track of their own."""
        cut = slice(first, last)
        controls, pose = (None if v is None else v[cut] for v in (self.controls, self.pose))
        return replace(self, points=self.points[cut], visible=self.visible[cut], controls=controls, pose=pose)

    def save(self, path: str | Path) -> Path:
        """Write the track as `path` (by custom `*.track.npz`), whole or not at all. It is biometric data: keep it local."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial{os.getpid()}")
        fields = {k: v for k, v in vars(self).items() if v is not None} | {"fps": str(self.fps)}
        with partial.open("wb") as file:
            np.savez_compressed(file, **fields)
        os.replace(partial, path)
        return path

    @classmethod
    def load(cls, path: str | Path) -> FaceTrack:
        """Read what `save` wrote. DataError where the file is missing or not a track."""
        try:
            with np.load(path, allow_pickle=False) as file:
                fields = {name: file[name] for name in file.files}
            fields |= {"fps": Fraction(str(fields["fps"])), "scheme": str(fields["scheme"])}
            return cls(**fields | {"size": tuple(int(n) for n in fields["size"])})
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is not a face track ({error}); write one with FaceTrack.save.") from error


# --- Finding faces -----------------------------------------------------------------------------------------------------


def track(
    clip: Clip,
    *,
    detector: str | None = None,
    face: str | int = "largest",
    smooth: int = SMOOTH,
    sidecar: str | Path | None = None,
) -> FaceTrack:
    """Follow one face through a clip.

    detector  "mesh" (478 points, the networks of `thlib.mesh`), "face-alignment" (68 points), "sidecar" (read from the
              file `sidecar`); None: the sidecar if one is given, else the mesh.
    face      "largest" at first sight, or an index counted from the left (0 is the leftmost); it is kept to the end.
    smooth    frames of the Savitzky-Golay window, odd; 0 leaves every frame's points as found.
    FaceError where no frame shows a face, or fewer faces than `face` asks for.
    """
    detector = detector or ("mesh" if sidecar is None else "sidecar")
    if detector == "sidecar":
        found = FaceTrack.load(sidecar or "")
        if len(found.points) != len(clip.frames):
            raise DataError(
                f"The track {sidecar} has {len(found.points)} frames and the clip {len(clip.frames)}; make the track anew."
            )
        return found
    points, controls = _follow(clip.frames, FaceMesh(_task()), face)
    points, visible = fill_gaps(points)
    controls = fill_gaps(controls)[0]
    if smooth:
        points = smoothed(points, smooth)
    pose = Head.fit(points).matrix
    return FaceTrack(points, visible, clip.frames.shape[1:3], clip.fps, controls.clip(0, 1), pose)


def faces(frame: np.ndarray) -> list[Face]:
    """All faces of an RGB frame uint8 (H, W, 3), left to right; a detection that the mesh network denies is left out."""
    net = FaceMesh(_task())
    return _confirmed(net, frame)


def _task() -> Path:
    return Path(os.environ["THLIB_MIRROR"]) / "mediapipe-face-landmarker" / "face_landmarker.task"


def _confirmed(net: FaceMesh, frame: np.ndarray) -> list[Face]:
    found = [f for f in net.detect(frame) if net.mesh(frame, f.region)[1] > 0.5]
    return sorted(found, key=lambda f: f.region.x)


def _follow(frames: np.ndarray, net: FaceMesh, face: str | int) -> tuple[np.ndarray, np.ndarray]:
    """Points (T, 478, 3) and controls (T, 52) of one face, NaN where it is hidden."""
    points = np.full((len(frames), 478, 3), np.nan, np.float32)
    controls = np.full((len(frames), 52), np.nan, np.float32)
    last, alone, score = None, True, 0.0
    for k, frame in enumerate(frames):
        if score > 0.5:
            points[k], score = net.mesh(frame, last)
        if score <= 0.5:
            seen = _confirmed(net, frame)
            if last is None and seen:
                alone = len(seen) == 1
            chosen = _choose(seen, face, last, alone)
            if chosen is not None:
                points[k], score = net.mesh(frame, chosen.region)
        if score <= 0.5:
            points[k] = np.nan
            continue
        last = region_of(points[k])
        controls[k] = net.blendshapes(points[k])
    return points, controls


def _choose(seen: list[Face], face: str | int, last, alone: bool) -> Face | None:
    if not seen:
        return None
    if last is None:
        if face == "largest":
            return max(seen, key=lambda f: f.region.side)
        if face >= len(seen):
            raise FaceError(
                f"Face {face} was asked for and {len(seen)} found; count from 0 at the left, or take 'largest'."
            )
        return seen[face]
    near = min(seen, key=lambda f: np.hypot(f.region.x - last.x, f.region.y - last.y))
    if not alone and np.hypot(near.region.x - last.x, near.region.y - last.y) > last.side / 2:
        return None
    return near


def fill_gaps(values: np.ndarray, *, longest: int = LONGEST_GAP) -> tuple[np.ndarray, np.ndarray]:
    """Fill frames of NaN: (T, ...) -> the same without NaN, and visible bool (T,).

    Gaps of up to `longest` frames between two frames with a face are interpolated and count as visible; longer ones and
    the ends repeat the nearest frame and don't. FaceError where there is no face at all.
    """
    flat = values.reshape(len(values), -1)
    known = np.flatnonzero(np.isfinite(flat).all(1))
    if not len(known):
        raise FaceError(f"No face was found in any of {len(values)} frames; a face that looks at the camera is needed.")
    frame = np.arange(len(values))
    after = np.searchsorted(known, frame).clip(0, len(known) - 1)
    before = (np.searchsorted(known, frame, side="right") - 1).clip(0)
    a, b = known[before], known[after]
    inside = (a <= frame) & (frame <= b)
    u = np.where(b > a, (frame - a) / np.maximum(b - a, 1), 0.0)
    visible = inside & (b - a - 1 <= longest)
    u = np.where(visible, u, np.where(inside, u.round(), frame > a))
    filled = flat[a] * (1 - u)[:, None] + flat[b] * u[:, None]
    return filled.astype(values.dtype).reshape(values.shape), visible


# --- The head: one similarity, one scale -------------------------------------------------------------------------------


@functools.cache
def neutral() -> np.ndarray:
    """The mean face (478, 3): symmetric, frontal, x right, y down, z away; eye corners 33 and 263 at (∓½, 0, 0)."""
    with np.load(Path(__file__).parent / "weights" / "face_neutral.npz", allow_pickle=False) as file:
        return file["points"].astype(np.float32)


@dataclass(frozen=True)
class Head:
    """Where a head is in each frame: pixels = scale · rotation @ fixed + shift, fixed in eye-corner units.

    rotation (T, 3, 3), scale (T,) pixels per unit, shift (T, 3) pixels.
    """

    rotation: np.ndarray
    scale: np.ndarray
    shift: np.ndarray

    @classmethod
    def fit(cls, points: np.ndarray, *, shape: np.ndarray | None = None, at: np.ndarray = RIGID) -> Head:
        """The similarity that takes `shape` (478, 3; default the neutral) to points (T, 478, 3), least squares at `at`.

        Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns".
        """
        target = np.asarray(points, np.float64)[:, at]
        source = np.asarray(neutral() if shape is None else shape, np.float64)[at]
        mean_t, mean_s = target.mean(1), source.mean(0)
        covariance = (target - mean_t[:, None]).swapaxes(1, 2) @ (source - mean_s)
        u, d, vt = np.linalg.svd(covariance)
        d[:, 2] *= np.linalg.det(u @ vt)
        u[:, :, 2] *= np.linalg.det(u @ vt)[:, None]
        rotation = u @ vt
        scale = d.sum(1) / ((source - mean_s) ** 2).sum()
        shift = mean_t - scale[:, None] * (rotation @ mean_s)
        return cls(rotation, scale, shift)

    def fix(self, points: np.ndarray) -> np.ndarray:
        """Pixels (T, L, 3) -> head-fixed points (T, L, 3)."""
        return ((points - self.shift[:, None]) @ self.rotation / self.scale[:, None, None]).astype(np.float32)

    def unfix(self, fixed: np.ndarray) -> np.ndarray:
        """Head-fixed points (T, L, 3) -> pixels (T, L, 3): undoes `fix`."""
        turned = fixed @ self.rotation.swapaxes(1, 2) * self.scale[:, None, None]
        return (turned + self.shift[:, None]).astype(np.float32)

    @property
    def matrix(self) -> np.ndarray:
        """float32 (T, 4, 4), head-fixed points to pixels."""
        out = np.tile(np.eye(4, dtype=np.float32), (len(self.scale), 1, 1))
        out[:, :3, :3] = self.rotation * self.scale[:, None, None]
        out[:, :3, 3] = self.shift
        return out


def head_fixed(points: np.ndarray, *, shape: np.ndarray | None = None) -> np.ndarray:
    """Points (T, 478, 3) without head motion, place and size, in eye-corner units; `Head.fit(points).unfix` undoes it."""
    return Head.fit(points, shape=shape).fix(points)


def face_scale(points: np.ndarray) -> np.ndarray:
    """Size of the face (T,): pixels per eye-corner unit of the neutral. The one definition, free of jaw and gaze."""
    return Head.fit(points).scale


def head_angles(track: FaceTrack) -> np.ndarray:
    """Yaw, pitch, roll (T, 3) in degrees: turned to the image's right, nodding down, tilted clockwise are positive."""
    r = Head.fit(track.points).rotation
    yaw = np.arctan2(-r[:, 0, 2], r[:, 2, 2])
    pitch = np.arcsin(-r[:, 1, 2].clip(-1, 1))
    roll = np.arctan2(r[:, 1, 0], r[:, 1, 1])
    return np.degrees(np.stack([yaw, pitch, roll], 1))


def smoothed(points: np.ndarray, window: int) -> np.ndarray:
    """Points (T, 478, 3) after a Savitzky-Golay filter (quadratic, `window` frames) over the frames."""
    window = min(window, len(points) - 1 + len(points) % 2)
    if window < 3:
        return points
    return savgol_filter(points, window, 2, axis=0, mode="interp").astype(np.float32)


def ear(points: np.ndarray) -> np.ndarray:
    """Eye aspect ratio (T, 2) of both eyes, image-left first: about 0.3 open, below 0.15 closed.

    (|p2 - p6| + |p3 - p5|) / (2 |p1 - p4|) in the image plane; Soukupová & Čech 2016, equation 1.
    """
    both = []
    for quad in EAR:
        p1, p2, p3, p4, p5, p6 = points[:, quad, :2].swapaxes(0, 1)
        norm = functools.partial(np.linalg.norm, axis=-1)
        both.append((norm(p2 - p6) + norm(p3 - p5)) / (2 * norm(p1 - p4)))
    return np.stack(both, 1)


def mouth_opening(points: np.ndarray) -> np.ndarray:
    """Distance (T,) of the inner lips 13-14, in eye-corner units."""
    return np.linalg.norm(points[:, 13] - points[:, 14], axis=-1) / face_scale(points)
