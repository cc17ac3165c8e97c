"""Curves of a face rig: three rigs, the way from one to another, smoothing, resampling, files.

curves = Curves(values, "mediapipe", fps=25)        # (T, 52) scores of the tracker
curves.to("metahuman")["CTRL_C_jaw-translateY"]     # (T,) how far the jaw is open
curves.at(60).smoothed().save("talk.csv")           # for Live Link Face importers; "talk.txt" as EmoFace writes"""

# T frames  K controls; left and right are the person's own
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Self

import numpy as np
from scipy.signal import savgol_filter

from thlib import data
from thlib.errors import DataError
from thlib.landmarks import BLENDSHAPES

_NAMES = data.shipped("rigs.yaml")
ARKIT = tuple(_NAMES["arkit"].split())
METAHUMAN = tuple(_NAMES["metahuman"])  # right is left + 69
RIGS = {"mediapipe": BLENDSHAPES, "arkit": ARKIT, "metahuman": METAHUMAN}
LOOKS = [(way, axis, k, ARKIT.index(name)) for way, axis, k, name in _NAMES["looks"]]  # controls of the gaze
Rate = Fraction | float  # frames a second
EYE_TURN = {"X": 0.5, "Y": -0.5}  # radians of yaw and pitch where an eyeLook* is 1, in Live Link Face files
LIVE_LINK = ("Timecode", "BlendshapeCount", *(name[0].upper() + name[1:] for name in ARKIT))
LIVE_LINK += tuple(part + turn for part in ("Head", "LeftEye", "RightEye") for turn in ("Yaw", "Pitch", "Roll"))


def _links() -> tuple[np.ndarray, np.ndarray]:
    """The linear maps ARKit -> MetaHuman (52, 174) and back (174, 52), where a control's columns are averaged. Of the
    gaze C_eye takes the mean of both eyes, L_eye and R_eye what is left; back, an eye is C_eye plus its own."""
    there = np.zeros((52, 174))
    for column, link in enumerate(_NAMES["metahuman"].values()):
        for term in link.split():
            there[ARKIT.index(term.lstrip("-")), column] = -1 if term[0] == "-" else 1
    back = (there / np.maximum(np.abs(there).sum(1, keepdims=True), 1)).T
    for way, axis, k, look in LOOKS:
        both, *own = (METAHUMAN.index(f"CTRL_{eye}_eye-translate{axis}") for eye in "CLR")
        there[look, [both, own[k], own[1 - k]]] = way * np.array((0.5, 0.5, -0.5))
        back[[both, own[k]], look] = way
    return there, back


