"""What a notebook shows: a video with its sound, frames side by side, a transcript to edit, a face with its curves.

Every view is one object that knows an HTML form, a still picture for pages that cannot play it, and its alt text.
Those that a hand can move (`Live`) are widgets in a running notebook, drawn by static/<view>.js.
"""

# T frames  H height  W width  S samples  K controls
from __future__ import annotations

import base64
import html
import io
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import soundfile
from anywidget import AnyWidget
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from traitlets import Dict, Unicode

from thlib.clip import Clip, Word, write
from thlib.errors import EditError, MediaError
from thlib.landmarks import BLENDSHAPES, FaceTrack, draw
from thlib.presenter import render
from thlib.rig import Curves

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"  # Okabe & Ito
POSES: dict[str, dict[str, float]] = {  # of the rig's still form
    "at rest": {},
    "browInnerUp": {"browInnerUp": 1.0},
    "eyeBlink": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "jawOpen": {"jawOpen": 0.7},
    "mouthSmile": {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0},
    "mouthPucker": {"mouthPucker": 1.0},
}


@dataclass(frozen=True)
class View:
    """HTML for a notebook, `still` uint8 (H, W, 3) for a page without it, `alt` text for who sees neither."""

    html: str
    still: np.ndarray
    alt: str

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/html": self.html, "image/png": _base64(_png(self.still)), "text/plain": self.alt}


class _Widget(AnyWidget):
    """What the page gets: JSON that a hand changes (`state`), JSON and bytes that stay (`facts`, `media`)."""

    _esm = Unicode().tag(sync=True)
    state = Dict().tag(sync=True)
    facts = Dict().tag(sync=True)
    media = Dict().tag(sync=True)


