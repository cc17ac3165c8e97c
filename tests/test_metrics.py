"""Each metric on planted shifts, cuts, blurs and noise whose size is known."""

from dataclasses import replace
from fractions import Fraction

import measures
import numpy as np
import pytest
import tables
from scipy.spatial.transform import Rotation

from thlib import metrics
from thlib.landmarks import BLENDSHAPES, FaceTrack, Head, neutral


@pytest.fixture
def lips():
    """A made-up mouth (75, 40, 2): the opening follows a sum of sines, the rest stays."""
    t = np.arange(75) / 25
    gap = 0.06 + 0.03 * np.sin(2 * np.pi * 3 * t) + 0.02 * np.sin(2 * np.pi * 1.3 * t + 1)
    points = np.zeros((75, 40, 2))
    points[:, metrics.LOWER_LIP, 1], points[:, metrics.UPPER_LIP, 1] = gap / 2, -gap / 2
    return points


def test_opening_is_the_planted_gap(lips):
    t = np.arange(75) / 25
    gap = 0.06 + 0.03 * np.sin(2 * np.pi * 3 * t) + 0.02 * np.sin(2 * np.pi * 1.3 * t + 1)
    np.testing.assert_allclose(metrics.opening(lips), gap, atol=1e-12)


def test_lip_error_is_the_planted_shift_in_percent(lips):
    assert metrics.lip_error(lips, lips) == 0
    assert metrics.lip_error(lips + np.array([0.003, 0.004]), lips) == pytest.approx(0.5)


@pytest.mark.parametrize("late", [-3, 0, 1, 4])
def test_sync_offset_finds_the_planted_lateness(lips, late):
    assert metrics.sync_offset(np.roll(lips, late, 0)[6:-6], lips[6:-6]) == late


def test_sync_offset_passes_over_what_is_not_seen_and_believes_no_small_gain(lips):
    seen = lips[6:-6].copy()
    seen[20:40] = np.nan
    assert metrics.sync_offset(np.roll(lips, 3, 0)[6:-6], seen) == 3
    alike = metrics.correlation(metrics.opening(np.roll(lips, 1, 0)[6:-6]), metrics.opening(lips[6:-6]))
    for margin, found in ((0.9 * (1 - alike), 1), (1.1 * (1 - alike), 0)):
        assert metrics.sync_offset(np.roll(lips, 1, 0)[6:-6], lips[6:-6], margin=margin) == found
    noise = lips + np.random.default_rng(0).normal(0, 1, lips.shape)  # follows at no shift, and against it in step
    assert metrics.correlation(metrics.opening(noise), metrics.opening(lips)) < 0
    assert metrics.sync_offset(noise, lips, margin=0.4) == 0


def test_deviation_and_correlation_know_a_mumble_and_a_hold(lips):
    assert metrics.deviation_ratio(0.5 * lips + 3, lips) == pytest.approx(0.5)
    assert metrics.deviation_ratio(np.repeat(lips[:1], 75, 0), lips) == pytest.approx(0, abs=1e-12)
    assert metrics.correlation(metrics.opening(lips), metrics.opening(lips) * 0.3 + 1) == pytest.approx(1)
    assert metrics.correlation(np.ones(9), np.arange(9.0)) == 0


def test_reader_reads_shapes_and_not_durations():
    rng = np.random.default_rng(0)
    shapes = {w: rng.normal(size=(40, 2)) for w in "abc"}

    def say(word, n):
        arch = np.sin(np.linspace(0, np.pi, n))[:, None, None]
        return arch * shapes[word] + 0.1 * rng.normal(size=(n, 40, 2))

    labels = list("abc" * 20)
    reader = metrics.LipReader().fit([say(w, int(rng.integers(5, 15))) for w in labels], labels)
    assert np.mean(reader.read([say(w, 7) for w in labels]) == labels) > 0.95
    still = [np.zeros((int(rng.integers(5, 15)), 40, 2)) for _ in labels]
    assert len(set(reader.read(still))) == 1  # nothing moves: nothing but the length differs, and it must not be read


