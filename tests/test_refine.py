"""Repair of mouths: what is pasted and where, what the networks see, the switches, and that training learns."""

import cv2
import numpy as np
import pytest
import torch
from test_frames import SIZE, _points, _still

from thlib.editing import refine
from thlib.editing.refine import Crops, Lessons, MouthNet, Repair, detail, fit_mouth, heard, repaired
from thlib.errors import EditError
from thlib.landmarks import OVAL
from thlib.presenter.corpus import PresenterCorpus
from thlib.speech import log_mel
from thlib.training import Settings

N = 7


class Says(torch.nn.Module):
    """Stands in for a network: the same residual everywhere; it notes what it was shown."""

    def __init__(self, value: float, unit: float = 0.1):
        super().__init__()
        self.value, self.seen, self.unit = value, [], torch.tensor([unit, 0.2])

    def forward(self, pictures, sound, level):
        self.seen.append((pictures, level))
        return torch.full((len(pictures), 3, *pictures.shape[2:]), self.value)


@pytest.fixture(scope="module")
def crops():
    target = np.stack([_points(0.05 + 0.02 * k) for k in range(N)])
    library = [_still(0.2)[0]], _points(0.2)[None]
    sound = np.zeros((N, 720), np.float32)
    return Crops.of(_still(0.05), _still(0.15), target=target, sound=sound, library=library)


@pytest.fixture(scope="module")
def performance():
    return PresenterCorpus("train", n=1).performance(0)


@pytest.fixture(scope="module")
def lessons(performance):
    mel = log_mel(performance.speech.audio, 25, len(performance.clip.frames))
    return [Lessons.of(performance.clip, performance.track, mel, seed=k) for k in range(3)]


def test_nothing_added_changes_nothing(crops):
    np.testing.assert_array_equal(crops.pasted(np.zeros((N, 80, 96, 3), np.float32)), crops.frames)


def test_a_residual_is_added_inside_the_box_and_fades_towards_its_edge_and_real_frames(crops):
    dark = crops._replace(frames=np.full_like(crops.frames, 100))
    added = dark.pasted(np.full((N, 80, 96, 3), 40, np.float32))[..., 0].astype(int) - 100
    assert added.shape == (N, *SIZE)
    centre = [added[k][tuple(np.int32(_points(0.05 + 0.02 * k)[14, 1::-1]))] for k in range(N)]
    assert centre == [10, 20, 30, 40, 30, 20, 10]
    for k, (x0, y0, x1, y1) in enumerate(crops.boxes):
        assert added[k, y0:y1, x0:x1].any()
        assert added[k, y0:y1, [x0, x1 - 1]].max() <= 40 / 16 + 0.5
        outside = cv2.fillPoly(np.ones(SIZE), [np.int32(_points(0.05 + 0.02 * k)[OVAL, :2])], 0) > 0
        assert added[k][outside].max() <= 40 / 8 + 1
        added[k, y0:y1, x0:x1] = 0
    assert not added.any()
    one_sided = dark.pasted(np.full((N, 80, 96, 3), 40, np.float32), both=(True, False))[..., 0].astype(int) - 100
    assert one_sided.max((1, 2)).tolist() == [10, 20, 30, 40, 40, 40, 40]


def test_the_box_reaches_from_nose_to_chin():
    (box,) = refine._boxes(_points(0.2)[None])
    for k in (4, 61, 291, 152):
        assert (box[:2] < _points(0.2)[k, :2]).all()
        assert (_points(0.2)[k, :2] < box[2:]).all()


def test_faces_of_gridlike_size_are_cut_pixel_by_pixel(crops):
    for k, (x0, y0, x1, y1) in enumerate(crops.boxes):
        assert (x1 - x0, y1 - y0) == (96, 80)
        np.testing.assert_array_equal(crops.pictures[k, ..., 3:6], crops.frames[k, y0:y1, x0:x1])