@dataclass(frozen=True)
class Curves:
    """What a face does: values float32 (T, K) of the controls of a `rig` in RIGS, T frames at `fps`, and the `head`'s
    yaw, pitch and roll float32 (T, 3) in degrees: + turns to the own left, nods down, tilts to the own right (that is
    right-handed about up, own left, forwards); None is straight ahead. DataError for unknown rigs or other shapes."""

    values: np.ndarray
    rig: str
    fps: Fraction
    head: np.ndarray | None = None

    names = property(lambda self: RIGS[self.rig], doc="The K names of the rig's controls.")
    arkit = property(lambda self: self.to("arkit").values, doc="float32 (T, 52): the values on the ARKit rig.")
    metahuman = property(lambda self: self.to("metahuman").values, doc="float32 (T, 174): those on the MetaHuman rig.")

    def __post_init__(self):
        if self.rig not in RIGS:
            raise DataError(f"There is no rig {self.rig!r}: take {', '.join(RIGS)}.")
        head = np.zeros((len(self.values), 3)) if self.head is None else self.head
        for name, array, k in (("values", self.values, len(self.names)), ("head", head, 3)):
            if np.shape(array) != (len(self.values), k):
                raise DataError(f"Curves of the rig {self.rig} need {name} (T, {k}), not {np.shape(array)}.")
            object.__setattr__(self, name, np.asarray(array, np.float32))
        object.__setattr__(self, "fps", Fraction(self.fps))

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.names:
            raise DataError(f"The rig {self.rig} has no control {name!r}: see Curves.names.")
        return self.values[:, self.names.index(name)]

    def to(self, rig: str) -> Self:
        """The same face on another rig: by name between "mediapipe" and "arkit", else by a table of signed weights.
        What the other lacks is lost; of ARKit's opposites, one MetaHuman control, the difference comes back."""
        if rig == self.rig or rig not in RIGS:
            return replace(self, rig=rig)
        if rig == "metahuman":
            return replace(self, values=self.arkit @ _links()[0], rig=rig)
        face = (ARKIT, (self.values @ _links()[1]).clip(0)) if self.rig == "metahuman" else (self.names, self.values)
        own = dict(zip(face[0], face[1].T))
        return replace(self, values=np.stack([own.get(n, 0 * own["jawOpen"]) for n in RIGS[rig]], 1), rig=rig)

    def at(self, fps: Rate) -> Self:
        """The same seconds at another frame rate, linearly between the times k / fps at which frames begin."""
        step, t = self.fps / Fraction(fps), len(self.values)
        time, columns = np.arange(round(t / step)) * float(step), np.concatenate([self.values, self.head], 1).T
        columns = np.stack([np.interp(time, np.arange(t), column) for column in columns], 1)
        return Curves(columns[:, :-3], self.rig, fps, columns[:, -3:])

    def smoothed(self) -> Self:
        """Every control through EmoFace's Savitzky-Golay filter: degree 3, 15 frames at 60 fps, edges repeated."""
        window = max(2 * round(self.fps / 8 - Fraction(1, 2)) + 1, 5)
        return replace(self, values=savgol_filter(self.values, window, 3, axis=0, mode="nearest"))

    def save(self, path: str | Path) -> Path:
        """Write the curves, whole or not at all: .csv as Live Link Face (time code, 61, ARKit's 52, yaw, pitch, roll of
        head and eyes in radians), .txt as EmoFace (a line a frame: the 174 with 6 decimals; no head, no frame rate)."""
        lines = [",".join(f"{x:.6f}" for x in row) for row in self.metahuman]
        if _live(path):
            lines = [",".join(LIVE_LINK)]
            rows = np.concatenate([self.arkit, np.radians(self.head), np.zeros((len(self.values), 6))], 1)
            for way, axis, k, look in LOOKS:  # an eye's yaw is + to the left, its pitch + down
                rows[:, 55 + 3 * k + "XY".index(axis)] += way * EYE_TURN[axis] * rows[:, look]
            for k, row in enumerate(rows):
                s, rest = divmod(k / self.fps, 1)
                code = f"{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}:{float(rest * round(self.fps)):06.3f}"
                lines.append(",".join([code, "61", *(f"{x:.8f}" for x in row)]))
        with data.atomic(path) as partial:
            partial.write_text("\n".join([*lines, ""]))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, *, fps: Rate | None = None) -> Self:
        """Read what `save`, Live Link Face or EmoFace wrote. fps None is what a .csv's time codes count, else 60."""
        try:
            rows = [line.split(",") for line in Path(path).read_text().splitlines() if line.strip()]
            if not _live(path):
                return cls(np.array(rows, np.float32), "metahuman", fps or 60)
            of = {name.strip().lower(): k for k, name in enumerate(rows.pop(0))}
            values = np.array([[row[of[name.lower()]] for name in LIVE_LINK[2:57]] for row in rows], np.float32)
            frames = list(Counter(row[of["timecode"]][:8] for row in rows).values())  # of each second
            whole = frames[1:-1] or frames[:-1] * (rows[0][of["timecode"]][9:11] == "00")
            return cls(values[:, :52], "arkit", fps or max(whole, default=60), np.degrees(values[:, 52:]))
        except (OSError, ValueError, LookupError, DataError) as error:
            raise DataError(f"{path} holds no curves as Live Link Face or EmoFace writes them: {error}.") from error


def _live(path: str | Path) -> bool:
    if (kind := Path(path).suffix.lower()) not in (".csv", ".txt"):
        raise DataError(f"Curves live in .csv (Live Link Face) and .txt (EmoFace) files, not in {Path(path).name!r}.")
    return kind == ".csv"
