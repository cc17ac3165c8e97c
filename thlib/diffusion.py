"""Denoising diffusion, as both stages of text-based editing use it: a network sees noisy data and names the clean ones.

x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e (Ho, Jain & Abbeel 2020), with a_t from the cosine schedule (Nichol & Dhariwal
2021); samples by DDIM (Song, Meng & Ermon 2021), conditions sharpened by guidance (Ho & Salimans 2022)."""

# B batch  ... the data's own axes
from collections.abc import Callable
from itertools import pairwise

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

STEPS = 1000  # noise levels; level 0 has hardly any
Denoise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # x_t (B, ...) and levels t (B,) -> clean x_0 (B, ...)


def schedule() -> DDIMScheduler:
    """The noise schedule, as a scheduler of diffusers that takes networks which predict x_0."""
    kind = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample", "timestep_spacing": "trailing"}
    return DDIMScheduler(STEPS, clip_sample=False, **kind)


def sample(denoise: Denoise, noise: torch.Tensor, *, steps: int = 50, begin: int = STEPS) -> torch.Tensor:
    """Clean data like `noise` (B, ...), by `steps` even steps of DDIM from level begin - 1 on.
    Below STEPS, `noise` is to be x_t of a first guess at that level (SDEdit, Meng et al. 2022)."""
    levels, scheduler = torch.linspace(begin, 0, steps + 1).round().long() - 1, schedule()
    for level, lower in pairwise(levels):
        clean, a = denoise(noise, level.to(noise.device).expand(len(noise))), scheduler.alphas_cumprod[level]
        rest = (noise - a.sqrt() * clean) / (1 - a).sqrt()
        noise = scheduler.add_noise(clean, rest, lower[None]) if lower >= 0 else clean
    return noise


def noised(clean: torch.Tensor, noise: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """x_t (B, ...) of `clean` (B, ...) under Gaussian `noise` (B, ...) at levels t (B,), whole numbers below STEPS."""
    return schedule().add_noise(clean, noise, level)


def guided(known: torch.Tensor, blind: torch.Tensor, scale: float) -> torch.Tensor:
    """Classifier-free guidance: from the `blind` answer on to the `known` one. scale 0: blind; 1: known; 2: beyond."""
    return blind + scale * (known - blind)
