"""What a notebook shows: a video with its sound, frames side by side, a transcript to edit, a face with its curves.

Every view is one object that knows an HTML form, a still picture for pages that cannot play it, and its alt text.
Those that a hand can move (`Live`) are widgets in a running notebook, drawn by static/<view>.js."""

# T frames  H height  W width  S samples  K controls
import base64
import html
import io
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import soundfile
from anywidget import AnyWidget
from IPython.display import display
from ipywidgets import HTML, VBox
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from traitlets import Dict, Unicode

from thlib.clip import Clip, Word, write
from thlib.errors import EditError, MediaError
from thlib.landmarks import BLENDSHAPES, FaceTrack, draw
from thlib.presenter import render
from thlib.rig import Curves

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"  # Okabe & Ito
Json, Array, Moves = dict[str, Any], np.ndarray, Curves | np.ndarray | None
POSES = ("at rest", "browInnerUp", "eyeBlink", "jawOpen", "mouthSmile", "mouthPucker")  # of the rig's still form


class View:
    """HTML for a notebook, `still` uint8 (H, W, 3) for a page without it, `alt` text for who sees neither."""

    def __init__(self, html: str, still: np.ndarray, alt: str):
        self.html, self.still, self.alt = html, still, alt

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/html": self.html, "image/png": _base64(_png(self.still)), "text/plain": self.alt}


class _Widget(AnyWidget):
    """What the page gets: JSON that a hand changes (`state`), JSON and bytes that stay (`facts`, `media`)."""

    _esm = Unicode().tag(sync=True)
    state, facts, media = (Dict().tag(sync=True) for _ in range(3))


class Live(View):
    """A view that a hand can move in a running notebook; in a page without a kernel it is its still form.
    state: plain JSON that a hand changes; facts: plain JSON that stays, with the numbers' `limits`; media: bytes."""

    def __init__(self, script: str, still: View, state: Json, *, facts: Json, media: dict[str, bytes]):
        super().__init__(still.html, still.still, still.alt)
        self.script, self.state, self.media, self.facts = script, state, media, {"limits": {}, "alt": still.alt} | facts

    def replay(self, steps: Sequence[Mapping[str, Any]]) -> Self:
        """Change the state as a hand would: `[{"frame": 12}, {"speed": 0.5}]`, in limits. EditError: unknown step."""
        for step in steps:
            self.state = self._step(dict(step))
        if "widget" in self.__dict__:
            self.widget.state = self.state
        return self

    def _step(self, step: Json) -> Json:
        if unknown := sorted(set(step) - set(self.state)):
            raise EditError(f"The {self.script} has no {', '.join(unknown)}: take {', '.join(self.state)}.")
        limits = self.facts["limits"]
        return self.state | {key: min(max(value, limits[key][0]), limits[key][1]) for key, value in step.items()}

    @cached_property
    def widget(self) -> _Widget:
        """The widget, made when it is first shown."""
        script = (Path(__file__).parent / "static" / f"{self.script}.js").read_text()
        made = _Widget(_esm=script, state=self.state, facts=self.facts, media=self.media)
        made.observe(lambda change: self._moved(change.new), "state")
        made.on_msg(lambda *_: self._moved(self.state))
        return made

    def _moved(self, state: Json) -> None:
        self.state = state

    def _repr_mimebundle_(self, **_: object) -> Json:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        return super()._repr_mimebundle_() | {"application/vnd.jupyter.widget-view+json": view}


def player(clip: Clip, alt: str, *, other: Clip | None = None, width: int = 480) -> Live:
    """The clip as a video with sound, `width` pixels wide: frame by frame, slower, in a loop, and, key b, in turns with
    `other` of its size, at the same time. Its still form is six of its frames, over six of the other's.
    >>> player(clip, "She says nine.", other=edited).replay([{"frame": 12}, {"side": 1}])"""
    clips, titles = ([clip], [""]) if other is None else ([clip, other], ["A", "B"])
    view, facts, media = _films(clips, alt, titles=titles, width=width)
    ends = facts["limits"]["frame"]
    facts["limits"] |= {"first": ends, "last": ends, "speed": (0.25, 2.0), "side": (0, len(clips) - 1)}
    state = {"frame": 0, "first": 0, "last": ends[1], "speed": 1.0, "side": 0}
    return Live("player", view, state, facts=facts, media=media)


