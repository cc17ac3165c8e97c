"""Stage 1 of text-based editing: dynamic weighted in-context diffusion, from sound and real motion beside it to lips.

After Han et al. 2024 (arXiv 2407.14841); what they leave open is ours, and switchable. The network works on codes in a
linear basis of displacement from the resting face. Context is given clean at every step: it comes out as it went in."""

# B batch  T frames  K basis size  M features of sound: 80 mel bands, 39 phones  W width
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from thlib.diffusion import STEPS, guided, noised, sample
from thlib.editing.motion import decode, encode, lip_basis, with_basis
from thlib.footage import Footage
from thlib.speech import MEL_BANDS, PHONES, standardised
from thlib.training import Settings, train

Array = np.ndarray
REACH = 32  # frames that attention sees on each side: it knows no others, so a window may be of any length
FRAMES = 64  # of a training stretch
LONGEST = 48  # frames of it that are masked at most, 8 at least
AUGMENTED = 0.15  # how far the loudness and the pace of a stretch are moved
GAIN, WAYS, DRIFT = 0.3, 0.3, 0.12  # how far people differ: log size of all motion; how codes mix; slow drift
TOKENS = 0.5  # how far a sound differs from itself, said again: tenth-second waves, which tell nothing of the edit
ALONE, NOISY = 0.3, 0.6  # shares of stretches heard as phones alone, and in a noisy room, by a pressed voice


