"""Run by a Python that has mediapipe: its FaceLandmarker (IMAGE mode) on pictures, the reference of test_landmarks.

usage: python mediapipe_reference.py face_landmarker.task pictures.npz found.npz
pictures.npz: uint8 (H, W, 3) RGB each; found.npz: for each name with a face `name` (478, 3) in pixels, `name.controls`
(52,) and `name.pose` (4, 4) in centimetres.
"""

import sys

import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision


def main(task: str, pictures: str, out: str) -> None:
    """Landmark every picture and write what was found."""
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=task),
        running_mode=vision.RunningMode.IMAGE,
        num_faces=1,
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
    )
    found = {}
    with vision.FaceLandmarker.create_from_options(options) as landmarker, np.load(pictures) as images:
        for name in images.files:
            image = np.ascontiguousarray(images[name])
            result = landmarker.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=image))
            if result.face_landmarks:
                height, width = image.shape[:2]
                points = np.array([(p.x, p.y, p.z) for p in result.face_landmarks[0]])
                found[name] = points * (width, height, width)
                found[f"{name}.controls"] = np.array([c.score for c in result.face_blendshapes[0]])
                found[f"{name}.pose"] = np.array(result.facial_transformation_matrixes[0])
    np.savez(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
