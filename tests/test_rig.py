"""Rigs: names and order as published, retargeting there and back, files read back by other means, planted faults."""

import csv
import hashlib
from fractions import Fraction

import numpy as np
import pytest
from scipy.signal import savgol_filter

from thlib.errors import DataError
from thlib.landmarks import BLENDSHAPES
from thlib.rig import ARKIT, EYE_TURN, LIVE_LINK, METAHUMAN, RIGS, Curves

# The header of a recording by the Live Link Face app.
PUBLISHED = (
    "Timecode,BlendshapeCount,EyeBlinkLeft,EyeLookDownLeft,EyeLookInLeft,EyeLookOutLeft,EyeLookUpLeft,EyeSquintLeft,"
    "EyeWideLeft,EyeBlinkRight,EyeLookDownRight,EyeLookInRight,EyeLookOutRight,EyeLookUpRight,EyeSquintRight,"
    "EyeWideRight,JawForward,JawRight,JawLeft,JawOpen,MouthClose,MouthFunnel,MouthPucker,MouthRight,MouthLeft,"
    "MouthSmileLeft,MouthSmileRight,MouthFrownLeft,MouthFrownRight,MouthDimpleLeft,MouthDimpleRight,MouthStretchLeft,"
    "MouthStretchRight,MouthRollLower,MouthRollUpper,MouthShrugLower,MouthShrugUpper,MouthPressLeft,MouthPressRight,"
    "MouthLowerDownLeft,MouthLowerDownRight,MouthUpperUpLeft,MouthUpperUpRight,BrowDownLeft,BrowDownRight,BrowInnerUp,"
    "BrowOuterUpLeft,BrowOuterUpRight,CheekPuff,CheekSquintLeft,CheekSquintRight,NoseSneerLeft,NoseSneerRight,"
    "TongueOut,HeadYaw,HeadPitch,HeadRoll,LeftEyeYaw,LeftEyePitch,LeftEyeRoll,RightEyeYaw,RightEyePitch,RightEyeRoll"
)
OPPOSITE = [("eyeBlink*", "eyeWide*"), ("eyeLookIn*", "eyeLookOut*"), ("eyeLookUp*", "eyeLookDown*")]
OPPOSITE += [("jawLeft", "jawRight"), ("mouthLeft", "mouthRight")]
# MetaHuman columns by number, as methods and other tools name them.
COLUMNS = {
    "C_eye-translateX": 0, "C_eye_parallelLook-translateY": 2, "C_jaw-translateX": 3, "C_jaw-translateY": 4,
    "C_jaw_fwdBack-translateY": 5, "C_mouth-translateY": 8, "C_mouth_stickyU-translateY": 12,
    "C_teethD-translateX": 14, "C_teeth_fwdBackU-translateY": 19, "C_tongue_inOut-translateY": 22,
    "C_tongue_roll-translateX": 25, "C_tongue_roll-translateY": 26, "C_tongue_tip-translateY": 28,
    "L_brow_down-translateY": 29, "L_brow_raiseOut-translateY": 32, "L_eye-translateX": 34,
    "L_eye_blink-translateY": 36,
    "L_eye_cheekRaise-translateY": 37, "L_eye_squintInner-translateY": 43, "L_jaw_ChinRaiseU-translateY": 47,
    "L_mouth_cornerPull-translateY": 53, "L_mouth_dimple-translateY": 56, "L_mouth_funnelD-translateY": 57,
    "L_mouth_lipsTogetherU-translateY": 67, "L_mouth_lowerLipDepress-translateY": 70, "L_mouth_purseD-translateY": 73,
    "L_mouth_stretch-translateY": 82, "L_mouth_suckBlow-translateY": 84, "L_mouth_towardsD-translateY": 89,
    "L_mouth_upperLipRaise-translateY": 91, "L_nose-translateY": 95, "L_nose_wrinkleUpper-translateY": 97,
    "R_eye_blink-translateY": 105, "lookAtSwitch-translateY": 167, "neckCorrectivesMultiplyerM-translateY": 169,
    "neck_throatUpDown-translateY": 173,
}  # fmt: skip


