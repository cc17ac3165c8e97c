"""Diffusion against what is known in closed form: Gaussian data, whose best denoiser and flow are known."""

import numpy as np
import pytest
import torch
from scipy import stats

from thlib import diffusion

ALPHAS = diffusion.schedule().alphas_cumprod


def gaussian(mean: float, spread: float):
    """The posterior mean of x_0 ~ N(mean, spread^2) given x_t: the perfect network."""

    def denoise(noisy, level):
        a = ALPHAS[level].view(-1, *[1] * (noisy.ndim - 1))
        return mean + a.sqrt() * spread**2 / (a * spread**2 + 1 - a) * (noisy - a.sqrt() * mean)

    return denoise


def test_the_schedule_is_the_cosine_of_nichol_and_dhariwal():
    t = np.arange(1, diffusion.STEPS + 1) / diffusion.STEPS
    cosine = (np.cos((t + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)) ** 2
    np.testing.assert_allclose(ALPHAS[:-2], cosine[:-2], rtol=1e-3)  # betas are cut at 0.999 at the very end


def test_noised_data_are_the_two_parts_in_their_shares():
    clean, noise = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)), torch.ones(3, 5)
    level = torch.tensor([0, 500, 999])
    a = ALPHAS[level][:, None]
    torch.testing.assert_close(diffusion.noised(clean, noise, level), a.sqrt() * clean + (1 - a).sqrt() * noise)


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (3.0, 0.5), (-1.0, 2.0)])
def test_samples_have_the_law_of_the_data_and_follow_their_noise(mean, spread):
    noise = torch.randn(2000, generator=torch.Generator().manual_seed(1))
    made = diffusion.sample(gaussian(mean, spread), noise, steps=200)
    # DDIM's flow carries each quantile of the noise to the same quantile of the data: x_0 = mean + spread e.
    assert (made - (mean + spread * noise)).abs().max() < 0.05 * spread * noise.abs().max()
    assert stats.kstest(made.numpy(), stats.norm(mean, spread).cdf).pvalue > 0.01


def test_steps_are_those_of_diffusers_where_they_are_even():
    noise = torch.randn(50, generator=torch.Generator().manual_seed(4))
    for steps in (4, 20):
        scheduler, theirs = diffusion.schedule(), noise
        scheduler.set_timesteps(steps)
        for t in scheduler.timesteps:
            theirs = scheduler.step(gaussian(0.5, 0.2)(theirs, t.expand(50)), t, theirs).prev_sample
        torch.testing.assert_close(diffusion.sample(gaussian(0.5, 0.2), noise, steps=steps), theirs)


def test_fewer_steps_stray_further():
    noise = torch.randn(500, generator=torch.Generator().manual_seed(2))
    errors = [
        (diffusion.sample(gaussian(1.0, 0.3), noise, steps=n) - (1 + 0.3 * noise)).abs().mean() for n in (2, 8, 50)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_a_start_part_way_keeps_the_guess_where_the_noise_leaves_it():
    guess, level = torch.linspace(-2, 2, 9), torch.full((9,), 199)
    noise = torch.zeros(9)
    early = diffusion.sample(gaussian(0, 1), diffusion.noised(guess, noise, level), steps=10, begin=200)
    late = diffusion.sample(gaussian(0, 1), diffusion.noised(guess, noise, level * 4), steps=10, begin=800)
    assert stats.pearsonr(early, guess)[0] > 0.999
    assert early.std() > late.std()  # what the noise has drowned the model's own mean replaces


def test_the_number_of_calls_is_the_number_of_steps():
    for steps, begin in ((8, 1000), (20, 1000), (5, 500), (8, 600), (7, 1000)):
        seen = []
        diffusion.sample(lambda x, t, seen=seen: seen.append(int(t[0])) or x, torch.zeros(1), steps=steps, begin=begin)
        assert len(seen) == steps
        assert seen == sorted(seen, reverse=True)
        assert seen[0] == begin - 1


def test_guidance_is_linear_in_its_scale():
    known, blind = torch.tensor([2.0]), torch.tensor([1.0])
    assert [diffusion.guided(known, blind, s).item() for s in (0, 1, 2.5)] == [1, 2, 3.5]