def sound(audio: np.ndarray, alt: str, *, rate: int = 16000, words: Sequence[Word] = ()) -> View:
    """Mono sound (S,) with a player under its waveform, on which `words` stand where they are spoken."""
    drawn = Figure(figsize=(7, 1.6), dpi=100, layout="constrained")
    _wave(drawn.subplots(), audio, rate, words)
    content, still = io.BytesIO(), _pixels(drawn)
    soundfile.write(content, audio, rate, format="WAV")
    source = f'<source src="data:audio/wav;base64,{_base64(content.getvalue())}" type="audio/wav">'
    tag = f'<br><audio controls aria-label="{html.escape(alt)}">{source}</audio>'
    return View(picture(still, alt).html + tag, still, alt)


def picture(image: np.ndarray, alt: str) -> View:
    """One picture uint8 (H, W, 3) with its alt text."""
    return View(f'<img src="data:image/png;base64,{_base64(_png(image))}" alt="{html.escape(alt)}">', image, alt)


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
    state, facts, pair = {"divider": 0.5}, {"limits": {}}, (before, after)
    _alike(pair)
    if isinstance(before, Clip):
        view, facts, media = _films(pair, alt, titles=titles, width=360)
        state["frame"] = 0
    else:
        view, media = picture(sheet(pair, columns=2, titles=titles), alt), dict(zip("ab", map(_png, pair)))
        facts["size"] = before.shape[:2]
    facts["titles"], facts["limits"]["divider"] = titles, (0.0, 1.0)
    return Live("compare", view, state, facts=facts, media=media)


def _films(clips, alt, *, titles, width):
    """The still form of one or two clips, what a widget needs to know of them, and their videos by name."""
    _alike(clips)
    with tempfile.TemporaryDirectory() as folder:
        videos = [write(Path(folder) / "clip.mp4", clip).read_bytes() for clip in clips]
    tags, rows = "", [clip.frames[np.linspace(0, len(clip.frames) - 1, 6).astype(int)] for clip in clips]
    for video, row, title in zip(videos, rows, titles):
        source = f'<source src="data:video/mp4;base64,{_base64(video)}" type="video/mp4">'
        label, poster = html.escape(f"{title}: {alt}" if title else alt), _base64(_png(row[3], ".jpg"))
        look = f'width="{width}" poster="data:image/jpeg;base64,{poster}" aria-label="{label}" title="{label}"'
        tags += f'<figure style="display: inline-block; margin: 4px"><figcaption>{html.escape(title)}</figcaption>'
        tags += f"<video controls loop playsinline {look}>{source}</video></figure>"
    still = sheet(np.concatenate(rows), columns=6, titles=[t for title in titles for t in (title, *[""] * 5)])
    counts = [len(clip.frames) for clip in clips]
    facts = {"fps": float(clips[0].fps), "frames": counts, "width": width, "size": clips[0].size}
    return View(tags, still, alt), facts | {"limits": {"frame": (0, max(counts) - 1)}}, dict(zip("ab", videos))


def _alike(pair: Sequence[np.ndarray | Clip]) -> None:
    kinds = [(type(p).__name__, p.size, float(p.fps)) if isinstance(p, Clip) else ("picture", p.shape) for p in pair]
    if len(set(kinds)) > 1:
        raise MediaError(f"Pictures or clips of one size and frame rate go together, not {kinds}; make them equal.")


class Transcript(Live):
    """A transcript that is edited. state: `text` [[word, its number among those heard or -1], …] and what of it is
    selected (`select`: [first, last)), `times` [start, end, start, …] of the words heard; `past`, `future`: for undo.
    Steps: {"select": [2, 3]}, {"delete": True}, {"replace": "seven"}, {"insert": ["very", 2]} (before word 2 of the
    text), {"undo": True}, {"redo": True}, {"drag": [k, seconds]} (with an end that touches), {"end": [k, seconds]}."""

    text = property(lambda self: " ".join(w for w, _ in self.state["text"]), doc="As `TextEditPipeline` takes it.")

    @property
    def words(self) -> list[Word]:
        """The words that were heard, deleted or not, at the times that were dragged."""
        return [Word(word, *self.state["times"][2 * k : 2 * k + 2]) for k, word in enumerate(self.facts["words"])]

    def _step(self, step: Json) -> Json:  # static/transcript.js has the same as `reduce`
        ((name, value),), past, future = step.items(), self.state["past"], self.state["future"]
        old = {key: self.state[key] for key in ("text", "times", "select")}
        text, (a, b) = old["text"], old["select"]
        if name == "undo":
            return past[-1] | {"past": past[:-1], "future": [*future, old]} if past else self.state
        if name == "redo":
            return future[-1] | {"past": [*past, old], "future": future[:-1]} if future else self.state
        if name == "select":
            return self.state | {"select": sorted(min(max(k, 0), len(text)) for k in value)}
        if name in ("drag", "end"):
            k, to = 2 * value[0] + (name == "end"), min(max(value[1], 0.0), self.facts["duration"])
            new = old | {"times": _dragged(old["times"], k, to) if old["times"] else []}
        elif name in ("delete", "replace", "insert"):
            if name == "insert":
                value, a, b = value[0], *[min(max(value[1], 0), len(text))] * 2
            put = [[word, -1] for word in re.findall(r"[^ \t\r\n]+", "" if name == "delete" else value)]
            new = old | {"text": text[:a] + put + text[b:], "select": [a, a + len(put)]}
        else:
            raise EditError(f"No step {name!r}: take select, delete, replace, insert, undo, redo, drag or end.")
        same = new["text"] == text and new["times"] == old["times"]
        return self.state if same else new | {"past": [*past, old], "future": []}


