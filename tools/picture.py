"""Draw the README's pictures into docs/. edit.png: a sentence of the GRID corpus before and after an edit of two words
(needs THLIB_MIRROR); presenters.png: 24 presenters, each with another expression; and three that move, of presenters
alone: edit.webp, a sentence and its edit; emotions.webp, a sentence in seven emotions; scale.webp, a driver who comes
nearer and goes, and two portraits that follow him.

python tools/picture.py [edit.png presenters.png edit.webp emotions.webp scale.webp]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from thlib import data, metrics
from thlib.behaviour import EMOTIONS, expression
from thlib.clip import Clip, Video, Word, read
from thlib.editing import TextEditPipeline
from thlib.emoface import EmoFacePipeline
from thlib.landmarks import LIPS, FaceTrack, Head, track
from thlib.ostnet import pipeline as ostnet
from thlib.presenter import speak
from thlib.presenter.render import person, place, render
from thlib.show import sheet
from thlib.speech import Speech, read_align

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#777777"
DOCS = Path(__file__).parents[1] / "docs"
EVERY, RATE = 2, 12.5  # of 25 frames a second every second one is drawn
HOLD = 8  # frames for which the end stands still before the picture begins again


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


def presenters(name: str, *, first: int = 0, size: int = 200) -> None:
    """A picture of 24 presenters from number `first` on, each with another expression."""
    felt = [expression(EMOTIONS[k % 7], style=k // 7 % 2)[None] for k in range(24)]
    faces = [render(person(first + k), felt[k], size=(size, size)).frames[0] for k in range(24)]
    Image.fromarray(sheet(faces, columns=8)).save(DOCS / name)


# --- pictures that move -----------------------------------------------------------------------------------------------
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """matplotlib's own font, so that the picture is the same everywhere."""
    weight = "bold" if bold else "normal"
    found = font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans", weight=weight))
    return ImageFont.truetype(found, size)


def words(
    draw: ImageDraw.ImageDraw,
    said: Sequence[Word],
    now: float,
    *,
    box: tuple,
    size: int = 20,
    marks: dict | None = None,
) -> None:
    """A line of words centred in `box` (x0, y, x1); the one that is spoken `now` is underlined.

    marks: places of words that are "new" (orange) or "old" (grey, struck out).
    """
    while draw.textlength("  ".join(word.text for word in said), font(size, bold=True)) > box[2] - box[0] - 4:
        size -= 1
    letters, gap = font(size, bold=True), draw.textlength("  ", font(size, bold=True)) * 0.8
    lengths = [draw.textlength(word.text, letters) for word in said]
    x = (box[0] + box[2] - sum(lengths) - gap * (len(said) - 1)) / 2
    for k, (word, length) in enumerate(zip(said, lengths)):
        colour = {"new": ORANGE, "old": GREY}.get((marks or {}).get(k), BLUE)
        draw.text((x, box[1] + 18), word.text, colour, letters, anchor="ls")
        if (marks or {}).get(k) == "old":
            draw.line((x - 1, box[1] + 13, x + length + 1, box[1] + 13), colour, 2)
        if word.start <= now < word.end:
            draw.rectangle((x, box[1] + 23, x + length, box[1] + 26), colour)
        x += length + gap


def loop(pictures: list[Image.Image], name: str) -> Path:
    """Write an endless moving picture docs/<name>, its last frame held; its file."""
    pictures = [*pictures, *[pictures[-1]] * HOLD]
    made = {"save_all": True, "append_images": pictures[1:], "duration": round(1000 / RATE), "loop": 0}
    pictures[0].save(DOCS / name, quality=72, method=6, **made)
    return DOCS / name


def moving_edit(name: str, *, who: int = 4, side: int = 300) -> Path:
    """A presenter's sentence beside its edit: words under the faces, a line of time in which what is made is orange."""
    old, new = "our shop opens at nine on Monday", "our shop opens at seven on Friday"
    with tempfile.TemporaryDirectory() as folder:
        recording = speak.say(old, identity=who, size=(side, side))
        path, other = recording.save(Path(folder) / "a.mp4"), speak.say(new, identity=who, seed=1, size=(side, side))
        edit = TextEditPipeline.from_pretrained()(Video(path), recording.words, new, speech=other.speech)
        edited = edit.clip
    changed = [k for k, (a, b) in enumerate(zip(old.split(), new.split())) if a != b]
    panels = [("the recording", recording.clip, recording.words, [], dict.fromkeys(changed, "old"))]
    panels += [("edited: two words typed anew", edited, edit.words, edit.spans, dict.fromkeys(changed, "new"))]
    pictures, longest = [], max(clip.duration for _, clip, *_ in panels)
    for k in range(0, max(len(clip.frames) for _, clip, *_ in panels), EVERY):
        drawn = Image.new("RGB", (2 * side + 36, side + 88), "white")
        draw = ImageDraw.Draw(drawn)
        for column, (title, clip, said, spans, made) in enumerate(panels):
            x, now, last = 12 + column * (side + 12), k / 25, min(k, len(clip.frames) - 1)
            inside = any(a <= last / 25 < b for a, b in spans)
            draw.text((x, 4), title, ORANGE if spans else BLUE, font(14))
            drawn.paste(Image.fromarray(clip.frames[last]), (x, 26))
            if inside:
                draw.rectangle((x, 26, x + side - 1, 25 + side), outline=ORANGE, width=5)
                draw.rectangle((x, 26, x + 92, 50), ORANGE)
                draw.text((x + 8, 29), "generated", "white", font(14, bold=True))
            words(draw, said, now, box=(x, side + 32, x + side), marks=made)
            y, width = side + 70, side / longest
            draw.rectangle((x, y, x + width * clip.duration, y + 6), "#bbbbbb")
            for a, b in spans:
                draw.rectangle((x + width * a, y, x + width * b, y + 6), ORANGE)
            at = x + width * min(now, clip.duration)
            draw.rectangle((at - 1, y - 5, at + 2, y + 11), "black")
        pictures.append(drawn)
    return loop(pictures, name)