def sinusoids(values: Tensor, size: int) -> Tensor:
    """Sines and cosines (..., size) of numbers (...), wave lengths from 2 pi to 10,000 of these."""
    angles = values[..., None] * torch.exp(-math.log(1e4) / (size // 2) * torch.arange(size // 2, device=values.device))
    return torch.cat([angles.sin(), angles.cos()], -1)


class MotionDiffusion(ModelMixin, ConfigMixin):
    """Denoiser of lip motion: noisy codes, sound and the real motion around the edit -> clean codes.
    weights: how context and sound are mixed, "dynamic" (learned from place, length, noise level and noisy motion),
    "fixed_exp" (exp(-d/4), d frames from the border) or "uniform". context: "both", "left" or "none". masked: the loss
    sees the edited frames alone, else all. The paper's size, as far as known: width 512, layers 8."""

    guidance = 1.0  # of the sound, in each step: `diffusion.guided`; 0 is deaf where trust is 1
    quiet = 2.0  # frames from a border after which a sample's noise has its size: what is next to real motion, it tells

    @register_to_config
    def __init__(self, width=192, layers=4, basis=24, *, weights="dynamic", context="both", masked=True):
        super().__init__()
        convs = [nn.Conv1d(n, width, 5, padding=2) for n in (MEL_BANDS + len(PHONES), *[width] * 3)]
        self.sound = nn.Sequential(*[step for conv in convs for step in (conv, nn.GELU(), nn.Dropout(0.1))])
        self.silence = nn.Parameter(torch.zeros(width))  # stands in for sound that is withheld
        self.real, self.noisy, self.role = nn.Linear(basis, width), nn.Linear(basis, width), nn.Embedding(2, width)
        self.level = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.near = nn.MultiheadAttention(width, 4, batch_first=True)
        self.gate = nn.Sequential(nn.Linear(16 + width + basis, width), nn.SiLU(), nn.Linear(width, 2))
        for tensor in self.gate[-1].parameters():
            nn.init.zeros_(tensor)
        kind = {"activation": F.gelu, "batch_first": True, "norm_first": True}
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(width, 4, 2 * width, **kind) for _ in range(layers))
        self.local = nn.ModuleList(nn.Conv1d(width, width, 5, padding=2, groups=width) for _ in range(layers))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, basis))
        self.register_buffer("components", torch.zeros(basis, 478 * 3))
        self.register_buffer("centre", torch.zeros(478 * 3))
        self.register_buffer("unit", torch.ones(basis))  # codes are divided by it, so that noise of size 1 fits them
        self.register_buffer(
            "trust", torch.ones(())
        )  # in real motion beside the edit: 1, less where it moves strangers

    def forward(self, noisy: Tensor, level: Tensor, sound: Tensor, context: Tensor, edit: Tensor) -> Tensor:
        """Clean codes (B, T, K), in units, of the edited frames; those of context frames mean nothing.
        noisy (B, T, K); level (B,); sound (B, T, M), NaN where it is withheld; context (B, T, K) clean codes
        of real frames, NaN where there are none; edit (B, T) bool, one run of frames."""
        heard = self.sound(sound.nan_to_num().mT).mT
        heard = torch.where(sound[..., :1].isnan(), self.silence, heard)
        level = self.level(sinusoids(level, self.config.width))[:, None]
        offset = 400 * torch.rand(len(noisy), 1, device=noisy.device) * self.training
        at = torch.arange(edit.shape[1], device=noisy.device)
        place = sinusoids(at + offset, self.config.width)
        real, known = self.real(context.nan_to_num()), ~context[..., 0].isnan() & ~edit
        sides = [known & (away <= 0) for away in borders(edit)]
        unused = [~side & side.any(1, keepdim=True) for side in sides]  # none where a side has no frames at all
        asked, told = heard + place + level, real + place
        seen = [self.near(asked, told, told, key_padding_mask=u, need_weights=False)[0] for u in unused]
        gates = self.gates(edit, level, noisy, [side.any(1) for side in sides])
        fused = gates[..., :1] * seen[0] + gates[..., 1:2] * seen[1] + gates[..., 2:] * heard
        x = torch.where(edit[..., None], self.noisy(noisy) + fused, real + heard)
        x = x + self.role(edit.long()) + level + place
        far = (at - at[:, None]).abs() > REACH
        for block, local in zip(self.blocks, self.local):
            x = block(x + local(x.mT).mT, src_mask=far)
        return self.head(x)

    def gates(self, edit: Tensor, level: Tensor, noisy: Tensor, sides: Sequence[Tensor]) -> Tensor:
        """Weights (B, T, 3), sum 1, of left context, right context and sound in each frame.
        level (B, 1, W) embedded; sides: of left and right, is there any context (B,)? Mirrored, they are exchanged."""
        count = edit.sum(1, keepdim=True).float().expand(edit.shape)
        logits, sound = [], 0
        for away, any_known in zip(borders(edit), sides):
            away = away.clamp(min=1).float()
            waves = (away / (count + 1)).clamp(max=1)[..., None] * torch.arange(1, 8, device=away.device) * math.pi / 2
            place = [waves.sin(), waves.cos(), count.log()[..., None] / 4, away.log1p()[..., None] / 3]
            learned = self.gate(torch.cat([*place, level.expand(*edit.shape, -1), noisy], -1))
            prior = -away / 4 * (self.config.weights != "uniform")
            learned = learned * (self.config.weights == "dynamic")
            logits.append((prior + learned[..., 0]).masked_fill(~any_known[:, None], -math.inf))
            sound = sound + learned[..., 1] / 2
        if self.config.weights != "uniform":
            sound = sound + (1 - logits[0].detach().exp() - logits[1].detach().exp()).clamp(min=0.05).log()
        return torch.stack([*logits, sound], -1).softmax(-1)

    @torch.no_grad()
    def motion(
        self, sound: Array, real: Array, *, edit: Array, samples: int = 1, trust: float | None = None, seed: int = 0
    ) -> Array:
        """Motions float32 (samples, T, 478, 3) in eye-corner units, 0 above the nose, by DDIM from as many noises.
        sound (T, M) of a whole window, log-mel and phones, which may be left out; real (T, 478, 3) motion, NaN where no
        face is seen; edit (T,) bool, the run of frames to make: the others stay what they are in the basis.
        trust: guidance in what real motion tells, at the end, from what is `heard` alone (0) on, and the noise's size;
        None: the network's own."""
        self.eval()
        guidance, trust = self.guidance, self.trust.item() if trust is None else trust
        known = ~np.isnan(real[:, 0, 0]) & ~edit
        context = np.full((len(real), self.config.basis), np.nan, np.float32)
        context[known] = encode(self, real[known]) / self.unit.cpu().numpy()
        given = [torch.from_numpy(one)[None].to(self.device) for one in (_features(sound), context, edit)]
        sound, context, edit = (one.expand(samples, *one.shape[1:]) for one in given)
        context = self.kept(context, edit)

        def denoise(noisy: Tensor, level: Tensor) -> Tensor:
            clean = self(noisy, level, sound, context, edit) if guidance else 0.0  # 0: nothing is heard, why listen
            blind = clean if guidance == 1 else self(noisy, level, sound * math.nan, context, edit)
            return guided(clean, blind, guidance)

        noise = trust * torch.randn(context.shape, generator=torch.Generator().manual_seed(seed)).to(self.device)
        for away in borders(edit):
            beside = (~context[..., 0].isnan() & (away <= 0)).any(1, keepdim=True)
            noise = noise * (1 - beside * torch.exp(-away.clamp(min=0) / self.quiet))[..., None]
        made = guided(sample(denoise, noise), self._told(given[0]), trust)
        return decode(self, torch.where(edit[..., None], made, given[1]) * self.unit)

    @torch.no_grad()
    def heard(self, sound: Array) -> Array:
        """What `sound` (T, M) alone tells: the mean of all motions (T, 478, 3), in one pass, without any context."""
        told = self.eval()._told(torch.from_numpy(_features(sound))[None].to(self.device))
        return decode(self, told[0] * self.unit)

    def _told(self, sound: Tensor) -> Tensor:
        none = torch.full((*sound.shape[:2], self.config.basis), math.nan, device=sound.device)
        level = torch.full(sound.shape[:1], STEPS - 1, device=sound.device)
        return self(torch.zeros_like(none), level, sound, none, none[..., 0].isnan())

    def kept(self, context: Tensor, edit: Tensor) -> Tensor:
        """The context (B, T, K) that the configuration allows, NaN elsewhere."""
        hidden = {"both": edit, "left": borders(edit)[1] <= 0, "none": torch.ones_like(edit)}[self.config.context]
        return context.masked_fill((edit | hidden)[..., None], math.nan)


