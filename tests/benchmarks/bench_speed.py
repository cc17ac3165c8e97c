"""How fast: each task beside its obvious alternative, in turns on the same machine, medians of five rounds.

What counts is the ratio; absolute times say more about the machine, and on a busy one little at all. What wins by less
than a busy machine's noise (tracking, splicing, editing a short film) is printed and not asserted. Models are loaded
before the clock starts, except the trackers' (0.1 s), which both sides load. "Mpx/s" are generated megapixels a second:
the part of the picture that is made, not what is copied around it. The aim for edit, animate and reenact is 25 frames/s
at 128² (0.4 Mpx/s). Known on two cores, for scale: FOMM 0.07-0.09 Mpx/s, Wav2Lip's network 0.17, a latent diffusion
U-Net of 530 M 2.4 s a frame and step.
"""

# T frames  P control points
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from time import perf_counter
from unittest import mock

import av
import cv2
import numpy as np
import pytest
import tables
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from PIL import Image
from skimage import transform

from thlib import clip, data, landmarks, mux, warp
from thlib.clip import Clip, Video, Word
from thlib.editing import TextEditPipeline
from thlib.editing.frames import mouth_mask
from thlib.editing.refine import CHUNK, MouthNet
from thlib.emoface import EmoFacePipeline
from thlib.landmarks import Head, neutral, track
from thlib.mesh import FaceMesh
from thlib.ostnet import OSTNetPipeline, portrait
from thlib.ostnet.pipeline import REACH
from thlib.presenter.face import model
from thlib.presenter.speak import perform
from thlib.speech import Speech, read_align, say
from thlib.warp import border_points, clipped, control_points, surroundings, warp_frame

ROUNDS = 5
SENTENCES = ("bbaf2n", "bgbu2n", "brbg2n", "bbbf6n", "bwag4n", "brwg6n", "bgig7s", "bbal8p")  # 24 s of GRID's s1
EDITED = SENTENCES.index("bbbf6n")


@pytest.fixture(scope="module")
def rows() -> Iterator[dict[str, dict[str, list[float]]]]:
    """The table that the races fill; printed at the end."""
    found: dict[str, dict[str, list[float]]] = {}
    yield found
    columns = ("times as fast", "frames/s", "Mpx/s")
    print(f"\nSpeed, medians of {ROUNDS}\n{tables.table(found, digits=2, median=columns)}")


@pytest.fixture
def race(benchmark, rows):
    """race(name, ours, {rival: function}, frames=, pixels=): both in turns; how many times as fast we are, by rival.

    frames, pixels: made by one run of `ours` (pixels in all; 0: none are generated). Functions whose work is a part of
    ours, such as a tenth of the frames, come as (function, share).
    """

    def run(name: str, ours: Callable, rivals: dict[str, Callable | tuple], *, frames: int, pixels: int = 0):
        parts = {n: r if isinstance(r, tuple) else (r, 1.0) for n, r in rivals.items()}
        times: dict[str, list[float]] = {n: [] for n in parts}

        def theirs():
            for n, (rival, share) in parts.items():
                start = perf_counter()
                rival()
                times[n].append((perf_counter() - start) / share)

        for warm in (ours, *(rival for rival, _ in parts.values())):
            warm()
        benchmark.pedantic(ours, setup=theirs, rounds=ROUNDS)
        own = np.array(benchmark.stats.stats.data)
        for k, (n, spent) in enumerate(times.items()):
            rows[f"{name} / {n}"] = {"times as fast": list(np.array(spent) / own)}
            if k == 0:
                rows[f"{name} / {n}"] |= {"frames/s": list(frames / own)}
                rows[f"{name} / {n}"] |= {"Mpx/s": list(pixels / 1e6 / own)} if pixels else {}
        return {n: float(np.median(np.array(spent) / own)) for n, spent in times.items()}

    return run


