"""The three networks of MediaPipe's face_landmarker.task, run by ai-edge-litert: detector, 478-point mesh, blendshapes.

No GL library is opened and no connection made. The steps are those of the published face landmarker (Kartynnik et al.
2019, "Real-time facial surface geometry from monocular video on mobile GPUs"; Bazarevsky et al. 2019, "BlazeFace";
Grishchenko et al. 2020, "Attention mesh"): detect once, then let each frame's landmarks say where the next face is.
"""

# N faces  A anchors (896)
from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from scipy.special import expit

DETECTOR_SIDE, MESH_SIDE = 128, 256
ENLARGE = 1.5  # side of the region over the longer edge of the face's box
BLENDSHAPE_POINTS = np.array(
    [
        "0",
        "1",
        "4",
        "5",
        "6",
        "7",
        "8",
        "10",
        "13",
        "14",
        "17",
        "21",
        "33",
        "37",
        "39",
        "40",
        "46",
        "52",
        "53",
        "54",
        "55",
        "58",
        "61",
        "63",
        "65",
        "66",
        "67",
        "70",
        "78",
        "80",
        "81",
        "82",
        "84",
        "87",
        "88",
        "91",
        "93",
        "95",
        "103",
        "105",
        "107",
        "109",
        "127",
        "132",
        "133",
        "136",
        "144",
        "145",
        "146",
        "148",
        "149",
        "150",
        "152",
        "153",
        "154",
        "155",
        "157",
        "158",
        "159",
        "160",
        "161",
        "162",
        "163",
        "168",
        "172",
        "173",
        "176",
        "178",
        "181",
        "185",
        "191",
        "195",
        "197",
        "234",
        "246",
        "249",
        "251",
        "263",
        "267",
        "269",
        "270",
        "276",
        "282",
        "283",
        "284",
        "285",
        "288",
        "291",
        "293",
        "295",
        "296",
        "297",
        "300",
        "308",
        "310",
        "311",
        "312",
        "314",
        "317",
        "318",
        "321",
        "323",
        "324",
        "332",
        "334",
        "336",
        "338",
        "356",
        "361",
        "362",
        "365",
        "373",
        "374",
        "375",
        "377",
        "378",
        "379",
        "380",
        "381",
        "382",
        "384",
        "385",
        "386",
        "387",
        "388",
        "389",
        "390",
        "397",
        "398",
        "400",
        "402",
        "405",
        "409",
        "415",
        "454",
        "466",
        "468",
        "469",
        "470",
        "471",
        "472",
        "473",
        "474",
        "475",
        "476",
        "477",
    ],
    dtype=int,
)  # what the third network reads, in its order


@dataclass(frozen=True)
class Region:
    """A square of the frame that holds a face: centre and side in pixels, angle of its x axis in radians (y down)."""

    x: float
    y: float
    side: float
    angle: float

    def to_frame(self, pixels: int) -> np.ndarray:
        """Affine map (2, 3) from a crop of `pixels`² to the frame."""
        c, s = np.cos(self.angle) * self.side / pixels, np.sin(self.angle) * self.side / pixels
        half = pixels / 2
        return np.array([[c, -s, self.x - half * (c - s)], [s, c, self.y - half * (s + c)]])


@dataclass(frozen=True)
class Face:
    """A detected face: box (left, top, right, bottom) and keypoints (6, 2) in pixels, score in [0, 1].

    Keypoints: the eye at the image's left, the eye at its right, nose, mouth, and the two ears.
    """

    box: np.ndarray
    keypoints: np.ndarray
    score: float

    @property
    def region(self) -> Region:
        """Where the mesh network looks: around the box, upright by the line between the eyes."""
        (x0, y0, x1, y1), (dx, dy) = self.box, self.keypoints[1] - self.keypoints[0]
        return Region((x0 + x1) / 2, (y0 + y1) / 2, ENLARGE * max(x1 - x0, y1 - y0), float(np.arctan2(dy, dx)))


def region_of(points: np.ndarray) -> Region:
    """Where the next frame's face will be: the box of these points (478, 2 or 3), upright by the eye corners 33, 263."""
    xy = points[:, :2]
    angle = float(np.arctan2(*(xy[263] - xy[33])[::-1]))
    c, s = np.cos(angle), np.sin(angle)
    upright = xy @ np.array([[c, -s], [s, c]])
    low, high = upright.min(0), upright.max(0)
    x, y = np.array([[c, -s], [s, c]]) @ ((low + high) / 2)
    return Region(float(x), float(y), float(ENLARGE * (high - low).max()), angle)


def anchors() -> np.ndarray:
    """Centres (896, 2) of the detector's anchors in [0, 1]: 16×16 cells twice, then 8×8 cells six times."""
    grids = []
    for n, times in ((16, 2), (8, 6)):
        y, x = np.divmod(np.arange(n * n), n)
        grids.append(np.repeat((np.stack([x, y], 1) + 0.5) / n, times, axis=0))
    return np.concatenate(grids)