def face(frames: int = 40, rig: str = "arkit", seed: int = 0) -> np.ndarray:
    """Scores in [0, 1] in which no two opposites are active at once."""
    values = np.random.default_rng(seed).uniform(0, 1, (frames, 52)).astype(np.float32)
    names, flip = RIGS[rig], np.random.default_rng(seed + 1).uniform(size=frames) < 0.5
    for one, other in OPPOSITE:
        for side in ("Left", "Right"):
            values[flip, names.index(one.replace("*", side))] = 0
            values[~flip, names.index(other.replace("*", side))] = 0
    return values


# --- names ------------------------------------------------------------------------------------------------------------


def test_the_rigs_have_their_published_names_and_order():
    assert RIGS["mediapipe"] is BLENDSHAPES
    assert ",".join(LIVE_LINK) == PUBLISHED
    assert len(ARKIT) == 52
    assert set(ARKIT) == set(BLENDSHAPES) - {"_neutral"} | {"tongueOut"}
    assert len(set(METAHUMAN)) == len(METAHUMAN) == 174
    assert {name: METAHUMAN.index(f"CTRL_{name}") for name in COLUMNS} == COLUMNS
    # `dataset/valid_attr_names.txt` of the published repository, 174 lines without a newline after the last
    listed = "\n".join(METAHUMAN).encode()
    assert hashlib.sha256(listed).hexdigest() == "a6d332a2fef892438b225122bfd2c665dd6b5e5072d49f7720ab95041dad8256"


def test_right_is_left_plus_69():
    for left in range(29, 98):
        assert METAHUMAN[left + 69] == METAHUMAN[left].replace("CTRL_L_", "CTRL_R_")
    assert not [name for k, name in enumerate(METAHUMAN) if not 29 <= k < 167 and ("_L_" in name or "_R_" in name)]


# --- from rig to rig --------------------------------------------------------------------------------------------------


def test_every_arkit_control_comes_back_from_metahuman():
    for control in np.eye(52, dtype=np.float32):
        there = Curves(control[None], "arkit", 60).to("metahuman")
        assert np.abs(there.values).max() >= 0.5
        np.testing.assert_allclose(there.arkit[0], control, atol=1e-6)


def test_arkit_to_metahuman_and_back_is_the_identity():
    curves = Curves(face(), "arkit", 60, head=np.ones((40, 3)))
    back = curves.to("metahuman").to("arkit")
    np.testing.assert_allclose(back.values, curves.values, atol=2e-6)
    np.testing.assert_array_equal(back.head, curves.head)


def test_of_opposites_the_difference_comes_back():
    values = np.zeros((1, 52), np.float32)
    values[0, [ARKIT.index("eyeBlinkLeft"), ARKIT.index("eyeWideLeft")]] = 0.7, 0.2
    back = Curves(values, "arkit", 60).to("metahuman").to("arkit")
    assert back["eyeBlinkLeft"][0] == pytest.approx(0.5)
    assert back["eyeWideLeft"][0] == 0