def _dragged(times: list[float], k: int, to: float) -> list[float]:
    """Times with number k moved, and the neighbouring word's that touches it, as far as they may."""
    k = min(max(k, 0), len(times) - 1)
    a, b = (k - 1, k) if k % 2 == 0 else (k, k + 1)
    if a < 0 or b == len(times) or abs(times[b] - times[a]) >= 0.001:
        a = b = k
    low = times[a - 1] + 0.02 * (a % 2) if a > 0 else 0.0  # a word keeps 20 ms
    high = times[b + 1] - 0.02 * (1 - b % 2) if b + 1 < len(times) else to
    return times[:a] + [min(max(to, low), max(low, high))] * (b + 1 - a) + times[b + 1 :]


def transcript(audio: np.ndarray, words: Sequence[Word], alt: str, *, rate: int = 16000) -> Transcript:
    """Mono sound (S,) as a waveform with the `words` heard in it, and under it their text to edit by mouse or keys.
    >>> show.transcript(sound, words, "one two").replay([{"select": [1, 2]}, {"replace": "three"}]).text
    'one three'"""
    times, view = [float(time) for w in words for time in (w.start, w.end)], sound(audio, alt, rate=rate, words=words)
    state = {"text": [[w.text, k] for k, w in enumerate(words)], "times": times, "select": [0, 0]}
    state |= {"past": [], "future": []}
    facts = {"words": [word.text for word in words], "duration": len(audio) / rate, "rate": rate}
    media = {"samples": (np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes()}
    return Transcript("transcript", view, state, facts=facts, media=media)


class Rig(Live):
    """A presenter's face under sliders. state: `frame`, and 0 to 1 for each of BLENDSHAPES but the first."""

    def drawn(self) -> np.ndarray:
        """The face as the sliders stand, uint8 (size, size, 3)."""
        return self.draw(np.array([[0.0, *(self.state[name] for name in BLENDSHAPES[1:])]]), [self.state["frame"]])[0]

    def _step(self, step: Json) -> Json:
        state, curves = super()._step(step), self.facts["curves"]
        return state | dict(zip(BLENDSHAPES[1:], curves[state["frame"]])) if "frame" in step and curves else state

    def _moved(self, state: Json) -> None:
        super()._moved(state)
        self.widget.send({"drawn": True}, [_png(self.drawn(), ".jpg")])


def rig(
    alt: str, *, identity: int = 0, curves: Moves = None, audio: Array | None = None, rate: int = 16000, size: int = 256
) -> Rig:
    """A presenter's face whose controls are sliders; with `curves` (an array (T, 52) is the tracker's, at 25 frames/s)
    it plays them with the sound (S,), and the sliders follow. Still form: six poses, or the face as a video."""
    names, values = BLENDSHAPES[1:], np.array([[n.startswith(pose) for n in BLENDSHAPES] for pose in POSES], np.float32)
    who, turns, still = render.person(identity), np.zeros((len(POSES), 3)), curves is None
    if not still:
        curves = curves if isinstance(curves, Curves) else Curves(curves, "mediapipe", 25)
        values, turns = curves.to("mediapipe").values.clip(0, 1), curves.head

    def draw(values: np.ndarray, at: Sequence[int]) -> np.ndarray:
        return render.render(who, values, head=render.place(turns[at], (size, size)), size=(size, size)).frames

    frames, rows = draw(values, range(len(values))), np.round(values[:, 1:], 3).tolist()
    if still:
        view, facts, media = picture(sheet(frames, columns=3, titles=POSES), alt), {"limits": {"frame": (0, 0)}}, {}
    else:
        heard = np.zeros((0, 1), np.float32) if audio is None else np.float32(audio)[:, None]
        view, facts, media = _films([Clip(frames, curves.fps, heard, rate)], alt, titles=[""], width=size)
    facts |= {"names": names, "curves": [] if still else rows, "size": size}
    facts["limits"] |= dict.fromkeys(names, (0.0, 1.0))
    state, media = {"frame": 0} | dict(zip(names, rows[0])), media | {"face": _png(frames[0], ".jpg")}
    made = Rig("rig", view, state, facts=facts, media=media)
    made.draw = draw
    return made


class Dials:
    """Controls of ipywidgets by name, and under them the view `draw(**values)`, made anew when one is let go; above
    them a contact sheet of that view at `positions`, for pages without a kernel.
    >>> Dials(draw, {"size": FloatSlider(0.4, max=1)}, positions=[{"size": 0.1}, {"size": 0.4}])"""

    def __init__(self, draw: Callable[..., View], controls: Json, *, positions: Sequence[Json]):
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
        page = HTML(self.replay().html)
        for control in self.controls.values():
            control.continuous_update = False
            control.observe(lambda _: setattr(page, "value", self.replay().html), "value")
        box = VBox([*self.controls.values(), page])._repr_mimebundle_()
        display(self.still)
        display(box | {"text/plain": "(The controls work in a running notebook.)"}, raw=True)


@pyplot.rc_context({"axes.labelsize": 7, "xtick.labelsize": 6, "ytick.labelsize": 6})
def running(
    clip: Clip, track: FaceTrack, *, words: Sequence[Word] = (), controls: Sequence[str] = ("jawOpen", "mouthPucker")
) -> Clip:
    """A clip of the face with its landmarks beside the waveform and control curves, a cursor running through them; one
    of less than 240 rows is enlarged by whole pixels, so that the curves can be read."""
    times = -(-240 // clip.size[0])
    height, width = (side * times for side in clip.size)
    drawn = Figure(figsize=(1.5 * height / 100, height / 100), dpi=100, layout="constrained")
    axes = drawn.subplots(1 + len(controls), sharex=True)
    _wave(axes[0], clip.audio.mean(1), clip.audio_rate, words)
    axes[0].set(xlabel="", ylabel="sound")
    middles = (np.arange(len(track.points)) + 0.5) / float(track.fps)
    for axis, name, colour in zip(axes[1:], controls, (BLUE, GREEN, ORANGE)):
        axis.plot(middles, track.controls[:, BLENDSHAPES.index(name)], color=colour)
        axis.set(ylim=(0, 1), ylabel=name)
    axes[-1].set(xlim=(0, clip.duration), xlabel="seconds")
    panel = _pixels(drawn)[:height]
    x0, x1 = axes[-1].transData.transform([(0, 0), (clip.duration, 0)])[:, 0]  # columns of the first and last sample
    frames = np.stack([np.hstack([frame.repeat(times, 0).repeat(times, 1), panel]) for frame in clip.frames])
    for k, frame in enumerate(frames):
        if track.visible[k]:
            frame[:, :width] = draw(track.points[k] * times, (height, width), over=frame[:, :width])
        x = width + round(x0 + (x1 - x0) * (k + 0.5) / len(frames))
        frame[:, x - 1 : x + 1] = (213, 94, 0)
    return Clip(frames, clip.fps, clip.audio, clip.audio_rate)


def _wave(axis, audio: np.ndarray, rate: int, words: Sequence[Word]) -> None:
    axis.plot(np.arange(len(audio)) / rate, audio, color=GREY, linewidth=0.5)
    for k, word in enumerate(words):  # in two rows, for short words stand close
        axis.axvline(word.start, color=BLUE, linewidth=0.5)
        axis.text(word.start, axis.get_ylim()[1], word.text + "\n" * (k % 2), fontsize=7, color=BLUE, va="bottom")
    axis.set_xlabel("seconds", fontsize=7)
    axis.tick_params(labelsize=6)


def _pixels(drawn: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _png(image: np.ndarray, kind: str = ".png") -> bytes:
    smaller = [cv2.IMWRITE_PNG_COMPRESSION, 6] if kind == ".png" else []
    return cv2.imencode(kind, image[..., ::-1], smaller)[1].tobytes()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