def weighted_suppression(
    values: np.ndarray, scores: np.ndarray, *, overlap: float = 0.3
) -> list[tuple[np.ndarray, float]]:
    """Merge detections that overlap (intersection over union > `overlap`) into their score-weighted mean, best first.

    values (N, 4 + ...): left, top, right, bottom, then anything; scores (N,). Bazarevsky et al. 2019, section 4.
    """
    left, found = np.argsort(-scores), []
    area = (values[:, 2:4] - values[:, :2]).prod(1)
    while len(left):
        best = left[0]
        corner = np.minimum(values[left, 2:4], values[best, 2:4]) - np.maximum(values[left, :2], values[best, :2])
        inter = corner.clip(0).prod(1)
        same = inter / (area[left] + area[best] - inter) > overlap
        same[0] = True
        group, left = left[same], left[~same]
        found.append((np.average(values[group], axis=0, weights=scores[group]), float(scores[best])))
    return found


class FaceMesh:
    """The three networks of one face_landmarker.task file; `detect`, `mesh` and `blendshapes` are their three steps."""

    def __init__(self, task: Path):
        """Load the networks of the bundle `task`, one thread each (5 MB, 50 ms)."""
        with zipfile.ZipFile(task) as bundle:
            self._detector, self._mesh, self._blendshapes = (
                _network(bundle.read(f"{name}.tflite"))
                for name in ("face_detector", "face_landmarks_detector", "face_blendshapes")
            )
        self._anchors = anchors()

    def detect(self, frame: np.ndarray, *, threshold: float = 0.5) -> list[Face]:
        """All faces of an RGB frame uint8 (H, W, 3), best first: BlazeFace on the letterboxed frame."""
        height, width = frame.shape[:2]
        to_frame = Region(width / 2, height / 2, max(height, width), 0.0).to_frame(DETECTOR_SIDE)
        image = _crop(frame, to_frame, DETECTOR_SIDE, cv2.BORDER_CONSTANT)
        values, logits = _run(self._detector, image.astype(np.float32)[None] / 127.5 - 1, (896, 16), (896, 1))
        scores = expit(logits[:, 0])
        keep = scores >= threshold
        points = values[keep].reshape(-1, 8, 2).astype(float)  # centre, size, 6 keypoints, in units of 1/128
        centre, half = points[:, 0] + self._anchors[keep] * DETECTOR_SIDE, points[:, 1] / 2
        keypoints = points[:, 2:] + self._anchors[keep][:, None] * DETECTOR_SIDE
        corners = np.concatenate([(centre - half)[:, None], (centre + half)[:, None], keypoints], 1)
        corners = corners * to_frame[0, 0] + to_frame[:, 2]
        merged = weighted_suppression(corners.reshape(-1, 16), scores[keep])
        return [Face(v[:4], v[4:].reshape(6, 2), score) for v, score in merged]

    def mesh(self, frame: np.ndarray, region: Region) -> tuple[np.ndarray, float]:
        """Landmarks (478, 3) in pixels of the frame and the probability that the region shows a face."""
        to_frame = region.to_frame(MESH_SIDE)
        image = _crop(frame, to_frame, MESH_SIDE, cv2.BORDER_REPLICATE)
        raw, logit = _run(self._mesh, image.astype(np.float32)[None] / 255, (478, 3), (1, 1))
        points = np.empty((478, 3), np.float32)
        points[:, :2] = raw[:, :2] @ to_frame[:, :2].T + to_frame[:, 2]
        points[:, 2] = raw[:, 2] * region.side / MESH_SIDE
        return points, float(expit(logit[0, 0]))

    def blendshapes(self, points: np.ndarray) -> np.ndarray:
        """The 52 scores in [0, 1] of landmarks (478, 3) in pixels."""
        return _run(self._blendshapes, points[None, BLENDSHAPE_POINTS, :2].astype(np.float32), (52,))[0]


def _network(content: bytes) -> Interpreter:
    network = Interpreter(model_content=content, num_threads=1)
    network.allocate_tensors()
    return network


def _run(network: Interpreter, image: np.ndarray, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Run a network; its outputs in the order of `shapes`, each the first one with that many numbers."""
    network.set_tensor(network.get_input_details()[0]["index"], image)
    network.invoke()
    outputs = [network.get_tensor(o["index"]) for o in network.get_output_details()]
    return [next(o for o in outputs if o.size == np.prod(s)).reshape(s).copy() for s in shapes]


def _crop(frame: np.ndarray, to_frame: np.ndarray, side: int, border: int) -> np.ndarray:
    """The square crop (side, side, 3) whose pixel p shows the frame at to_frame(p)."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(frame, to_frame, (side, side), flags=flags, borderMode=border)
