"""In-context diffusion of lips: mask algebra, the gate, its ablations, and that it learns sound and context."""

import copy

import fit_motion
import numpy as np
import pytest
import torch
from conftest import require
from test_motion import made_up

from thlib.editing import context, motion
from thlib.editing.context import MotionDiffusion, borders, fit_diffusion
from thlib.footage import Footage
from thlib.landmarks import LIPS
from thlib.training import Settings


def moody(seed: int) -> Footage:
    """A made-up clip whose lips also drift as no sound tells: what is left to chance, and what context can say.
    Neighbouring bands hear the same, as in speech, so that a throat a little longer makes no other lips."""
    f = made_up(seed)
    f.mel[:, 4:17], f.mel[:, 30:51] = f.mel[:, [10]], f.mel[:, [40]]
    drift = np.cumsum(np.random.default_rng(seed).normal(0, 1, len(f.mel))) / 3
    return f._replace(fixed=f.fixed + 0.2 * (drift - drift.mean())[:, None, None] * (made_up(1).motion[40]))


@pytest.fixture(scope="module")
def clips():
    torch.set_num_threads(1)
    return [moody(seed) for seed in range(32)]


@pytest.fixture(scope="module")
def trained(clips):
    """A small network after a minute's worth of steps."""
    torch.manual_seed(0)
    net = MotionDiffusion(width=64, layers=2, basis=4)
    return fit_diffusion(clips[:28], Settings(300, lr=4e-3, ema=0.98), net=net)


def window(f, first: int, stop: int):
    """(mel, motion with a hole, edit) of a clip of which frames [first, stop) are to be made."""
    edit = (np.arange(len(f.mel)) >= first) & (np.arange(len(f.mel)) < stop)
    return f.mel, np.where(edit[:, None, None], np.nan, f.motion), edit


def net_with(clips, **config) -> MotionDiffusion:
    torch.manual_seed(1)
    return motion.with_basis(MotionDiffusion(width=32, layers=1, basis=4, **config), clips[:4]).eval()


def lips_off(made, f, edit):
    return np.abs(made - f.motion)[edit][:, LIPS].mean() / np.abs(f.motion[edit][:, LIPS]).mean()


def lips_apart(a, b):
    return np.linalg.norm(a - b, axis=-1)[..., LIPS].mean()


@pytest.mark.parametrize(("first", "stop"), [(20, 50), (40, 41), (0, 30), (45, 75), (0, 75)])
def test_context_comes_out_as_the_basis_holds_it(clips, first, stop):
    net, f = net_with(clips), clips[5]
    mel, real, edit = window(f, first, stop)
    real[3] = np.nan  # a frame without a face
    made = net.motion(mel, real, edit=edit, samples=2, seed=3)
    assert made.shape == (2, 75, 478, 3)
    held = motion.decode(net, torch.from_numpy(motion.encode(net, f.motion)))
    stays = ~edit & (np.arange(75) != 3)
    np.testing.assert_allclose(made[:, stays], np.broadcast_to(held[stays], made[:, stays].shape), atol=1e-6)
    assert np.isfinite(made[:, edit]).all()
    assert np.isnan(made[:, 3]).all() == (not edit[3])


def test_phones_are_heard_and_may_be_left_out(clips):
    net, (mel, real, edit) = net_with(clips), window(clips[5], 20, 50)
    said = np.zeros((75, 39), np.float32)
    plain, unknown = (net.motion(sound, real, edit=edit) for sound in (mel, np.concatenate([mel, said], 1)))
    np.testing.assert_array_equal(plain, unknown)
    said[30:40, 6] = 1
    other = net.motion(np.concatenate([mel, said], 1), real, edit=edit)
    assert np.abs(other - plain)[0, edit].max() > 0
    np.testing.assert_array_equal(other[0, ~edit], plain[0, ~edit])