def borders(edit: Tensor) -> tuple[Tensor, Tensor]:
    """Frames (B, T) from the last real frame on the left, and to the first on the right: 1, 2, … within the edit."""
    at = torch.arange(edit.shape[1], device=edit.device)
    first = edit.float().argmax(1, keepdim=True)
    return at - first + 1, first + edit.sum(1, keepdim=True) - at


def _features(sound: Array) -> Array:
    """Log-mel (T, 80) standardised, with phones (T, 39) beside it, which are 0 where they are unknown."""
    features = np.concatenate([standardised(sound[:, :MEL_BANDS]), sound[:, MEL_BANDS:]], 1)
    return np.pad(features, ((0, 0), (0, MEL_BANDS + len(PHONES) - features.shape[1]))).astype(np.float32)


def fit_diffusion(
    footage: Sequence, settings: Settings, *, others: Iterable = (), net: ModelMixin = None, folder: Path | None = None
) -> MotionDiffusion:
    """Train a `MotionDiffusion` on masked stretches of `Footage` (the published training is not known).
    others: more footage; each group is drawn by the root of its size, `footage` as if 30 times as much; with
    others, people are varied: whom it never saw it moves better, by context, and worse whom it did (the card's table).
    net: of another size or configuration, or warm-started: its basis is kept. folder: as in `training.train`."""
    torch.manual_seed(settings.seed)
    net = net or MotionDiffusion()
    if not net.components.any():
        with_basis(net, footage)
        spread = np.concatenate([encode(net, f.motion)[f.visible] for f in footage]).std(0)
        net.unit.copy_(torch.from_numpy(spread * spread[0]).sqrt())  # half-way between whitening and none
    groups = [[_series(net, f) for f in group] for group in (footage, others)]
    unit = net.unit.cpu().numpy()
    still, spread = encode(net, np.zeros((1, 478, 3)))[0] / unit, unit / unit[0]

    def batch(rng: np.random.Generator, _: int) -> list[Tensor]:
        return [torch.stack(part) for part in zip(*(_stretch(rng, groups, still, spread) for _ in range(32)))]

    return train(net, settings, batch=batch, loss=lambda net, batch: _loss(net, *batch), folder=folder)


def _series(net: MotionDiffusion, f: Footage) -> np.ndarray:
    """Spoken?, sound, codes (T, 1 + M + K) float32, NaN where no face is seen; at least as long as a stretch."""
    codes = encode(net, f.motion) / net.unit.cpu().numpy()
    codes[~f.visible] = np.nan
    rows = np.concatenate([np.float32(f.spoken[:, None]), _features(f.sound), codes], 1)
    return np.pad(rows, ((0, max(0, FRAMES - len(rows))), (0, 0)), mode="edge")


