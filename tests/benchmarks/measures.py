"""Measures that the benchmarks alone need; those of the library and the notebooks are in thlib.metrics."""

# T frames  H height  W width
from collections.abc import Sequence

import cv2
import numpy as np

from thlib.landmarks import BLENDSHAPES, FaceTrack, ear, face_scale, head_angles
from thlib.metrics import correlation, psnr


def motions(track: FaceTrack) -> dict[str, np.ndarray]:
    """What a reenactment carries over, each (T,), of a track with 478 points and controls.
    jawOpen (control), mouth width (61 to 291, eye-corner units), eyes (EAR, mean of both), yaw (degrees)."""
    width = np.linalg.norm(track.points[:, 61] - track.points[:, 291], axis=-1) / face_scale(track.points)
    jaw = track.controls[:, BLENDSHAPES.index("jawOpen")]
    return {"jawOpen": jaw, "mouth width": width, "eyes": ear(track.points).mean(1), "yaw": head_angles(track)[:, 0]}


def motion_gain(result: np.ndarray, driver: np.ndarray) -> tuple[float, float]:
    """Slope (least squares) and Pearson's r of a result's (T,) curve on its driver's; a still result has 0 and 0.
    Trap: where the driver hardly moves both are noise; ask only what it does move."""
    moved = driver - driver.mean()
    return float(moved @ result / max(moved @ moved, 1e-12)), correlation(result, driver)


def identity(face: Sequence[np.ndarray], gallery: Sequence[np.ndarray]) -> int:
    """Which of N known faces is nearest: features [(D,), (E,), ...] among [(N, D), (N, E), ...], N > 1.
    Squared distances of each feature (here head-fixed neutral shape, cheek colour) are divided by its variance among
    the known, so that they count alike. Trap: colour alone follows the picture that was warped."""
    pairs = [(one, np.asarray(known, float)) for one, known in zip(face, gallery, strict=True)]
    return int(np.argmin(sum(((known - one) ** 2).sum(1) / known.var(0).sum() for one, known in pairs)))


def outside_psnr(frame: np.ndarray, neighbour: np.ndarray, mask: np.ndarray) -> float:
    """PSNR in dB of a uint8 (H, W, 3) frame against its neighbour, moved onto it by DIS optical flow (Kroeger 2016).
    `mask` (H, W) bool marks what counts: the face outside the mouth. Trap: flow forgives smooth drifts."""
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in (frame, neighbour)]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*grey, None)  # (H, W, 2): to neighbour
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]].astype(np.float32)
    moved = cv2.remap(neighbour, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return psnr(moved[mask], frame[mask])
