"""Lips from sound, classically: ridge and regressor, and how a motion is fitted between real frames.

A motion is what head-fixed landmarks do about the speaker's resting face (their mean over the spoken frames), in
eye-corner units: identity and head pose are gone, what is left is speech. Models of it share one call,
`predict(mel) -> motion`, and know the whole new sound of a window, so that co-articulation crosses the seams."""

# T frames  B mel bands (80)  K basis size  L landmarks (478)
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from scipy.spatial.transform import Rotation, Slerp
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from torch import nn

from thlib.errors import EditError
from thlib.footage import Footage
from thlib.landmarks import LIPS, Head, neutral
from thlib.speech import standardised, windows
from thlib.training import Settings, train, warm_start

Array = np.ndarray
SCALE = 100.0  # codes are in % of the eye corners, which keeps gradients and penalties of a handy size
SETTLE = 3.0  # frames after which a border's residual has faded to 1/e


def mouth_mask() -> np.ndarray:
    """How far each landmark (478,) follows speech: 1 from the nose's base down, 0 from the eyes up, smooth between."""
    y = neutral()[:, 1]
    low, high = neutral()[[133, 362], 1].mean() + 0.12, neutral()[2, 1]
    return (0.5 - 0.5 * np.cos(np.pi * np.clip((y - low) / (high - low), 0, 1))).astype(np.float32)


