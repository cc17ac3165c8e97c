"""What a notebook shows: sizes, the still form and the alt text of every view, and text that stays text."""

import base64
import io
import json
import time
from fractions import Fraction

import ipywidgets as widgets
import numpy as np
import pytest
from ipywidgets.widgets.widget import _instances
from matplotlib import pyplot
from PIL import Image

from thlib import show
from thlib.clip import Clip, Word, read
from thlib.editing.script import Span, diff
from thlib.errors import EditError, MediaError
from thlib.landmarks import BLENDSHAPES, FaceTrack, neutral
from thlib.presenter import render
from thlib.rig import Curves


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


def plain_figure(clip, alt):
    drawn, _ = pyplot.subplots(figsize=(2, 1))
    view = show.figure(drawn, alt)
    assert not pyplot.get_fignums()  # shown once, not again by the notebook
    return view


WORDS = [Word("<b>", 0.0, 0.1), Word("two", 0.1, 0.2), Word("three", 0.3, 0.45)]
STILL = {
    "picture": lambda clip, alt: show.picture(clip.frames[0], alt),
    "sound": lambda clip, alt: show.sound(clip.audio[:, 0], alt, words=WORDS),
    "figure": plain_figure,
}
LIVE = {
    "player": lambda clip, alt: show.player(clip, alt),
    "pair": lambda clip, alt: show.player(clip, alt, other=clip.cut(0, 7)),
    "transcript": lambda clip, alt: show.transcript(clip.audio[:, 0], WORDS, alt),
    "rig": lambda clip, alt: show.rig(alt, size=64),
    "curves": lambda clip, alt: show.rig(alt, curves=CURVES, audio=clip.audio[:, 0], size=64),
    "compare": lambda clip, alt: show.compare(clip.frames[0], clip.frames[9], alt),
    "compared clips": lambda clip, alt: show.compare(clip, clip.cut(0, 7), alt, titles=("<i>", "new")),
}
CURVES = np.zeros((12, 52), np.float32)
CURVES[:, BLENDSHAPES.index("jawOpen")] = np.linspace(0, 1, 12)


@pytest.mark.parametrize("kind", [*STILL, *LIVE])
def test_every_view_has_html_a_still_and_its_alt_text_as_text(clip, kind):
    alt = 'two words: <img onerror="x"> & more'
    view = (STILL | LIVE)[kind](clip, alt)
    bundle = view._repr_mimebundle_()
    assert bundle["text/plain"] == alt
    assert "&lt;img onerror=" in bundle["text/html"]
    assert "<img onerror" not in bundle["text/html"]
    assert "<i>" not in bundle["text/html"]
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
    drawn = []

    def draw(shade, frame):
        drawn.append((shade, frame))
        return show.picture(clip.frames[frame] + np.uint8(shade), f"frame {frame}, lighter by {shade}")

    controls = {"shade": widgets.IntSlider(3), "frame": widgets.Dropdown(options=[0, 5])}
    dials = show.Dials(draw, controls, positions=[{"frame": 5}, {"shade": 9}])
    assert drawn == [(3, 5), (9, 0)]
    shown = []
    monkeypatch.setattr(show, "display", lambda one, raw=False: shown.append(one))
    dials._ipython_display_()
    still, bundle = shown
    assert "running notebook" in bundle["text/plain"]
    box = _instances[bundle["application/vnd.jupyter.widget-view+json"]["model_id"]]
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


@pytest.mark.parametrize("kind", LIVE)
def test_a_view_that_a_hand_can_move_is_a_widget_too(clip, kind, capfd):
    view = LIVE[kind](clip, "what it shows")
    assert "widget" not in view.__dict__  # costs nothing before it is shown
    shown = _instances[view._repr_mimebundle_()["application/vnd.jupyter.widget-view+json"]["model_id"]]
    assert shown is view.widget
    assert json.loads(json.dumps(shown.state)) == view.state
    assert json.loads(json.dumps(shown.facts))["alt"] == "what it shows"
    assert "export default" in shown._esm
    for content in view.media.values():  # a video is once in the page's form and once in the widget's
        assert view.html.count(show._base64(content)) <= 1
        assert type(content) is bytes
    assert capfd.readouterr() == ("", ""), "it would stand red in the notebook"