def reencoded(source: str, out: str, *, replaced: tuple[int, np.ndarray] | None = None) -> None:
    """The plain way: decode every frame and sample, encode all of it, frames from `replaced[0]` on replaced."""
    with av.open(source) as old, av.open(out, "w") as new:
        first, pictures = replaced or (0, ())
        film, sound = old.streams.video[0], old.streams.audio[0]
        how = {"qp": str(mux.QP), "preset": "veryfast"}
        video = new.add_stream("libx264", rate=film.average_rate, options=how)
        video.width, video.height, video.pix_fmt = film.width, film.height, "yuv420p"
        film.thread_type = video.thread_type = "AUTO"
        audio = new.add_stream("aac", rate=sound.rate, layout=sound.layout.name)
        for packet in old.demux(film, sound):
            for frame in packet.decode():
                if packet.stream is sound:
                    frame.pts = None
                    new.mux(audio.encode(frame))
                    continue
                k = round(frame.time * float(film.average_rate))
                if 0 <= k - first < len(pictures):
                    frame = av.VideoFrame.from_ndarray(pictures[k - first], format="rgb24")
                frame.pts, frame.time_base, frame.pict_type = k, 1 / film.average_rate, 0
                new.mux(video.encode(frame))
        for stream in (video, audio):
            new.mux(stream.encode(None))


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sentence(mirror) -> Clip:
    """Two seconds of one speaker."""
    return clip.read(data.path("grid-s1/bbbf6n.mpg")).cut(0, 50)


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    """Two faces (2, 478, 3) of GRID's size in a frame of 288 x 360, the second turned a little, its mouth open."""
    both = np.stack([neutral(), neutral() + 0.3 * model().controls[landmarks.BLENDSHAPES.index("jawOpen")]])
    turn = np.stack([np.eye(3), cv2.Rodrigues(np.array([0, 0.1, 0.05]))[0]])
    return Head(turn, np.array([65.0, 65.0]), np.array([[180.0, 130, 0], [184, 134, 0]])).unfix(both)


def test_tracking(race, sentence):
    """Landmarks say where the next frame's are; the alternative looks for the face in every frame."""

    def detected():
        net = FaceMesh()
        return [net.locate(frame, net.detect(frame)[0]) for frame in sentence.frames]

    race("track", lambda: track(sentence), {"detector on every frame": detected}, frames=50)


def test_drawing(race, faces):
    """A landmark image."""
    points, size = faces[0], (288, 360)
    contours = [landmarks.OVAL, *landmarks.BROWS, *landmarks.EYES, landmarks.LIPS_OUTER, landmarks.LIPS_INNER]

    def plotted():
        figure = Figure(figsize=(size[1] / 100, size[0] / 100), dpi=100)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.scatter(*points[:, :2].T, s=1)
        for contour in contours:
            axes.plot(*points[[*contour, contour[0]], :2].T, linewidth=1)
        axes.set(xlim=(0, size[1]), ylim=(size[0], 0))
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3]

    ours = lambda: [landmarks.draw(points, size) for _ in range(10)]  # noqa: E731
    faster = race("draw", ours, {"matplotlib": (plotted, 0.1)}, frames=10, pixels=10 * size[0] * size[1])
    assert min(faster.values()) > 5


def test_warping(race, faces):
    """A frame moved from one face to another by a spline through all points that carry a warp."""
    picture = np.random.default_rng(0).integers(0, 255, (288, 360, 3)).astype(np.uint8)
    a, b = control_points(faces)
    edge = border_points(picture.shape[:2])

    def by(kind):
        moved = [np.concatenate([points, edge]) for points in (b, a)]
        return lambda: transform.warp(picture, kind.from_estimate(*moved))

    threads = torch.get_num_threads()

    def alone():
        torch.set_num_threads(1)
        warp_frame(picture, a, to_points=b)
        torch.set_num_threads(threads)

    rivals = {
        "step=1": lambda: warp_frame(picture, a, to_points=b, step=1),
        "skimage, thin-plate": by(transform.ThinPlateSplineTransform),
        "skimage, piecewise affine": by(transform.PiecewiseAffineTransform),
        "one thread of torch": alone,  # above 1 on idle cores; far below where others want them too
    }
    faster = race("warp", lambda: warp_frame(picture, a, to_points=b), rivals, frames=1, pixels=288 * 360)
    assert min(faster[n] for n in rivals if n != "one thread of torch") > 1


