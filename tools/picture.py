"""Draw the README's pictures: docs/edit.png, a sentence of the GRID corpus before and after an edit of two words, and
docs/presenters.png, 24 presenters, each with another expression.

THLIB_MIRROR=... python tools/picture.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from thlib import data, metrics
from thlib.behaviour import EMOTIONS, expression
from thlib.clip import Clip, Video, Word, read
from thlib.editing import TextEditPipeline
from thlib.landmarks import LIPS, track
from thlib.presenter.render import person, render
from thlib.show import sheet
from thlib.speech import Speech, read_align

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#777777"


def strip(row: list[plt.Axes], clip: Clip, spans: list[tuple[float, float]], *, box: tuple[slice, slice]) -> None:
    """Every fourth frame of a clip from 0.6 s on, new ones framed in orange."""
    fps = float(clip.fps)
    for axis, k in zip(row, range(round(0.6 * fps), len(clip.frames), 4)):
        made = any(a * fps <= k < b * fps for a, b in spans)
        axis.imshow(clip.frames[k][box])
        axis.set(xticks=[], yticks=[])
        for side in axis.spines.values():
            side.set(color=ORANGE if made else GREY, linewidth=3 if made else 1)


def wave(axis: plt.Axes, clip: Clip, *, words: list[Word], kept: list[Word], spans: list) -> None:
    """The sound with its words, new seconds in orange."""
    times = np.arange(len(clip.audio)) / clip.audio_rate
    axis.plot(times, clip.audio.mean(1), color=GREY, linewidth=0.4)
    for a, b in spans:
        axis.axvspan(a, b, color=ORANGE, alpha=0.25)
    for word in words:
        new = any(a <= (word.start + word.end) / 2 < b for a, b in spans) and word not in kept
        middle = (word.start + word.end) / 2
        axis.text(middle, 0.8, word.text, ha="center", weight="bold", color=ORANGE if new else BLUE)
    axis.set(xlim=(0.55, 2.6), ylim=(-1, 1.2), yticks=[])
    axis.spines[["top", "left", "right"]].set_visible(False)


def presenters(out: Path, *, first: int = 0, size: int = 200) -> None:
    """A picture (.png) of 24 presenters from number `first` on, each with another expression."""
    felt = [expression(EMOTIONS[k % 7], style=k // 7 % 2)[None] for k in range(24)]
    faces = [render(person(first + k), felt[k], size=(size, size)).frames[0] for k in range(24)]
    Image.fromarray(sheet(faces, columns=8)).save(out)


def main() -> None:
    """Edit, draw, write."""
    presenters(Path(__file__).parents[1] / "docs" / "presenters.png")
    name, donor = "bbbf6n", "bbbf7s"
    path, words = data.path(f"grid-s1/{name}.mpg"), read_align(data.path(f"grid-s1/{name}.align"))
    sound, said = read(data.path(f"grid-s1/{donor}.mpg")).mono16k(), read_align(data.path(f"grid-s1/{donor}.align"))
    before = read(path)
    edit = TextEditPipeline.from_pretrained()(
        before, words, "bin blue by f seven soon", speech=Speech(sound, tuple(said), ())
    )
    box = metrics.mouth_box(track(Video(path)).points[:, LIPS], height=130, width=104)
    box = (slice(box[0].start - 30, box[0].stop - 10), box[1])
    figure = plt.figure(figsize=(11, 6), dpi=100, layout="constrained")
    grid = figure.add_gridspec(4, 13, height_ratios=[2.4, 1, 2.4, 1])
    for top, clip, text, spans in ((0, before, words, []), (2, edit.clip, edit.words, edit.spans)):
        strip([figure.add_subplot(grid[top, k]) for k in range(13)], clip, spans, box=box)
        axis = figure.add_subplot(grid[top + 1, :])
        wave(axis, clip, words=text, kept=words, spans=spans)
        axis.set_xlabel("seconds: the recording" if top == 0 else "seconds: edited, orange is generated")
    out = Path(__file__).parents[1] / "docs" / "edit.png"
    out.parent.mkdir(exist_ok=True)
    figure.savefig(out)


if __name__ == "__main__":
    main()
