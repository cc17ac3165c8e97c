"""Reenactment: landmarks carried over, the closed form of scale, the portrait's picture, what is written."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from thlib import clip, provenance
from thlib.errors import DataError, FaceError, MediaError
from thlib.landmarks import BLENDSHAPES, RIGID, FaceTrack, Head, face_scale, head_angles, head_fixed, mouth_opening
from thlib.ostnet import MODES, OSTNetPipeline, portrait, render, retarget
from thlib.ostnet.pipeline import TURN, closed_form
from thlib.presenter.face import displacement, model, shape

FPS = Fraction(25)
OTHER = np.resize([1.0, -1.0, 0.5], len(model().deviations))  # somebody else


def acted(controls, *, identity=None, scale=80.0, at=(150.0, 160.0, 0.0), turns=(0.0,)) -> FaceTrack:
    """A face with known controls (T, 52), turned about the vertical by `turns` degrees, as a track."""
    face = shape(0 * OTHER if identity is None else identity)
    turn = Rotation.from_euler("y", np.broadcast_to(turns, len(controls))[:, None], degrees=True).as_matrix()
    head = Head(turn, np.full(len(controls), scale), np.tile(np.array(at), (len(controls), 1)))
    points = head.unfix(face + displacement(controls))
    return FaceTrack(points, np.ones(len(points), bool), (300, 300), FPS, controls.astype(np.float32), head.matrix)


def speaking(frames=20, **options) -> FaceTrack:
    """A driver who opens the mouth and blinks."""
    controls = np.zeros((frames, 52), np.float32)
    controls[:, BLENDSHAPES.index("jawOpen")] = 0.5 - 0.5 * np.cos(np.arange(frames))
    controls[:, BLENDSHAPES.index("eyeBlinkLeft")] = 0.5 + 0.5 * np.sin(np.arange(frames))
    return acted(controls, **options)


@pytest.fixture(scope="module")
def still() -> FaceTrack:
    return acted(np.zeros((1, 52)), identity=OTHER, scale=60.0, at=(100.0, 120.0, 0.0))


def scaled(track: FaceTrack, alpha: float) -> FaceTrack:
    return replace(track, points=track.points * np.float32(alpha))


@pytest.mark.parametrize("alpha", [0.31, 0.6, 1.0, 1.4, 3.7])
def test_the_closed_form_is_exact_on_a_scaled_and_moved_copy(alpha, still):
    points = still.points[0].astype(float)
    assert closed_form((alpha * points + [5, -7, 2])[None], points) == pytest.approx(alpha, rel=1e-12)


def test_the_closed_form_takes_neither_an_open_mouth_nor_a_turn_for_size(still):
    driver = speaking(turns=np.linspace(-30, 30, 20))
    alpha = closed_form(driver.points, still.points[0])
    flat = driver.points[:, RIGID, :2] - driver.points[:, RIGID, :2].mean(1, keepdims=True)
    assert np.ptp(np.log(alpha)) < 1e-3 < np.ptp(np.log((flat**2).sum((1, 2)))) / 2  # in two dimensions a turn counts


@pytest.mark.parametrize("mode", ["closed_form", "classic", "relative", "best_frame"])
@pytest.mark.parametrize("alpha", [0.6, 1.4])
def test_a_rescaled_driver_gives_the_same_landmarks(mode, alpha, still):
    driver = speaking()
    assert np.abs(retarget(still, scaled(driver, alpha), mode=mode) - retarget(still, driver, mode=mode)).max() < 0.02


def test_absolute_takes_over_the_size_of_the_driver(still):
    driver = speaking()
    assert np.allclose(face_scale(retarget(still, driver, mode="absolute")), face_scale(driver.points))


@pytest.mark.parametrize("mode", ["closed_form", "classic"])
def test_the_face_keeps_the_size_of_the_portrait(mode, still):
    size = face_scale(retarget(still, speaking(), mode=mode))
    assert np.abs(np.log(size / face_scale(still.points))).max() < 0.02


def test_a_portrait_that_drives_itself_stays_as_it_is(still):
    for mode in MODES:
        assert np.abs(retarget(still, still, mode=mode) - still.points).max() < 0.01, mode


def test_classic_carries_expression_over_and_leaves_the_shape(still):
    driver = speaking()
    moved = retarget(still, driver, mode="classic")
    expected = shape(OTHER) + displacement(driver.controls)
    assert np.abs(head_fixed(moved) - head_fixed(Head.fit(still.points).unfix(expected))).max() < 0.02
    assert np.corrcoef(mouth_opening(moved), mouth_opening(driver.points))[0, 1] > 0.999
    own = retarget(still, driver, mode="closed_form")  # the driver's face, not the portrait's
    rest = np.flatnonzero(driver.controls.max(1) < 0.6)[:1]
    assert np.abs(head_fixed(own[rest]) - head_fixed(moved[rest])).max() > 0.02


def test_classic_needs_no_anchor(still):
    """A driver who begins with an open mouth: relative modes add his anchor to all that follows, classic does not."""
    driver = speaking()
    opened = driver.picked(slice(3, 20))  # the mouth is open in its first frame
    last = driver.picked(slice(19, 20))
    classic = mouth_opening(retarget(still, opened, mode="classic"))[-1:]
    relative = mouth_opening(retarget(still, opened, mode="relative"))[-1:]
    truth = mouth_opening(last.points)
    assert abs(classic - truth) < 0.3 * abs(relative - truth)


def test_small_turns_follow_and_large_ones_are_held(still):
    yaw = np.linspace(-60, 60, 25)
    driver = speaking(25, turns=yaw)
    target = retarget(still, driver, mode="classic")
    out = head_angles(FaceTrack(target, driver.visible, driver.size, FPS))[:, 0]
    given = head_angles(driver)[:, 0]
    small = np.abs(yaw) <= 10
    assert np.polyfit(given[small], out[small], 1)[0] == pytest.approx(1, abs=0.05)
    assert np.abs(out).max() < TURN
    assert (np.diff(out) * np.sign(given[1] - given[0]) > 0).all()


def test_an_unknown_mode_and_a_track_of_68_points_are_refused(still):
    with pytest.raises(DataError, match="classic, closed_form"):
        retarget(still, speaking(), mode="anchored")
    with pytest.raises(FaceError, match="478"):
        retarget(still, speaking().to68(), mode="classic")


def picture(seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 255, (420, 240, 3), np.uint8)


def test_unmoved_landmarks_give_the_picture_back(still):
    image = picture()
    (out,) = render(image, still.points[0], target=still.points)
    assert np.array_equal(out, image)


def test_beyond_the_head_nothing_moves(still):
    image = picture()
    target = retarget(still, speaking(turns=20.0), mode="classic")
    out = np.stack(list(render(image, still.points[0], target=target)))
    changed = (out != image).any((0, 3))
    assert changed[60:180, 60:140].mean() > 0.5
    assert not changed[330:].any()


def test_the_inner_mouth_is_the_drivers_where_lips_part_and_only_there(still):
    driver = speaking()
    target = retarget(still, driver, mode="classic")
    image = np.full((300, 240, 3), 128, np.uint8)
    frames = np.full((20, 300, 300, 3), 128, np.uint8)
    frames[..., 1] = 0  # the driver is all magenta, skin too, so that his light is matched in the two other channels
    options = {}, {"driving": zip(frames, driver.points)}
    pair = [np.stack(list(render(image, still.points[0], target=target, **given))) for given in options]
    changed = (pair[0] != pair[1]).any(-1)
    opening = mouth_opening(target) - mouth_opening(still.points)[0]
    wide, shut = opening > 0.1, opening < 1e-3
    assert changed[wide].sum((1, 2)).min() > 20
    assert not changed[shut].any()
    where = np.argwhere(changed.any(0))[:, ::-1]
    lips = target[:, [61, 291, 0, 17], :2]
    assert (where >= lips.min((0, 1)) - 4).all()
    assert (where <= lips.max((0, 1)) + 4).all()


# --- on real pictures -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def painting(mirror):
    return mirror / "portraits" / "mona_lisa.jpg"


@pytest.fixture(scope="module")
def small(painting, tmp_path_factory):
    """The painting at 361 x 203: an odd size that is quick to warp."""
    file = tmp_path_factory.mktemp("small") / "mona.png"
    Image.open(painting).resize((203, 361)).save(file)
    return file


@pytest.fixture(scope="module")
def driver(mirror):
    return clip.read(mirror / "grid-speakers" / "brbk7n.mpg").cut(20, 50)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "I;16", "CMYK"])
def test_every_kind_of_picture_is_read(mode, mirror, tmp_path):
    image = Image.open(mirror / "portraits" / "obama_small_close.jpg")
    file = tmp_path / ("p.tif" if mode in ("CMYK", "I;16") else "p.png")
    grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
    (Image.fromarray(grey) if mode == "I;16" else image.convert(mode)).save(file)
    pixels, found = portrait(file)
    assert pixels.shape == (240, 320, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(found.points - portrait(mirror / "portraits" / "obama_small_close.jpg")[1].points).max() < 12


def test_transparency_is_white_and_the_cameras_turn_is_obeyed(mirror, tmp_path):
    image = Image.open(mirror / "portraits" / "obama_small_close.jpg").convert("RGBA")
    image.putalpha(Image.fromarray(np.uint8([[0] * 320] * 20 + [[255] * 320] * 220)))
    image.save(tmp_path / "a.png")
    assert (portrait(tmp_path / "a.png")[0][:20] == 255).all()
    turned, marks = image.convert("RGB").rotate(90, expand=True), Image.Exif()
    marks[274] = 6
    turned.save(tmp_path / "t.jpg", exif=marks)
    assert portrait(tmp_path / "t.jpg")[0].shape == (240, 320, 3)


def test_a_frame_of_a_video_is_a_portrait_and_its_sidecar_is_believed(mirror, tmp_path):
    talk = clip.read(mirror / "grid-speakers" / "brbk7n.mpg").cut(0, 3)
    file = clip.write(tmp_path / "talk.mp4", talk)
    pixels, found = portrait(file)
    assert pixels.shape == talk.frames.shape[1:]
    replace(found, points=found.points + 1, size=talk.size).save(tmp_path / "talk.track.npz")
    assert np.allclose(portrait(file)[1].points, found.points + 1)


def test_pictures_that_do_not_serve_are_refused_in_a_sentence(mirror, tmp_path):
    two, none = mirror / "portraits" / "two_people.jpg", mirror / "portraits" / "animal_noface.jpg"
    with pytest.raises(FaceError, match="2 faces; crop it to one"):
        portrait(two)
    left, right = (portrait(two, face=k)[1].points[0, 1, 0] for k in (0, 1))
    assert left < right
    for bad, face in ((none, None), (two, 2)):
        with pytest.raises(FaceError, match="faces; give one"):
            portrait(bad, face=face)
    Image.open(mirror / "portraits" / "obama_small_close.jpg").resize((64, 48)).save(tmp_path / "tiny.png")
    with pytest.raises(FaceError, match=r"pixels high|0 faces"):
        portrait(tmp_path / "tiny.png")
    (tmp_path / "no.png").write_text("no picture")
    for bad in (tmp_path / "no.png", tmp_path / "absent.png", np.zeros((4, 4, 7), np.uint8)):
        with pytest.raises(MediaError, match="cannot be read as a picture"):
            portrait(bad)


def test_a_painting_follows_a_speaker(small, driver):
    result = OSTNetPipeline.from_pretrained()(small, driver)
    assert result.size == (361, 203)
    assert result.fps == driver.fps
    assert len(result.frames) == len(driver.frames)
    assert np.array_equal(result.audio, driver.audio)
    from thlib.landmarks import track

    out, theirs = track(result).points, track(driver).points
    assert np.corrcoef(mouth_opening(out), mouth_opening(theirs))[0, 1] > 0.8
    assert np.abs(np.log(face_scale(out) / face_scale(portrait(small)[1].points))).max() < 0.05


def test_the_file_has_the_same_frames_a_badge_and_its_provenance(small, driver, tmp_path):
    reenact, video = OSTNetPipeline.from_pretrained(), clip.write(tmp_path / "driver.mp4", driver)
    out = reenact.save(tmp_path / "out.mp4", small, driving=clip.Video(video))
    written, memory = clip.read(out), reenact(small, clip.Video(video))
    assert written.frames.shape == memory.frames.shape
    assert len(written.audio) == pytest.approx(len(driver.audio), abs=written.audio_rate * 0.04)
    error = np.abs(written.frames.astype(int) - memory.frames).mean((0, 3))
    assert error[60:300, 30:170].mean() < 3
    assert error.max() > 40  # the badge
    report = provenance.verify(out)
    assert not report.problems
    assert report.spans[0] == pytest.approx((0, 30 / 25))
    bare = reenact.save(tmp_path / "bare.mp4", small, driving=clip.Video(video), badge=False)
    assert np.abs(clip.read(bare).frames.astype(int) - memory.frames).mean((0, 3)).max() < 40


def test_a_result_too_large_for_memory_is_refused(small, driver, monkeypatch):
    monkeypatch.setattr("thlib.ostnet.pipeline.MAX_BYTES", 1000)
    with pytest.raises(MediaError, match="by `save`"):
        OSTNetPipeline.from_pretrained()(small, driver)
    with pytest.raises(DataError, match="take 'default'"):
        OSTNetPipeline.from_pretrained("voxceleb")