def test_the_same_seed_gives_the_same_motion_and_another_another(clips):
    net, (mel, real, edit) = net_with(clips), window(clips[5], 20, 50)
    a, b, c = (net.motion(mel, real, edit=edit, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c)[:, edit].max() > 1e-5


@pytest.mark.parametrize(("first", "stop", "beside"), [(20, 50, [20, 49]), (0, 30, [29]), (45, 75, [45])])
def test_samples_agree_beside_real_motion_and_differ_elsewhere(trained, clips, monkeypatch, first, stop, beside):
    mel, real, edit = window(clips[30], first, stop)
    monkeypatch.setattr(context, "sample", lambda _, noise: noise)  # which noise a sample starts from
    noise = motion.encode(trained, trained.motion(mel, real, edit=edit, samples=64)[:, edit].reshape(-1, 478, 3))
    size = (noise.reshape(64, stop - first, -1).std(0) / trained.unit.numpy()).mean(1)
    quiet = np.isin(np.arange(first, stop), beside)
    assert size[quiet] == pytest.approx(1 - np.exp(-0.5), abs=0.1)
    assert size[15] == pytest.approx(1, abs=0.15)
    assert size[np.isin(np.arange(first, stop), [0, 74])] == pytest.approx(1, abs=0.15)  # an end of the video


@pytest.mark.parametrize("weights", ["dynamic", "fixed_exp", "uniform"])
def test_gates_sum_to_one_and_mirror_in_time(clips, weights):
    net = net_with(clips, weights=weights)
    for tensor in net.gate[-1].parameters():
        torch.nn.init.normal_(tensor, std=0.5)
    edit = torch.zeros(1, 40, dtype=torch.bool)
    edit[:, 9:31] = True
    level, noisy, both = torch.randn(1, 1, 32), torch.randn(1, 40, 4), [torch.tensor([True])] * 2
    gates = net.gates(edit, level, noisy, both)
    torch.testing.assert_close(gates.sum(-1), torch.ones(1, 40))
    mirrored = net.gates(edit.flip(1), level, noisy.flip(1), both).flip(1)
    torch.testing.assert_close(mirrored[..., [1, 0, 2]], gates)
    if weights == "uniform":
        torch.testing.assert_close(gates, torch.full_like(gates, 1 / 3))
    if weights == "fixed_exp":  # a border's own frame trusts it, four frames further less by e
        left, sound = ((gates[0, 9, k] / gates[0, 13, k]).item() for k in (0, 2))
        share = (1 - np.exp(-1 / 4) - np.exp(-22 / 4)) / (1 - np.exp(-5 / 4) - np.exp(-18 / 4))
        np.testing.assert_allclose(left / sound, np.e / share, rtol=1e-5)
    alone = net.gates(edit, level, noisy, [torch.tensor([True]), torch.tensor([False])])
    assert alone[..., 1].max() == 0


def test_borders_count_frames_from_the_real_ones():
    edit = torch.tensor([[False, False, True, True, True, False]])
    left, right = borders(edit)
    assert left[0].tolist() == [-1, 0, 1, 2, 3, 4]
    assert right[0].tolist() == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("which", "left", "right"), [("both", True, True), ("left", True, False), ("none", False, False)]
)
def test_context_that_is_switched_off_is_not_seen(clips, which, left, right):
    net, f = net_with(clips, context=which), clips[5]
    mel, real, edit = window(f, 30, 50)
    plain = net.motion(mel, real, edit=edit)[0, edit]
    for side, seen in ((slice(0, 30), left), (slice(50, 75), right)):
        other = real.copy()
        other[side] *= -2
        changed = np.abs(net.motion(mel, other, edit=edit)[0, edit] - plain).max()
        assert (changed > 1e-5) == seen, (which, side)


def test_trust_leads_from_what_is_heard_to_what_real_motion_tells(trained, clips):
    """0: what sound alone says, whatever the lips beside the edit do; between, as far as it says; noise is so small."""
    mel, real, edit = window(clips[30], 25, 50)
    made = {t: trained.motion(mel, real, edit=edit, samples=2, trust=t)[:, edit] for t in (0.0, 0.5, 1.0)}
    told = trained.heard(mel)[edit]
    np.testing.assert_allclose(made[0.0], np.stack([told, told]), atol=1e-5)
    np.testing.assert_allclose(trained.motion(mel, -2 * real, edit=edit, trust=0.0)[0, edit], told, atol=1e-5)
    assert 0.3 < lips_apart(made[0.5], told) / lips_apart(made[1.0], told) < 0.7
    assert lips_apart(*made[0.5]) < 0.4 * lips_apart(*made[1.0])  # halved twice: by the mean, and as noise
    doubtful = copy.deepcopy(trained)
    doubtful.trust.fill_(0.5)
    np.testing.assert_array_equal(doubtful.motion(mel, real, edit=edit, samples=2)[:, edit], made[0.5])


def test_guidance_leads_away_from_the_deaf_answer(trained, clips):
    """0: nothing is heard; the larger it is, the farther from that."""
    (mel, real, edit), made = window(clips[30], 25, 50), {}
    try:
        for trained.guidance in (0.0, 0.5, 1.0, 2.0):
            made[trained.guidance] = trained.motion(mel, real, edit=edit)[:, edit]
        trained.guidance = 0.0
        np.testing.assert_allclose(trained.motion(mel[::-1].copy(), real, edit=edit)[:, edit], made[0.0], atol=1e-6)
    finally:
        trained.guidance = 1.0
    away = [lips_apart(made[scale], made[0.0]) for scale in (0.5, 1.0, 2.0)]
    assert 0 < 1.05 * away[0] < 1.1 * away[1] < away[2]


