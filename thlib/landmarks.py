"""Faces as landmarks: tracking, one type for all of them (`FaceTrack`), normalisation, scale, pose, drawing."""

# T frames  L landmarks (478 or 68)
import functools
import zipfile
from collections import namedtuple
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from scipy.signal import savgol_filter
from scipy.spatial.transform import Rotation

from thlib import data
from thlib.clip import Clip, Video
from thlib.errors import DataError, FaceError
from thlib.mesh import NAMED, Face, FaceAlignment, FaceMesh, Found

TRACKER = 1  # raise it when `track` finds other numbers: it is part of the key of every cached track
SMOOTH = 7  # frames: halves the jitter of the head
LONGEST_GAP = 5  # frames without a face that are filled by interpolation

RIGID, OVAL, LIPS, LIPS_OUTER = (np.array(NAMED[name]) for name in ("rigid", "oval", "lips", "lips_outer"))
LIPS_INNER, IBUG68 = (np.array(NAMED[name]) for name in ("lips_inner", "ibug68"))
EYES, BROWS, IRIS = (np.array(NAMED[name]) for name in ("eyes", "brows", "iris"))  # at the image's left first
EAR = IBUG68[36:48].reshape(2, 6)  # corners and lids of both eyes in the order of Soukupová & Čech
BLENDSHAPES = tuple(NAMED["scores"].split())
COLOURS = NAMED["colours"]
CONTOURS = {"oval": [OVAL], "brows": BROWS, "eyes": EYES, "outer": [LIPS_OUTER], "inner": [LIPS_INNER]}