def test_a_player_s_video_is_the_clip(clip, tmp_path):
    view = LIVE["pair"](clip, "x")
    for name, count in zip("ab", (12, 7)):
        (tmp_path / "clip.mp4").write_bytes(view.media[name])
        assert len(read(tmp_path / "clip.mp4").frames) == count
        assert view.html.count(show._base64(view.media[name])) == 1


def test_a_replay_is_what_a_hand_would_do(clip):
    view = LIVE["pair"](clip, "x")
    assert view.replay([{"frame": 5}, {"speed": 0.5, "side": 1}]) is view
    assert view.state == {"frame": 5, "first": 0, "last": 11, "speed": 0.5, "side": 1}
    shown = view.widget
    view.replay([{"frame": 99, "speed": 9, "first": -1}])
    assert shown.state == view.state == {"frame": 11, "first": 0, "last": 11, "speed": 2.0, "side": 1}
    shown.state = shown.state | {"frame": 3}  # a hand
    assert view.state["frame"] == 3
    with pytest.raises(EditError, match=r"no volume: take frame"):
        view.replay([{"volume": 1}])
    assert LIVE["compare"](clip, "x").replay([{"divider": -3}]).state == {"divider": 0.0}


def test_only_what_fits_is_compared(clip):
    for other in (clip.frames[0, :50], clip, Clip(clip.frames, Fraction(30), clip.audio, 16000)):
        with pytest.raises(MediaError, match="make them equal"):
            show.compare(other, clip if other is not clip else clip.frames[0], "x")
    with pytest.raises(MediaError, match="make them equal"):
        show.player(clip, "x", other=Clip(clip.frames[:, :50], clip.fps, clip.audio, 16000))


@pytest.fixture
def sentence(clip):
    words = [Word(text, 0.1 * k, 0.1 * k + (0.1 if k < 2 else 0.06)) for k, text in enumerate(["our", "shop", "opens"])]
    return show.transcript(clip.audio[:, 0], [*words, Word("now", 0.3, 0.4)], "our shop opens now")


def test_a_transcript_is_edited(sentence):
    assert sentence.text == "our shop opens now"
    heard = sentence.words
    sentence.replay([{"select": [2, 1]}, {"replace": "old  red\tshop"}])
    assert (sentence.text, sentence.state["select"]) == ("our old red shop opens now", [1, 4])
    assert diff(heard, sentence.text) == [Span(1, 1, ("old", "red"))]
    sentence.replay([{"insert": ["very", 1]}, {"select": [5, 9]}, {"delete": True}, {"insert": ["here", 99]}])
    assert (sentence.text, sentence.state["select"]) == ("our very old red shop here", [5, 6])
    sentence.replay([{"undo": True}] * 2)
    assert (sentence.text, sentence.state["select"]) == ("our very old red shop opens now", [5, 7])
    sentence.replay([{"redo": True}, {"redo": True}, {"redo": True}])
    assert sentence.text == "our very old red shop here"
    sentence.replay([{"undo": True}] * 9)
    assert sentence.text == "our shop opens now"
    sentence.replay([{"select": [0, 1]}, {"delete": True}])
    assert sentence.state["future"] == []  # what was undone is gone once something else is done
    before = sentence.state
    assert sentence.replay([{"insert": ["  ", 1]}, {"delete": True}]).state == before  # nothing to do, nothing to undo
    assert sentence.words == heard
    with pytest.raises(EditError, match=r"No step 'cut'"):
        sentence.replay([{"cut": True}])


def times(view):
    return [time for word in view.words for time in (word.start, word.end)]