@pytest.mark.parametrize(
    ("control", "moved"),
    [
        ("jawOpen", {"C_jaw-translateY": 1}),
        ("jawLeft", {"C_jaw-translateX": -1}),
        ("mouthSmileLeft", {"L_mouth_cornerPull-translateY": 1}),
        ("eyeBlinkRight", {"R_eye_blink-translateY": 1}),
        ("eyeWideRight", {"R_eye_blink-translateY": -1}),
        ("jawForward", {"C_jaw_fwdBack-translateY": -1}),
        ("mouthLeft", {"C_mouth-translateX": 1}),
        ("tongueOut", {"C_tongue_inOut-translateY": -1}),
        ("cheekPuff", {f"{s}_mouth_suckBlow-translateY": 1 for s in "LR"}),
        ("noseSneerRight", {"R_nose-translateY": 1}),
        ("mouthRollUpper", {f"{s}_mouth_lipsRollU-translateY": 1 for s in "LR"}),
        ("browDownLeft", {"L_brow_down-translateY": 1, "L_brow_lateral-translateY": 1}),
        ("mouthClose", {f"{s}_mouth_lipsTogether{e}-translateY": 1 for s in "LR" for e in "DU"}),
        ("eyeLookOutLeft", {"C_eye-translateX": 0.5, "L_eye-translateX": 0.5, "R_eye-translateX": -0.5}),
    ],
)
def test_a_control_moves_these_columns_and_no_others(control, moved):
    there = Curves(np.eye(52)[[ARKIT.index(control)]], "arkit", 60).metahuman[0]
    assert {METAHUMAN[k]: there[k] for k in there.nonzero()[0]} == {f"CTRL_{k}": v for k, v in moved.items()}


def test_both_eyes_to_the_left_are_the_board_s_gaze_alone():
    values = np.zeros((1, 52), np.float32)
    values[0, [ARKIT.index("eyeLookOutLeft"), ARKIT.index("eyeLookInRight")]] = 0.3
    there = Curves(values, "arkit", 60).metahuman[0]
    assert there.nonzero()[0].tolist() == [0]
    assert there[0] == pytest.approx(0.3)


def test_mediapipe_and_arkit_differ_by_neutral_and_tongue_only():
    tracked = Curves(face(rig="mediapipe"), "mediapipe", 25)
    arkit = tracked.to("arkit")
    for name in BLENDSHAPES[1:]:
        np.testing.assert_array_equal(arkit[name], tracked[name])
    assert not arkit["tongueOut"].any()
    back = arkit.to("mediapipe")
    np.testing.assert_array_equal(back.values[:, 1:], tracked.values[:, 1:])
    assert not back["_neutral"].any()
    np.testing.assert_allclose(tracked.to("metahuman").to("mediapipe").values[:, 1:], tracked.values[:, 1:], atol=2e-6)
    np.testing.assert_array_equal(tracked.arkit, arkit.values)


# --- time -------------------------------------------------------------------------------------------------------------


def test_smoothing_is_scipy_s_filter():
    values = face(100)
    wanted = savgol_filter(values, 15, 3, axis=0, mode="nearest")
    np.testing.assert_array_equal(Curves(values, "arkit", 60).smoothed().values, wanted.astype(np.float32))
    slower = savgol_filter(values, 7, 3, axis=0, mode="nearest")
    np.testing.assert_allclose(Curves(values, "arkit", 30).smoothed().values, slower, atol=1e-6)


def test_smoothing_leaves_a_cubic_and_a_short_clip_in_peace():
    cubic = (np.arange(60)[:, None] / 60) ** 3 * np.ones(52)
    kept = Curves(cubic, "arkit", 60).smoothed().values
    np.testing.assert_allclose(kept[7:-7], cubic[7:-7], atol=1e-6)
    assert np.abs(kept[:7] - cubic[:7]).max() > 1e-5  # "nearest" repeats the edge
    assert Curves(face(4), "arkit", 60).smoothed().values.shape == (4, 52)


@pytest.mark.parametrize("fps", [60, 25, Fraction(30000, 1001), 24])
def test_another_rate_keeps_seconds_and_straight_lines(fps):
    ramp = np.arange(90)[:, None] / 30 * np.ones(52)  # its value is the time in seconds
    curves = Curves(ramp, "arkit", 30, head=ramp[:, :3]).at(fps)
    assert abs(len(curves.values) / fps - 3) <= 0.5 / fps
    time = np.minimum(np.arange(len(curves.values)) / float(fps), 89 / 30)
    np.testing.assert_allclose(curves["jawOpen"], time, atol=1e-5)
    np.testing.assert_allclose(curves.head[:, 0], time, atol=1e-5)
    assert curves.fps == fps


