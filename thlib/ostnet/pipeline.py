"""A portrait follows another person's video: landmarks carried over in one of several modes, the picture warped.

    reenact = OSTNetPipeline.from_pretrained()
    video = reenact(portrait, driving_clip)                 # a Clip of the portrait's size, the driver's rate and sound
    reenact.save("out.mp4", portrait, Video("talk.mp4"))    # the same for any length, frame by frame

The driving face is seldom as large as the portrait's: `retarget` has the field's remedies side by side, among them the
closed form of online scale transformation (Hong & Xu 2024, "OSTNet": learning online scale transformation)."""

# T frames  L landmarks (478)  P control points  H height  W width
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from PIL import Image, ImageOps
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from thlib import data, landmarks, provenance
from thlib.clip import MAX_BYTES, Clip, Video, write
from thlib.errors import DataError, FaceError, MediaError
from thlib.landmarks import IBUG68, LIPS, LIPS_INNER, OVAL, RIGID, FaceTrack, Head, beside, mouth_opening, track
from thlib.presenter.face import displacement
from thlib.warp import Array, clipped, control_points, cut_of, face_flows, fade_out, sample, surroundings

MODES = ("classic", "closed_form", "absolute", "relative", "best_frame")
VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg")
SMALLEST = 48  # pixels of a portrait's face, twice those of a driver's: below, landmarks are guesses
REACH = 1.2  # in face scales: how far beyond the face's ring the portrait may move
TURN = 35.0  # degrees: no picture can be turned farther; larger turns approach this
FEATHER = 0.015  # in face scales: width of the seam around the inner mouth
STIFFNESS = 0.0025  # of the spline: at warp.STIFFNESS hardly a blink arrives
OPEN = 0.05  # in eye-corner units: the opening from which on the inner mouth is all the driver's
Picture = str | Path | Array


def portrait(image: Picture, *, face: int | None = None) -> tuple[Array, FaceTrack]:
    """A picture as RGB uint8 (H, W, 3) and its face as a track of one frame.
    image  a picture file, an array that is grey, RGB or RGBA (laid on white), or a video file: its first frame. Where
           `name.track.npz` lies beside the file, its first frame is the face.
    face   counted from the left, 0 first, where the picture shows several.
    MediaError for what is no picture; FaceError for no face, several and no `face`, or one below `SMALLEST` pixels."""
    pixels = _pixels(image)
    if isinstance(image, str | Path) and beside(image).is_file():
        return pixels, _large(FaceTrack.load(beside(image)).picked(slice(1)), "picture", SMALLEST)
    seen = len(landmarks.faces(pixels))
    if not 0 <= (face or 0) < seen:
        raise FaceError(f"The picture shows {seen} faces; give one with a face that is seen from the front.")
    if face is None and seen > 1:
        raise FaceError(f"The picture shows {seen} faces; crop it to one, or name one: face 0 is the leftmost.")
    still = Clip(pixels[None], 25, np.zeros((0, 1), np.float32), 16000)
    return pixels, _large(track(still, face=face or 0, smooth=0), "picture", SMALLEST)


def _large(found: FaceTrack, what: str, least: int) -> FaceTrack:
    """The track; FaceError where its face is smaller than that: landmarks would be guesses."""
    if (edge := float(np.median(np.ptp(found.points[:, OVAL, :2], axis=1).max(1)))) < least:
        raise FaceError(f"The face is {edge:.0f} pixels high; give a {what} in which it has at least {least}.")
    return found


def _pixels(image: Picture) -> Array:
    try:
        if isinstance(image, str | Path) and Path(image).suffix.lower() in VIDEOS:
            return next(Video(image).pictures(0, 1))
        opened = Image.fromarray(image) if isinstance(image, np.ndarray) else Image.open(image)
        picture = ImageOps.exif_transpose(opened)
        if picture.mode.startswith("I"):  # 16 bits
            picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        if "transparency" in picture.info or picture.mode in ("RGBA", "LA", "PA"):
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        return np.array(picture.convert("RGB"))
    except (OSError, ValueError, TypeError, SyntaxError, Image.DecompressionBombError) as error:
        what = f"An array {image.dtype} {image.shape}" if isinstance(image, np.ndarray) else image
        raise MediaError(f"{what} cannot be read as a picture; give a PNG or JPEG, or uint8 (H, W, 3).") from error


