"""What a notebook shows: sizes, the still form and the alt text of every view, and text that stays text."""

import base64
import io
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from thlib import show
from thlib.clip import Clip, Word
from thlib.landmarks import BLENDSHAPES, FaceTrack, neutral


@pytest.fixture(scope="module")
def clip():
    frames = np.repeat(np.arange(12, dtype=np.uint8)[:, None, None, None] * 10, 96 * 128 * 3, 1).reshape(12, 96, 128, 3)
    tone = 0.1 * np.sin(np.arange(round(12 / 25 * 16000)) / 16000 * 2 * np.pi * 300)
    return Clip(frames, Fraction(25), tone.astype(np.float32)[:, None], 16000)


@pytest.fixture(scope="module")
def track():
    points = np.repeat((neutral() * 30 + [64, 48, 0])[None], 12, 0).astype(np.float32)
    controls = np.linspace(0, 1, 12, dtype=np.float32)[:, None] * np.ones(len(BLENDSHAPES), np.float32)
    return FaceTrack(points, np.arange(12) < 6, (96, 128), Fraction(25), controls)


def decoded(view: show.View) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(view._repr_mimebundle_()["image/png"]))))


@pytest.mark.parametrize("kind", ["player", "picture", "sound", "figure"])
def test_every_view_has_html_a_still_and_its_alt_text_as_text(clip, kind):
    alt = 'two words: <img onerror="x"> & more'
    if kind == "figure":
        from matplotlib import pyplot

        drawn, _ = pyplot.subplots(figsize=(2, 1))
        view = show.figure(drawn, alt)
        assert not pyplot.get_fignums()  # shown once, not again by the notebook
    elif kind == "sound":
        view = show.sound(clip.audio[:, 0], alt, words=[Word("<b>", 0.1, 0.2)])
    else:
        view = show.player(clip, alt) if kind == "player" else show.picture(clip.frames[0], alt)
    bundle = view._repr_mimebundle_()
    assert bundle["text/plain"] == alt
    assert "&lt;img onerror=" in bundle["text/html"]
    assert "<img onerror" not in bundle["text/html"]
    assert "http" not in bundle["text/html"]
    np.testing.assert_array_equal(decoded(view), view.still)


def test_a_contact_sheet_has_every_frame_in_order(clip):
    sheet = show.sheet(clip.frames, columns=5)
    assert sheet.shape == (3 * 96, 5 * 128, 3)
    assert [int(sheet[96 * (k // 5) + 48, 128 * (k % 5) + 64, 0]) for k in range(12)] == list(range(0, 120, 10))
    assert (sheet[-1, -1] == 255).all()
    titled = show.sheet(clip.frames, columns=5, titles=["0", "1"])
    assert not np.array_equal(titled[:96, :256], sheet[:96, :256])
    np.testing.assert_array_equal(titled[96:], sheet[96:])


def test_dials_redraw_and_have_a_still_form_and_a_replay(clip, monkeypatch):
    import ipywidgets as widgets

    drawn = []

    def draw(shade, frame):
        drawn.append((shade, frame))
        return show.picture(clip.frames[frame] + np.uint8(shade), f"frame {frame}, lighter by {shade}")

    controls = {"shade": widgets.IntSlider(3), "frame": widgets.Dropdown(options=[0, 5])}
    dials = show.Dials(draw, controls, positions=[{"frame": 5}, {"shade": 9}])
    assert drawn == [(3, 5), (9, 0)]
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    dials._ipython_display_()
    still, box = shown
    assert still.alt == "frame 5, lighter by 3; frame 0, lighter by 9"
    np.testing.assert_array_equal(still.still, np.hstack([clip.frames[5] + np.uint8(3), clip.frames[0] + np.uint8(9)]))
    assert box.children[:2] == tuple(controls.values())
    assert controls["shade"].continuous_update is False
    assert "frame 0, lighter by 3" in box.children[2].value
    assert dials.replay(shade=7, frame=5).alt == "frame 5, lighter by 7"
    assert "frame 5, lighter by 7" in box.children[2].value
    controls["frame"].value = 0  # a hand
    assert "frame 0, lighter by 7" in box.children[2].value


def test_the_cursor_runs_and_a_hidden_face_is_not_drawn_over(clip, track):
    moving = show.running(clip, track, words=[Word("now", 0.1, 0.3)])
    assert moving.frames.shape[:2] == (12, 288)
    np.testing.assert_array_equal(moving.frames[8, ::3, :384:3], clip.frames[8])
    assert not np.array_equal(moving.frames[2, ::3, :384:3], clip.frames[2])
    red = [np.flatnonzero((f[140, 384:] == [213, 94, 0]).all(-1)).mean() for f in moving.frames]
    np.testing.assert_allclose(np.diff(red), np.mean(np.diff(red)), atol=1.01)
    assert np.mean(np.diff(red)) > 2
    np.testing.assert_array_equal(moving.audio, clip.audio)