def test_twice_the_rate_and_back_is_the_identity():
    curves = Curves(face(), "arkit", 30)
    np.testing.assert_array_equal(curves.at(60).at(30).values, curves.values)


# --- files ------------------------------------------------------------------------------------------------------------


def test_live_link_files_come_back(tmp_path):
    head = np.random.default_rng(5).normal(0, 5, (40, 3)).astype(np.float32)
    curves = Curves(face(), "arkit", 60, head)
    back = Curves.load(curves.save(tmp_path / "talk.csv"))
    assert (back.rig, back.fps) == ("arkit", 60)
    np.testing.assert_allclose(back.values, curves.values, atol=1e-6)
    np.testing.assert_allclose(back.head, head, atol=1e-5)  # degrees
    assert [file.name for file in tmp_path.iterdir()] == ["talk.csv"]


def test_live_link_files_read_as_published(tmp_path):
    values, head = face(130), np.full((130, 3), (90, 45, -30), np.float32)
    file = Curves(values, "arkit", 60, head).save(tmp_path / "talk.csv")
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == PUBLISHED.split(",")
    assert {row["BlendshapeCount"] for row in rows} == {"61"}
    assert [rows[k]["Timecode"] for k in (0, 59, 60, 129)] == [
        "00:00:00:00.000", "00:00:00:59.000", "00:00:01:00.000", "00:00:02:09.000"]  # fmt: skip
    np.testing.assert_allclose([float(row["JawOpen"]) for row in rows], values[:, ARKIT.index("jawOpen")], atol=1e-6)
    angles = [float(rows[3][name]) for name in ("HeadYaw", "HeadPitch", "HeadRoll")]
    np.testing.assert_allclose(angles, (np.pi / 2, np.pi / 4, -np.pi / 6), atol=1e-6)
    look = {name: values[:, ARKIT.index(f"eyeLook{name}")] for name in ("OutLeft", "InLeft", "UpRight", "DownRight")}
    yaw, pitch = ([float(row[name]) for row in rows] for name in ("LeftEyeYaw", "RightEyePitch"))
    np.testing.assert_allclose(yaw, 0.5 * (look["OutLeft"] - look["InLeft"]), atol=1e-6)
    np.testing.assert_allclose(pitch, 0.5 * (look["DownRight"] - look["UpRight"]), atol=1e-6)
    assert {float(row["LeftEyeRoll"]) for row in rows} == {0}
    assert (EYE_TURN["X"], EYE_TURN["Y"]) == (0.5, -0.5)  # to the left and down are positive, as the head's are


@pytest.mark.parametrize(("fps", "counted"), [(30, 30), (25, 25), (60, 60), (Fraction(30000, 1001), 30)])
def test_time_codes_tell_the_rate(fps, counted, tmp_path):
    file = Curves(face(100), "arkit", fps).save(tmp_path / "talk.csv")
    assert Curves.load(file).fps == counted
    assert Curves.load(file, fps=fps).fps == fps
    header, *lines = file.read_text().splitlines()
    (tmp_path / "cut.csv").write_text("\n".join([header, *lines[10:]]))  # begins within a second
    assert Curves.load(tmp_path / "cut.csv").fps == (60 if fps == 60 else counted)
    codes = [line.split(",")[0] for line in lines]
    assert len(set(codes)) == len(codes)
    assert codes == sorted(codes)


def test_columns_are_found_by_name_in_any_case(tmp_path):
    curves = Curves(face(), "arkit", 60)
    with curves.save(tmp_path / "a.csv").open(newline="") as stream:
        rows = [[*reversed(row)] for row in csv.reader(stream)]
    rows[0] = [name.upper() for name in rows[0]]
    (tmp_path / "b.csv").write_text("\r\n".join(",".join(row) for row in rows))
    np.testing.assert_allclose(Curves.load(tmp_path / "b.csv").values, curves.values, atol=1e-6)


