"""The presenter's face: a mesh that identities shape and the 52 controls move.

points = neutral + identity · modes + controls · displacements, statistics of many people (tools/fit_face.py), in the
frame of `landmarks.neutral()`: x right, y down, z away, one unit between the eye corners 33 and 263. Three rules follow
the linear part, for a linear model only approaches them: lids meet where eyeBlink is 1, whatever else they do; lips
never cross, and meet where mouthClose is 1, however far the jaw is open; irises turn with the eyeball."""

# T frames  I identity modes  P pairs of points that face each other
import functools
from collections import namedtuple

import numpy as np
from scipy.spatial.transform import Rotation

from thlib import data
from thlib.errors import FaceError
from thlib.landmarks import BLENDSHAPES, IRIS, NAMED, head_fixed

LIDS = np.array(NAMED["lids"])  # upper and lower lid of the eye at the image's left, then of the other
LIP_PAIRS = np.array(NAMED["lip_pairs"])
LID_SHARE, LIP_SHARE = 0.75, 0.6  # how much of the way the upper lid, and the lower lip, goes when they meet
EYEBALL = 0.135  # radius: 12 mm where the eye corners are 90 mm apart
TURN = np.radians(32), np.radians(24)  # of an eyeball at full eyeLookIn or Out, and Up or Down
AT = {name: k for k, name in enumerate(BLENDSHAPES)}
FaceModel = namedtuple("FaceModel", "neutral modes deviations controls triangles layout lips authored")  # see `model`


@functools.cache
def model() -> FaceModel:
    """The model that ships with the library, float32 and int32 arrays.
    neutral (478, 3); modes (I, 478, 3) of unit length with their deviations (I,); controls (52, 478, 3) in the order
    of BLENDSHAPES, `_neutral` zero; triangles (F, 3); layout (478, 2), the mesh laid flat; lips (2, 478, P), how much
    of each lip pair's way the mesh follows; authored bool (52,): drawn by hand because footage hardly shows them."""
    types = {np.dtype(np.float16): np.float32, np.dtype(np.int16): np.int32}
    arrays = data.shipped("face_model.npz").items()
    return FaceModel(**{name: array.astype(types.get(array.dtype, array.dtype)) for name, array in arrays})


def shape(identity: np.ndarray) -> np.ndarray:
    """The face at rest float32 (478, 3) of an identity (I,), in standard deviations: lips closed, posed as neutral."""
    m = model()
    points = head_fixed((m.neutral + np.tensordot(identity * m.deviations, m.modes, 1))[None])
    _close_lips(points, np.ones(1, np.float32))
    return points[0]


def displacement(controls: np.ndarray, *, shape: np.ndarray | None = None) -> np.ndarray:
    """How controls (T, 52; else FaceError) move the face `shape` (478, 3; neutral): (T, 478, 3), in eye corners."""
    controls = np.asarray(controls, np.float32)
    if controls.ndim != 2 or controls.shape[1] != 52:
        raise FaceError(f"Controls of shape {controls.shape} were given: an array (frames, 52) is needed.")
    rest = model().neutral if shape is None else shape
    points = rest + np.tensordot(controls, model().controls, 1)
    for side in (0, 1):
        centre = eyeball(rest, side)
        points[:, IRIS[side]] = centre + (rest[IRIS[side]] - centre) @ gaze(controls, side).swapaxes(1, 2)
        _close_lids(points, controls[:, AT["eyeBlinkRight"] if side == 0 else AT["eyeBlinkLeft"]], side)
    _close_lips(points, controls[:, AT["mouthClose"]])
    return points - rest


def eyeball(rest: np.ndarray, side: int) -> np.ndarray:
    """Centre (3,) of the eyeball (0: at the image's left) of a face at rest (478, 3): behind its iris."""
    iris = rest[IRIS[side]]
    radius = np.linalg.norm(iris[1:] - iris[0], axis=1).mean()
    return iris[0] + np.array([0, 0, np.sqrt(EYEBALL**2 - radius**2)], np.float32)


def gaze(controls: np.ndarray, side: int) -> np.ndarray:
    """Rotations (T, 3, 3) of an eyeball (0: at the image's left, the person's right) by controls (T, 52)."""
    name = "Right" if side == 0 else "Left"
    look = {way: controls[:, AT[f"eyeLook{way}{name}"]] for way in ("In", "Out", "Up", "Down")}
    yaw = (look["In"] - look["Out"]) * TURN[0] * (1 if side == 0 else -1)  # to the image's right
    pitch = (look["Up"] - look["Down"]) * TURN[1]
    return Rotation.from_euler("YX", -np.stack([yaw, pitch], 1)).as_matrix().astype(np.float32)


def _close_lids(points: np.ndarray, blink: np.ndarray, side: int) -> None:
    """Move the lids of points (T, 478, 3) towards each other, all the way where blink (T,) is 1."""
    upper, lower = LIDS[side]
    u, l = points[:, upper], points[:, lower]
    meet = u + LID_SHARE * (l - u)
    meet[..., 2] -= 0.03 * np.sin(np.pi * np.arange(1, len(upper) + 1) / (len(upper) + 1))  # before the eyeball
    share = np.where(l[..., 1] < u[..., 1], 1, blink[:, None])[..., None]
    points[:, upper], points[:, lower] = u + share * (meet - u), l + share * (meet - l)


def _close_lips(points: np.ndarray, seal: np.ndarray) -> None:
    """Bring the lips of points (T, 478, 3) together, all the way where seal (T,) is 1; part lips that would cross."""
    upper, lower = points[:, LIP_PAIRS[0]], points[:, LIP_PAIRS[1]]
    gap = lower - upper
    share = np.where(gap[..., 1] < 0, 1, seal[:, None])[..., None]  # (T, P, 1)
    weights = model().lips
    points += np.einsum("lp,tpd->tld", weights[0], (1 - LIP_SHARE) * share * gap)
    points -= np.einsum("lp,tpd->tld", weights[1], LIP_SHARE * share * gap)
