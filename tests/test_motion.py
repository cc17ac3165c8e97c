"""Lips from sound: what can be known exactly, on footage whose lips are a known function of its sound."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from retrieval import Retrieval

from thlib.clip import Word
from thlib.editing import motion
from thlib.errors import EditError, TrainingError
from thlib.footage import Footage, mean_shape
from thlib.landmarks import LIPS, RIGID, FaceTrack, Head, neutral


def made_up(seed: int, *, frames: int = 75) -> Footage:
    """A clip whose jaw drops with one band of the sound and whose corners spread with another, two frames late."""
    rng = np.random.default_rng(seed)
    mel = rng.normal(0, 3, (frames + 2, 80)).astype(np.float32)
    mel -= mel.mean(0)
    drop, spread = np.roll(mel[:, 10], 2)[2:], np.roll(mel[:, 40], 2)[2:]
    face = np.repeat(neutral()[None], frames, 0)
    mouth = (motion.mouth_mask() == 1) & ~np.isin(np.arange(478), RIGID)
    face[:, mouth, 1] += 0.01 * drop[:, None] * (neutral()[mouth, 1] > neutral()[13, 1])
    face[:, mouth, 0] += 0.01 * spread[:, None] * neutral()[mouth, 0]
    points = (face * 60 + [180, 140, 0]).astype(np.float32)
    track = FaceTrack(points, np.ones(frames, bool), (288, 360), Fraction(25))
    return Footage.of(f"made {seed}", track, mel=mel[2:], words=(Word("all", 0.0, frames / 25),))


@pytest.fixture(scope="module")
def clips():
    torch.set_num_threads(1)
    return [made_up(seed) for seed in range(32)]


def lips_error(model, f):
    return np.abs(model.predict(f.mel) - f.motion)[:, LIPS].mean() / np.abs(f.motion[:, LIPS]).mean()


def test_mask_follows_speech_below_the_nose_and_nothing_above_the_eyes():
    mask = motion.mouth_mask()
    assert mask[LIPS].min() == 1
    assert mask[152] == 1  # the chin
    assert mask[[10, 151, 9, 33, 263, 468, 473, 105, 334]].max() == 0
    assert ((mask > 0.05) & (mask < 0.95)).sum() > 20  # smooth between


def test_encode_and_decode_are_a_round_trip_in_the_basis(clips):
    net = motion.with_basis(motion.LipNet(layers=1, kernel=13, basis=8), clips)
    codes = motion.encode(net, clips[0].motion)
    again, true = motion.decode(net, torch.from_numpy(codes)), clips[0].motion * motion.mouth_mask()[:, None]
    np.testing.assert_allclose(again[:, LIPS], true[:, LIPS], atol=0.02 * np.abs(true).max())
    np.testing.assert_array_equal(again[:, motion.mouth_mask() == 0], 0)


def test_ridge_finds_a_linear_law_and_equals_its_closed_form(clips):
    net = motion.fit_ridge(clips[:30], alpha=1.0)
    assert lips_error(net, clips[30]) < 0.25
    # The convolution is the regression: one frame by hand.
    f, k, reach = clips[11], 30, 6
    window = motion.standardised(f.mel)[k - reach : k + reach + 1]  # (13, 80)
    weight = net.net[-1].weight.detach().numpy()  # (K, 80, 13)
    by_hand = np.einsum("ktb,bt->k", weight.transpose(0, 2, 1), window.T) + net.net[-1].bias.detach().numpy()
    codes = net.codes(torch.from_numpy(motion.standardised(f.mel))[None])[0, k].detach().numpy()
    np.testing.assert_allclose(codes, by_hand, rtol=1e-4, atol=1e-4)


def test_regressor_learns_and_the_same_seed_gives_the_same_network(clips):
    first, second, other = (motion.fit_regressor(clips[:30], steps=3, seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters()))
    assert lips_error(motion.fit_regressor(clips[:30], steps=25), clips[31]) < 0.9
    part = {name: getattr(clips[0], name)[:40] for name in ("mel", "fixed", "visible", "spoken")}
    motion.fit_regressor([clips[0]._replace(**part)], steps=2)  # shorter than a stretch


def test_the_regressor_goes_on_from_its_folder_or_from_other_weights(clips, tmp_path):
    first = motion.fit_regressor(clips[:4], steps=3, folder=tmp_path)
    for again in (motion.fit_regressor(clips[:4], steps=3, folder=tmp_path), motion.LipNet.from_pretrained(tmp_path)):
        assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values()))
    with pytest.raises(TrainingError, match="steps is 3, not 4"):
        motion.fit_regressor(clips[:4], steps=4, folder=tmp_path)
    further = motion.fit_regressor(clips[4:8], steps=1, init=tmp_path)
    assert torch.equal(further.components, first.components)  # its codes keep their meaning
    moved = (further.net[0].weight - first.net[0].weight).abs().max()
    assert 0 < moved < 0.003
    motion.fit_ridge(clips[:4]).save_pretrained(tmp_path / "ridge")
    with pytest.raises(TrainingError, match="net.0.weight is"):
        motion.fit_regressor(clips[:4], steps=1, init=tmp_path / "ridge")


def test_a_loud_microphone_changes_nothing(clips):
    net = motion.fit_ridge(clips[:4])
    louder = clips[5].mel + np.linspace(1, 3, 80, dtype=np.float32)
    np.testing.assert_allclose(net.predict(louder), net.predict(clips[5].mel), atol=1e-5)


def test_a_network_saved_and_loaded_says_the_same(clips, tmp_path):
    net = motion.fit_ridge(clips[:4])
    net.save_pretrained(tmp_path)
    again = motion.LipNet.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again.predict(clips[5].mel), net.predict(clips[5].mel))


def test_retrieval_gives_back_footage_that_it_holds_and_never_a_hidden_frame(clips):
    f = clips[0]
    found = Retrieval(clips, near=10).predict(f.mel)
    np.testing.assert_allclose(found, f.motion * motion.mouth_mask()[:, None], atol=1e-6)
    hidden = f._replace(visible=np.arange(75) < 40, spoken=np.arange(75) < 40)
    found = Retrieval([hidden], near=10).predict(f.mel)
    shown = hidden.motion[:40] * motion.mouth_mask()[:, None]
    distance = np.abs(found[:, None, LIPS] - shown[None, :, LIPS]).max((2, 3))
    assert distance.min(1).max() < 1e-6


def test_between_lands_on_both_borders_and_follows_the_model_in_the_middle():
    n, rng = 30, np.random.default_rng(0)
    rest, said = neutral(), rng.normal(0, 0.02, (n + 2, 478, 3)).astype(np.float32)
    left, right = (rest + rng.normal(0, 0.05, rest.shape).astype(np.float32) for _ in "lr")
    fixed = motion.between(said, rest=rest, left=left, right=right)
    mouth = motion.mouth_mask() == 1
    # Had the model been right at the borders, its word would stand unchanged.
    exact = said.copy()
    exact[0], exact[-1] = left - rest, right - rest
    agreed = motion.between(exact, rest=rest, left=left, right=right)
    np.testing.assert_allclose(agreed[:, mouth], (rest + exact[1:-1])[:, mouth], atol=1e-5)
    np.testing.assert_allclose(fixed[15][mouth], (rest + said[16])[mouth], atol=0.005)
    # Above the nose: the straight line between the borders, whatever the model says.
    still = motion.mouth_mask() == 0
    line = left + (np.arange(1, n + 1) / (n + 1))[:, None, None] * (right - left)
    np.testing.assert_allclose(fixed[:, still], line[:, still], atol=1e-6)


def test_between_crosses_a_border_no_faster_than_it_may():
    n, rest = 40, neutral()
    said = np.zeros((n + 2, 478, 3), np.float32)
    said[1:-1] = 0.08 * motion.mouth_mask()[:, None]  # a jump at both borders

    def steps(pace):
        fixed = motion.between(said, rest=rest, left=rest, right=rest, pace=pace)
        return fixed, np.linalg.norm(np.diff([rest, *fixed, rest], axis=0)[:, LIPS], axis=-1).mean(1)

    free, far = steps(np.inf)
    slow, near = steps(0.03)
    assert far[[0, -1]] == pytest.approx(0.08 * 3**0.5, rel=1e-3)
    assert near[[0, -1]] == pytest.approx(0.03, rel=0.02)
    assert near.max() < 0.033  # and not a frame later
    np.testing.assert_allclose(slow[18:22], free[18:22], atol=1e-3)
    np.testing.assert_array_equal(steps(0.2)[0], free)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_between_takes_short_edits_and_one_sided_ones(n):
    said, rest = np.zeros((n + 2, 478, 3), np.float32), neutral()
    assert motion.between(said, rest=rest, left=rest, right=rest, pace=0.1).shape == (n, 478, 3)
    np.testing.assert_allclose(
        motion.between(said, rest=rest, left=None, right=rest), np.repeat(rest[None], n, 0), atol=1e-6
    )
    with pytest.raises(EditError, match="keep at least one real frame"):
        motion.between(said, rest=rest, left=None, right=None)


def test_heads_turn_the_short_way_and_reach_both_ends():
    points = np.repeat(neutral()[None] * 50 + 100, 2, 0)
    angle = np.radians(30)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    points[1] = (neutral() @ turn.T) * 100 + [180, 120, 0]
    head = Head.fit(points.astype(np.float32))
    path = motion.heads_between(head, left=0, right=1, n=3)
    yaw = np.degrees(np.arctan2(path.rotation[:, 0, 2], path.rotation[:, 2, 2]))
    np.testing.assert_allclose(yaw, [7.5, 15, 22.5], atol=1e-3)
    np.testing.assert_allclose(path.scale, 50 * 2 ** np.array([0.25, 0.5, 0.75]), rtol=1e-4)
    alone = motion.heads_between(head, left=-1, right=1, n=2)
    np.testing.assert_allclose(alone.scale, [100, 100], rtol=1e-4)


def test_mean_shape_is_free_of_place_size_and_turn():
    rng = np.random.default_rng(0)
    face = neutral() + rng.normal(0, 0.01, (478, 3))
    points = np.stack([face * s + [x, 50, 0] for s, x in ((40, 10), (55, 90), (70, 40))]).astype(np.float32)
    np.testing.assert_allclose(mean_shape(points), mean_shape(points[::-1] * 2 + 7), atol=1e-5)
    assert np.linalg.norm(mean_shape(points)[263] - mean_shape(points)[33]) == pytest.approx(1, abs=1e-6)
