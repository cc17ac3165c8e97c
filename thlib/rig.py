"""Curves of a face rig: three rigs, the way from one to another, smoothing, resampling, files.

curves = Curves(values, "mediapipe", fps=25)        # (T, 52) scores of the tracker
curves.to("metahuman")["CTRL_C_jaw-translateY"]     # (T,) how far the jaw is open
curves.at(60).smoothed().save("talk.csv")           # for Live Link Face importers; "talk.txt" as EmoFace writes
"""

# T frames  K controls; left and right are the person's own
from __future__ import annotations

import functools
import re
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.signal import savgol_filter

from thlib import data
from thlib.errors import DataError
from thlib.landmarks import BLENDSHAPES

SIDES = ("Left", "Right")
_EYE = "Blink LookDown LookIn LookOut LookUp Squint Wide"
_REST = (
    "jawForward jawRight jawLeft jawOpen mouthClose mouthFunnel mouthPucker mouthRight mouthLeft mouthSmile* "
    "mouthFrown* mouthDimple* mouthStretch* mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthPress* "
    "mouthLowerDown* mouthUpperUp* browDown* browInnerUp browOuterUp* cheekPuff cheekSquint* noseSneer* tongueOut"
)
ARKIT = tuple(f"eye{name}{side}" for side in SIDES for name in _EYE.split())  # in the order of Live Link Face
ARKIT += tuple(name.replace("*", side) for name in _REST.split() for side in SIDES[: 1 + name.count("*")])
# EmoFace's board: a control moves along Y, with > along X; ~ stands for two, D and U. After = the ARKit controls it
# is: a - where they go against it, a * for its own side. (EmoFace's Maya list has tongue_tip twice and no tongue_roll.)
_CENTRE = (
    "eye> eye eye_parallelLook jaw>=jawRight-jawLeft jaw=jawOpen jaw_fwdBack=-jawForward jaw_openExtreme "
    "mouth>=mouthLeft-mouthRight mouth mouth_lipShift~ mouth_sticky~ neck_swallow teethD> teethD teethU> teethU "
    "teeth_fwdBack~ tongue> tongue tongue_inOut=-tongueOut tongue_narrowWide tongue_press tongue_roll> tongue_roll "
    "tongue_tip> tongue_tip"
)
_SIDE = (
    "brow_down=browDown* brow_lateral=browDown* brow_raiseIn=browInnerUp brow_raiseOut=browOuterUp* ear_up eye> eye "
    "eye_blink=eyeBlink*-eyeWide* eye_cheekRaise=cheekSquint* eye_eyelid~ eye_faceScrunch eye_lidPress eye_pupil "
    "eye_squintInner=eyeSquint* eyelashes_tweakerIn eyelashes_tweakerOut jaw_ChinRaiseD=mouthShrugLower "
    "jaw_ChinRaiseU=mouthShrugUpper jaw_chinCompress jaw_clench mouth_corner> mouth_corner "
    "mouth_cornerDepress=mouthFrown* mouth_cornerPull=mouthSmile* mouth_cornerSharpness~ mouth_dimple=mouthDimple* "
    "mouth_funnel~=mouthFunnel mouth_lipBite~ mouth_lipSticky mouth_lipsBlow mouth_lipsPressU "
    "mouth_lipsRollD=mouthRollLower mouth_lipsRollU=mouthRollUpper mouth_lipsTogether~=mouthClose "
    "mouth_lipsTowardsTeeth~ mouth_lowerLipDepress=mouthLowerDown* mouth_press~=mouthPress* mouth_purse~=mouthPucker "
    "mouth_pushPull~ mouth_sharpCornerPull mouth_stickyInner~ mouth_stickyOuter~ mouth_stretch=mouthStretch* "
    "mouth_stretchLipsClose mouth_suckBlow=cheekPuff mouth_thickness~ mouth_tighten~ mouth_towards~ "
    "mouth_upperLipRaise=mouthUpperUp* neck_mastoidContract neck_stretch nose> nose=noseSneer* "
    "nose_nasolabialDeepen nose_wrinkleUpper"
)
_OTHER = "lookAtSwitch {0}D {0}M {0}U neck_digastricUpDown neck_throatExhaleInhale neck_throatUpDown"
_WORDS = [(f"{s[0]}_{w}", s) for s, words in zip(("C", *SIDES), (_CENTRE, _SIDE, _SIDE)) for w in words.split()]
_WORDS += [(word, "") for word in _OTHER.format("neckCorrectivesMultiplyer").split()]
_ENDS = {">": ("-translateX",), "~": ("D-translateY", "U-translateY")}
_BOARD = {  # name: the ARKit controls that it is
    f"CTRL_{name.rstrip('>~')}{end}": link.replace("*", side)
    for (name, _, link), side in ((word.partition("="), side) for word, side in _WORDS)
    for end in _ENDS.get(name[-1], ("-translateY",))
}
METAHUMAN = tuple(_BOARD)  # right is left + 69
RIGS = {"mediapipe": BLENDSHAPES, "arkit": ARKIT, "metahuman": METAHUMAN}
GAZE = ("X", 1, "OutLeft", "InRight"), ("X", -1, "InLeft", "OutRight"), ("Y", 1, "UpLeft", "UpRight"), ("Y", -1, "DownLeft", "DownRight")  # fmt: skip  # noqa: E501
EYE_TURN = 0.5  # radians by which an eyeLook* of 1 turns an eye in a Live Link Face file
LIVE_LINK = ("Timecode", "BlendshapeCount", *(name[0].upper() + name[1:] for name in ARKIT))
LIVE_LINK += tuple(part + turn for part in ("Head", "LeftEye", "RightEye") for turn in ("Yaw", "Pitch", "Roll"))