def test_emoface_files_come_back(tmp_path):
    values = np.random.default_rng(2).uniform(-1, 1, (30, 174)).astype(np.float32)
    file = Curves(values, "metahuman", 60).save(tmp_path / "talk.txt")
    np.testing.assert_allclose(np.loadtxt(file, delimiter=","), values, atol=1e-6)
    assert all(len(x.partition(".")[2]) == 6 for x in file.read_text().splitlines()[0].split(","))
    back = Curves.load(file, fps=30)
    assert (back.rig, back.fps) == ("metahuman", 30)
    np.testing.assert_allclose(back.values, values, atol=1e-6)
    one = Curves(values[:1], "metahuman", 60).save(tmp_path / "one.txt")
    assert Curves.load(one).values.shape == (1, 174)


def test_the_published_sample(mirror, tmp_path):
    file = mirror / "emoface-sample" / "VALID_CTR_angry_gd04_001_021.txt"
    curves = Curves.load(file)
    assert curves.values.shape == (202, 174)
    assert curves.fps == 60
    assert curves.save(tmp_path / "again.txt").read_text().split() == file.read_text().split()
    arkit = curves.to("arkit")
    assert arkit.values.min() >= 0
    assert arkit["jawOpen"].max() == pytest.approx(0.44, abs=0.01)
    assert arkit["browDownLeft"].mean() > 0.4  # he is angry
    assert arkit["eyeWideLeft"].max() > 0.4
    np.testing.assert_allclose(arkit.to("metahuman").to("arkit").values, arkit.values, atol=2e-6)
    left, right = curves.values[:, 29:98], curves.values[:, 98:167]
    moving = (left.std(0) > 0.02) & (right.std(0) > 0.02)
    together = [np.corrcoef(a, b)[0, 1] for a, b in zip(left.T[moving], right.T[moving])]
    assert np.median(together) > 0.999
    smooth = np.abs(curves.smoothed().values - curves.values)
    assert smooth.mean() == pytest.approx(0.0044, abs=5e-5)
    assert smooth.max() == pytest.approx(0.18, abs=0.005)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Curves(np.zeros((3, 52)), "flame", 60), "no rig 'flame'"),
        (lambda: Curves(np.zeros((3, 52)), "metahuman", 60), r"\(T, 174\)"),
        (lambda: Curves(np.zeros(52), "arkit", 60), r"not \(52,\)"),
        (lambda: Curves(np.zeros((3, 52)), "arkit", 60, head=np.zeros((2, 3))), "need head"),
        (lambda: Curves(np.zeros((3, 52)), "arkit", 60).to("flame"), "no rig 'flame'"),
        (lambda: Curves(np.zeros((3, 52)), "arkit", 60)["jawopen"], "no control 'jawopen'"),
        (lambda: Curves(np.zeros((3, 52)), "arkit", 60).save("talk.fbx"), "talk.fbx"),
        (lambda: Curves.load("talk.json"), "talk.json"),
        (lambda: Curves.load("nowhere.csv"), "nowhere.csv"),
    ],
)
def test_bad_input_is_one_sentence(make, told):
    with pytest.raises(DataError, match=told):
        make()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a.csv", lambda text: text.replace("TongueOut", "Tongue")),
        ("a.csv", lambda text: text.replace("00:00:00:01.000,61,", "00:00:00:01.000,61,x")),
        ("a.csv", lambda text: text[: len(text) - 200]),
        ("a.csv", lambda text: text.splitlines()[0]),
        ("a.csv", lambda text: ""),
        ("a.txt", lambda text: text.replace(",", ";")),
        ("a.txt", lambda text: text[: len(text) - 200]),
        ("a.txt", lambda text: "\n".join(line.partition(",")[2] for line in text.splitlines())),
        ("a.txt", lambda text: ""),
    ],
)
def test_a_spoilt_file_is_refused(name, change, tmp_path):
    file = Curves(face(), "arkit", 60).save(tmp_path / name)
    Curves.load(file)
    file.write_text(change(file.read_text()))
    with pytest.raises(DataError, match=name) as told:
        Curves.load(file)
    assert "\n" not in str(told.value)