def _stretch(rng: np.random.Generator, groups: Sequence[Sequence[np.ndarray]], still, spread) -> list[Tensor]:
    """Sound (T, M), clean codes (T, K), context (T, K), edit (T,) of a random stretch, FRAMES long.
    Half are faster or slower, all of other throats; with a second group people differ around `still` and by `spread`
    (K,), rest as what stays tells; `NOISY`, `ALONE`. 1 in 10 lack sound, a side, all context, 1 in 7 phones."""
    real, other = np.sqrt([30 * len(groups[0]), len(groups[1])])
    group = groups[int(rng.random() < other / (real + other))]
    rows = group[rng.integers(len(group))]
    pace = np.exp(rng.uniform(-AUGMENTED, AUGMENTED)) if rng.random() < 0.5 else 1.0
    places = np.arange(0, len(rows) - 1 + 1e-6, pace)
    places = places if len(places) >= FRAMES else np.linspace(0, len(rows) - 1, FRAMES)
    places = places[rng.integers(len(places) - FRAMES + 1) :][:FRAMES]
    mel, phones, clean = np.split(rows_at(rows[:, 1:], places), [MEL_BANDS, MEL_BANDS + len(PHONES)], axis=1)
    count = rng.integers(8, LONGEST + 1)
    first = rng.integers(4, FRAMES - count - 3)
    after = np.arange(FRAMES)[:, None] - first
    edit = (after >= 0) & (after < count)
    (begin, end), at = places[[first, first + count - 1]], np.arange(len(rows))
    beside = (rows[:, 0] > 0) & ((at < begin) | (at > end))
    if groups[1] and beside.any():  # as in an edit: where the lips rest, only what stays tells
        clean = clean + still - rows[beside, -len(still) :].mean(0)
    mel = rows_at(mel.T, (np.arange(80) * np.exp(rng.uniform(-0.1, 0.1))).clip(max=79)).T  # of another throat
    if groups[1]:
        k, normal = len(spread), rng.standard_normal
        ways = np.diag(np.exp(WAYS * normal(k))) + WAYS * normal((k, k)) / k**0.5
        waves = ((4, DRIFT), (26, TOKENS))
        slow, quick = (rows_at(size * spread * normal((n, k)), np.linspace(0, n - 1, FRAMES)) for n, size in waves)
        fading = np.exp(-(after + 1) / 2) * quick[first - 1] + np.exp((after - count) / 2) * quick[first + count]
        clean = still + np.exp(GAIN * normal()) * ((clean - still) / spread @ ways * spread)
        clean = clean + slow + np.where(edit, fading, quick)
    less, hidden = rng.random(), edit.copy()
    hidden |= ((less < 0.15) & (after < 0)) | ((less < 0.1 or 0.15 < less < 0.2) & (after >= 0))
    if groups[1] and rng.random() < NOISY:
        tilt = np.interp(np.arange(80), np.linspace(0, 79, 5), 0.25 * rng.standard_normal(5))
        mel = np.logaddexp(3 * mel, 3 * (rng.uniform(-1.6, -0.3) + tilt)) / 3
        mel = np.exp(0.25 * rng.standard_normal()) * (mel - mel.mean(0))
    mel = mel + AUGMENTED * rng.standard_normal() + 0.1 * rng.standard_normal(mel.shape)
    mel = mel * (not groups[1] or rng.random() > ALONE or not phones.any())  # phones are the same in every voice
    sound = np.concatenate([mel, phones * (rng.random() > 1 / 7)], 1) * (np.nan if rng.random() < 0.1 else 1)
    parts = (np.float32(part) for part in (sound, clean, np.where(hidden, np.nan, clean)))
    return [*map(torch.from_numpy, parts), torch.from_numpy(edit[:, 0])]


def rows_at(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Rows (N, ...) read at fractional places (M,); NaN only where a row that counts is."""
    low, high = np.floor(places).astype(int), np.ceil(places).astype(int)
    share = (places - low).reshape(-1, *[1] * (rows.ndim - 1))
    return rows[low] + share * (rows[high] - rows[low])


def _loss(net: MotionDiffusion, sound: Tensor, clean: Tensor, context: Tensor, edit: Tensor):
    """Squared error of lips and their opening, in % of the eye corners, and of the lips' velocity across the seams.
    Frames count 1, and up to twice that next to a border; where the loss is not masked, context frames count 1."""
    level = torch.randint(0, STEPS, (len(sound),), device=sound.device)
    seen, clean = ~clean[..., 0].isnan(), clean.nan_to_num()
    noisy = noised(clean, torch.randn_like(clean), level)
    error = (net(noisy, level, sound, net.kept(context, edit), edit) - clean) * net.unit
    if net.config.masked:
        error = torch.where(edit[..., None], error, 0)  # context comes out as it went in
    lips = torch.einsum("btk,klc->btlc", error, lip_basis(net))
    opening = lips[..., 23:28:2, 1] - lips[..., 33:38:2, 1]  # inner lips: 178, 14, 402 below 81, 13, 311
    weight = torch.where(edit, 1 + torch.exp(-torch.minimum(*borders(edit)) / 3), float(not net.config.masked)) * seen
    place = lips.square().sum(-1).mean(-1) + opening.square().mean(-1) + 0.02 * error.square().mean(-1)
    both = (weight[:, 1:] + weight[:, :-1] > 0) & seen[:, 1:] & seen[:, :-1]
    pace = lips.diff(dim=1).square().sum(-1).mean(-1)
    return (weight * place).sum() / weight.sum() + 0.5 * (both * pace).sum() / both.sum()