def closed_form(driving: Array, source: Array) -> Array:
    """Scale α (T,) of driving points (T, 478, 3) against the source's (478, 3): sqrt(Σ|Δd_D|² / Σ|Δd_S|²).
    Δd are distances from the centroid, of the RIGID points alone and in three dimensions, so that neither an open
    mouth nor a turn of the head counts as size. Exact where one is a scaled and moved copy of the other."""
    rigid = (points[..., RIGID, :].astype(float) for points in (driving, source))
    theirs, own = (np.sqrt(((p - p.mean(-2, keepdims=True)) ** 2).sum((-1, -2))) for p in rigid)
    return theirs / own


def retarget(source: FaceTrack, driving: FaceTrack, *, mode: str = "classic") -> Array:
    """Landmarks float32 (T, 478, 3) in the source picture's pixels that follow `driving`.
    absolute     the driver's own points: his place, his size, his face.
    relative     x_S + a (x_t - x_0), a² the ratio of hull areas, anchored at the first frame (FOMM, Siarohin 2019).
    best_frame   the same, anchored at the frame that is most like the source.
    closed_form  the driver's points, each frame scaled by `closed_form` and laid on the source's centroid: no anchor.
    classic      the source's own face with the driver's expression, turns, moves; its size stays, no anchor either."""
    if mode not in MODES:
        raise DataError(f"There is no mode {mode!r}; take one of {', '.join(MODES)}.")
    own, theirs = source.points[0].astype(float), driving.points.astype(float)
    if mode == "absolute":
        return driving.points
    if mode == "closed_form":
        middle = theirs[:, RIGID].mean(1, keepdims=True)
        moved = (theirs - middle) / closed_form(theirs, own)[:, None, None] + own[RIGID].mean(0)
    elif mode == "classic":
        moved = _carried(source, driving)
    else:
        anchor = theirs[0]
        if mode == "best_frame":  # whose 68 points, centred and of hull area 1, differ least from the source's
            shapes = [p[IBUG68, :2] - p[IBUG68, :2].mean(0) for p in (own, *theirs)]
            first, *others = [s / np.sqrt(ConvexHull(s).volume) for s in shapes]
            anchor = theirs[np.argmin([((s - first) ** 2).sum() for s in others])]
        ours, his = (ConvexHull(points[:, :2]).volume for points in (own, anchor))
        moved = own + np.sqrt(ours / his) * (theirs - anchor)
    return moved.astype(np.float32)


def _carried(source: FaceTrack, driving: FaceTrack) -> Array:
    """Expression (what moves a head-fixed face off its own neutral), turns and moves of `driving` on `source`."""
    if source.controls is None or driving.controls is None:
        raise FaceError("Reenactment needs 478 points and their controls; track with detector='mesh'.")
    (ours, here), (theirs, there) = ((h := Head.fit(t.points), h.fix(t.points)) for t in (source, driving))
    expression = there - (there - displacement(driving.controls)).mean(0)
    fixed = here - displacement(source.controls) + expression
    turn = Rotation.from_matrix(theirs.rotation) * Rotation.from_matrix(theirs.rotation).mean().inv()
    angle = np.degrees(turn.magnitude())
    shorter = TURN * np.tanh(angle / TURN) / np.maximum(angle, 1e-9)
    turn = Rotation.from_rotvec(turn.as_rotvec() * shorter[:, None]) * Rotation.from_matrix(ours.rotation[0])
    shift = ours.shift + (theirs.shift - theirs.shift.mean(0)) * (ours.scale[0] / theirs.scale.mean())
    return Head(turn.as_matrix(), np.repeat(ours.scale, len(shift)), shift).unfix(fixed)


def render(image: Array, source: Array, *, target: Array, driving: Iterable[tuple] = ()) -> Iterator[Array]:
    """The picture (H, W, 3) with its landmarks `source` (478, 3) moved to `target` (T, 478, 3), a frame at a time.
    A thin-plate spline carries face, hair and what is near; where lips part farther than in the picture, the inside of
    the mouth comes, in the portrait's light, from `driving`: T pairs of a frame and its landmarks (478, 3)."""
    scale = float(Head.fit(source[None]).scale[0])
    controls = control_points(np.concatenate([source[None], target]))
    box, edge = surroundings(controls[:1], REACH * scale)
    controls = np.concatenate([controls, np.broadcast_to(edge, (len(controls), *edge.shape))], axis=1)
    fade = fade_out(box, 0.3 * scale)
    box, fade = clipped(box, image.shape[:2]), fade[cut_of(clipped(box, image.shape[:2]), box)]
    opened = ((mouth_opening(target) - mouth_opening(source[None])) / OPEN).clip(0, 1)
    pairs, cut = iter(driving), cut_of(box, (0, 0))
    for k, wanted in enumerate(controls[1:]):
        out, pair = image.copy(), next(pairs, None)
        (flow,) = face_flows(wanted, controls[:1], box=box, scale=scale, stiffness=STIFFNESS)
        out[cut] = sample(image, flow * fade, box=box)
        if pair is not None:
            _mouth(out, target[k], *pair, float(opened[k]), FEATHER * scale)
        yield out


