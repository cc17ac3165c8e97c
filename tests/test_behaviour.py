"""Behaviour: the blink law and its statistics, blinks found, gaze with and without EmoFace's defect, expressions."""

import ast
from fractions import Fraction

import numpy as np
import pytest
from sklearn.svm import SVC

from thlib import behaviour
from thlib.behaviour import BLINK, EMOTIONS, LIDS, STYLES, UNITS
from thlib.errors import DataError
from thlib.landmarks import BLENDSHAPES
from thlib.rig import ARKIT, METAHUMAN, RIGS, Curves

RATES = [24, 25, Fraction(30000, 1001), 30, 50, 60, 120]
LIDS_OF = {
    "arkit": ("eyeBlinkLeft", "eyeBlinkRight"),
    "mediapipe": ("eyeBlinkLeft", "eyeBlinkRight"),
    "metahuman": ("CTRL_L_eye_blink-translateY", "CTRL_R_eye_blink-translateY"),
}


def face(rig: str, frames: int = 600, fps: float = 60) -> Curves:
    """Scores in [0, 1] that change slowly."""
    phase = np.random.default_rng(3).uniform(0, 6, len(RIGS[rig]))
    return Curves(0.3 + 0.3 * np.sin(np.arange(frames)[:, None] / 40 + phase), rig, fps)


# --- blinks -----------------------------------------------------------------------------------------------------------


def test_a_blink_is_emoface_s_at_60_fps():
    np.testing.assert_allclose(behaviour.blink_shape(60), BLINK)
    assert len(BLINK) == 13
    assert BLINK[4] == 0


@pytest.mark.parametrize("fps", RATES)
def test_a_blink_closes_fully_at_every_rate_and_lasts_as_long(fps):
    shape = behaviour.blink_shape(fps)
    assert np.count_nonzero(shape == 0) == 1
    shut = int(shape.argmin())
    assert (np.diff(shape)[:shut] < 0).all()
    assert (np.diff(shape)[shut:] > 0).all()
    assert shape.max() < 1
    assert abs((1 - shape).sum() / fps - (1 - np.array(BLINK)).sum() / 60) < 0.5 / fps
    time = (np.arange(len(shape)) - shut) * 60 / float(fps) + 4  # in frames of BLINK
    inside = (time >= 0) & (time <= 12)
    np.testing.assert_allclose(shape[inside], np.interp(time[inside], np.arange(13), BLINK), atol=1e-9)


def test_the_intervals_have_the_law_s_statistics():
    waits, starts = [], 0
    for seed in range(40):
        begins = behaviour.blink_frames(20 * 3600, 60, seed=seed)
        waits += [begins[0], *(np.diff(begins) - 13)]
        starts += len(begins)
    assert np.median(waits) == pytest.approx(106, abs=2)
    assert np.mean(waits) == pytest.approx(118, abs=2)
    np.testing.assert_allclose(np.percentile(waits, [5, 95]), (44, 240), atol=2)
    assert (min(waits), max(waits)) == (36, 240)
    assert starts / (40 * 20) == pytest.approx(27, abs=1)  # in a minute


@pytest.mark.parametrize("fps", [25, 30])
def test_other_rates_blink_as_often(fps):
    starts = [len(behaviour.blink_frames(1200 * fps, fps, seed=seed)) for seed in range(20)]
    assert np.mean(starts) / 20 == pytest.approx(27, abs=1.2)


@pytest.mark.parametrize("rig", RIGS)
def test_blinks_close_the_eyes_and_change_nothing_else(rig):
    before = face(rig)
    after = behaviour.add_blinks(before, seed=4)
    k = np.ones(613)
    for start in behaviour.blink_frames(600, 60, seed=4):
        k[start : start + 13] = BLINK
        if start + 4 < 600:
            assert [after[name][start + 4] for name in LIDS_OF[rig]] == [1, 1]
    assert (k[:600] < 1).any()
    for name in before.names:
        closed = 1 - (1 - before[name]) * k[:600]
        wanted = closed if name in LIDS_OF[rig] else before[name] * k[:600] if "eyeWide" in name else before[name]
        np.testing.assert_allclose(after[name], wanted, atol=1e-6)
    untouched = k[:600] == 1
    np.testing.assert_array_equal(after.values[untouched], before.values[untouched])