class Live(View):
    """A view that a hand can move in a running notebook; in a page without a kernel it is its still form.

    state: plain JSON, all that a hand changes; limits: the least and greatest of its numbers.
    """

    def __init__(self, script: str, still: View, state: dict[str, Any], **shown: Any):
        super().__init__(still.html, still.still, still.alt)
        self.script, self.state, self._shown = script, state, {"limits": {}, "facts": {}, "media": {}} | shown
        self.limits = self._shown.pop("limits")

    def replay(self, steps: Sequence[Mapping[str, Any]]) -> Self:
        """Change the state as a hand would, step by step: `[{"frame": 12}, {"speed": 0.5}]`; numbers are kept within
        their limits. EditError for a step that the view does not have."""
        for step in steps:
            self.state = self._step(dict(step))
        if "widget" in self.__dict__:
            self.widget.state = self.state
        return self

    def _step(self, step: dict[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(step) - set(self.state)):
            raise EditError(f"The {self.script} has no {', '.join(unknown)}: take {', '.join(self.state)}.")
        fit = {key: min(max(step[key], low), high) for key, (low, high) in self.limits.items() if key in step}
        return self.state | step | fit

    @cached_property
    def widget(self) -> _Widget:
        """The widget, made when it is first shown."""
        script, facts = Path(__file__).parent / "static" / f"{self.script}.js", {"alt": self.alt} | self._shown["facts"]
        made = _Widget(_esm=script.read_text(), state=self.state, facts=facts, media=self._shown["media"])
        made.observe(lambda change: self._moved(change.new), "state")
        return made

    def _moved(self, state: dict[str, Any]) -> None:
        self.state = state

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        return super()._repr_mimebundle_() | {"application/vnd.jupyter.widget-view+json": view}


def player(clip: Clip, alt: str, *, other: Clip | None = None, width: int = 480) -> Live:
    """The clip as a video with sound, `width` pixels wide: frame by frame, slower, in a loop, and, key b, in turns with
    `other`. Its still form is six of its frames (over six of the other's).

    >>> player(clip, "She says nine.", other=edited).replay([{"frame": 12}, {"side": 1}])
    """
    clips = [clip] if other is None else [clip, other]
    videos, rows = [_mp4(c) for c in clips], [c.frames[np.linspace(0, len(c.frames) - 1, 6).astype(int)] for c in clips]
    tags = [_video(video, alt, width=width, poster=row[3]) for video, row in zip(videos, rows)]
    sheets = [sheet(row, columns=6) for row in rows]
    wide = max(s.shape[1] for s in sheets)
    still = np.vstack([np.pad(s, ((0, 0), (0, wide - s.shape[1]), (0, 0)), constant_values=255) for s in sheets])
    facts = {"fps": float(clip.fps), "frames": [len(c.frames) for c in clips], "width": width}
    last = max(facts["frames"]) - 1
    state = {"frame": 0, "speed": 1.0, "first": 0, "last": last, "side": 0}
    limits = {"speed": (0.25, 2.0), "side": (0, len(clips) - 1)} | dict.fromkeys(("frame", "first", "last"), (0, last))
    view = View("".join(tags), still, alt)
    return Live("player", view, state, limits=limits, facts=facts, media=dict(zip("ab", videos)))


def sound(audio: np.ndarray, alt: str, *, rate: int = 16000, words: Sequence[Word] = ()) -> View:
    """Mono sound (S,) with a player under its waveform, on which `words` stand where they are spoken."""
    drawn = Figure(figsize=(7, 1.6), dpi=100, layout="constrained")
    _wave(drawn.subplots(), audio, rate, words)
    content, still = io.BytesIO(), _pixels(drawn)
    soundfile.write(content, audio, rate, format="WAV")
    source = f'<source src="data:audio/wav;base64,{_base64(content.getvalue())}" type="audio/wav">'
    tag = f'<br><audio controls aria-label="{html.escape(alt, quote=True)}">{source}</audio>'
    return View(picture(still, alt).html + tag, still, alt)


def picture(image: np.ndarray, alt: str) -> View:
    """One picture uint8 (H, W, 3) with its alt text."""
    label = html.escape(alt, quote=True)
    return View(f'<img src="data:image/png;base64,{_base64(_png(image))}" alt="{label}">', image, alt)


def figure(drawn: Figure, alt: str) -> View:
    """A matplotlib figure as a picture with its alt text; a figure of pyplot's is closed, so that it shows once."""
    pyplot.close(drawn)
    return picture(_pixels(drawn), alt)


def sheet(frames: Sequence[np.ndarray], *, columns: int = 8, titles: Sequence[str] = ()) -> np.ndarray:
    """Contact sheet uint8 of pictures of one size, row by row, each with its title in the corner."""
    frames = [frame.copy() for frame in frames]
    for frame, title in zip(frames, titles):
        size = max(0.4, frame.shape[0] / 500)
        for dx, dy, colour in ((-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, 255)):  # a rim: it reads anywhere
            where = (6 + dx, frame.shape[0] - 8 + dy)
            cv2.putText(frame, title, where, cv2.FONT_HERSHEY_SIMPLEX, size, (colour,) * 3, 1, cv2.LINE_AA)
    frames += [np.full_like(frames[0], 255)] * (-len(frames) % columns)
    return np.vstack([np.hstack(frames[i : i + columns]) for i in range(0, len(frames), columns)])


def compare(
    before: np.ndarray | Clip, after: np.ndarray | Clip, alt: str, *, titles: tuple[str, str] = ("before", "after")
) -> Live:
    """Two pictures uint8 (H, W, 3), or two clips played in step, under one another, with a divider that is dragged.
    The still form has them side by side. MediaError where they differ in size or kind."""
    pair, moving = (before, after), isinstance(before, Clip)
    firsts = [p.frames[len(p.frames) // 2] if isinstance(p, Clip) else p for p in pair]
    if isinstance(after, Clip) != moving or firsts[0].shape != firsts[1].shape:
        kinds = " and ".join(f"{type(p).__name__} {f.shape}" for p, f in zip(pair, firsts))
        raise MediaError(f"Only pictures or clips of one size can be compared, not {kinds}; make them equal.")
    media = [_mp4(p) if isinstance(p, Clip) else _png(p) for p in pair]
    still = picture(sheet(firsts, columns=2, titles=titles), alt)
    state, limits = {"divider": 0.5}, {"divider": (0.0, 1.0)}
    facts = {"titles": list(titles), "size": list(firsts[0].shape[:2])}
    if moving:
        tags = "".join(_video(video, f"{t}: {alt}", width=360, poster=f) for video, t, f in zip(media, titles, firsts))
        last = max(len(p.frames) for p in pair) - 1
        still, state, limits = View(tags, still.still, alt), state | {"frame": 0}, limits | {"frame": (0, last)}
        facts |= {"fps": float(before.fps), "frames": [len(p.frames) for p in pair]}
    return Live("compare", still, state, limits=limits, facts=facts, media=dict(zip("ab", media)))


class Transcript(Live):
    """What was heard, and its edits. state: `select` [first, last) among the words of the text, `edits`, `undone`.

    Steps of a replay: {"select": [2, 3]} (half-open), {"delete": True}, {"replace": "seven"} (what is selected),
    {"insert": ["very", 2]} (before word 2 of the text), {"undo": True}, {"redo": True}, {"drag": [k, seconds]} (where
    word k that was heard begins; a word that ends there goes along), {"end": [k, seconds]} (where it ends).
    """

    @property
    def text(self) -> str:
        """The edited text, as `TextEditPipeline` takes it."""
        return " ".join(word for word, _ in self._edited()[0])

    @property
    def words(self) -> list[Word]:
        """The words that were heard, deleted or not, at the times that were dragged."""
        times = self._edited()[1]
        return [Word(word, *times[2 * k : 2 * k + 2]) for k, (word, *_) in enumerate(self._shown["facts"]["words"])]

    def _edited(self) -> tuple[list[list], list[float]]:
        """The text as [word, its number among those heard or -1], and the times start, end, start … of these."""
        heard = self._shown["facts"]["words"]
        text, times = [[word, k] for k, (word, *_) in enumerate(heard)], [t for _, *ends in heard for t in ends]
        for edit in self.state["edits"]:
            first, last = edit["at"]
            if "put" in edit:
                text[first:last] = [[word, -1] for word in edit["put"]]
            else:
                times[first:last] = [edit["to"]] * (last - first)
        return text, times

    def _step(self, step: dict[str, Any]) -> dict[str, Any]:  # static/transcript.js has the same as `reduce`
        ((name, value),), state = step.items(), self.state
        text, times = self._edited()
        if name == "select":
            return state | {"select": sorted(min(max(k, 0), len(text)) for k in value)}
        if name in ("undo", "redo"):
            return self._undone(name == "undo")
        if name in ("drag", "end"):
            edit = _dragged(times, 2 * value[0] + (name == "end"), value[1], self._shown["facts"]["duration"])
        elif name in ("delete", "replace", "insert"):
            at = [min(max(value[1], 0), len(text))] * 2 if name == "insert" else state["select"]
            put = {"delete": "", "replace": value, "insert": value[0] if name == "insert" else ""}[name]
            edit = {"at": at, "put": [word for word in re.split(r"[ \t\r\n]+", put) if word]}
        else:
            raise EditError(
                f"The transcript has no {name!r}: take select, delete, replace, insert, undo, redo, drag, end."
            )
        if not edit.get("put") and edit["at"][0] == edit["at"][1]:
            return state  # nothing to take and nothing to put
        return {"select": _after(edit, state["select"]), "edits": [*state["edits"], edit], "undone": []}

    def _undone(self, back: bool) -> dict[str, Any]:
        edits, undone = [*self.state["edits"]], [*self.state["undone"]]
        source, sink = (edits, undone) if back else (undone, edits)
        if not source:
            return self.state
        edit = source.pop()
        sink.append(edit)
        select = edit["at"] if back and "put" in edit else _after(edit, self.state["select"])
        return {"select": select, "edits": edits, "undone": undone}


def _after(edit: dict[str, Any], select: list[int]) -> list[int]:
    """What is selected after an edit: what it put, and as before if it moved a time."""
    return [edit["at"][0], edit["at"][0] + len(edit["put"])] if "put" in edit else select


def _dragged(times: list[float], k: int, to: float, duration: float) -> dict[str, Any]:
    """The edit that moves number k of start, end, start, end …, and the neighbour that touches it, as far as it may."""
    k = min(max(k, 0), len(times) - 1)
    other = k - 1 if k % 2 == 0 else k + 1
    touching = 0 <= other < len(times) and abs(times[other] - times[k]) < 0.001
    first, last = (min(k, other), max(k, other)) if touching else (k, k)
    low = times[first - 1] + (0.02 if first % 2 else 0.0) if first > 0 else 0.0  # a word keeps 20 ms
    high = times[last + 1] - (0.0 if last % 2 else 0.02) if last + 1 < len(times) else duration
    return {"at": [first, last + 1], "to": min(max(to, low), max(low, high))}


def transcript(audio: np.ndarray, words: Sequence[Word], alt: str, *, rate: int = 16000) -> Transcript:
    """Mono sound (S,) as a waveform with the `words` heard in it, and under it their text to edit by mouse or keys.

    >>> show.transcript(sound, words, "one two").replay([{"select": [1, 2]}, {"replace": "three"}]).text
    'one three'
    """
    heard = [[word.text, float(word.start), float(word.end)] for word in words]
    facts = {"words": heard, "duration": len(audio) / rate, "rate": rate}
    state = {"select": [0, 0], "edits": [], "undone": []}
    samples = (np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes()
    view = sound(audio, alt, rate=rate, words=words)
    return Transcript("transcript", view, state, facts=facts, media={"samples": samples})


class Rig(Live):
    """A presenter's face under the sliders of `BLENDSHAPES` (state: by name, 0 to 1, and `frame` where curves play)."""

    def drawn(self) -> np.ndarray:
        """The face as the sliders stand, uint8 (size, size, 3)."""
        values = np.array([[self.state.get(name, 0.0) for name in BLENDSHAPES]])
        return self._shown["draw"](values, slice(self.state["frame"], self.state["frame"] + 1))[0]

    def _step(self, step: dict[str, Any]) -> dict[str, Any]:
        state, curves = super()._step(step), self._shown["facts"]["curves"]
        if "frame" in step and curves:  # the sliders follow
            state |= dict(zip(BLENDSHAPES[1:], curves[state["frame"]]))
        return state

    def _moved(self, state: dict[str, Any]) -> None:
        super()._moved(state)
        self.widget.send({"drawn": True}, [_jpeg(self.drawn())])


def rig(
    alt: str,
    *,
    identity: int = 0,
    curves: Curves | np.ndarray | None = None,
    audio: np.ndarray | None = None,
    rate: int = 16000,
    size: int = 256,
) -> Rig:
    """A presenter's face whose controls are sliders; with `curves` (an array (T, 52) is the tracker's, at 25 frames/s)
    it plays them with the sound (S,), and the sliders follow. Still form: six poses, or the face as a video."""
    if curves is not None and not isinstance(curves, Curves):
        curves = Curves(curves, "mediapipe", 25)
    who = render.person(identity)
    turns = np.zeros((1, 3)) if curves is None else curves.head
    draw = lambda v, at: render.render(who, v, head=render.place(turns[at], (size, size)), size=(size, size)).frames  # noqa: E731
    state, media = {"frame": 0} | dict.fromkeys(BLENDSHAPES[1:], 0.0), {}
    limits = dict.fromkeys(BLENDSHAPES[1:], (0.0, 1.0)) | {
        "frame": (0, 0 if curves is None else len(curves.values) - 1)
    }
    facts = {"size": size, "curves": [], "fps": 25.0}
    if curves is None:
        poses = np.array([[pose.get(name, 0.0) for name in BLENDSHAPES] for pose in POSES.values()])
        frames = [draw(pose[None], slice(0, 1))[0] for pose in poses]
        view = picture(sheet(frames, columns=3, titles=list(POSES)), alt)
    else:
        values = curves.to("mediapipe").values.clip(0, 1)
        frames = draw(values, slice(None))
        heard = np.zeros((0, 1), np.float32) if audio is None else np.float32(audio)[:, None]
        media["video"] = _mp4(Clip(frames, curves.fps, heard, rate))
        picked = np.linspace(0, len(frames) - 1, 6).astype(int)
        tag = _video(media["video"], alt, width=size, poster=frames[picked[3]])
        view = View(tag, sheet(frames[picked], columns=3), alt)
        facts |= {"curves": np.round(values[:, 1:], 3).tolist(), "fps": float(curves.fps)}
        state |= dict(zip(BLENDSHAPES[1:], facts["curves"][0]))
    media["face"] = _jpeg(frames[0])
    return Rig("rig", view, state, limits=limits, facts=facts, media=media, draw=draw)


class Dials:
    """Controls of ipywidgets by name, and under them the view `draw(**values)`, made anew when one is let go; above
    them a contact sheet of that view at `positions`, for pages without a kernel.

    >>> Dials(draw, {"size": FloatSlider(0.4, max=1)}, positions=[{"size": 0.1}, {"size": 0.4}])
    """

    def __init__(self, draw: Callable[..., View], controls: dict[str, Any], *, positions: Sequence[dict[str, Any]]):
        self.controls, self._draw = controls, draw
        views = [draw(**{name: control.value for name, control in controls.items()} | one) for one in positions]
        columns = min(len(views), 1450 // views[0].still.shape[1] or 1)  # as wide as a page shows it legibly
        self.still = picture(sheet([v.still for v in views], columns=columns), "; ".join(v.alt for v in views))

    def replay(self, **values: Any) -> View:
        """The view after setting controls as a hand would."""
        for name, value in values.items():
            self.controls[name].value = value
        return self._draw(**{name: control.value for name, control in self.controls.items()})

    def _ipython_display_(self) -> None:
        from IPython.display import display
        from ipywidgets import HTML, VBox

        page = HTML(self.replay().html)
        for control in self.controls.values():
            control.continuous_update = False
            control.observe(lambda _: setattr(page, "value", self.replay().html), "value")
        display(self.still)
        display(VBox([*self.controls.values(), page]))


def running(
    clip: Clip, track: FaceTrack, *, words: Sequence[Word] = (), controls: Sequence[str] = ("jawOpen", "mouthPucker")
) -> Clip:
    """A clip of the face with its landmarks beside the waveform and control curves, a cursor running through them.

    A clip of less than 240 rows is enlarged by whole pixels, so that the curves can be read.
    """
    times = -(-240 // clip.size[0])
    height, width = (side * times for side in clip.size)
    panel, (x0, x1) = _panel(clip, track, words, controls=controls, height=height)
    frames = np.empty((len(clip.frames), height, width + panel.shape[1], 3), np.uint8)
    for k, frame in enumerate(clip.frames):
        large = frame.repeat(times, 0).repeat(times, 1)
        seen = track.visible[k]
        frames[k, :, :width] = draw(track.points[k] * times, (height, width), over=large) if seen else large
        frames[k, :, width:] = panel
        x = width + round(x0 + (x1 - x0) * (k + 0.5) / len(frames))
        frames[k, :, x - 1 : x + 1] = (213, 94, 0)
    return Clip(frames, clip.fps, clip.audio, clip.audio_rate)


def _panel(clip: Clip, track: FaceTrack, words: Sequence[Word], *, controls: Sequence[str], height: int):
    """Waveform and curves as a picture of `height` rows, and the columns at which they begin and end."""
    figure = Figure(figsize=(1.5 * height / 100, height / 100), dpi=100, layout="constrained")
    axes = figure.subplots(1 + len(controls), sharex=True)
    _wave(axes[0], clip.audio.mean(1), clip.audio_rate, words)
    axes[0].set_ylabel("sound", fontsize=7)
    middles = (np.arange(len(track.points)) + 0.5) / float(track.fps)
    for axis, name, colour in zip(axes[1:], controls, (BLUE, GREEN, ORANGE)):
        axis.plot(middles, track.controls[:, BLENDSHAPES.index(name)], color=colour)
        axis.set_ylim(0, 1)
        axis.set_ylabel(name, fontsize=7)
    for axis in axes:
        axis.tick_params(labelsize=6)
    axes[-1].set_xlim(0, clip.duration)
    axes[-1].set_xlabel("seconds", fontsize=7)
    panel = _pixels(figure)[:height]
    return panel, axes[-1].transData.transform([(0, 0), (clip.duration, 0)])[:, 0]


def _wave(axis: Axes, audio: np.ndarray, rate: int, words: Sequence[Word]) -> None:
    axis.plot(np.arange(len(audio)) / rate, audio, color=GREY, linewidth=0.5)
    for word in words:
        axis.axvline(word.start, color=BLUE, linewidth=0.5)
        axis.text(word.start, axis.get_ylim()[1], f" {word.text}", fontsize=7, color=BLUE, va="bottom")
    axis.set_xlabel("seconds", fontsize=7)
    axis.tick_params(labelsize=6)


def _pixels(drawn: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _mp4(clip: Clip) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder) / "clip.mp4", clip).read_bytes()


def _video(content: bytes, alt: str, *, width: int, poster: np.ndarray) -> str:
    source = f'<source src="data:video/mp4;base64,{_base64(content)}" type="video/mp4">'
    label, poster = html.escape(alt, quote=True), f"data:image/jpeg;base64,{_base64(_jpeg(poster))}"
    look = f'width="{width}" poster="{poster}" aria-label="{label}" title="{label}"'
    return f"<video controls loop playsinline {look}>{source}</video>"


def _jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()


def _png(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "png")
    return out.getvalue()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
