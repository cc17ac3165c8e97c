"""The presenter's renderer: exact points, no holes, lids and lips that close, faces that the networks see truly."""

import time
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import presenter_judge as judge
import pytest
from presenter_judge import AT
from scipy.ndimage import minimum_position
from test_face import setting

from thlib.errors import FaceError
from thlib.landmarks import BLENDSHAPES, EYES, IRIS, LIPS_INNER, FaceTrack, Head, head_angles
from thlib.presenter import face, render
from thlib.presenter.face import model
from thlib.presenter.render import Person, person, place

SIZE = (192, 192)
EXTREMES = [(y, p, r) for y in (-35, 0, 35) for p in (-25, 0, 25) for r in (-20, 20)]
MAGENTA = (1.0, 0.0, 1.0)


def draw(who: Person, controls: np.ndarray, angles: tuple = (0, 0, 0), size: tuple[int, int] = SIZE) -> render.Rendered:
    """All controls (T, 52) at one pose."""
    return render.render(who, controls, head=place(np.tile(angles, (len(controls), 1)), size), size=size)


def test_a_rendered_clip_is_a_track_in_one_line():
    drawn = draw(person(1), setting(jawOpen=0.5), (15, -10, 5))
    track = FaceTrack(drawn.points, drawn.visible.any(1), SIZE, Fraction(25), setting(), drawn.pose)
    assert drawn.frames.dtype == np.uint8
    assert drawn.frames.shape == (1, *SIZE, 3)
    assert drawn.points.dtype == np.float32
    assert drawn.points.shape == (1, 478, 3)
    assert drawn.visible.dtype == bool
    assert np.allclose(head_angles(track), [[15, -10, 5]], atol=0.1)
    fitted = Head.fit(drawn.points)
    assert np.allclose(head_angles(replace(track, pose=fitted.matrix)), [[15, -10, 5]], atol=2.5)
    assert fitted.scale == pytest.approx(place(np.zeros((1, 3)), SIZE).scale, rel=0.03)


def test_the_same_person_is_drawn_the_same_and_others_differ():
    controls = np.repeat(setting(mouthSmile=0.5), 2, axis=0)
    assert np.array_equal(draw(person(4), controls).frames, draw(person(4), controls).frames)
    assert np.array_equal(draw(person(4), controls).frames[0], draw(person(4), controls[:1]).frames[0])
    assert person(4) == person(4)
    assert len({person(seed) for seed in range(50)}) == 50
    assert {person(seed).tone for seed in range(100)} == set(range(1, 11))
    assert {person(seed).hair for seed in range(100)} == set(render._mesh()["styles"])


def test_poses_and_controls_must_be_equally_many():
    with pytest.raises(FaceError, match="2 frames of controls came with 3"):
        render.render(person(0), np.zeros((2, 52)), head=place(np.zeros((3, 3)), SIZE), size=SIZE)


def test_points_move_with_the_picture():
    """A head that is shifted by whole pixels is the same picture, shifted, and so are its points."""
    who, head = person(2)._replace(backdrop=(0.2,) * 6), place(np.array([[10, 5, 0]]), SIZE)
    moved = Head(head.rotation, head.scale, head.shift + [[9, -7, 0]])
    one, other = (render.render(who, setting(jawOpen=0.4), head=h, size=SIZE) for h in (head, moved))
    assert np.allclose(other.points - one.points, [9, -7, 0], atol=1e-3)
    centre = [slice(60, 130), slice(60, 130)]
    there = [slice(60 - 7, 130 - 7), slice(60 + 9, 130 + 9)]
    different = np.abs(one.frames[0][tuple(centre)].astype(int) - other.frames[0][tuple(there)])
    assert np.mean(different > 2) < 0.002


def test_a_larger_frame_shows_the_same():
    small, large = (draw(person(3), setting(mouthSmile=0.6), (10, 0, 0), (n, n)) for n in (128, 512))
    shrunk = cv2.resize(large.frames[0], (128, 128), interpolation=cv2.INTER_AREA)
    assert np.allclose(large.points, small.points * 4, atol=1e-2)
    assert np.abs(shrunk.astype(int) - small.frames[0]).mean() < 3