def test_larger_faces_are_shrunk_and_mouths_at_the_edge_of_the_picture_are_cut_too():
    target = np.stack([_points(0.1)] * 2) * [3, 3, 3]
    still = np.kron(_still(0.1)[0], np.ones((3, 3, 1), np.uint8)), target[0]
    sound = np.zeros((2, 720), np.float32)
    large = Crops.of(still, still, target=target, sound=sound, library=None)
    assert large.pictures.shape == (2, 80, 96, 9)
    assert large.boxes[0, 2] - large.boxes[0, 0] == pytest.approx(96 * 3 * 56 / 50, abs=2)
    added = large.pasted(np.full((2, 80, 96, 3), 50, np.float32), both=(False, False)).astype(int) - large.frames
    assert added.max() == pytest.approx(50, abs=2)
    low = still[0][: int(target[0, 152, 1]) - 20], target[0]
    cut = Crops.of(low, low, target=target, sound=sound, library=None)
    assert cut.pasted(np.zeros((2, 80, 96, 3), np.float32)).shape == (2, *low[0].shape)


def test_the_landmark_image_shows_the_frames_before_and_after(crops):
    drawn = crops.pictures[..., 6:]
    np.testing.assert_array_equal(drawn[1:, ..., 0], drawn[:-1, ..., 1])
    np.testing.assert_array_equal(drawn[:-1, ..., 2], drawn[1:, ..., 1])
    opened = (np.abs(drawn[..., 1].astype(int) - 110) < 3).sum((1, 2))  # the inner mouth is filled
    assert (np.diff(opened) > 0).all()


@pytest.mark.parametrize(("refine_", "grey"), [("predict", 12.75), ("predict_diffuse", 12.75 + 0.1 * 127.5 * 0.5)])
def test_predict_and_refine_add_up(crops, refine_, grey, monkeypatch):
    monkeypatch.setattr(refine, "SHARPENED", 0)
    nets = {"predictor": Says(0.1, unit=1.0), "refiner": Says(0.5)}
    out = repaired(nets, crops, Repair(refine_, steps=2))
    assert out.shape == (N, 80, 96, 3)
    np.testing.assert_allclose(out, grey, atol=0.06)
    assert len(nets["refiner"].seen) == 2 * (refine_ != "predict")


@pytest.mark.parametrize("samples", [1, 4])
def test_a_sample_is_sharpened_and_a_mean_the_less(crops, samples):
    nets = {"predictor": Says(0.0), "refiner": Says(0.0)}
    out = repaired(nets, crops, Repair(steps=1, samples=samples))
    mouths = torch.from_numpy(crops.pictures[..., 3:6]).permute(0, 3, 1, 2).float()
    np.testing.assert_allclose(out, 0.4 / samples * detail(mouths).permute(0, 2, 3, 1), atol=1e-3)


def test_the_papers_way_starts_from_the_warped_frames(crops):
    nets = {"refiner": Says(0.5)}
    out = repaired(nets, crops, Repair("diffuse", steps=2))
    warped, mouths = crops.pictures[..., :3].astype(float), crops.pictures[..., 3:6]
    np.testing.assert_allclose(out, warped + 0.2 * 127.5 * 0.5 - mouths, atol=0.06)


def test_diffusion_begins_where_it_is_told_with_noise_of_that_level(crops):
    nets = {"predictor": Says(0.0), "refiner": Says(0.0)}
    repaired(nets, crops, Repair(steps=4, begin=500), seed=3)
    pictures, level = nets["refiner"].seen[0]
    assert level[0] == 499
    assert pictures[:, -3:].std() == pytest.approx(float((1 - refine.schedule().alphas_cumprod[499]).sqrt()), rel=0.02)
    assert torch.equal(pictures[0, -3:], pictures[1, -3:])  # all frames share their noise


