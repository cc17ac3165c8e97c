"""The networks that find a face's landmarks: the three of MediaPipe's face_landmarker.task, and face-alignment's two.

`FaceMesh` runs the former by ai-edge-litert: no GL library is opened and no connection made. Its steps are those of the
published landmarker (Bazarevsky et al. 2019, "BlazeFace"; Kartynnik et al. 2019, "Real-time facial surface geometry";
Grishchenko et al. 2020, "Attention mesh"): detect once, then each frame's landmarks say where the next frame's are."""

# N detections  A anchors (896)
import os
import threading
import zipfile
from collections import namedtuple
from typing import Self

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from scipy.special import expit

from thlib import data
from thlib.errors import DataError

DETECTOR_SIDE, MESH_SIDE = 128, 256
ENLARGE = 1.5  # side of the region over the longer edge of the face's box
NETWORKS = "face_detector.tflite", "face_landmarks_detector.tflite", "face_blendshapes.tflite"
FAN = ("2DFAN4-11f355bf06.pth.tar", "s3fd-619a316812.pth")
NAMED = data.shipped("landmarks.yaml")  # numbers of landmarks
BLENDSHAPE_POINTS = np.array(NAMED["blendshape"])
Face, Found = namedtuple("Face", "box region score"), namedtuple("Found", "points controls face")  # see `FaceMesh`


class Region(namedtuple("Region", "x y side angle")):
    """A square of the frame that holds a face: centre and side in pixels, angle of its x axis in radians (y down)."""

    @classmethod
    def around(cls, xy: np.ndarray, along: np.ndarray) -> Self:
        """The square around points (N, 2), `ENLARGE` times their longer edge, upright by the direction `along` (2,)."""
        angle = float(np.arctan2(along[1], along[0]))
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # frame to upright
        upright = xy @ turn.T
        low, high = upright.min(0), upright.max(0)
        x, y = (low + high) / 2 @ turn
        return cls(float(x), float(y), float(ENLARGE * (high - low).max()), angle)

    def to_frame(self, pixels: int) -> np.ndarray:
        """Affine map (2, 3) of pixel numbers in a crop of `pixels`² to the frame's: MediaPipe's, no half pixel."""
        c, s = np.cos(self.angle) * self.side / pixels, np.sin(self.angle) * self.side / pixels
        half = pixels / 2
        return np.array([[c, -s, self.x - half * (c - s)], [s, c, self.y - half * (s + c)]])


class FaceMesh:
    """The mesh of 478 points. `faces` finds all faces of a frame, `locate` the landmarks of one, seen there before.
    Face: box (left, top, right, bottom) in pixels, region, score in [0, 1]; Found: landmarks (L, 3), controls, face."""

    follows = True  # a face may be located from where it was in the frame before

    def __init__(self):
        """Load the networks, one thread each; takes 0.1 s. DataError where their file is missing."""
        with zipfile.ZipFile(data.path("mediapipe-face-landmarker/face_landmarker.task")) as bundle:
            self._detector, self._mesh, self._blendshapes = (_network(bundle.read(name)) for name in NETWORKS)
        self._anchors = DETECTOR_SIDE * anchors()

    def faces(self, frame: np.ndarray) -> list[Face]:
        """The faces of an RGB frame uint8 (H, W, 3), left to right; one that the mesh denies is left out."""
        found = [face for face in self.detect(frame) if self.mesh(frame, face.region)[1] > 0.5]
        return sorted(found, key=lambda face: face.region.x)

    def locate(self, frame: np.ndarray, face: Face) -> Found | None:
        """Landmarks and controls of the face near `face`, or None where it has gone."""
        points, score = self.mesh(frame, face.region)
        if score <= 0.5:
            return None
        xy = points[:, :2]
        after = Face(np.concatenate([xy.min(0), xy.max(0)]), Region.around(xy, xy[263] - xy[33]), score)
        return Found(points, self.blendshapes(points), after)

    def detect(self, frame: np.ndarray) -> list[Face]:
        """What BlazeFace takes for faces in a frame, best first."""
        height, width = frame.shape[:2]
        to_frame = Region(width / 2, height / 2, max(height, width), 0.0).to_frame(DETECTOR_SIDE)
        image = _crop(frame, to_frame, DETECTOR_SIDE, cv2.BORDER_CONSTANT)
        values, logits = _run(self._detector, image.astype(np.float32)[None] / 127.5 - 1, (896, 16), (896, 1))
        scores = expit(logits[:, 0])
        keep = scores >= 0.5
        values = values[keep].reshape(-1, 8, 2).astype(float)  # centre, size, 6 keypoints (the eyes come first)
        values[:, [0, *range(2, 8)]] += self._anchors[keep, None]
        values[:, 0], values[:, 1] = values[:, 0] - values[:, 1] / 2, values[:, 0] + values[:, 1] / 2
        values = values * to_frame[0, 0] + to_frame[:, 2]
        merged = weighted_suppression(values.reshape(-1, 16), scores[keep])
        return [Face(v[:4], _region(v[:4], v[6:8] - v[4:6]), score) for v, score in merged]

    def mesh(self, frame: np.ndarray, region: Region) -> tuple[np.ndarray, float]:
        """Landmarks (478, 3) in pixels of the frame and the probability that the region shows a face."""
        to_frame = region.to_frame(MESH_SIDE)
        image = _crop(frame, to_frame, MESH_SIDE, cv2.BORDER_REPLICATE)
        raw, logit = _run(self._mesh, image.astype(np.float32)[None] / 255, (478, 3), (1, 1))
        points = np.empty((478, 3), np.float32)
        points[:, :2] = raw[:, :2] @ to_frame[:, :2].T + to_frame[:, 2]
        points[:, 2] = raw[:, 2] * (region.side / MESH_SIDE)
        return points, float(expit(logit[0, 0]))

    def blendshapes(self, points: np.ndarray) -> np.ndarray:
        """The 52 scores in [0, 1] of landmarks (478, 3) in pixels."""
        return _run(self._blendshapes, points[None, BLENDSHAPE_POINTS, :2].astype(np.float32), (52,))[0].clip(0, 1)