def _mouth(out, target, frame, points, share: float, feather: float) -> None:
    """Lay the inside of the mouth of `frame` (landmarks `points`) between the lips of `target` in `out`."""
    lips = target[LIPS_INNER, :2]
    low, high = np.floor(lips.min(0) - 3 * feather), np.ceil(lips.max(0) + 3 * feather)
    box = clipped((*low.astype(int).tolist(), *high.astype(int).tolist()), out.shape[:2])
    if not share or box[2] - box[0] < 2 or box[3] - box[1] < 2:
        return
    mask = np.zeros((box[3] - box[1], box[2] - box[0]), np.float32)
    cv2.fillPoly(mask, [np.round((lips - box[:2] - 0.5) * 16).astype(np.int32)], share, cv2.LINE_AA, 4)
    mask = cv2.GaussianBlur(mask, (0, 0), max(feather, 0.5))[..., None]
    scale = float(Head.fit(target[None]).scale[0])
    flow = face_flows(target[LIPS, :2], [points[LIPS, :2]], box=box, scale=scale)[0]
    inside = sample(frame, flow, box=box).astype(np.float32)
    cut = cut_of(box, (0, 0))
    inside *= np.sqrt(_skin(out, target) / np.maximum(_skin(frame, points), 1)).clip(0.4, 1.1)  # half tone, half light
    out[cut] = np.rint(out[cut] + mask * (inside.clip(0, 255) - out[cut])).astype(np.uint8)


def _skin(image: Array, points: Array) -> Array:
    """Median colour (3,) of the cheeks."""
    at = points[[50, 280, 101, 330, 205, 425, 36, 266], :2].astype(int)
    x, y = np.clip(at, 0, np.array(image.shape[1::-1]) - 1).T
    return np.median(image[y, x].astype(np.float32), axis=0)


class OSTNetPipeline:
    """Portrait and driving video in, video out; `retarget` and `render` are its stages."""

    @classmethod
    def from_pretrained(cls, name: str = "default") -> Self:
        """The pipeline; the classical modes need no weights. DataError for any name but "default"."""
        if name != "default":
            raise DataError(f"There are no weights {name!r} for reenactment; take 'default'.")
        return cls()

    def __call__(
        self, source_image: Picture, driving: Clip | Video, *, mode: str = "classic", face: int | None = None
    ) -> Clip:
        """The reenacted clip: the portrait's size, the driver's frame rate and sound, in memory.
        mode, face: see `retarget` and `portrait`. MediaError, FaceError and DataError say what does not fit."""
        frames, sound = _reenacted(source_image, driving, mode, face)
        if (size := sound.frames.nbytes * driving.n_frames) > MAX_BYTES:
            raise MediaError(f"The result would take {size / 2**30:.1f} GiB; write it by `save`, or give less.")
        return replace(sound, frames=np.stack(list(frames)))

    def save(
        self, out: str | Path, source_image: Picture, *, driving: Clip | Video, mode: str = "classic",
        face: int | None = None, badge: bool = True,
    ) -> Path:  # fmt: skip
        """Write what the call returns to `out`, frame by frame, with a badge on it and its provenance beside it."""
        frames, sound = _reenacted(source_image, driving, mode, face)
        shown = data.sha256(source_image) if isinstance(source_image, str | Path) else None
        known, span = driving.path if isinstance(driving, Video) else None, (0.0, driving.duration)
        told = {"method": f"reenactment, {mode}", "badge": badge, "portrait": shown}
        actions = ["A portrait follows the motion of the source."]
        record = provenance.record(known, [span], actions=actions, details=told)
        if badge:
            frames = (provenance.badge(frame[None], "AI-generated")[0] for frame in frames)
        frames = tqdm(frames, total=driving.n_frames, desc=Path(out).name, disable=None)  # None: on a terminal alone
        write(out, sound, frames=frames, metadata=provenance.container_tags(record))
        provenance.write_sidecar(out, record)
        return Path(out)


def _reenacted(source_image: Picture, driving: Clip | Video, mode: str, face: int | None) -> tuple[Iterator, Clip]:
    """The new frames, and the driver's sound under one picture of the portrait's size."""
    image, source = portrait(source_image, face=face)
    found = _large(track(driving), "video", SMALLEST // 2)
    target = retarget(source, found, mode=mode)
    frames = render(image, source.points[0], target=target, driving=zip(driving.pictures(), found.points))
    return frames, Clip(image[None], driving.fps, driving.audio, driving.audio_rate)