def test_repairing(race):
    """Eight steps of the refiner for a chunk of mouths; the same U-Net without the unshuffle in front of it."""
    generator, size = torch.Generator().manual_seed(0), (CHUNK, 15, 80, 96)
    pictures, sound = torch.randn(size, generator=generator), torch.randn(CHUNK, 720, generator=generator)
    small, plain = (MouthNet((48, 72, 96), inputs=5, shuffle=n).eval() for n in (4, 1))

    def steps(net: MouthNet, n: int):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            for level in range(n):
                net(pictures, sound, torch.full((CHUNK,), level))

    rivals = {"without unshuffling": (lambda: steps(plain, 1), 1 / 8)}
    faster = race("repair, 8 steps", lambda: steps(small, 8), rivals, frames=CHUNK, pixels=CHUNK * 80 * 96)
    assert min(faster.values()) > 1 / 0.3


# --- whole videos -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def film(mirror, tmp_path_factory) -> tuple[Video, list[Word]]:
    """24 seconds of one speaker: eight sentences as one MP4, and its words."""
    parts = [clip.read(data.path(f"grid-s1/{name}.mpg")).cut(0, 74) for name in SENTENCES]
    sound = np.concatenate([p.audio for p in parts])
    whole = Clip(np.concatenate([p.frames for p in parts]), parts[0].fps, sound, parts[0].audio_rate)
    starts = np.cumsum([0, *(p.duration for p in parts)])
    spoken = [(read_align(data.path(f"grid-s1/{name}.align")), t) for name, t in zip(SENTENCES, starts)]
    words = [Word(w.text, w.start + t, min(w.end + t, t + parts[0].duration)) for said, t in spoken for w in said]
    return Video(clip.write(tmp_path_factory.mktemp("film") / "film.mp4", whole)), words


def test_splicing(race, film, sentence, tmp_path):
    """One second in the middle of 24 is replaced."""
    video, _ = film
    new = sentence.cut(0, 25)
    race(
        "splice 1 s of 24 s",
        lambda: Video(video.path).splice([(12.0, 13.0, new)], tmp_path / "ours.mp4"),
        {"re-encode all": lambda: reencoded(str(video.path), str(tmp_path / "a.mp4"), replaced=(300, new.frames))},
        frames=video.n_frames,
    )
    assert Video(tmp_path / "ours.mp4").n_frames == Video(tmp_path / "a.mp4").n_frames == video.n_frames


@pytest.fixture(scope="module")
def wish(film) -> tuple[list[Word], str, Speech]:
    """The film's words, the text with two words changed, and a recording of these."""
    texts = [w.text for w in film[1]]
    texts[6 * EDITED + 4 : 6 * EDITED + 6] = ["seven", "soon"]
    said = clip.read(data.path("grid-s1/bbbf7s.mpg")).mono16k()
    return film[1], " ".join(texts), Speech(said, tuple(read_align(data.path("grid-s1/bbbf7s.align"))), ())


def jaws(points: np.ndarray, size: tuple[int, int]) -> int:
    """Pixels of the crops of mouth and jaw, the part of an edited frame that is made, for landmarks (T, 478, 3)."""
    boxes = [mouth_mask(p, size, scale=s)[1] for p, s in zip(points, landmarks.face_scale(points))]
    return sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes)


def every_pixel(target: np.ndarray, sources: Sequence[np.ndarray], *, box: tuple, scale: float) -> list[np.ndarray]:
    """`warp.face_flows` without its coarse grid."""
    values = np.concatenate([source - target for source in sources], axis=1)
    flow = warp.dense_flow(target, values, box=box, step=1, smoothing=warp.STIFFNESS * scale**2)
    return [flow[..., 2 * k : 2 * k + 2] for k in range(len(sources))]


def test_edit(race, film, wish, tmp_path):
    """Two words of 24 seconds, sound at hand, to the file; instead: the least that an editor of whole videos does."""
    (video, _), (words, text, recording), editor = film, wish, TextEditPipeline.from_pretrained()

    def ours():
        edited = editor(video, words, text, speech=recording)
        edited.save(tmp_path / "ours.mp4")
        return edited

    def plain():
        track(video.clip())
        reencoded(str(video.path), str(tmp_path / "a.mp4"))

    [(_, _, made)] = ours().pieces
    pixels = jaws(track(made).points, made.size)
    race("edit 2 words of 24 s", ours, {"track and re-encode all": plain}, frames=len(made.frames), pixels=pixels)