class LipNet(ModelMixin, ConfigMixin):
    """Log-mel -> motion through `layers` temporal convolutions and a linear basis of the landmarks.
    layers=1, kernel=13: ridge regression from log-mel +- 6 frames; layers=5, kernel=5: the regressor."""

    @register_to_config
    def __init__(self, layers: int = 5, kernel: int = 5, width: int = 192, bands: int = 80, basis: int = 24):
        super().__init__()
        sizes = [bands, *[width] * (layers - 1), basis]
        convs = [nn.Conv1d(a, b, kernel, padding=kernel // 2) for a, b in itertools.pairwise(sizes)]
        steps = [step for conv in convs[:-1] for step in (conv, nn.GELU(), nn.Dropout(0.1))]
        self.net = nn.Sequential(*steps, convs[-1])
        self.register_buffer("components", torch.zeros(basis, 478 * 3))
        self.register_buffer("centre", torch.zeros(478 * 3))

    def codes(self, mel: torch.Tensor) -> torch.Tensor:
        """Standardised log-mel (N, T, B) -> codes (N, T, K) in the basis."""
        return self.net(mel.mT).mT

    @torch.no_grad()
    def predict(self, mel: np.ndarray) -> np.ndarray:
        """Log-mel of a whole window (T, B) -> motion float32 (T, 478, 3) in eye-corner units, 0 above the nose."""
        return decode(self, self.eval().codes(torch.from_numpy(standardised(mel)).to(self.device)[None])[0])


def _weights() -> np.ndarray:
    """Weight (478 * 3,) of each coordinate in the basis: 0 above the nose, 4 on the lips (they are judged)."""
    weight = mouth_mask()
    weight[LIPS] = 4
    return np.repeat(weight, 3)


def with_basis(net: ModelMixin, footage: Sequence[Footage]) -> ModelMixin:
    """Give `net` the principal components of the footage's weighted motion; `encode` and `decode` then use them."""
    motion = np.concatenate([f.motion[f.spoken] for f in footage]).reshape(-1, 478 * 3)
    pca = PCA(net.config.basis, random_state=0).fit(SCALE * motion * _weights())
    net.components.copy_(torch.from_numpy(pca.components_))
    net.centre.copy_(torch.from_numpy(pca.mean_))
    return net


def encode(net: ModelMixin, motion: np.ndarray) -> np.ndarray:
    """Codes float32 (T, K) of a motion (T, 478, 3) in eye-corner units."""
    weighted = SCALE * motion.reshape(len(motion), 478 * 3) * _weights()
    return ((weighted - net.centre.cpu().numpy()) @ net.components.cpu().numpy().T).astype(np.float32)


def decode(net: ModelMixin, codes: torch.Tensor) -> np.ndarray:
    """Motion float32 (..., 478, 3) in eye-corner units of codes (..., K): 0 above the nose."""
    weight = _weights()
    motion = (codes @ net.components + net.centre).cpu().numpy() / np.where(weight > 0.02, SCALE * weight, np.inf)
    return motion.reshape(*codes.shape[:-1], 478, 3).astype(np.float32) * mouth_mask()[:, None]


def lip_basis(net: ModelMixin) -> torch.Tensor:
    """What a code of 1 does to the lips (K, 40, 3), in % of the eye corners: for losses that see lips, not codes."""
    return net.components.view(-1, 478, 3)[:, LIPS] / 4


def fit_ridge(footage: Sequence[Footage], *, alpha: float = 100.0, reach: int = 6) -> LipNet:
    """Ridge regression from log-mel +- `reach` frames, in closed form, as a `LipNet` of one layer."""
    net = with_basis(LipNet(layers=1, kernel=2 * reach + 1), footage)
    rows = np.concatenate([windows(standardised(f.mel), reach, mode="constant")[f.visible] for f in footage])
    codes = np.concatenate([encode(net, f.motion)[f.visible] for f in footage])
    ridge = Ridge(alpha=alpha).fit(rows, codes)
    conv = net.net[-1]
    conv.weight.data.copy_(torch.from_numpy(ridge.coef_).float().view_as(conv.weight))
    conv.bias.data.copy_(torch.from_numpy(ridge.intercept_).float())
    return net


def fit_regressor(
    footage: Sequence[Footage], *, steps: int = 800, seed: int = 0, folder: Path | None = None, init: Path | None = None
) -> LipNet:
    """Train a `LipNet` of five layers: mean distance and velocity of the points, 32 stretches of 64 frames a step.
    folder: as in `training.train`. init: a folder of weights to start from, whose basis is kept."""
    torch.manual_seed(seed)
    net = with_basis(LipNet(), footage) if init is None else warm_start(LipNet(), init)
    clips = [(standardised(f.mel), encode(net, f.motion), f.visible) for f in footage]
    clips = [[np.pad(one, [(0, max(0, 64 - len(one))), (0, 0)][: one.ndim], "edge") for one in clip] for clip in clips]
    series = [[torch.from_numpy(one) for one in kind] for kind in zip(*clips)]

    def loss(net: LipNet, batch: list[torch.Tensor]) -> torch.Tensor:
        mel, code, mask = batch
        loud = mel + 0.15 * torch.randn(len(mel), 1, 1) + 0.1 * torch.randn_like(mel)
        error = torch.einsum("ntk,klc->ntlc", net.codes(loud) - code, lip_basis(net))
        distance = (error.pow(2).sum(-1) + 1e-3).sqrt().mean(-1)
        jerk = (error.diff(dim=1).pow(2).sum(-1) + 1e-3).sqrt().mean(-1)
        return (distance * mask).mean() + 0.5 * (jerk * mask[:, 1:]).mean()

    def batch(rng: np.random.Generator, _: int) -> list[torch.Tensor]:
        picks = rng.integers(0, len(footage), 32)
        starts = [rng.integers(0, len(series[0][i]) - 64 + 1) for i in picks]
        return [torch.stack([one[i][s : s + 64] for i, s in zip(picks, starts)]) for one in series]

    settings = Settings(steps, lr=2e-3, weight_decay=0.02, ema=0, seed=seed)
    return train(net, settings, batch=batch, loss=loss, folder=folder)


def between(motion: Array, *, rest: Array, left: Array | None, right: Array | None, pace: float = np.inf) -> Array:
    """Head-fixed landmarks (N, 478, 3) for the new frames, landing on the real ones at both borders.
    motion       (N + 2, 478, 3): what a model says of the new frames and of the real ones just before and after.
    rest         (478, 3): the speaker's resting face.
    left, right  the real head-fixed landmarks (478, 3) just before and after; None at an end of the video.
    pace         how far the lips may go in the step across a border, eye corners; the next frames make up for it.
    Above the nose the borders are interpolated; below it the motion counts, corrected by what the model misses at each
    border, a correction that fades over `SETTLE` frames. EditError where both borders are missing."""
    n = len(motion) - 2
    ends = [(k, real) for k, real in ((0, left), (n + 1, right)) if real is not None]
    if not ends:
        raise EditError("The edit covers all of the video; keep at least one real frame beside it.")
    frames = np.arange(1, n + 1)[:, None, None]
    (first, a), (last, b) = ends[0], ends[-1]
    base = a + (frames - first) / max(last - first, 1) * (b - a)
    spoken = rest + motion[1:-1]
    for k, real in ends:
        spoken = spoken + np.exp(-(np.abs(frames - k) - 1) / SETTLE) * (real - rest - motion[k])
    for k, real in ends if n else ():
        jump = spoken[min(k, n - 1)] - real
        excess = 1 - pace / max(np.linalg.norm(jump[LIPS], axis=-1).mean(), 1e-9)
        spoken = spoken - np.exp((1 - np.abs(frames - k)) / SETTLE) * max(excess, 0.0) * jump
    return (base + mouth_mask()[:, None] * (spoken - base)).astype(np.float32)


def heads_between(head: Head, *, left: int, right: int, n: int) -> Head:
    """The head's path over `n` new frames from frame `left` to `right` (one may be -1: none), by the shortest turn."""
    ends = [k for k in (left, right) if 0 <= k < len(head.scale)]
    share = (np.arange(n) + 1) / (n + 1) if len(ends) == 2 else np.zeros(n)
    turn = Slerp([0, 1], Rotation.from_matrix(head.rotation[[ends[0], ends[-1]]]))(share)
    scale = np.exp(np.interp(share, [0, 1], np.log(head.scale[[ends[0], ends[-1]]])))
    shift = head.shift[ends[0]] + share[:, None] * (head.shift[ends[-1]] - head.shift[ends[0]])
    return Head(turn.as_matrix(), scale, shift)