def test_pupils_are_drawn_where_the_irises_are():
    for look in ({}, {"eyeLookOutLeft": 0.7, "eyeLookInRight": 0.7}, {"eyeLookUp": 0.5}):
        who = person(5)._replace(iris=(0.5, 0.5, 0.5), skin=(0.6, 0.6, 0.6))
        drawn = draw(who, setting(eyeWide=0.8, **look), (0, 0, 0), (512, 512))
        grey = cv2.GaussianBlur(drawn.frames[0].mean(2), (0, 0), 3)
        for side in (0, 1):
            x, y = np.round(drawn.points[0, IRIS[side][0], :2]).astype(int)
            dark = np.array(minimum_position(grey[y - 8 : y + 9, x - 8 : x + 9])) - 8
            assert np.abs(dark).max() <= 3, (look, side, dark)


def test_what_is_hidden_is_not_visible():
    turned = draw(person(6), setting(), (35, 0, 0))
    assert turned.visible[0, 234] != turned.visible[0, 454]  # one side of the face is behind the other
    assert draw(person(6), setting()).visible[0, :468].mean() > 0.93
    assert draw(person(6), setting()).visible[0, 468:].mean() > 0.5
    assert not draw(person(6), setting(eyeBlink=1)).visible[0, 468:].any()
    away = render.render(
        person(6), setting(), head=place(np.zeros((1, 3)), SIZE, shift=np.array([[1.7, 0]])), size=SIZE
    )
    assert 0 < away.visible[0].mean() < 0.8


def inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels (H, W) that the face mesh, its eyes and its mouth cover, less their edge."""
    mask = np.zeros(size, np.uint8)
    for polygon in [*model().triangles, *EYES, LIPS_INNER]:
        cv2.fillPoly(mask, [np.round((points[polygon, :2] - 0.5) * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    return cv2.erode(mask, np.ones((5, 5), np.uint8)) > 0


def holes(who: Person, controls: np.ndarray, angles: tuple) -> int:
    """Pixels inside the face in which the magenta backdrop shows; no hair hides it."""
    bare = who._replace(backdrop=MAGENTA * 2, clothes=(0.2, 0.2, 0.2, 0), hair="bald", beard=0.0)
    drawn = draw(bare, controls, angles)
    red, green, blue = np.moveaxis(drawn.frames.astype(int), -1, 0)
    shown = (red > green + 90) & (blue > green + 90)
    return sum(int((shown[t] & inside(drawn.points[t], SIZE)).sum()) for t in range(len(controls)))


@pytest.mark.parametrize("angles", EXTREMES)
def test_no_hole_shows_the_backdrop_at_extreme_poses_and_controls(angles):
    rng = np.random.default_rng(abs(hash(angles)) % 1000)
    wild = (rng.uniform(0, 1, (4, 52)) * (rng.random((4, 52)) < 0.2)).astype(np.float32)
    controls = np.concatenate([setting(), setting(jawOpen=1), setting(eyeWide=1, jawOpen=1, mouthFunnel=1), wild])
    assert holes(person(int(rng.integers(100))), controls, angles) == 0


def test_no_single_control_tears_the_face():
    controls = np.eye(52, dtype=np.float32)[1:]
    assert holes(person(7), controls, (20, 10, 0)) == 0


def test_a_planted_hole_is_counted(monkeypatch):
    mesh = render._mesh()
    kept = ~(mesh["triangles"] == 50).any(1)  # what meets in a point of the cheek
    torn = mesh | {"triangles": mesh["triangles"][kept], "materials": mesh["materials"][kept]}
    monkeypatch.setattr(render, "_mesh", lambda: torn)
    assert holes(person(7), setting(), (0, 0, 0)) > 5


def shown(who: Person, controls: np.ndarray, materials: tuple[int, ...], angles: tuple = (0, 0, 0)) -> int:
    """Samples in which a material is seen."""
    head, rest, mesh = place(np.array([angles]), SIZE), face.shape(np.array(who.identity)), render._mesh()
    fixed = (rest + face.displacement(controls, shape=rest)).astype(np.float32)[0]
    xyz = render._pose(fixed, render._looks(who, 0)[0], render._moves(head)[0])
    grid = [n * render.SAMPLES for n in SIZE]
    buffers = np.empty(grid, np.float32), np.empty(grid, np.int32), np.empty((*grid, 2), np.float32)
    render._rasterise(xyz, mesh["triangles"], mesh["materials"], buffers)
    number = buffers[1]
    return int(np.isin(mesh["materials"][number[number >= 0]], materials).sum())


EYE, MOUTH = 3, 4


@pytest.mark.parametrize("angles", [(0, 0, 0), (30, 0, 0), (-20, 15, 10), (0, -20, 0)])
def test_closed_eyes_and_lips_let_nothing_through(angles):
    for seed in range(6):
        who = person(seed)
        assert shown(who, setting(), (EYE,), angles) > 50
        assert shown(who, setting(jawOpen=0.6), (MOUTH,), angles) > 20
        assert shown(who, setting(eyeBlink=1, eyeSquint=0.3, mouthSmile=0.5), (EYE,), angles) <= 2
        assert shown(who, setting(jawOpen=0.5, mouthClose=1), (MOUTH,), angles) <= 2
        assert shown(who, setting(), (MOUTH,), angles) <= 2


def test_a_planted_fault_shows_eyes_and_mouth(monkeypatch):
    """Lids that stop at 80 % and lips that never meet."""
    close_lids, close_lips = face._close_lids, face._close_lips
    monkeypatch.setattr(face, "_close_lids", lambda points, blink, side: close_lids(points, 0.8 * blink, side))
    monkeypatch.setattr(face, "_close_lips", lambda points, seal: close_lips(points, 0 * seal))
    assert shown(person(0), setting(eyeBlink=1), (EYE,)) > 20
    assert shown(person(0), setting(jawOpen=0.5, mouthClose=1), (MOUTH,)) > 20


def test_speed():
    """16 ms a frame at 128² and 40 ms at 256², of the process's own time, so that a busy machine doesn't count."""
    controls = np.zeros((20, 52), np.float32)
    for n, budget in ((128, 1 / 60), (256, 1 / 25)):
        render.render(person(0), controls[:1], size=(n, n))
        spent = []
        for _ in range(3):
            start = time.process_time()
            render.render(person(0), controls, size=(n, n))
            spent.append((time.process_time() - start) / len(controls))
        assert min(spent) < 1.5 * budget  # bench_presenter.py has the figures


GATES = {"jawOpen": 0.85, "eyeBlinkLeft": 0.85, "eyeBlinkRight": 0.85, "mouthSmileLeft": 0.85, "mouthSmileRight": 0.85}
GATES |= {"mouthPucker": 0.65, "mouthFunnel": 0.65}


@pytest.fixture(scope="module")
def seen(mirror):
    """What the networks see of eighty people."""
    return judge.look(range(90_000, 90_080))


def test_the_networks_find_every_face_and_its_landmarks(seen):
    assert seen.found.mean() >= 0.995
    assert seen.median() <= 2.0  # % of the outer eye corners' distance
    assert judge.mouth(seen) <= 2.5
    assert seen.median(pupils=True) <= 2.7
    assert judge.mouth(seen, pupils=True) <= 3.0


@pytest.mark.parametrize("name", GATES)
def test_the_networks_read_the_controls(seen, name):
    assert seen.correlation(name) >= GATES[name] - 0.04  # eighty people are few; the benchmark judges three hundred


def test_no_skin_is_seen_worse_by_half(seen):
    errors = [judge.mouth(seen, tones=band) for band in ((1, 3), (4, 5), (6, 7), (8, 10))]
    assert max(errors) <= 1.5 * min(errors)


def test_the_range_of_what_is_read_covers_people(seen):
    """The 5 to 95 % ranges of the talking clips: 0 to 0.52 (jaw), 0.60 (smile), 0.82 (pucker)."""
    swept = {name: seen.read[seen.swept == name][:, AT[name]] for name in BLENDSHAPES}
    for name, most in (("jawOpen", 0.52), ("mouthSmileLeft", 0.6), ("mouthPucker", 0.75)):
        low, high = np.nanquantile(swept[name], [0.05, 0.95])
        assert low < 0.1
        assert high > most