@dataclass(frozen=True)
class FaceTrack:
    """One face through a clip.
    points   float32 (T, L, 3), pixels; x right, y down, pixel i covers [i, i+1); z in the same unit, smaller is nearer.
    visible  bool (T,): False where no face was found (points there are the nearest visible ones).
    size     (H, W) of the frames; fps of the clip.
    controls float32 (T, 52) blendshape scores in [0, 1], or None; pose float32 (T, 4, 4) from the neutral's units to
             pixels, or None.
    scheme   "mesh478" or "ibug68".
    filled   bool (T,), or None for nowhere: visible frames whose face was not found and points are interpolated."""

    points: np.ndarray
    visible: np.ndarray
    size: tuple[int, int]
    fps: Fraction
    controls: np.ndarray | None = None
    pose: np.ndarray | None = None
    scheme: str = "mesh478"
    filled: np.ndarray | None = None

    @property
    def shown(self) -> np.ndarray:
        """bool (T,): the face was found in this very frame, so its picture can be used."""
        return self.visible if self.filled is None else self.visible & ~self.filled

    def to68(self) -> Self:
        """The same face as 68 points (T, 68, 3), scheme "ibug68": the mesh points IBUG68."""
        return self if self.scheme == "ibug68" else replace(self, points=self.points[:, IBUG68], scheme="ibug68")

    def picked(self, index: slice | np.ndarray) -> Self:
        """The frames `index` (a slice, or numbers) as a track of their own."""
        return replace(self, **{name: a[index] for name, a in vars(self).items() if isinstance(a, np.ndarray)})

    def smoothed(self, frames: int = SMOOTH) -> Self:
        """The track with the head's motion smoothed over `frames` (odd) by a Savitzky-Golay filter of degree 2.
        Only the similarity of the head is filtered: head-fixed points, so lips and blinks, stay as they were. Where the
        filter would carry the head by more than 3 % of its scale (a cut of the scene) the frame keeps its own pose."""
        frames = min(frames, len(self.points) - 1 + len(self.points) % 2)
        if frames < 3 or self.scheme != "mesh478":
            return self
        head = Head.fit(self.points)
        points = head.smoothed(frames).unfix(head.fix(self.points))
        far = np.abs(points - self.points)[:, RIGID].max((1, 2)) > 0.03 * head.scale
        points[far] = self.points[far]
        return replace(self, points=points, pose=Head.fit(points).matrix)

    def save(self, path: str | Path) -> Path:
        """Write the track (by custom as `*.track.npz`), whole or not at all. It is biometric data: keep it local."""
        with data.atomic(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **self._arrays())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote. DataError where the file is missing or no track."""
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls._of(dict(file))
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is no face track ({error}): write one with FaceTrack.save.") from error

    def _arrays(self) -> dict[str, np.ndarray]:
        return {k: np.asarray(v) for k, v in (vars(self) | {"fps": str(self.fps)}).items() if v is not None}

    @classmethod
    def _of(cls, arrays: dict[str, np.ndarray]) -> Self:
        size = tuple(int(n) for n in arrays["size"])
        return cls(**arrays | {"size": size, "fps": Fraction(str(arrays["fps"])), "scheme": str(arrays["scheme"])})


def track(
    clip: Clip | Video, *, detector: str | None = None, face: str | int = "largest", smooth: int = SMOOTH
) -> FaceTrack:
    """Follow one face through a clip; through a `Video` once: the track is kept in the cache (`thlib data purge tracks`
    deletes it: landmarks are biometric data).
    detector  "mesh" (478 points), "face-alignment" (68 points), "sidecar" (the track that lies beside a `Video`, see
              `beside`); None: the sidecar if there is one, else the mesh.
    face      "largest" at first sight, or an index counted from the left (0 is the leftmost); it is kept to the end.
    smooth    frames of `FaceTrack.smoothed`; 0 leaves all points as found, those of a single picture as by MediaPipe.
    FaceError where no frame shows a face, or never as many as `face` asks for; DataError where a file is missing."""
    how = detector or "mesh", face, smooth > 0
    if isinstance(clip, Clip):
        return _track(clip, *how).smoothed(smooth)
    path = beside(clip.path)
    if detector == "sidecar" or (detector is None and path.is_file()):
        found = FaceTrack.load(path)
        if len(found.points) != clip.n_frames:
            raise DataError(f"The track {path} has {len(found.points)} frames, the clip {clip.n_frames}: track again.")
        return found
    key = [data.sha256(clip.path), TRACKER, *how]
    return FaceTrack._of(data.cached("tracks", key, lambda: _track(clip, *how)._arrays())).smoothed(smooth)


def beside(path: str | Path) -> Path:
    """Where the track of a video or picture lies, if it came with one: `talk.track.npz` beside `talk.mp4`."""
    return Path(path).with_suffix(".track.npz")


def faces(frame: np.ndarray) -> list[Face]:
    """All faces of an RGB frame uint8 (H, W, 3), left to right; `len(faces(frame))` counts them."""
    return FaceMesh().faces(frame)


def fill_gaps(values: np.ndarray, at: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Values (K, ...) known in frames `at` (K,), rising -> values (T, ...) in all `frames`, and visible bool (T,). Gaps
    of up to LONGEST_GAP are interpolated and count as visible; longer ones, and ends, repeat the nearest and don't."""
    frame = np.arange(frames)
    after = np.searchsorted(at, frame).clip(max=len(at) - 1)
    before = (np.searchsorted(at, frame, side="right") - 1).clip(0)
    visible = (at[before] <= frame) & (frame <= at[after]) & (at[after] - at[before] <= LONGEST_GAP + 1)
    u = ((frame - at[before]) / np.maximum(at[after] - at[before], 1)).clip(0, 1)
    u = np.where(visible, u, u.round()).reshape(-1, *[1] * (values.ndim - 1))
    return (values[before] * (1 - u) + values[after] * u).astype(values.dtype), visible


def _track(clip: Clip | Video, detector: str, face: str | int, settle: bool) -> FaceTrack:
    networks = {"mesh": FaceMesh, "face-alignment": FaceAlignment}
    if detector not in networks:
        raise DataError(f"There is no detector {detector!r}: take 'mesh', 'face-alignment' or, of a Video, 'sidecar'.")
    found = _follow(clip.pictures(), networks[detector](), face, settle=settle)
    at = np.array([k for k, here in enumerate(found) if here])
    points, visible = fill_gaps(np.stack([here.points for here in found if here]), at, len(found))
    filled = visible & ~np.isin(np.arange(len(found)), at)
    if points.shape[1] == 68:
        return FaceTrack(points, visible, clip.size, clip.fps, scheme="ibug68", filled=filled)
    controls, _ = fill_gaps(np.stack([here.controls for here in found if here]), at, len(found))
    return FaceTrack(points, visible, clip.size, clip.fps, controls, Head.fit(points).matrix, filled=filled)


