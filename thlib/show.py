"""What a notebook shows: a video with its sound, frames side by side, and a face with its curves as they run.

Every view is one object that knows an HTML form, a still picture for pages that cannot play it, and its alt text.
"""

# T frames  H height  W width  S samples
from __future__ import annotations

import base64
import html
import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import soundfile
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from thlib.clip import Clip, Word, write
from thlib.landmarks import BLENDSHAPES, FaceTrack, draw

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"  # Okabe & Ito


@dataclass(frozen=True)
class View:
    """HTML for a notebook, `still` uint8 (H, W, 3) for a page without it, `alt` text for who sees neither."""

    html: str
    still: np.ndarray
    alt: str

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/html": self.html, "image/png": _base64(_png(self.still)), "text/plain": self.alt}


def player(clip: Clip, alt: str, *, width: int = 480) -> View:
    """The clip as a video with sound, `width` pixels wide; its still form is six of its frames."""
    with tempfile.TemporaryDirectory() as folder:
        content = write(Path(folder) / "clip.mp4", clip).read_bytes()
    source = f'<source src="data:video/mp4;base64,{_base64(content)}" type="video/mp4">'
    label, poster = html.escape(alt, quote=True), _base64(_png(clip.frames[len(clip.frames) // 2]))
    look = f'width="{width}" poster="data:image/png;base64,{poster}" aria-label="{label}" title="{label}"'
    still = sheet(clip.frames[np.linspace(0, len(clip.frames) - 1, 6).astype(int)], columns=6)
    return View(f"<video controls loop playsinline {look}>{source}</video>", still, alt)


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


def _png(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "png")
    return out.getvalue()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