def test_the_same_seed_gives_the_same_picture(crops):
    torch.manual_seed(0)
    nets = {"predictor": MouthNet((16, 16, 16)).eval(), "refiner": MouthNet((16, 16, 16), inputs=5).eval()}
    assert not repaired(nets, crops, Repair("predict")).any()  # untrained, it adds nothing
    for net in nets.values():
        torch.nn.init.normal_(net.unet.conv_out.weight, std=0.05)
    one, again, other = (repaired(nets, crops, Repair(steps=2), seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.5


def test_detail_is_what_a_blur_takes_away():
    smooth = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    assert detail(smooth)[..., 8:-8].abs().max() < 1e-5
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 2.0 - 1
    assert torch.allclose(detail(board.expand(1, 1, 64, 64)), board, atol=1e-3)


def test_unshuffled_pixels_become_channels_and_come_back():
    net = MouthNet((16, 16, 16))
    net.unet.forward = lambda x, level, class_labels: type("Out", (), {"sample": x[:, :48]})
    x = torch.randn(2, 9, 80, 96)
    same = torch.nn.functional.pixel_unshuffle(x, 4)[:, :48]
    torch.testing.assert_close(net(x, torch.zeros(2, 720), torch.zeros(2)), torch.nn.functional.pixel_shuffle(same, 4))


def test_unknown_ways_are_refused():
    with pytest.raises(EditError, match="refine='magic' is unknown; take predict_diffuse"):
        Repair("magic")
    with pytest.raises(EditError, match="reference='mine' is unknown; take nearest, border"):
        Repair(reference="mine")
    with pytest.raises(EditError, match="order='sideways' is unknown; take warp_blend, interpolate_warp"):
        Repair(order="sideways")


# --- training ---------------------------------------------------------------------------------------------------------
def test_lessons_know_their_truth(performance, lessons):
    for lesson in lessons:
        n = len(lesson.truth)
        assert 8 <= n <= 40
        assert lesson.pictures.shape == (n, 80, 96, 9)
        assert lesson.truth.shape == (n, 80, 96, 3)
    near = np.abs(lessons[0].pictures[..., 3:6].astype(int) - lessons[0].truth).mean()
    assert 0 < near < 12  # the warped frames are nearly right
    again = Lessons.of(performance.clip, performance.track, np.zeros((len(performance.track.points), 80)), seed=0)
    np.testing.assert_array_equal(again.pictures, lessons[0].pictures)


def test_lessons_warp_to_the_truth_or_to_what_a_model_might_say(lessons):
    kinds = [np.abs(k.pictures[..., 7].astype(int)[1:-1]).mean() for k in lessons]
    assert len(set(kinds)) == 3


def test_training_predicts_and_refines(lessons, tmp_path):
    settings = Settings(60, lr=1e-3, ema=0)
    predictor = fit_mouth(lessons[:1], settings, folder=tmp_path / "predictor")
    pictures, truth = lessons[0].pictures, lessons[0].truth
    empty = Crops(truth, np.zeros((len(truth), 4), int), pictures, np.ones(1), lessons[0].sound)
    extra = repaired({"predictor": predictor}, empty, Repair("predict"))
    before, after = (
        np.square(a.astype(float) - truth).mean() for a in (pictures[..., 3:6], pictures[..., 3:6] + extra)
    )
    assert after < 0.93 * before
    refiner = fit_mouth(lessons[:1], Settings(3, ema=0), predictor=predictor, folder=tmp_path / "refiner")
    assert 0 < refiner.unit[0] < refiner.unit[1] < 1  # the predictor leaves less than the warp does
    again = MouthNet.from_pretrained(tmp_path / "refiner")
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), refiner.state_dict().values()))


def test_sound_is_heard_around_each_frame():
    mel = np.random.default_rng(0).normal(size=(20, 80))
    out = heard(mel)
    assert out.shape == (20, 720)
    np.testing.assert_allclose(out[10].reshape(80, 9)[:, 4], (mel[10] - mel.mean(0)) / 3, rtol=1e-5)