def _follow(frames, net: FaceMesh | FaceAlignment, face: str | int, *, settle: bool) -> list[Found | None]:
    """What is found of one face in each frame; with `settle` a face detected afresh is located twice.
    (The detector frames a face otherwise than its landmarks do: without it the first frame is off by 0.7 %.)"""
    found, last, most, alone = [], None, 0, True
    for frame in frames:
        here = net.locate(frame, last) if net.follows and found and found[-1] else None
        if here is None:
            seen = net.faces(frame)
            most, alone = max(most, len(seen)), alone and len(seen) < 2
            chosen = _chosen(seen, face, last, alone)
            here = chosen and net.locate(frame, chosen)
            here = net.locate(frame, here.face) if here and settle and net.follows else here
        last = here.face if here else last
        found.append(here)
    if last is None and most:
        raise FaceError(f"Face {face} was asked for and at most {most} found: count from 0 at the left, or 'largest'.")
    if last is None:
        raise FaceError(f"No face was found in {len(found)} frames: a face that looks towards the camera is needed.")
    return found


def _chosen(seen: list[Face], face: str | int, last: Face | None, alone: bool) -> Face | None:
    """The face asked for; later the one that is where the last one was, or, if there never were two, wherever it is."""
    if last is None and face == "largest":
        return max(seen, key=lambda one: one.region.side, default=None)
    if last is None:
        return seen[face] if 0 <= face < len(seen) else None
    way = [np.hypot(one.region.x - last.region.x, one.region.y - last.region.y) for one in seen]
    near = seen[int(np.argmin(way))] if seen else None
    return near if near and (alone or min(way) < last.region.side / 2) else None


@functools.cache
def neutral() -> np.ndarray:
    """The mean face (478, 3), symmetric, frontal: x right, y down, z away, eye corners 33 and 263 at x = -0.5 and 0.5.
    Statistics of eight speakers of the GRID corpus (tools/fit_neutral.py), nobody's face."""
    return data.shipped("face_neutral.npz")["points"].astype(np.float32)


@functools.cache
def mirror_index() -> np.ndarray:
    """For each of the 478 points its mirror point: `points[:, mirror_index()] * (-1, 1, 1)` is the mirrored face."""
    return data.shipped("face_neutral.npz")["mirror"].astype(int)


class Head(namedtuple("Head", "rotation scale shift")):
    """Where heads are: pixels = scale (T,) · rotation (T, 3, 3) @ fixed + shift (T, 3), fixed in eye-corner units."""

    @classmethod
    def fit(cls, points: np.ndarray, *, shape: np.ndarray | None = None) -> Self:
        """The similarity that takes `shape` (478, 3; the neutral) to points (T, 478, 3), by least squares on RIGID.
        Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns"."""
        if points.shape[1] != 478:
            raise FaceError(f"The head's place needs 478 points, not {points.shape[1]}: track with detector='mesh'.")
        target, source = points[:, RIGID].astype(float), (neutral() if shape is None else shape)[RIGID].astype(float)
        to, of = target.mean(1), source.mean(0)
        u, d, vt = np.linalg.svd((target - to[:, None]).swapaxes(1, 2) @ (source - of))
        sign = np.stack([np.ones(len(u)), np.ones(len(u)), np.linalg.det(u @ vt)], 1)
        rotation = u * sign[:, None] @ vt
        scale = (d * sign).sum(1) / ((source - of) ** 2).sum()
        return cls(rotation, scale, to - scale[:, None] * (rotation @ of))

    def fix(self, points: np.ndarray) -> np.ndarray:
        """Pixels (T, L, 3) -> head-fixed points (T, L, 3)."""
        return ((points - self.shift[:, None]) @ self.rotation / self.scale[:, None, None]).astype(np.float32)

    def unfix(self, fixed: np.ndarray) -> np.ndarray:
        """Head-fixed points (T, L, 3) -> pixels (T, L, 3): undoes `fix`."""
        turned = fixed @ self.rotation.swapaxes(1, 2) * self.scale[:, None, None]
        return (turned + self.shift[:, None]).astype(np.float32)

    def smoothed(self, frames: int) -> Self:
        """The same motion after a Savitzky-Golay filter of degree 2 over `frames` (odd, at most T)."""
        calm = functools.partial(savgol_filter, window_length=frames, polyorder=2, axis=0)
        u, _, vt = np.linalg.svd(calm(self.rotation))
        return Head(u @ vt, calm(self.scale), calm(self.shift))

    @property
    def matrix(self) -> np.ndarray:
        """float32 (T, 4, 4): head-fixed points to pixels."""
        out = np.tile(np.eye(4, dtype=np.float32), (len(self.scale), 1, 1))
        out[:, :3, :3] = self.rotation * self.scale[:, None, None]
        out[:, :3, 3] = self.shift
        return out


