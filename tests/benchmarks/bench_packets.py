"""What one second edited costs in ten minutes of H.264 against ten seconds: time and memory, apart from copying bytes.

Copying bytes is a splice without edits, which PyAV's bare loop over all packets ("remux") holds to account. Opening a
`Video` reads the time stamp of every packet and is told, too. Medians of processor seconds, runs interleaved on one
machine; `--limit n` shortens the long file n-fold."""

import json
import statistics
import subprocess
import sys
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from thlib.clip import Video
from thlib.presenter.speak import say

TIMES = 5
ALONE = """
import json, resource, sys, time
from thlib.clip import Video
video = Video(sys.argv[1])
at = float(int(video.duration / 2))
video.splice([(at, at + 1, video.window(at, at + 1.2))], sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def presenter(path, seconds):
    """The presenter's sentence over and over, 360x288 at 25 frames/s, groups of two seconds with B-frames, AAC."""
    said = say("Every word of this sentence is said again and again.", size=(288, 360)).clip
    frames = [av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p") for frame in said.frames]
    sound = np.resize(said.mono16k(), 16000)
    with av.open(str(path), "w") as file:
        film = file.add_stream("libx264", rate=25, options={"bf": "3", "g": "50", "preset": "veryfast"})
        film.width, film.height, film.pix_fmt = 360, 288, "yuv420p"
        voice = file.add_stream("aac", rate=44100, layout="mono")
        even = av.AudioResampler("fltp", "mono", 44100)
        for k in range(seconds * 25):
            frame = frames[k % len(frames)]
            frame.pts, frame.time_base, frame.pict_type = k, Fraction(1, 25), 0
            file.mux(film.encode(frame))
            if k % 25 == 0:
                second = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
                second.sample_rate, second.pts, second.time_base = 16000, k // 25 * 16000, Fraction(1, 16000)
                for part in even.resample(second):
                    file.mux(voice.encode(part))
        for stream in (film, voice):
            file.mux(stream.encode(None))
    return path


def remux(path, out):
    """All packets through PyAV, unchanged."""
    with av.open(str(path)) as file, av.open(str(out), "w", options={"movflags": "+faststart"}) as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in file.streams}
        for packet in (packet for packet in file.demux() if packet.size):
            packet.stream = streams[packet.stream.index]
            new.mux(packet)


def seconds(act):
    start = time.process_time()
    act()
    return time.process_time() - start


@pytest.fixture(scope="module")
def files(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    length = 600 // request.config.getoption("limit")
    return [presenter(folder / f"{n}.mp4", n) for n in (10, length)]


def test_a_second_edited_in_ten_minutes_costs_what_it_costs_in_ten_seconds(files, tmp_path):
    videos, out = [Video(file) for file in files], tmp_path / "out.mp4"
    cuts = [(float(int(video.duration / 2)), float(int(video.duration / 2) + 1)) for video in videos]
    new = [video.window(a, b + 0.2) for video, (a, b) in zip(videos, cuts)]
    edits = [[(a, b, clip)] for (a, b), clip in zip(cuts, new)]
    assert all(video.told(edit)["copied"] for video, edit in zip(videos, edits))
    table = {}
    for k in range(TIMES + 1):  # the first run loads what is needed
        for name, file, video, edit in zip(("short", "long"), files, videos, edits):
            row = table.setdefault(name, {"splice": [], "copy": [], "remux": [], "open": []})
            for what, act in (
                ("splice", lambda video=video, edit=edit: video.splice(edit, out)),
                ("copy", lambda video=video: video.splice([], out)),
                ("remux", lambda file=file: remux(file, out)),
                ("open", lambda file=file: Video(file)),
            ):
                took = seconds(act)
                row[what] += [took] * (k > 0)
    medians = {name: {what: statistics.median(of) for what, of in row.items()} for name, row in table.items()}
    costs = {name: row["splice"] - row["copy"] for name, row in medians.items()}
    print(json.dumps(medians), f"ratio {costs['long'] / costs['short']:.2f}")
    assert costs["long"] <= 1.5 * costs["short"]
    assert medians["long"]["copy"] <= 4 * medians["long"]["remux"]


def test_memory_does_not_grow_with_the_video(files, tmp_path):
    peaks = [
        float(subprocess.check_output([sys.executable, "-c", ALONE, str(file), str(tmp_path / "out.mp4")]))
        for file in files
    ]
    print(f"MiB: {peaks[0]:.0f} and {peaks[1]:.0f}")
    assert peaks[1] <= 1.2 * peaks[0]
