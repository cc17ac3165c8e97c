"""An opponent of the models of lips: real frames of the footage, chosen by their sound."""

# T frames  B mel bands (80)  M candidates
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import PCA

from thlib.editing.motion import SCALE, mouth_mask
from thlib.footage import Footage
from thlib.landmarks import LIPS
from thlib.speech import standardised, windows


class Retrieval:
    """Lips copied from footage: for every new frame the real frame of nearest sound, joined by dynamic programming.

    Unit selection (Hunt & Black 1996) at the size of a frame: going on to the next real frame is free, staying or
    skipping one (time-warping) costs little, a jump costs a join and the distance that the lips jump.
    """

    def __init__(self, footage: Sequence[Footage], *, near: int = 40, warp: float = 0.3, join: float = 2.0):
        """Index the footage's visible frames; `near` candidates a frame, costs in units of the mean sound distance."""
        self.near, self.warp, self.join = near, warp, join
        rows = np.concatenate([windows(standardised(f.mel), 3) for f in footage])  # (M, 7 B)
        self._pca = PCA(40, whiten=False, random_state=0).fit(rows)
        self._sound = self._pca.transform(rows)
        self._motion = np.concatenate([f.motion * mouth_mask()[:, None] for f in footage])
        self._lips = SCALE * self._motion[:, LIPS, :2].reshape(len(rows), -1)
        self._usable = np.concatenate([f.visible for f in footage])
        ends = np.cumsum([len(f.mel) for f in footage]) - 1
        self._last = np.isin(np.arange(len(rows)), ends)

    def predict(self, mel: np.ndarray) -> np.ndarray:
        """Log-mel of a whole window (T, B) -> motion float32 (T, 478, 3) in eye-corner units."""
        wanted = self._pca.transform(windows(standardised(mel), 3))
        cost = np.linalg.norm(wanted[:, None] - self._sound[None], axis=-1)  # (T, M)
        cost[:, ~self._usable] = np.inf
        unit = float(np.median(cost.min(1))) or 1.0
        picks = np.argpartition(cost, self.near, axis=1)[:, : self.near]  # (T, near)
        total, back = np.take_along_axis(cost, picks, 1) / unit, []
        best = total[0]
        for before, here, own in zip(picks, picks[1:], total[1:]):
            step = best[:, None] + self._join_cost(before, here)
            back.append(step.argmin(0))
            best = step.min(0) + own
        path = [int(best.argmin())]
        for arrows in reversed(back):
            path.append(int(arrows[path[-1]]))
        return self._motion[np.take_along_axis(picks, np.array(path[::-1])[:, None], 1)[:, 0]].astype(np.float32)

    def _join_cost(self, before: np.ndarray, here: np.ndarray) -> np.ndarray:
        """Cost (near, near) of showing real frame `here` after `before`."""
        ahead = here[None] - before[:, None]
        jump = self.join + np.linalg.norm(self._lips[before][:, None] - self._lips[here][None], axis=-1) / 8
        warped = np.where((ahead == 0) | (ahead == 2), self.warp, jump)
        return np.where((ahead == 1) & ~self._last[before][:, None], 0.0, warped)
