"""The presenter's face: symmetric, each control in its place, lids and lips that close; what the networks read."""

import numpy as np
import pytest
from conftest import require
from hypothesis import given, settings
from hypothesis import strategies as st

from thlib.errors import FaceError
from thlib.landmarks import BLENDSHAPES, BROWS, EYES, IRIS, LIPS, OVAL, RIGID, Head, mirror_index, neutral
from thlib.presenter import face

AT = {name: k for k, name in enumerate(BLENDSHAPES)}
FLIP = np.array([-1, 1, 1], np.float32)
SAME_PERSON = 1.5  # deviations: two clips of one speaker are 0.7 apart, two speakers 1.9 or more


def setting(**controls) -> np.ndarray:
    """Controls (1, 52); a name without a side means both."""
    out = np.zeros((1, 52), np.float32)
    for name, value in controls.items():
        for one in [name] if name in AT else [name + "Left", name + "Right"]:
            out[0, AT[one]] = value
    return out


def anyhow(seed: int, frames: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A face at rest (478, 3) and controls (T, 52): a few of them anything in [0, 1], the others 0."""
    rng = np.random.default_rng(seed)
    controls = rng.uniform(0, 1, (frames, 52)) * (rng.random((frames, 52)) < rng.uniform(0.05, 0.5))
    return face.shape(rng.normal(size=12)), controls.astype(np.float32)


def test_the_model_is_symmetric_and_frontal_and_lies_in_the_neutral_frame():
    m = face.model()
    assert np.abs(m.neutral[mirror_index()] * FLIP - m.neutral).max() < 1e-3
    head = Head.fit(m.neutral[None])
    assert np.abs(head.rotation - np.eye(3)).max() < 0.02
    assert head.scale == pytest.approx(1, abs=0.01)
    assert np.abs(head.shift).max() < 0.02
    assert np.linalg.norm(m.neutral - neutral(), axis=1).max() < 0.15  # another mean of other people, no other place


def test_controls_are_twins_and_neutral_is_nothing():
    m = face.model()
    assert not m.controls[AT["_neutral"]].any()
    for name, k in AT.items():
        twin = AT[name.replace("Left", "#").replace("Right", "Left").replace("#", "Right")]
        assert np.abs((m.controls[k] * FLIP)[mirror_index()] - m.controls[twin]).max() < 2e-3, name


def test_each_control_moves_only_its_region():
    length = np.linalg.norm(face.model().controls, axis=2)
    regions = length / length.max(1, keepdims=True).clip(1e-6)
    mouth, brow_left, brow_right = LIPS, BROWS[1], BROWS[0]
    for name, k in AT.items():
        if name.startswith(("brow", "eye")):
            assert regions[k, mouth].max() < 0.02, name
        if name.startswith(("mouth", "jaw")):
            assert regions[k, np.concatenate(BROWS)].max() < 0.02, name
        if name.startswith(("brow", "eye")) and name.endswith("Left"):
            assert regions[k, brow_right].max() < 0.1, name
        if name.startswith(("brow", "eye")) and name.endswith("Right"):
            assert regions[k, brow_left].max() < 0.1, name


def test_left_is_the_persons_left_and_so_the_images_right():
    moved = np.abs(face.displacement(setting(eyeBlinkLeft=1))[0]).sum(1)
    assert moved[EYES[1]].sum() > 0.5
    assert moved[EYES[0]].max() < 1e-3
    assert face.model().neutral[EYES[1], 0].min() > 0


def test_triangles_cover_the_face_and_face_the_viewer():
    m = face.model()
    a, b, c = np.moveaxis(m.neutral[m.triangles, :2], 1, 0)
    area = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    ring = m.neutral[OVAL, :2]
    whole = 0.5 * abs(np.sum(ring[:, 0] * np.roll(ring[:, 1], -1) - np.roll(ring[:, 0], -1) * ring[:, 1]))
    eyes = [m.neutral[e, :2] for e in EYES]
    holes = sum(0.5 * abs(np.sum(e[:, 0] * np.roll(e[:, 1], -1) - np.roll(e[:, 0], -1) * e[:, 1])) for e in eyes)
    assert 840 <= len(m.triangles) <= 900
    assert area.sum() == pytest.approx(whole - holes, rel=0.02)
    assert np.array_equal(np.unique(m.triangles), np.arange(468))


def test_no_control_is_no_motion_and_what_it_gives_has_its_type():
    assert not face.displacement(np.zeros((3, 52))).any()
    assert face.displacement(np.zeros((2, 52), np.float64)).dtype == np.float32
    with pytest.raises(FaceError, match=r"\(frames, 52\)"):
        face.displacement(np.zeros(52))


def test_away_from_lids_lips_and_irises_the_model_is_linear():
    _, controls = anyhow(1)
    controls[:, AT["mouthClose"]] = 0
    far = np.setdiff1d(np.arange(468), np.flatnonzero(face.model().lips.sum((0, 2)) > 0))
    far = np.setdiff1d(far, np.concatenate(face.LIDS).ravel())
    expected = np.tensordot(controls, face.model().controls, 1)[:, far]
    assert np.allclose(face.displacement(controls)[:, far], expected, atol=1e-5)


def lid_gap(points: np.ndarray, side: int) -> np.ndarray:
    """Distance (T, 7) between the lids' pairs."""
    upper, lower = face.LIDS[side]
    return np.linalg.norm(points[:, upper] - points[:, lower], axis=2)


def lip_gap(points: np.ndarray) -> np.ndarray:
    """Distance (T, 9) between the lips' pairs."""
    return np.linalg.norm(points[:, face.LIP_PAIRS[0]] - points[:, face.LIP_PAIRS[1]], axis=2)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_lids_meet_at_a_full_blink_whatever_else_they_do(seed):
    rest, controls = anyhow(seed)
    for side, name in ((0, "eyeBlinkRight"), (1, "eyeBlinkLeft")):
        shut = controls.copy()
        shut[:, AT[name]] = 1
        assert lid_gap(rest + face.displacement(shut, shape=rest), side).max() < 1e-5


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_lips_never_cross_and_meet_where_they_are_closed(seed):
    rest, controls = anyhow(seed)
    points = rest + face.displacement(controls, shape=rest)
    assert (points[:, face.LIP_PAIRS[1], 1] - points[:, face.LIP_PAIRS[0], 1]).min() > -1e-5
    controls[:, AT["mouthClose"]] = 1
    assert lip_gap(rest + face.displacement(controls, shape=rest)).max() < 1e-5


def test_a_planted_fault_is_caught(monkeypatch):
    """Lids that stop at 80 % and lips that never meet fail the two tests above."""
    close_lids, close_lips = face._close_lids, face._close_lips
    monkeypatch.setattr(face, "_close_lids", lambda points, blink, side: close_lids(points, 0.8 * blink, side))
    monkeypatch.setattr(face, "_close_lips", lambda points, seal: close_lips(points, 0 * seal))
    points = face.model().neutral + face.displacement(setting(eyeBlink=1, jawOpen=0.6, mouthClose=1))
    assert lid_gap(points, 0).max() > 0.01
    assert lip_gap(points).max() > 0.1


def test_a_blink_closes_steadily():
    controls = np.repeat(setting(), 11, axis=0)
    controls[:, AT["eyeBlinkLeft"]] = np.linspace(0, 1, 11)
    gap = lid_gap(face.model().neutral + face.displacement(controls), 1).mean(1)
    assert np.allclose(gap / gap[0], 1 - np.linspace(0, 1, 11), atol=0.12)
    assert (np.diff(gap) < 0).all()


def test_irises_turn_with_the_eyeball():
    rest, controls = anyhow(3)
    points = rest + face.displacement(controls, shape=rest)
    for side in (0, 1):
        away = np.linalg.norm(points[:, IRIS[side]] - face.eyeball(rest, side), axis=2)
        assert np.allclose(away, away[:1], atol=1e-5)
        assert away[:, 1:].mean() == pytest.approx(face.EYEBALL, rel=0.1)
    to_the_left = face.displacement(setting(eyeLookOutLeft=1, eyeLookInRight=1))[0]
    assert to_the_left[468, 0] > 0.05  # both to the person's left, the image's right
    assert to_the_left[473, 0] > 0.05
    assert face.displacement(setting(eyeLookDown=1))[0, [468, 473], 1].min() > 0.03


def test_every_identity_keeps_the_heads_place():
    for seed in range(20):
        rest, _ = anyhow(seed)
        head = Head.fit(rest[None])
        assert np.abs(head.rotation - np.eye(3)).max() < 0.01
        assert head.scale == pytest.approx(1, abs=0.01)
        assert lip_gap(rest[None]).max() < 1e-5
        assert np.abs(Head.fit(rest[None] + face.displacement(setting(jawOpen=1, mouthSmile=1))).scale - 1) < 0.03


def test_a_control_moves_the_rigid_points_hardly():
    still = RIGID[4:]  # the first four are the forehead's, which brows lift
    assert np.linalg.norm(face.model().controls[:, still], axis=2).max() < 0.05


READ = {"jawOpen": 0.7, "eyeBlinkLeft": 0.7, "mouthSmileRight": 0.7, "mouthPucker": 0.7, "mouthFunnel": 0.6}
READ |= {"browInnerUp": 0.6, "browDownLeft": 0.6, "eyeWideRight": 0.6, "mouthUpperUpLeft": 0.6, "jawLeft": 0.6}


@pytest.mark.parametrize(("name", "least"), READ.items())
def test_the_network_reads_from_the_points_what_was_set(mirror, name, least):
    from thlib.mesh import FaceMesh

    net, controls = FaceMesh(), np.concatenate([setting(), setting(**{name: 0.5}), setting(**{name: 1})])
    shapes = (face.model().neutral + face.displacement(controls)) * 100 + 128
    none, half, whole = (net.blendshapes(shape)[AT[name]] for shape in shapes)
    assert whole - none > least
    assert none < half < whole


@pytest.fixture(scope="module")
def people(mirror):
    """tools/fit_face.py and the people that it tracked."""
    import fit_face

    files = ["grid-speakers/brbk7n.mpg", "talking-clips/lp_d6.mp4", "portraits/astronaut.png", "grid-s1/bbaf2n.mpg"]
    require(
        "mirror", all((mirror / file).is_file() for file in files), "the footage of the face model is not all there"
    )
    return fit_face, fit_face.people()


def test_motion_of_a_person_left_out_is_explained(people):
    fit_face, known = people
    whole, mouth = np.mean(list(fit_face.left_out(known).values()), axis=0)
    assert whole >= 0.70
    assert mouth >= 0.80


def test_nobody_drawn_is_as_near_to_a_real_person_as_real_people_are_to_each_other(people):
    """In deviations of the modes; nearer than the 5th percentile of everybody's distance to the nearest other."""
    from thlib.presenter.render import person

    fit_face, known = people
    m, moves = face.model(), fit_face.regression(known)
    rest = fit_face.expressionless(fit_face.rest_shapes(known, moves) - m.neutral, moves)
    real = np.einsum("nij,kij->nk", rest, m.modes) / m.deviations

    def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(a[:, None] - b[None], axis=2)

    apart = between(real, real)
    once = [i for i in range(len(real)) if not (apart[i, :i] < SAME_PERSON).any()]
    nearest = np.sort(apart[np.ix_(once, once)], axis=1)[:, 1]
    drawn = np.array([person(seed).identity for seed in range(1000)])
    assert between(drawn, real).min() > np.quantile(nearest, 0.05)
    planted = real[:1] + 0.1
    assert between(planted, real).min() < np.quantile(nearest, 0.05)
