"""Thin-plate splines against scipy and closed forms; warps of pictures against the identity and known displacements."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RBFInterpolator

from thlib.warp import ThinPlateSpline, border_points, dense_flow, interpolate, warp_frame


def _points(n, seed=0, low=20.0, high=180.0):
    return np.random.default_rng(seed).uniform(low, high, (n, 2))


def _picture(size=(160, 200), seed=0):
    noise = np.random.default_rng(seed).uniform(0, 255, (*size, 3))
    spectrum = np.fft.rfft2(noise, axes=(0, 1))
    smooth = np.exp(-(np.fft.fftfreq(size[0])[:, None] ** 2 + np.fft.rfftfreq(size[1]) ** 2) * 600)[..., None]
    picture = np.fft.irfft2(spectrum * smooth, s=size, axes=(0, 1))
    return np.uint8(255 * (picture - picture.min()) / np.ptp(picture))


@pytest.mark.parametrize("smoothing", [0.0, 30.0])
@pytest.mark.parametrize("n", [5, 60])
def test_spline_equals_scipy(n, smoothing):
    source, values, query = _points(n), _points(n, 1), _points(300, 2, -50, 250)
    ours = ThinPlateSpline(torch.from_numpy(source), smoothing=smoothing).apply(
        torch.from_numpy(values), torch.from_numpy(query)
    )
    scipys = RBFInterpolator(source, values, kernel="thin_plate_spline", smoothing=smoothing)(query)
    np.testing.assert_allclose(ours, scipys, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(batch=st.lists(st.integers(1, 3), max_size=2), n=st.integers(4, 30), seed=st.integers(0, 10_000))
def test_affine_maps_are_reproduced_in_every_batch(batch, n, seed):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randn(*batch, n, 2, generator=generator, dtype=torch.float64)
    affine = torch.randn(*batch, 2, 2, generator=generator, dtype=torch.float64)
    query = torch.randn(*batch, 7, 2, generator=generator, dtype=torch.float64)
    got = ThinPlateSpline(source).apply(source @ affine + 3, query)
    torch.testing.assert_close(got, query @ affine + 3, atol=1e-9, rtol=1e-9)


def test_one_factorisation_serves_many_targets():
    source = torch.from_numpy(_points(20))
    spline = ThinPlateSpline(source)
    for seed in (1, 2):
        target = torch.from_numpy(_points(20, seed))
        torch.testing.assert_close(spline.apply(target, source), target, atol=1e-9, rtol=0)


def test_gradients():
    source, target, query = (
        torch.from_numpy(_points(n, s) / 100).requires_grad_() for n, s in ((6, 0), (6, 1), (4, 2))
    )

    def apply(source, target, query):
        return ThinPlateSpline(source, smoothing=0.01).apply(target, query)

    assert torch.autograd.gradcheck(apply, (source, target, query))
    at_source = ThinPlateSpline(source).apply(target, source).sum()  # r = 0, where a plain r^2 log r has no gradient
    assert all(g.isfinite().all() for g in torch.autograd.grad(at_source, (source, target)))


def test_the_ring_of_twelve_is_well_conditioned():
    third = 1 / 3  # two points above, two below, four on each side
    ring = [(s * third, y) for s in (-1, 1) for y in (-1, 1)]
    ring += [(x, y) for x in (-1, 1) for y in (-1, -third, third, 1)]
    ring = torch.tensor(ring, dtype=torch.float64)
    assert torch.linalg.cond(ThinPlateSpline(ring).matrix) == pytest.approx(97, abs=1)
    assert torch.linalg.cond(ThinPlateSpline(ring * 300 + 500).matrix) == pytest.approx(97, abs=1)
    got = ThinPlateSpline(ring).apply(ring * torch.tensor([0.6, 1.4]) + 0.1, ring / 2)
    torch.testing.assert_close(got, ring / 2 * torch.tensor([0.6, 1.4]) + 0.1, atol=1e-14, rtol=0)


@pytest.mark.parametrize("shape", [(2, 2), (5, 3), (5,)])
def test_a_wrong_shape_is_named(shape):
    with pytest.raises(ValueError, match="needs"):
        ThinPlateSpline(torch.zeros(shape))


@pytest.mark.parametrize(("step", "limit"), [(1, 5e-4), (4, 0.03), (8, 0.12)])
def test_a_coarse_grid_is_near_the_exact_flow(step, limit):
    # 40 points 25 px apart that move by 2 px each on their own: rougher than any face.
    source = np.stack(np.meshgrid(np.arange(8), np.arange(5)), -1).reshape(-1, 2) * 25.0 + 12
    values = np.random.default_rng(0).normal(0, 2, (40, 2))
    box = (3, 5, 190, 120)
    flow = dense_flow(source, values, box=box, step=step)
    centres = np.stack(np.meshgrid(np.arange(3, 190), np.arange(5, 120)), -1) + 0.5
    exact = RBFInterpolator(source, values, kernel="thin_plate_spline")(centres.reshape(-1, 2)).reshape(flow.shape)
    assert flow.shape == (115, 187, 2)
    assert np.abs(flow - exact).mean() < limit
    assert np.abs(flow - exact).max() < 8 * limit


def test_equal_points_give_the_frame_back():
    frame = _picture()
    points = _points(30, high=150)
    assert np.array_equal(warp_frame(frame, points, to_points=points), frame)


def test_a_warp_moves_what_it_is_told_to_move():
    frame = np.zeros((160, 200, 3), np.uint8)
    frame[78:83, 98:103] = 255  # a dot centred at (100.5, 80.5)
    dot, other = np.array([[100.5, 80.5]]), np.array([[60.0, 40], [140, 40], [60, 120], [140, 120]])
    ring = 5 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    start = np.concatenate([dot, dot + ring, other])
    end = start + np.r_[np.tile([[7.0, -4.0]], (5, 1)), np.zeros((4, 2))]
    moved = warp_frame(frame, start, to_points=end)[..., 0].astype(float)
    y, x = np.mgrid[:160, :200] + 0.5
    centre = (x * moved).sum() / moved.sum(), (y * moved).sum() / moved.sum()
    np.testing.assert_allclose(centre, [107.5, 76.5], atol=0.2)


def test_the_frame_edge_stays():
    frame = _picture()
    points = 60 + _points(30, low=0, high=40)
    moved = warp_frame(frame, points, to_points=points + [6, 3])
    assert np.abs(moved[0].astype(int) - frame[0]).mean() < 2
    assert np.abs(moved.astype(int) - frame).mean() > 3
    assert len(border_points((160, 200))) == 16


def test_there_and_back():
    frame, points = _picture(), _points(30, low=40, high=120)
    there = points + np.random.default_rng(3).normal(0, 1, points.shape)
    back = warp_frame(warp_frame(frame, points, to_points=there), there, to_points=points)
    inner = np.abs(back.astype(int) - frame)[50:110, 50:110]
    assert inner.mean() < 1.5


def test_interpolation_meets_both_ends_exactly():
    a, b = _picture(seed=1), _picture(seed=2)
    points = {"points_a": _points(20, 1, 40, 120), "points_b": _points(20, 2, 40, 120)}
    assert np.array_equal(interpolate(a, b, **points, u=0), a)
    assert np.array_equal(interpolate(a, b, **points, u=1), b)


def test_interpolation_finds_the_middle_of_a_moved_picture():
    a, points = _picture(), _points(20, 1, 40, 120)
    b = warp_frame(a, points, to_points=points + [8, 0])
    middle = interpolate(a, b, points_a=points, points_b=points + [8, 0], u=0.5)
    truth = warp_frame(a, points, to_points=points + [4, 0])
    dissolve = (a.astype(float) + b) / 2
    inner = np.s_[50:110, 55:115]
    error, ghost = (np.abs(x.astype(float) - truth)[inner].mean() for x in (middle, dissolve))
    assert error < ghost / 4
    aimed = interpolate(a, b, points_a=points, points_b=points + [8, 0], u=0.5, target=points + [4, 0])
    assert np.abs(aimed.astype(int) - middle).max() <= 1


def test_speed_of_a_warp():
    torch.set_num_threads(1)
    frame, points = np.zeros((288, 360, 3), np.uint8), _points(120, low=80, high=220)
    seconds = []
    for seed in range(5):
        start = time.perf_counter()
        warp_frame(frame, points, to_points=points + np.random.default_rng(seed).normal(0, 1, points.shape))
        seconds.append(time.perf_counter() - start)
    assert np.median(seconds) < 0.1  # about 0.01 s on an idle core