def test_picture_metrics_on_planted_noise_blur_and_blinking():
    rng = np.random.default_rng(1)
    frames = rng.integers(40, 200, (6, 32, 32, 3)).astype(np.uint8)
    brighter = frames + np.uint8(16)
    assert metrics.psnr(brighter, frames) == pytest.approx(20 * np.log10(255 / 16))
    assert metrics.ssim(frames, frames) == pytest.approx(1)
    blurred = ((frames[:, :, :-1].astype(int) + frames[:, :, 1:]) // 2).astype(np.uint8)
    assert metrics.gradient_energy(blurred) < 0.6 * metrics.gradient_energy(frames)
    still = np.repeat(frames[:1], 6, 0)
    blinking = still.copy()
    blinking[::2] += np.uint8(10)
    assert metrics.flicker(still) == 0
    assert metrics.flicker(blinking) == pytest.approx(20, rel=1e-3)


def test_mouth_box_is_centred_on_the_lips():
    points = np.full((3, 40, 3), [100.0, 60.0, 5.0])
    rows, columns = metrics.mouth_box(points, height=48, width=56)
    assert (rows.start, rows.stop, columns.start, columns.stop) == (36, 84, 72, 128)


def test_a_planted_cut_is_above_the_clips_own_steps_and_a_smooth_join_is_not():
    rng = np.random.default_rng(2)
    points = np.cumsum(rng.normal(0, 0.1, (80, 40, 2)), 0)
    steps = metrics.motion_steps(points)
    cut = points.copy()
    cut[40:] += 3
    assert metrics.share_above([metrics.motion_steps(cut)[39]], steps) == 1
    assert metrics.share_above([np.median(steps)], steps) == 0
    frames = np.zeros((10, 24, 24, 3), np.uint8)
    frames[5:] = 90
    assert np.argmax(metrics.picture_steps(frames)) == 4


def test_sound_steps_find_a_planted_level_step_and_a_click():
    rate, rng = 16000, np.random.default_rng(3)
    noise = 0.05 * rng.normal(size=rate)
    louder = noise.copy()
    louder[rate // 2 :] *= 4
    level, _ = metrics.sound_steps(louder, rate)
    place = round(0.5 / 0.010) - 2
    assert abs(int(np.argmax(level)) - place) <= 1
    assert level.max() == pytest.approx(20 * np.log10(4), abs=1.5)
    tone = 0.1 * np.sin(2 * np.pi * 200 * np.arange(rate) / rate)
    cut = tone.copy()
    cut[rate // 2 :] = -cut[rate // 2 :] * np.cos(0.7)
    _, flux = metrics.sound_steps(cut, rate)
    _, plain = metrics.sound_steps(tone, rate)
    assert flux[place - 2 : place + 3].max() > 3 * np.percentile(plain, 95)


def test_outside_psnr_forgives_motion_and_not_paint():
    rng = np.random.default_rng(4)
    from scipy.ndimage import gaussian_filter

    texture = gaussian_filter(rng.normal(size=(96, 96, 3)), (2, 2, 0))
    frame = (128 + 90 * texture / np.abs(texture).max()).astype(np.uint8)
    mask = np.zeros((96, 96), bool)
    mask[16:-16, 16:-16] = True
    moved = np.roll(frame, 2, 1)
    painted = moved.copy()
    painted[30:60, 30:60] = 128
    assert measures.outside_psnr(frame, moved, mask) > 36 > measures.outside_psnr(frame, painted, mask)


@pytest.fixture
def turning():
    """The neutral face through 40 frames: yaw sways by 12 degrees, size grows from 60 to 90 pixels, jawOpen follows."""
    t = np.arange(40) / 25
    yaw, size = 12 * np.sin(2 * np.pi * t), np.linspace(60, 90, 40)
    controls = np.zeros((40, 52), np.float32)
    controls[:, BLENDSHAPES.index("jawOpen")] = 0.3 + 0.2 * np.sin(5 * t)
    axis = np.stack([0 * yaw, -yaw, 0 * yaw], 1)  # y points down: turned to the image's right
    turn = Rotation.from_rotvec(axis, degrees=True).as_matrix()
    head = Head(turn, size, np.stack([200 + 10 * t, 150 + 0 * t, 0 * t], 1))
    points = head.unfix(np.broadcast_to(neutral(), (40, 478, 3)))
    return FaceTrack(points, np.ones(40, bool), (300, 400), Fraction(25), controls, head.matrix), yaw, size


def test_scale_error_is_the_planted_log_of_the_size(turning):
    track, _, size = turning
    np.testing.assert_allclose(metrics.scale_error(1.3 * track.points + 17, track.points), np.log(1.3), atol=1e-5)
    np.testing.assert_allclose(metrics.scale_error(track.points, track.points[:1]), np.log(size / 60), atol=1e-5)
    chewing = track.points.copy()
    chewing[:, [152, 17, 14, 148, 377]] += [0, 25, 0]  # chin and lower lip
    np.testing.assert_array_equal(metrics.scale_error(chewing, track.points), 0)
    assert np.ptp(chewing[..., 1], axis=1).mean() > 1.1 * np.ptp(track.points[..., 1], axis=1).mean()


def test_motions_are_the_planted_yaw_jaw_and_widths_whatever_size_and_turn(turning):
    track, yaw, _ = turning
    found = measures.motions(track)
    np.testing.assert_allclose(found["yaw"], yaw, atol=1e-3)
    np.testing.assert_array_equal(found["jawOpen"], track.controls[:, BLENDSHAPES.index("jawOpen")])
    rest = np.linalg.norm(neutral()[61] - neutral()[291])
    np.testing.assert_allclose(found["mouth width"], rest, rtol=1e-4)
    wider = track.points.copy()
    wider[:, [61, 291]] += 0.1 * (wider[:, [61, 291]] - wider[:, [291, 61]])
    np.testing.assert_allclose(measures.motions(replace(track, points=wider))["mouth width"], 1.2 * rest, rtol=1e-4)
    shut = track.points.copy()
    shut[:, [160, 158, 385, 387]] = shut[:, [144, 153, 380, 373]]  # each upper lid onto its lower one
    np.testing.assert_allclose(measures.motions(replace(track, points=shut))["eyes"], 0, atol=1e-6)
    assert found["eyes"].min() > 0.1


@pytest.mark.parametrize("gain", [1.0, 0.4, -2.0])
def test_motion_gain_is_the_planted_slope_and_a_still_result_has_none(gain):
    driver = np.sin(np.arange(60) / 4)
    assert measures.motion_gain(gain * driver + 7, driver) == pytest.approx((gain, np.sign(gain)))
    assert measures.motion_gain(np.full(60, 3.0), driver) == pytest.approx((0, 0), abs=1e-9)
    assert measures.motion_gain(driver, np.zeros(60)) == (0, 0)  # no driver, no gain, and no division by 0
    trembling = gain * driver + np.random.default_rng(6).normal(0, abs(gain), 60)
    slope, r = measures.motion_gain(trembling, driver)
    assert abs(r) < 0.9 * abs(slope / gain)  # noise costs r, not the slope


def test_identity_weighs_shape_and_colour_alike_whatever_their_units():
    rng = np.random.default_rng(7)
    shapes, colours = rng.normal(0, 0.01, (20, 300)), rng.normal(120, 40, (20, 3))
    for k in range(20):
        seen = shapes[k] + rng.normal(0, 0.004, 300), colours[k] + rng.normal(0, 5, 3)
        assert measures.identity(seen, (shapes, colours)) == k
    between = shapes[1], 0.4 * colours[1] + 0.6 * colours[2]  # by bare numbers colour alone would decide, for 2
    for unit in (1, 1e5):
        assert measures.identity((unit * between[0], between[1]), (unit * shapes, colours)) == 1


def test_interval_and_better_ask_for_a_difference_that_excludes_zero():
    rng = np.random.default_rng(5)
    base = rng.normal(1, 0.3, 100)
    mean, low, high = tables.interval(base)
    assert low < mean < high
    assert high - low == pytest.approx(2 * 1.96 * 0.3 / 10, rel=0.25)
    assert tables.better(base + 0.05, base, higher=True)
    assert not tables.better(base + rng.normal(0, 0.3, 100), base, higher=True)
    text = tables.table({"ours": {"lips": base, "r": base}, "hold": {"lips": base + 1}})
    assert text.splitlines()[0].split() == ["n", "lips", "r"]
    assert "100" in text.splitlines()[1]