class FaceAlignment:
    """The 68 points of the package face-alignment (Bulat & Tzimiropoulos 2017), every frame detected afresh, z = 0.
    Its weights are read from a mirror after their hash has matched; nothing is downloaded. Tested on stand-ins only."""

    follows = False

    def __init__(self):
        """Load both networks on the CPU. DataError names the weight files where they are missing."""
        if "absent" in data.status("face-alignment").values():
            what = f"The detector 'face-alignment' needs {' and '.join(FAN)} (90 MB each)"
            how = "by thlib data fetch or from https://www.adrianbulat.com/downloads/python-fan/ into a mirror's folder"
            raise DataError(f"{what}: get them {how} face-alignment, or take detector='mesh'.")
        fan, s3fd = map(data.fetch("face-alignment").get, FAN)
        import face_alignment
        import torch

        class Local(face_alignment.FaceAlignment):
            def _load_native(self, network_name, network_size, device, dtype):
                net = face_alignment.models.FAN(network_size)
                net.load_state_dict(torch.load(fan, map_location=device, weights_only=True))
                return net.to(device, dtype=dtype).eval()

        two_d, kwargs = face_alignment.LandmarksType.TWO_D, {"path_to_detector": str(s3fd)}
        self._net = Local(two_d, device="cpu", compile=False, face_detector_kwargs=kwargs)

    def faces(self, frame: np.ndarray) -> list[Face]:
        """The faces of an RGB frame uint8 (H, W, 3), left to right."""
        boxes = np.reshape(self._net.face_detector.detect_from_image(frame.copy()), (-1, 5)).astype(float)
        return [Face(box[:4], _region(box[:4], np.array([1, 0])), box[4]) for box in boxes[np.argsort(boxes[:, 0])]]

    def locate(self, frame: np.ndarray, face: Face) -> Found:
        """The 68 landmarks of `face`, z = 0."""
        xy = self._net.get_landmarks_from_image(frame, [face.box])[0]
        return Found(np.pad(xy, ((0, 0), (0, 1))).astype(np.float32), np.empty(0, np.float32), face)


def anchors() -> np.ndarray:
    """Centres (896, 2) of the detector's anchors in [0, 1]: 16×16 cells twice, then 8×8 cells six times."""
    coarse, fine = ((np.indices((n, n))[::-1].reshape(2, -1).T + 0.5) / n for n in (8, 16))  # x, y
    return np.concatenate([fine.repeat(2, axis=0), coarse.repeat(6, axis=0)])


def weighted_suppression(values: np.ndarray, scores: np.ndarray) -> list:
    """Merge detections whose boxes overlap into their score-weighted mean; [(values, best score), ...], best first.
    values (N, 4 + ...): left, top, right, bottom, then anything; scores (N,)."""
    left, found = np.argsort(-scores), []
    area = (values[:, 2:4] - values[:, :2]).prod(1)
    while len(left):
        best = left[0]
        corner = np.minimum(values[left, 2:4], values[best, 2:4]) - np.maximum(values[left, :2], values[best, :2])
        shared = corner.clip(0).prod(1)
        same = shared / (area[left] + area[best] - shared) > 0.3  # intersection over union
        same[0] = True
        group, left = left[same], left[~same]
        found.append((np.average(values[group], axis=0, weights=scores[group]), float(scores[best])))
    return found


def _region(box: np.ndarray, along: np.ndarray) -> Region:
    x0, y0, x1, y1 = box
    side, angle = ENLARGE * max(x1 - x0, y1 - y0), np.arctan2(along[1], along[0])
    return Region((x0 + x1) / 2, (y0 + y1) / 2, side, float(angle))


_ALONE = threading.Lock()


def _network(content: bytes) -> Interpreter:
    with _ALONE, open(os.devnull, "w") as nowhere:  # the runtime announces its delegate on the process's own stderr
        stderr = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            network = Interpreter(model_content=content, num_threads=1)
            network.allocate_tensors()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
    return network


def _run(network: Interpreter, values: np.ndarray, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    network.set_tensor(network.get_input_details()[0]["index"], values)
    network.invoke()
    outputs = [network.get_tensor(o["index"]) for o in network.get_output_details()]
    return [next(o for o in outputs if o.size == np.prod(shape)).reshape(shape) for shape in shapes]


def _crop(frame: np.ndarray, to_frame: np.ndarray, side: int, border: int) -> np.ndarray:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(frame, to_frame, (side, side), flags=flags, borderMode=border)