def test_a_gpu_says_what_a_cpu_says(trained, clips):
    """The same seed, the same motion; and a training there stays finite."""
    require("cuda", torch.cuda.is_available(), "this machine has no GPU that torch knows")
    mel, real, edit = window(clips[30], 25, 50)
    here = trained.motion(mel, real, edit=edit, samples=2), trained.heard(mel)
    there = copy.deepcopy(trained).to("cuda")
    np.testing.assert_allclose(there.motion(mel, real, edit=edit, samples=2), here[0], atol=1e-3)
    np.testing.assert_allclose(there.heard(mel), here[1], atol=1e-3)
    net = fit_diffusion(
        clips[:8], Settings(60, lr=4e-3, precision="bf16", device="cuda"), net=MotionDiffusion(48, 1, 12)
    )
    assert net.device.type == "cuda"
    assert all(weight.isfinite().all() for weight in net.parameters())


def test_a_long_window_is_seen_through_the_same_reach(clips):
    """Attention is local: what lies REACH frames and more beyond all layers' sight changes nothing."""
    net, f = net_with(clips, context="none"), made_up(40, frames=300)
    mel, real, edit = window(f, 100, 110)
    far = mel.copy()
    far[250:] += np.random.default_rng(0).normal(0, 3, (50, 80))
    far[250:] += (mel - far).sum(0) / 50  # the clip's mean stays
    near = net.motion(mel, real, edit=edit)[0, edit]
    np.testing.assert_allclose(net.motion(far, real, edit=edit)[0, edit], near, atol=1e-5)


def test_it_learns_the_sound_and_the_context(trained, clips):
    f = clips[30]
    mel, real, edit = window(f, 25, 50)
    made = trained.motion(mel, real, edit=edit, samples=8, seed=0)
    off = lips_off(made.mean(0), f, edit)
    assert off < 0.8
    deaf = trained.motion(mel[::-1].copy(), real, edit=edit, samples=8, seed=0).mean(0)
    assert lips_off(deaf, f, edit) > 1.2 * off
    bump = made_up(1).motion[40]
    moved = trained.motion(mel, real + bump, edit=edit, samples=8, seed=0).mean(0) - made.mean(0)
    follows = (moved[edit][:, LIPS] * bump[LIPS]).sum((1, 2)) / (bump[LIPS] ** 2).sum()
    # Frames at the borders go with the real ones beside them, more than those in the middle.
    assert follows[[0, -1]].mean() > max(0.05, 1.5 * follows[8:-8].mean()), follows


def test_stretches_rest_where_the_lips_rest_beside_the_edit(clips):
    """As in an edit, whose own frames are not known. Codes all higher are the same stretch; silence does not count."""
    rows, rng = context._series(net_with(clips), clips[3]), np.random.default_rng
    rows = np.pad(rows, ((0, 40), (0, 0)), mode="edge")
    at, codes, same = np.arange(len(rows)), slice(-4, None), np.full(4, 1e-9)  # people who do not drift
    for seed in range(20):
        plain, moved = rows.copy(), rows.copy()
        moved[:, codes] += 5
        a, b = (context._stretch(rng(seed), [[r], [r]], np.zeros(4), same) for r in (plain, moved))
        np.testing.assert_allclose(a[1], b[1], atol=1e-4)
        plain[:, codes] = 0
        silent = plain.copy()
        silent[at % 2 == 0, 0], silent[at % 2 == 0, codes] = 0, -9  # frames without speech do not count
        quiet = context._stretch(rng(seed), [[silent], [silent]], np.zeros(4), same)[1].numpy()
        assert quiet.max() < 1e-5


def test_what_a_sound_differs_from_itself_stays_beside_the_edit(clips, monkeypatch):
    """Real motion beside an edit varies from token to token; in the edit that is gone within a few frames."""
    rows, still, same = [np.zeros((80, 1 + 119 + 4), np.float32)], np.zeros(4), np.ones(4)
    monkeypatch.setattr(context, "GAIN", 0)
    monkeypatch.setattr(context, "DRIFT", 0)
    sizes = {"real": [], "first": [], "fourth": [], "eighth": []}
    for seed in range(200):
        _, clean, _, edit = context._stretch(np.random.default_rng(seed), [rows, rows], still, same)
        if edit.sum() < 20:
            continue
        first = int(edit.float().argmax())
        for name, k in (("real", first - 1), ("first", first), ("fourth", first + 3), ("eighth", first + 7)):
            sizes[name].append(float(clean[k].square().mean()))
    real, first, fourth, eighth = (np.sqrt(np.mean(of)) for of in sizes.values())
    assert abs(real - context.TOKENS) < 0.15
    assert 0.55 < first / real < 0.66
    assert fourth / real < 0.2
    assert eighth / real < 0.03