def moving_emotions(name: str, *, who: int = 7, side: int = 180) -> Path:
    """One sentence, with one and the same sound, in seven emotions; the eighth field has its words."""
    said, make = speak.utter("you did not tell me that you would be here today", who), EmoFacePipeline.from_pretrained()
    acted = [speak.perform(who, make(said.audio, e, fps=25), said.audio, size=(side, side)) for e in EMOTIONS]
    pictures, lines = [], [said.words[:4], said.words[4:8], said.words[8:]]
    for k in range(0, len(acted[0].clip.frames), EVERY):
        drawn = Image.new("RGB", (4 * side + 20, 2 * (side + 24) + 8), "white")
        draw = ImageDraw.Draw(drawn)
        for number, (emotion, one) in enumerate(zip(EMOTIONS, acted)):
            x, y = 4 + number % 4 * (side + 4), 2 + number // 4 * (side + 26)
            drawn.paste(Image.fromarray(one.clip.frames[k]), (x, y))
            draw.text((x + side / 2, y + side + 11), emotion, "black", font(15, bold=True), anchor="mm")
        x, y = 4 + 3 * (side + 4), side + 28
        draw.text((x + side / 2, y + 20), "one sound, seven faces", GREY, font(13), anchor="mm")
        for row, line in enumerate(lines):
            words(draw, line, k / 25, box=(x, y + 44 + 36 * row, x + side), size=15)
        pictures.append(drawn)
    return loop(pictures, name)


def moving_scale(name: str, *, driver: int = 17, who: int = 18, side: int = 230) -> Path:
    """A driver whose face grows and shrinks, by 0.6 to 1.4, and a portrait that follows by `classic` and `absolute`."""
    size, said = (side, side), speak.utter("the nearer I come the larger I am and then I go away again", driver)
    curves = speak.curves(said, style=driver % 2)
    controls, n = curves.to("mediapipe").values.clip(0, 1), len(curves.values)
    alphas, head = 1 + 0.4 * np.sin(2 * np.pi * np.arange(n) / n), place(curves.head * (1, 1, -1), size)
    middle = np.array([side / 2, 0.49 * side, 0])
    near = Head(head.rotation, head.scale * alphas, middle + alphas[:, None] * (head.shift - middle))
    drawn = render(person(driver), controls, head=near, size=size)
    driving = FaceTrack(drawn.points, drawn.visible.any(1), size, curves.fps, controls, drawn.pose)
    calm = np.zeros((1, 52), np.float32)
    still = render(person(who), calm, size=size)
    source = FaceTrack(still.points, still.visible.any(1), size, curves.fps, calm, still.pose)
    panels = [("driver", BLUE, drawn.frames, 100 * alphas)]
    for mode, colour in (("classic", BLUE), ("absolute", ORANGE)):
        target = ostnet.retarget(source, driving, mode=mode)
        pairs = zip(drawn.frames, drawn.points)
        made = list(ostnet.render(still.frames[0], source.points[0], target=target, driving=pairs))
        panels.append((mode, colour, made, 100 * Head.fit(target).scale / Head.fit(source.points).scale))
    return loop([_row(panels, k, side) for k in range(0, n, EVERY)], name)


def _row(panels: Sequence[tuple], k: int, side: int) -> Image.Image:
    """Frame k of some panels side by side, and under each how large its face is, now and until now."""
    drawn = Image.new("RGB", (len(panels) * (side + 10) + 10, side + 96), "white")
    draw = ImageDraw.Draw(drawn)
    for column, (title, colour, pictures, size) in enumerate(panels):
        x, y = 10 + column * (side + 10), side + 90
        draw.text((x, 4), f"{title}: face {size[k]:.0f} %", colour, font(15, bold=True))
        drawn.paste(Image.fromarray(pictures[k]), (x, 26))
        draw.line((x, y - 28, x + side, y - 28), "#cccccc")  # 100 %
        line = [(x + side * j / len(pictures), y - 28 - 0.6 * (size[j] - 100)) for j in range(k + 1)]
        draw.line([*line, line[-1]], colour, 3)
        draw.ellipse([v + d for d in (-5, 5) for v in line[-1]], colour)
    return drawn


def edit(name: str) -> None:
    """Two rows of frames of a GRID sentence, before and after an edit of two words, each over its sound."""
    first, donor = "bbbf6n", "bbbf7s"
    path, words = data.path(f"grid-s1/{first}.mpg"), read_align(data.path(f"grid-s1/{first}.align"))
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
    figure.savefig(DOCS / name)


PICTURES = {"edit.png": edit, "presenters.png": presenters}
PICTURES |= {"edit.webp": moving_edit, "emotions.webp": moving_emotions, "scale.webp": moving_scale}


def main(*names: str) -> None:
    """Draw those that are named, or all."""
    for name in names or PICTURES:
        PICTURES[name](name)


if __name__ == "__main__":
    main(*sys.argv[1:])