@functools.cache
def _links() -> tuple[np.ndarray, np.ndarray]:
    """The linear maps ARKit -> MetaHuman (52, 174) and back (174, 52), where a control's columns are averaged.

    Gaze: C_eye takes the mean of both eyes, L_eye and R_eye what is left; back, an eye is C_eye plus its own.
    """
    there = np.zeros((52, 174))
    for column, link in enumerate(_BOARD.values()):
        for minus, control in re.findall(r"(-?)(\w+)", link):
            there[ARKIT.index(control), column] = -1 if minus else 1
    back = (there / np.maximum(np.abs(there).sum(1, keepdims=True), 1)).T
    for axis, sign, *names in GAZE:
        both, *own = (METAHUMAN.index(f"CTRL_{eye}_eye-translate{axis}") for eye in "CLR")
        for k, look in enumerate(ARKIT.index(f"eyeLook{name}") for name in names):
            there[look, [both, own[k], own[1 - k]]] = sign * np.array((0.5, 0.5, -0.5))
            back[[both, own[k]], look] = sign
    return there, back


@dataclass(frozen=True)
class Curves:
    """What a face does: values float32 (T, K) of the controls of a `rig` in RIGS, T frames at `fps`.

    head  float32 (T, 3): yaw, pitch, roll in degrees; + turns to the own left, nods down, tilts to the own right
          (right-handed about the axes up, own left, forwards); None is straight ahead.
    DataError for an unknown rig or arrays of other shapes.
    """

    values: np.ndarray
    rig: str
    fps: Fraction
    head: np.ndarray | None = None

    def __post_init__(self):
        if self.rig not in RIGS:
            raise DataError(f"There is no rig {self.rig!r}: take {', '.join(RIGS)}.")
        head = np.zeros((len(self.values), 3)) if self.head is None else self.head
        for name, array, k in (("values", self.values, len(self.names)), ("head", head, 3)):
            if np.shape(array) != (len(self.values), k):
                raise DataError(f"Curves of the rig {self.rig} need {name} (T, {k}), not {np.shape(array)}.")
            object.__setattr__(self, name, np.asarray(array, np.float32))
        object.__setattr__(self, "fps", Fraction(self.fps))

    names = property(lambda self: RIGS[self.rig], doc="The K names of the rig's controls.")
    arkit = property(lambda self: self.to("arkit").values, doc="float32 (T, 52): the values on the ARKit rig.")
    metahuman = property(lambda self: self.to("metahuman").values, doc="float32 (T, 174): those on the MetaHuman rig.")

    def __getitem__(self, name: str) -> np.ndarray:
        """(T,): one control by name."""
        if name not in self.names:
            raise DataError(f"The rig {self.rig} has no control {name!r}: see Curves.names.")
        return self.values[:, self.names.index(name)]

    def to(self, rig: str) -> Curves:
        """The same face on another rig: by name between "mediapipe" and "arkit", else by a table of signed weights.

        What the other rig lacks is lost (_neutral, tongueOut; the finer MetaHuman controls). ARKit's opposites, such
        as eyeBlink and eyeWide, are one MetaHuman control: where both are active, their difference comes back.
        """
        if rig == self.rig or rig not in RIGS:
            return replace(self, rig=rig)
        if rig == "metahuman":
            return replace(self, values=self.arkit @ _links()[0], rig=rig)
        own = dict(zip(self.names, self.values.T))
        if self.rig == "metahuman":
            own = dict(zip(ARKIT, (self.values @ _links()[1]).clip(0).T))
        return replace(self, values=np.stack([own.get(n, 0 * own["jawOpen"]) for n in RIGS[rig]], 1), rig=rig)

    def at(self, fps: Fraction | float) -> Curves:
        """The same seconds at another frame rate, linearly between the times k / fps at which frames begin."""
        step, t = self.fps / Fraction(fps), len(self.values)
        time, columns = np.arange(round(t / step)) * float(step), np.concatenate([self.values, self.head], 1).T
        columns = np.stack([np.interp(time, np.arange(t), column) for column in columns], 1)
        return Curves(columns[:, :-3], self.rig, fps, columns[:, -3:])

    def smoothed(self) -> Curves:
        """Every control through EmoFace's Savitzky-Golay filter: degree 3, 15 frames at 60 fps, edges repeated."""
        window = max(2 * round((15 * self.fps / 60 - 1) / 2) + 1, 5)
        return replace(self, values=savgol_filter(self.values, window, 3, axis=0, mode="nearest"))

    def save(self, path: str | Path) -> Path:
        """Write the curves, whole or not at all: .csv as Live Link Face (time code, 61, ARKit's 52, yaw, pitch, roll of
        head and eyes in radians), .txt as EmoFace (a line a frame: the 174 with 6 decimals; no head, no frame rate)."""
        text = self._live_link() if _live(path) else [",".join(f"{x:.6f}" for x in row) for row in self.metahuman]
        with data.atomic(path) as partial:
            partial.write_text("\n".join([*text, ""]))
        return Path(path)

    def _live_link(self) -> list[str]:
        lines, rows = [",".join(LIVE_LINK)], np.zeros((len(self.values), 61))
        rows[:, :52], rows[:, 52:55] = self.arkit, np.radians(self.head)
        for axis, sign, *names in GAZE:  # an eye's yaw is + to the left, its pitch + down
            for k, look in enumerate(ARKIT.index(f"eyeLook{name}") for name in names):
                rows[:, 55 + 3 * k + (axis == "Y")] += EYE_TURN * (sign if axis == "X" else -sign) * rows[:, look]
        for k, row in enumerate(rows):
            s, rest = divmod(k / self.fps, 1)
            code = f"{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}:{float(rest * round(self.fps)):06.3f}"
            lines.append(",".join([code, "61", *(f"{x:.8f}" for x in row)]))
        return lines

    @classmethod
    def load(cls, path: str | Path, *, fps: Fraction | float | None = None) -> Curves:
        """Read what `save`, Live Link Face or EmoFace wrote. fps None is what a .csv's time codes count, else 60."""
        live, wanted = _live(path), [name.lower() for name in LIVE_LINK]
        try:
            rows = [line.split(",") for line in Path(path).read_text().splitlines() if line.strip()]
            if not live:
                return cls(np.array(rows, np.float32), "metahuman", fps or 60)
            of = {name.strip().lower(): k for k, name in enumerate(rows.pop(0))}
            values = np.array([[row[of[name]] for name in wanted[2:57]] for row in rows], np.float32)
            codes = [row[of["timecode"]].rpartition(":") for row in rows]
            frames = list(Counter(second for second, _, _ in codes).values())
            whole = frames[1:-1] or frames[:-1] * (float(codes[0][2]) == 0)  # seconds seen from end to end
            return cls(values[:, :52], "arkit", fps or max(whole, default=60), np.degrees(values[:, 52:]))
        except (OSError, ValueError, LookupError, DataError) as error:
            needed = "the columns of a Live Link Face recording" if live else "174 numbers a line"
            raise DataError(f"{path} is not what it should be ({error}): it needs {needed}.") from error


def _live(path: str | Path) -> bool:
    if (kind := Path(path).suffix.lower()) not in (".csv", ".txt"):
        raise DataError(f"Curves live in .csv (Live Link Face) and .txt (EmoFace) files, not in {Path(path).name!r}.")
    return kind == ".csv"