def test_stretches_withhold_sound_and_context_as_often_as_they_should(clips):
    net = net_with(clips)
    rows = [context._series(net, f) for f in clips[:4]]
    rng = np.random.default_rng(0)
    drawn = [context._stretch(rng, [rows, rows], np.zeros(4), np.ones(4)) for _ in range(2000)]
    deaf = np.mean([bool(mel.isnan().all()) for mel, *_ in drawn])
    edits = np.array([edit.sum() for *_, edit in drawn])
    lonely = np.mean([bool(given.isnan().all()) for _, _, given, _ in drawn])
    sides = [(given[: int(edit.float().argmax())].isnan().all(), given[-1].isnan().all()) for *_, given, edit in drawn]
    one_sided = np.mean([bool(left) != bool(right) for left, right in sides])
    assert abs(deaf - 0.1) < 0.03
    assert abs(lonely - 0.1) < 0.03
    assert abs(one_sided - 0.1) < 0.03
    assert (edits.min(), edits.max()) == (8, context.LONGEST)
    assert all(given[edit].isnan().all() for _, _, given, edit in drawn)
    assert all(torch.equal(given[~given.isnan()], clean[~given.isnan()]) for _, clean, given, _ in drawn)
    phones = [np.concatenate([row[:, :80], np.full((len(row), 39), 1 / 39), row[:, 119:]], 1) for row in rows]
    for others, share in ((phones, 0.3), ([], 0)):
        told = [context._stretch(rng, [phones, others], np.zeros(4), np.ones(4))[0] for _ in range(600)]
        mute = np.array([not sound[:, :80].any() for sound in told])
        assert abs(mute.mean() - share) < 0.06
        assert np.mean([bool(sound[:, 80:].any()) for sound in told]) > 0.8
    sizes = [float(clean.std(0).mean()) for _, clean, *_ in drawn]
    assert np.percentile(sizes, 95) > 1.5 * np.percentile(sizes, 5)  # people move more and less


def test_weights_of_eight_bits_say_what_whole_ones_said(trained, clips, tmp_path):
    """The fitting tool's last step: rounded by training, matrices are nearer to what they said than simply rounded."""
    net, simple = copy.deepcopy(trained), copy.deepcopy(trained)
    with torch.no_grad():
        for weight in simple.parameters():
            weight.copy_(weight.to(torch.float8_e4m3fn) if weight.ndim > 1 else weight)
    quick = Settings(60, lr=3e-4, weight_decay=0, ema=0.9)
    fit_motion.rounded(net, lambda net: fit_diffusion(clips[:28], quick, net=net))
    fit_motion.save(net, tmp_path / "diffusion")
    again = MotionDiffusion.from_pretrained(tmp_path / "diffusion").float().eval()
    assert all(torch.equal(w, again.get_parameter(name)) for name, w in net.named_parameters() if w.ndim > 1)
    off = {"simple": [], "taught": []}
    for clip in clips[28:]:
        mel, real, edit = window(clip, 20, 40)
        whole = trained.motion(mel, real, edit=edit)
        for name, one in (("simple", simple), ("taught", again)):
            off[name].append(100 * np.abs(one.motion(mel, real, edit=edit) - whole)[:, edit][:, :, LIPS].mean())
    assert np.mean(off["taught"]) < 0.8 * np.mean(off["simple"])
    assert np.mean(off["taught"]) < 0.1


def test_what_is_heard_is_what_samples_without_context_mean(trained, clips):
    """In one pass, and the same each time."""
    f = clips[29]
    blank, everything = np.full_like(f.motion, np.nan), np.ones(len(f.mel), bool)
    made = trained.motion(f.mel, blank, edit=everything, samples=16)[:, :, LIPS]
    trained.train()  # as after training; what is heard has no dropout in it
    told = trained.heard(f.mel)
    assert told.shape == (75, 478, 3)
    assert np.array_equal(told, trained.heard(f.mel))
    assert np.abs(told[:, LIPS] - made.mean(0)).mean() < 0.25 * np.abs(made.mean(0)).mean()
    assert np.abs(trained.heard(clips[30].mel) - told)[:, LIPS].mean() > 0.3 * np.abs(told[:, LIPS]).mean()
