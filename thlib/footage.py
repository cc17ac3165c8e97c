"""A talking clip as arrays to learn from: its words, log-mel, head-fixed landmarks and the motion in them."""

# T frames  B mel bands (80)  L landmarks (478)
from collections import namedtuple
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np

from thlib import data
from thlib.clip import Video, Word, mono16k
from thlib.errors import FaceError, MediaError
from thlib.landmarks import FaceTrack, Head, track
from thlib.speech import PHONES, align, heard_phones, log_mel, read_align

LIP_RATE = 25  # frames a second at which lips are learned and moved, whatever the video's rate
ENOUGH = 0.8  # share of frames that must show the face for a clip to teach anything


def mean_shape(points: np.ndarray) -> np.ndarray:
    """A speaker's mean face (478, 3) from pixels (T, 478, 3): head-fixed, eye corners 33 and 263 at distance 1."""
    shape = Head.fit(points).fix(points).mean(0)
    shape = Head.fit(points, shape=shape).fix(points).mean(0)
    return shape / np.linalg.norm(shape[263] - shape[33])


class Footage(namedtuple("Footage", "name words mel fixed shape visible spoken path phones", defaults=[None, None])):
    """One speaker's clip, ready for learning.
    name, words; mel (T, B) log-mel, a row a frame; fixed (T, 478, 3) landmarks head-fixed to the speaker's own
    `shape` (478, 3); visible (T,) bool; spoken (T,) bool: visible frames inside words; path: of its video, if any;
    phones: shares of its frames (T, 39), see `speech.phone_shares`; None: `sound` finds them in the video."""

    @classmethod
    def of(cls, name: str, track: FaceTrack, *, mel: np.ndarray, words: Sequence[Word]) -> Self:
        """From a track and the log-mel of its sound (T, B)."""
        shape = mean_shape(track.points[track.visible])
        middles = (np.arange(len(mel)) + 0.5) / float(track.fps)
        inside = np.any([(middles >= word.start) & (middles < word.end) for word in words], axis=0)
        spoken = track.visible & inside if (track.visible & inside).any() else track.visible
        fixed = Head.fit(track.points, shape=shape).fix(track.points)
        return cls(name, tuple(words), mel, fixed, shape, track.visible, spoken)

    rest = property(lambda self: self.fixed[self.spoken].mean(0), doc="The mean face (478, 3) over the spoken frames.")
    motion = property(lambda self: self.fixed - self.rest, doc="Displacement (T, 478, 3) from `rest`, in eye corners.")

    @property
    def sound(self) -> np.ndarray:
        """Log-mel and shares of phones (T, B + 39), which are 0 where neither phones nor words and video are known."""
        if (phones := self.phones) is None and self.path and self.words:
            video, key = Video(self.path), [data.sha256(self.path), str(self.words)]
            asked = mono16k(video.audio, video.audio_rate), self.words, LIP_RATE, len(self.mel)
            phones = data.cached("shares", key, lambda: {"phones": heard_phones(*asked)})["phones"]
        return np.concatenate([self.mel, np.zeros((len(self.mel), len(PHONES))) if phones is None else phones], 1)


def load(path: str | Path, words: Sequence[Word] = ()) -> Footage:
    """Track a file (from the cache where it was tracked before), at `LIP_RATE`, and compute its log-mel.
    FaceError where fewer than 80 % of the frames show the face, MediaError for a silent video."""
    if (video := Video(path)).silent:
        raise MediaError(f"{path} has no sound: give a video with a sound track.")
    found = track(video)
    if (share := found.visible.mean()) < ENOUGH:
        raise FaceError(f"{path} shows a face in {share:.0%} of its frames; {ENOUGH:.0%} are needed.")
    step = float(video.fps / LIP_RATE)
    index = np.arange(step / 2, video.n_frames, step).astype(int)
    mel = log_mel(mono16k(video.audio, video.audio_rate), LIP_RATE, len(index))
    found = replace(found.picked(index), fps=LIP_RATE)
    return Footage.of(Path(path).stem, found, mel=mel, words=words)._replace(path=Path(path))


def grid(split: str) -> list[Footage]:
    """The clips of GRID's speaker s1 of a split ("train", "test"), or "others": one each of other speakers, whose words
    are aligned where the corpus lacks their times. DataError where the corpus is missing; damaged clips left out."""
    name = "grid-speakers" if split == "others" else "grid-s1"
    files = data.manifest(name).files
    wanted = [f for f, entry in sorted(files.items()) if f.endswith(".mpg") and (entry.split or "others") == split]

    def one(file: str) -> Footage | None:
        video, times = Video(data.path(f"{name}/{file}")), str(Path(file).with_suffix(".align"))
        said = (video.audio, files[file].transcript)
        words = read_align(data.path(f"{name}/{times}")) if times in files else align(*said, rate=video.audio_rate)
        try:
            return load(video.path, words)
        except FaceError:
            return None

    with ThreadPoolExecutor(2) as pool:
        return [footage for footage in pool.map(one, wanted) if footage]