def test_edit_sentence(race, wish, tmp_path):
    """Two words of one GRID sentence, sound at hand, to the file, tracking and all: edited frames a second."""
    source, editor = clip.read(data.path("grid-s1/bbbf6n.mpg")), TextEditPipeline.from_pretrained()
    words, recording = read_align(data.path("grid-s1/bbbf6n.align")), wish[2]

    def by(method: str):
        edited = editor(source, words, "bin blue by f seven soon", speech=recording, method=method)
        edited.save(tmp_path / f"{method}.mp4")
        return edited

    [(_, _, made)] = by("diffusion").pieces
    pixels = len(made.frames) * 80 * 96
    rivals = {"classic": lambda: by("classic")}
    race("edit 2 words of a sentence", lambda: by("diffusion"), rivals, frames=len(made.frames), pixels=pixels)


def test_edit_drawing(race, film, wish):
    """The new frames alone, landmarks from the sound included: what grows with the length of an edit."""
    (video, _), (words, text, recording), editor = film, wish, TextEditPipeline.from_pretrained()
    with mock.patch.object(editor, "motion", wraps=editor.motion) as motion:
        editor(video, words, text, speech=recording)
    window = motion.call_args.args[0]

    def ours():
        return editor.frames(window, editor.motion(window))

    def everywhere():
        with mock.patch("thlib.editing.frames.face_flows", every_pixel):
            ours()

    pixels = jaws(editor.motion(window), window.clip.size)
    faster = race("edit, frames", ours, {"spline at every pixel": everywhere}, frames=window.n, pixels=pixels)
    assert min(faster.values()) > 1


def test_animate(race):
    """Curves from speech and a presenter that follows them, 128²; the alternative draws the bare mesh by matplotlib."""
    rig, spoken = EmoFacePipeline.from_pretrained(), say("A presenter says what is written here.").audio
    size, some = (128, 128), 10

    def ours():
        return perform(1, rig(spoken, "happy", fps=Fraction(25)), spoken, size=size)

    points, triangles = ours().track.points, model().triangles

    def plotted():
        for face in points[:some]:
            figure = Figure(figsize=(1.28, 1.28), dpi=100)
            axes = figure.add_axes((0, 0, 1, 1))
            corners = face[triangles]
            order = np.argsort(-corners[..., 2].mean(1))
            axes.add_collection(PolyCollection(corners[order][..., :2], facecolors=corners[order][..., 2] % 1.0))
            axes.set(xlim=(0, 128), ylim=(128, 0))
            FigureCanvasAgg(figure).draw()

    n = len(points)
    rivals = {"mesh by matplotlib": (plotted, some / n)}
    faster = race("animate, 128²", ours, rivals, frames=n, pixels=n * size[0] * size[1])
    assert min(faster.values()) > 1


@pytest.mark.parametrize("high", [128, 400])
def test_reenact(race, sentence, high):
    """A painting follows two seconds, tracking included; the alternative asks the spline at every pixel."""
    image = Image.open(data.path("portraits/pearl_earring.jpg")).convert("RGB")
    if high == 128:  # the face and what is around it, since a face needs 48 pixels
        image = image.crop((160, 160, 900, 900))
    image = np.asarray(image.resize((round(image.width * high / image.height), high), Image.Resampling.LANCZOS))
    reenact, some = OSTNetPipeline.from_pretrained(), sentence.cut(0, 5)
    face = portrait(image)[1].points
    box, _ = surroundings(control_points(face), REACH * float(landmarks.face_scale(face)[0]))
    x0, y0, x1, y1 = clipped(box, image.shape[:2])

    def everywhere():
        with mock.patch("thlib.ostnet.pipeline.face_flows", every_pixel):
            reenact(image, some)

    faster = race(
        f"reenact, {image.shape[1]} x {high}",
        lambda: reenact(image, sentence),
        {"spline at every pixel": (everywhere, 0.1)},
        frames=50,
        pixels=50 * (x1 - x0) * (y1 - y0),
    )
    assert min(faster.values()) > 1