def test_blinking_and_retargeting_commute():
    arkit = face("arkit")
    one = behaviour.add_blinks(arkit, seed=2).to("metahuman").values
    np.testing.assert_allclose(one, behaviour.add_blinks(arkit.to("metahuman"), seed=2).values, atol=1e-6)


def test_a_wide_eye_closes_too():
    wide = Curves(np.full((400, 174), -0.5), "metahuman", 60)
    blinked = behaviour.add_blinks(wide, seed=1)["CTRL_L_eye_blink-translateY"]
    assert blinked.max() == 1
    assert blinked.min() == -0.5


@pytest.mark.parametrize("call", [behaviour.blink_frames, behaviour.gaze])
def test_a_seed_is_an_int_or_a_generator_and_repeats(call):
    first = call(5000, 60, seed=7)
    np.testing.assert_array_equal(first, call(5000, 60, seed=7))
    assert not np.array_equal(first[:20], call(5000, 60, seed=8))
    np.testing.assert_array_equal(first, call(5000, 60, seed=np.random.default_rng(7)))
    shared = np.random.default_rng(7)
    call(5000, 60, seed=shared)
    assert not np.array_equal(first, call(5000, 60, seed=shared))
    np.testing.assert_array_equal(call(2000, 60, seed=7), first[first < 2000] if first.ndim == 1 else first[:2000])


def law(intervals, fps):
    """behaviour.LAW from the frames (N,) between blinks, without those of more than 100 a minute."""
    rates = 60 * fps / np.asarray(intervals, float)
    return np.log(rates[rates <= behaviour.RATES[1]]).mean(), np.log(rates[rates <= behaviour.RATES[1]]).std()


def test_the_law_is_that_of_emoface_s_data(mirror):
    found = np.load(mirror / "emoface-sample" / "blink_vec7_interval_svm.npy", allow_pickle=False)
    assert len(found) == 445
    fitted = law(found, 30)
    assert [round(x, 4) for x in fitted] == [3.5180, 0.5324]
    assert [round(x, 3) for x in fitted] == [*behaviour.LAW]


# --- blinks found -----------------------------------------------------------------------------------------------------


def openness(starts: list[int], fps: float, frames: int) -> np.ndarray:
    """Eye aspect ratios of an eye at 0.3 that blinks for 0.2 s from each of `starts`."""
    ear = np.full(frames, 0.3)
    for start in starts:
        ear[start : start + round(0.2 * fps)] = 0.1
    return ear


@pytest.mark.parametrize("fps", RATES)
def test_blinks_are_found_where_they_are(fps):
    starts = [round(float(fps) * t) for t in (0.5, 1.2, 2.9)]
    ear = openness(starts, fps, round(4 * fps))
    wanted = [(start, start + round(0.2 * fps)) for start in starts]
    assert behaviour.blinks(ear, fps) == wanted
    assert behaviour.blinks(np.stack([ear - 0.02, ear + 0.02], 1), fps) == wanted
    assert behaviour.blinks(np.full(50, 0.3), fps) == []


def test_three_frames_at_30_fps_are_a_blink_and_two_are_none():
    ear = np.full(60, 0.3)
    ear[10:12], ear[20:23], ear[57:] = 0.2, 0.2, 0.2
    assert behaviour.blinks(ear, 30) == [(20, 23), (57, 60)]
    assert behaviour.blinks(ear, 60) == []
    ear[20:23] = 0.22
    assert behaviour.blinks(ear, 30) == [(57, 60)]