def head_fixed(points: np.ndarray, *, shape: np.ndarray | None = None) -> np.ndarray:
    """Points (T, 478, 3) without the head's motion, place and size, in eye-corner units of `shape` (the neutral)."""
    return Head.fit(points, shape=shape).fix(points)


def face_scale(points: np.ndarray) -> np.ndarray:
    """Size of the face (T,): pixels per eye-corner unit of the neutral. The one definition, free of jaw and lids."""
    return Head.fit(points).scale


def head_angles(track: FaceTrack) -> np.ndarray:
    """Yaw, pitch, roll (T, 3) in degrees: turned to the image's right, nodding down, tilted clockwise are positive."""
    pose = Head.fit(track.points).matrix if track.pose is None else track.pose
    return Rotation.from_matrix(pose[:, :3, :3]).as_euler("YXZ", degrees=True) * [-1, 1, 1]


def ear(points: np.ndarray) -> np.ndarray:
    """Eye aspect ratio (T, 2) of points (T, 478 or 68, 3), image-left eye first: about 0.3 open, below 0.15 closed.
    (|p2 - p6| + |p3 - p5|) / (2 |p1 - p4|) in the image plane; Soukupová & Čech 2016, equation 1."""
    quads = EAR if points.shape[1] == 478 else np.arange(36, 48).reshape(2, 6)
    p1, p2, p3, p4, p5, p6 = np.moveaxis(points[:, quads, :2], 2, 0)  # each (T, 2 eyes, 2)
    norm = functools.partial(np.linalg.norm, axis=-1)
    return (norm(p2 - p6) + norm(p3 - p5)) / (2 * norm(p1 - p4))


def mouth_opening(points: np.ndarray) -> np.ndarray:
    """Distance (T,) of the inner lips 13-14 of points (T, 478, 3), in eye-corner units."""
    return np.linalg.norm(points[:, 13] - points[:, 14], axis=-1) / face_scale(points)


def draw(points: np.ndarray, size: tuple[int, int], *, over: np.ndarray | None = None) -> np.ndarray:
    """The dense landmark image uint8 (H, W, 3) of one frame's points (478 or 68, 3), on black or `over` a frame.
    Every point a dot; of the mesh also oval, brows, eyes, irises and both lip contours as lines, each in its colour."""
    image = np.zeros((*size, 3), np.uint8) if over is None else over.copy()
    xy = np.round((points[:, :2] - 0.5) * 16).astype(np.int32)  # cv2 wants pixel centres in 1/16
    thick = max(1, round(float(np.ptp(points[:, 0])) / 200))
    for dot in xy:
        cv2.circle(image, dot.tolist(), 10 * thick, COLOURS["rest"], cv2.FILLED, cv2.LINE_AA, 4)
    if len(points) == 68:
        return image
    for name, contours in CONTOURS.items():
        cv2.polylines(image, [xy[c] for c in contours], True, COLOURS[name], thick, cv2.LINE_AA, 4)
    for centre, *rim in IRIS:
        radius = np.linalg.norm(xy[rim] - xy[centre], axis=1).mean()
        cv2.circle(image, xy[centre].tolist(), round(radius), COLOURS["iris"], thick, cv2.LINE_AA, 4)
    return image