def test_boundaries_are_dragged_no_further_than_the_next(sentence):
    assert times(sentence) == pytest.approx([0, 0.1, 0.1, 0.2, 0.2, 0.26, 0.3, 0.4])
    sentence.replay([{"drag": [1, 0.15]}])  # both words that touch there
    assert times(sentence)[:4] == pytest.approx([0, 0.15, 0.15, 0.2])
    sentence.replay([{"drag": [1, 9]}])
    assert times(sentence)[:4] == pytest.approx([0, 0.18, 0.18, 0.2])  # 20 ms stay of a word
    sentence.replay([{"drag": [1, -9]}])
    assert times(sentence)[:4] == pytest.approx([0, 0.02, 0.02, 0.2])
    sentence.replay([{"drag": [3, 0]}])  # over a pause, to the word before it
    assert times(sentence)[4:] == pytest.approx([0.2, 0.26, 0.26, 0.4])
    sentence.replay([{"undo": True}, {"end": [2, 0.28]}])  # the pause's other side
    assert times(sentence)[4:] == pytest.approx([0.2, 0.28, 0.3, 0.4])
    sentence.replay([{"end": [3, 9]}, {"drag": [1, 0.1]}, {"drag": [0, 0.01]}])
    assert times(sentence)[-1] == pytest.approx(12 / 25)  # the end of the sound
    assert times(sentence)[0] == pytest.approx(0.01)
    assert sentence.text == "our shop opens now"
    sentence.replay([{"undo": True}] * 9)
    assert times(sentence) == pytest.approx([0, 0.1, 0.1, 0.2, 0.2, 0.26, 0.3, 0.4])
    empty = show.transcript(np.zeros(160, np.float32), [], "nothing").replay([{"drag": [0, 1]}, {"insert": ["hi", 0]}])
    assert (empty.text, empty.words) == ("hi", [])


def test_the_rig_draws_where_its_sliders_stand(monkeypatch):
    view = show.rig("a face", identity=3, size=96)
    rest = view.drawn()
    values = np.zeros((1, 52))
    values[0, BLENDSHAPES.index("jawOpen")] = 0.7
    view.replay([{"jawOpen": 0.7}])
    np.testing.assert_array_equal(view.drawn(), render.render(render.person(3), values, size=(96, 96)).frames[0])
    assert not np.array_equal(view.drawn(), rest)
    sent = []
    monkeypatch.setattr(view.widget, "send", lambda message, buffers: sent.append(buffers[0]))
    view.widget.state = view.state | {"jawOpen": 0.2}  # a hand
    (face,) = sent
    difference = np.array(Image.open(io.BytesIO(face))).astype(int) - view.drawn()
    assert np.abs(difference).mean() < 3
    assert view.state["jawOpen"] == 0.2
    with pytest.raises(EditError, match="no jawopen"):
        view.replay([{"jawopen": 1}])


def test_a_face_is_drawn_within_50_ms():
    view = show.rig("a face")
    view.drawn()
    spent = []
    for _ in range(7):
        begin = time.perf_counter()
        show._png(view.drawn(), ".jpg")
        spent.append(time.perf_counter() - begin)
    assert min(spent) < 0.05


def test_curves_play_and_the_sliders_follow(clip, tmp_path):
    view = LIVE["curves"](clip, "x")
    (tmp_path / "clip.mp4").write_bytes(view.media["a"])
    played = read(tmp_path / "clip.mp4")
    assert len(played.frames) == 12
    assert not played.silent
    view.replay([{"frame": 11}])
    assert view.state["jawOpen"] == 1.0
    assert np.abs(view.drawn().astype(int) - played.frames[11]).mean() < 4
    assert view.replay([{"frame": 0}, {"jawOpen": 0.5}]).state["jawOpen"] == 0.5
    curves = Curves(CURVES, "mediapipe", 50, head=np.linspace(0, 30, 36).reshape(12, 3))
    turned = show.rig("x", curves=curves.to("arkit"), size=64)
    assert turned.facts["fps"] == 50
    assert not np.array_equal(turned.still, show.rig("x", curves=CURVES, size=64).still)  # the head moves too