def test_a_classifier_sees_windows_of_the_same_seconds_at_every_rate():
    shown = {}

    def shut(windows: np.ndarray) -> np.ndarray:
        shown[len(windows)] = windows
        return windows[:, 3] < 0.5

    for fps in (30, 60):
        ramp = np.arange(2 * fps) / fps
        assert behaviour.blinks(ramp, fps, shut=shut) == [(0, fps // 2)]
    np.testing.assert_allclose(shown[60][30], 1 + np.arange(-3, 4) / 30)
    np.testing.assert_allclose(shown[120][60], shown[60][30])
    np.testing.assert_allclose(shown[60][0], [0, 0, 0, 0, 1 / 30, 2 / 30, 3 / 30])  # edges repeated


def test_emoface_s_classifier(mirror):
    """A linear support vector machine on its labelled windows tells them apart, and finds a planted blink."""
    folder = mirror / "emoface-sample"
    shut, opened = (
        np.array(
            [ast.literal_eval(line) for line in (folder / f"blink_vec7_train_{kind}.txt").read_text().splitlines()]
        )
        for kind in ("close", "open")
    )
    assert (shut.shape, opened.shape) == ((150, 7), (453, 7))
    labels = np.repeat([1, 0], [150, 453])
    machine = SVC(kernel="linear", C=0.8).fit(np.concatenate([shut, opened]), labels)
    assert machine.score(np.concatenate([shut, opened]), labels) > 0.92
    assert machine.coef_.argmin() in (2, 3)  # the middle counts most
    ear = np.full(90, 0.32)
    ear[40:47] = (0.24, 0.19, 0.15, 0.15, 0.15, 0.18, 0.25)
    (start, end), *more = behaviour.blinks(ear, 30, shut=machine.predict)
    assert not more
    assert 38 <= start <= 42
    assert 45 <= end <= 49


# --- gaze -------------------------------------------------------------------------------------------------------------


def steps(path: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.diff(path, axis=0, prepend=0), axis=1)


def test_gaze_moves_in_fixations_and_quick_straight_lines():
    for seed in range(10):
        path = behaviour.gaze(6000, 60, seed=seed)
        assert steps(path).max() <= 0.4 / 5 + 1e-9
        assert np.linalg.norm(path, axis=1).max() <= 0.2
        moving = np.flatnonzero(np.diff(np.concatenate([[0], steps(path) > 1e-9, [0]])))
        lasts, rests = moving[1::2] - moving[::2], moving[2::2] - moving[1:-1:2]
        assert set(lasts[:-1]) == {5}
        # one frame of rest less than a fixation's 25 to 45 is none; longer where straight ahead follows itself
        assert rests.min() >= 25
        assert np.percentile(rests, 50) <= 46
        ends = path[moving[1:-1:2]]
        radius = np.linalg.norm(ends, axis=1)
        assert ((radius < 1e-9) | ((radius >= 0.1) & (radius <= 0.2))).all()


def test_two_in_five_looks_go_straight_ahead():
    ahead = [np.linalg.norm(behaviour.gaze(80, 60, seed=seed)[55]) < 1e-9 for seed in range(2000)]
    assert np.mean(ahead) == pytest.approx(0.4, abs=0.06)  # by frame 55 nearly all eyes have moved once


def test_compat_snaps_back_to_the_middle():
    path = behaviour.gaze(6000, 60, seed=0, compat=True)
    size = np.linalg.norm(path, axis=1)
    assert steps(path).max() > 0.09  # in one frame all the way home
    assert np.mean(size == 0) > 0.85
    assert max(np.diff(np.flatnonzero(size == 0))) == 6  # five frames out, and home
    assert np.mean(np.linalg.norm(behaviour.gaze(6000, 60, seed=0), axis=1) == 0) < 0.6


@pytest.mark.parametrize("fps", RATES)
def test_gaze_keeps_its_pace_at_every_rate(fps):
    path = behaviour.gaze(round(60 * fps), fps, seed=1)
    assert steps(path).max() <= 0.4 / max(1, round(5 * float(fps) / 60)) + 1e-9
    saccades = np.flatnonzero(np.diff(np.concatenate([[0], steps(path) > 1e-9, [0]])))[::2]
    assert np.median(np.diff(saccades)) / float(fps) == pytest.approx(40 / 60, abs=0.15)


def test_gaze_overwrites_the_eyes_of_every_rig_alike():
    path = behaviour.gaze(600, 60, seed=5)
    board = behaviour.add_gaze(face("metahuman"), seed=5)
    np.testing.assert_allclose(board.values[:, :2], path, atol=1e-6)
    for rig in ("arkit", "mediapipe"):
        curves = behaviour.add_gaze(face(rig), seed=5)
        np.testing.assert_allclose(curves["eyeLookOutLeft"] - curves["eyeLookInLeft"], path[:, 0], atol=1e-6)
        np.testing.assert_allclose(curves["eyeLookInRight"] - curves["eyeLookOutRight"], path[:, 0], atol=1e-6)
        np.testing.assert_allclose(curves["eyeLookUpLeft"] - curves["eyeLookDownRight"], path[:, 1], atol=1e-6)
        assert curves.values.min() >= 0
        np.testing.assert_allclose(curves.metahuman[:, :2], path, atol=1e-6)
        np.testing.assert_allclose(curves.metahuman[:, [34, 35, 103, 104]], 0, atol=1e-6)


@pytest.mark.parametrize("rig", RIGS)
def test_lids_follow_a_look_down_only(rig):
    before = Curves(np.zeros((600, len(RIGS[rig]))), rig, 60)
    path = behaviour.gaze(600, 60, seed=5)
    lid = behaviour.add_gaze(before, seed=5)[LIDS_OF[rig][0]]
    np.testing.assert_allclose(lid, LIDS * (-path[:, 1]).clip(0), atol=1e-6)
    assert 0 < lid.max() < 0.1
    assert not behaviour.add_gaze(before, seed=5, compat=True)[LIDS_OF[rig][0]].any()


def test_compat_changes_the_two_published_columns_alone():
    before = face("metahuman")
    after = behaviour.add_gaze(before, seed=5, compat=True)
    np.testing.assert_array_equal(after.values[:, 2:], before.values[:, 2:])
    np.testing.assert_allclose(after.values[:, :2], behaviour.gaze(600, 60, seed=5, compat=True), atol=1e-6)


def test_a_blink_stays_closed_under_a_moving_gaze():
    curves = behaviour.add_gaze(behaviour.add_blinks(face("arkit"), seed=4), seed=4)
    start = behaviour.blink_frames(600, 60, seed=4)[0]
    assert curves["eyeBlinkLeft"][start + 4] == 1
    assert curves.values.max() <= 1


# --- expressions ------------------------------------------------------------------------------------------------------


def test_emotions_are_emoface_s_in_its_order():
    assert [name[:3] for name in EMOTIONS] == ["ang", "dis", "fea", "hap", "neu", "sad", "sur"]
    assert set(STYLES) == set(EMOTIONS)
    assert {control.replace("*", side) for control in UNITS.values() for side in ("Left", "Right")} <= set(ARKIT)


PROTOTYPES = {  # EMFACS, as controls
    "angry": "browDownLeft eyeWideLeft eyeSquintLeft mouthPressLeft",  # 4 5 7 23
    "disgust": "noseSneerLeft mouthFrownLeft mouthLowerDownLeft",  # 9 15 16
    "fear": "browInnerUp browOuterUpLeft browDownLeft eyeWideLeft eyeSquintLeft mouthStretchLeft jawOpen",
    "happy": "cheekSquintLeft mouthSmileLeft",  # 6 12
    "neutral": "",
    "sad": "browInnerUp browDownLeft mouthFrownLeft",  # 1 4 15
    "surprise": "browInnerUp browOuterUpLeft eyeWideLeft jawOpen",  # 1 2 5 26
}


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_expressions_are_the_prototypes(emotion):
    added = Curves(behaviour.expression(emotion)[None], "mediapipe", 60)
    active = {name for name in BLENDSHAPES if added[name][0] > 0 and not name.endswith("Right")}
    assert active == set(PROTOTYPES[emotion].split())
    for name in BLENDSHAPES:
        assert added[name][0] == added[name.replace("Left", "Right")][0] or "Right" in name
    np.testing.assert_array_equal(behaviour.expression(emotion[:3]), behaviour.expression(emotion))


@pytest.mark.parametrize("style", [0, 1])
@pytest.mark.parametrize("emotion", EMOTIONS)
def test_intensity_scales_every_style(emotion, style):
    full = behaviour.expression(emotion, style=style)
    np.testing.assert_allclose(behaviour.expression(emotion, 0.5, style=style), full / 2, atol=1e-7)
    assert not behaviour.expression(emotion, 0, style=style).any()
    np.testing.assert_allclose(behaviour.expression(emotion, 1.5, style=style), (1.5 * full).clip(0, 1), atol=1e-6)
    assert full.shape == (52,)
    assert full.dtype == np.float32
    assert full.max() <= 0.8


def test_all_expressions_differ():
    shown = [behaviour.expression(emotion, style=style) for emotion in EMOTIONS for style in (0, 1)]
    far = [[np.abs(a - b).max() for b in shown] for a in shown]
    same = {(i, j) for i, row in enumerate(far) for j, d in enumerate(row) if d < 0.25 and i < j}
    assert same == {(8, 9)}  # the two of neutral
    teeth, lips = (Curves(behaviour.expression("happy", style=s)[None], "mediapipe", 60) for s in (1, 0))
    assert teeth["mouthUpperUpLeft"][0] > 0 == lips["mouthUpperUpLeft"][0]
    assert METAHUMAN[53] == "CTRL_L_mouth_cornerPull-translateY"
    assert lips.metahuman[0, 53] == pytest.approx(0.6)


@pytest.mark.parametrize(
    "call",
    [
        lambda: behaviour.expression("bored"),
        lambda: behaviour.expression("h"),
        lambda: behaviour.expression(""),
        lambda: behaviour.expression("happy", 2),
        lambda: behaviour.expression("happy", -0.1),
        lambda: behaviour.expression("happy", float("nan")),
        lambda: behaviour.expression("happy", style=2),
    ],
)
def test_an_unknown_expression_names_the_seven(call):
    with pytest.raises(DataError) as told:
        call()
    assert all(emotion in str(told.value) for emotion in EMOTIONS)
    assert "\n" not in str(told.value)


# --- head -------------------------------------------------------------------------------------------------------------


def speech(fps: float, seconds: float = 60) -> np.ndarray:
    """Loudness of syllables, four a second, in phrases of two seconds."""
    time = np.arange(round(seconds * fps)) / fps
    return np.abs(np.sin(2 * np.pi * 2 * time)) * (time % 3 < 2)


def test_heads_move_a_little_and_smoothly():
    for seed in range(10):
        head = behaviour.head_motion(speech(60), 60, seed=seed)
        assert head.shape == (3600, 3)
        assert head.dtype == np.float32
        assert (head.std(0) > 0.5).all()
        assert (head.std(0) < 3).all()
        assert head[:, 0].std() > 1
        assert np.abs(head).max() < behaviour.FURTHEST
        assert np.abs(np.diff(head, axis=0)).max() * 60 < 40  # degrees a second
        assert np.abs(np.diff(head, 2, axis=0)).max() < 0.06


def test_heads_nod_with_the_stress():
    """Averaged over seeds the sway is gone: what is left is the nod, down where the loudness bursts."""
    loud = np.zeros(1200)
    loud[600:615] = 1
    mean = np.mean([behaviour.head_motion(loud, 60, seed=seed) for seed in range(200)], 0)
    assert mean[595:620, 1].max() > 1.5
    assert np.abs(mean[:500]).max() < 0.5
    assert np.abs(mean[:, [0, 2]]).max() < 0.6
    louder = behaviour.head_motion(np.full(3600, 1.0), 60, seed=0).std(0)
    np.testing.assert_allclose(louder, 2 * behaviour.head_motion(np.zeros(3600), 60, seed=0).std(0), rtol=0.1)


def test_a_seed_moves_the_head_alike_at_every_rate():
    fine, coarse = (behaviour.head_motion(speech(fps), fps, seed=3) for fps in (50, 25))
    np.testing.assert_allclose(fine[::2], coarse, atol=0.1)
    np.testing.assert_array_equal(fine, behaviour.head_motion(speech(50), 50, seed=3))
    assert np.abs(fine - behaviour.head_motion(speech(50), 50, seed=4)).max() > 1
    assert behaviour.head_motion(speech(25, 0.2), 25).shape == (5, 3)
