"""The presenter speaks: phones with their times and an emotion become curves, curves and a person become a video.

    done = say("Good morning.", emotion="happy", identity=7)
    done.save("hello.mp4")                              # its track, words and provenance lie beside it

Co-articulation by dominance functions (Cohen & Massaro 1993, "Modeling coarticulation in synthetic visual speech"):
each phone pulls every control towards its target, less with the distance in time, and the pulls are averaged."""

# T frames  P phones  K controls (52)
import functools
import math
from collections import namedtuple
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from thlib import clip, data, provenance, speech
from thlib.behaviour import add_blinks, add_gaze, expression, head_motion
from thlib.clip import Clip, Phone, sample_at
from thlib.errors import SpeechError
from thlib.landmarks import FaceTrack
from thlib.presenter.render import Person, person, place, render
from thlib.rig import ARKIT, Curves, Rate
from thlib.speech import Speech

_VISEMES = data.shipped("visemes.yaml")
BILABIAL, LABIODENTAL = ("M", "B", "P"), ("F", "V")
BITTEN = 0.3  # mouthRollLower at which the lower lip is at the teeth
ONSET, CLOSURE, GAP = 0.06, 0.009, 0.03  # s: of a phone's way in and out, reach of closures, shortest rest
MANNER = _VISEMES["manner"]  # of an emotion
LONG = "bob", "long", "wavy", "bun"  # hair
HIGH = {"en-us+anika": -22, "en-us+Annie": 38}  # voices that repeat to the byte and align, with their pitch
LOW = dict.fromkeys(("en-us+m1", "en-us+m3", "en-us+m5", "en-us+m7", "en-gb+m5"), 0)
BEFORE, AFTER = 0.32, 0.4  # s of silence around what is said
OPENING, *GROUPS = ([ARKIT.index(n) for n in names] for names in (_VISEMES["opening"], *_VISEMES["groups"]))
CLOSE, BITE = ARKIT.index("mouthClose"), ARKIT.index("mouthRollLower")
MOUTH = [k for k, name in enumerate(ARKIT) if name.startswith(("jaw", "mouth"))]
MAKINGS = "identity emotion intensity style seed"


class Performance(namedtuple("Performance", f"clip track speech curves {MAKINGS}", defaults=("neutral", 1.0, 0, 0))):
    """A presenter who speaks: clip with sound, exact track, speech (no words if unknown), ARKit curves; its makings."""

    words = property(lambda self: self.speech.words, doc="The words with their times in the clip.")
    phones = property(lambda self: self.speech.phones, doc="The phones with their times in the clip.")

    def save(self, path: str | Path) -> Path:
        """Write the video and beside it `.track.npz`, `.TextGrid` and `.vtt` (where there are words), and provenance
        (tags, `.provenance.json`): a machine that can reach nothing still aligns, edits and reenacts it."""
        path, makings = Path(path), {name: getattr(self, name) for name in MAKINGS.split()}
        told = {"method": "presenter", "text": " ".join(word.text for word in self.words), "badge": False} | makings
        span, what = (0.0, self.clip.duration), "a synthetic presenter, no real person"
        record = provenance.record(None, [span], actions=[what], details=told)
        clip.write(path, self.clip, metadata=provenance.container_tags(record))
        self.track.save(path.with_suffix(".track.npz"))
        if self.words:
            speech.write_textgrid(path.with_suffix(".TextGrid"), self.words, phones=self.phones)
            provenance.write_captions(path.with_suffix(".vtt"), self.words)
        provenance.write_sidecar(path, record)
        return path


def say(
    text: str, *, emotion: str = "neutral", intensity: float = 1.0, identity: int = 0, seed: int = 0,
    size: tuple[int, int] = (256, 256),
) -> Performance:  # fmt: skip
    """The presenter `identity` says `text` in its own voice and style, at 25 frames/s; SpeechError as `speech.say`.
    emotion, intensity: as `behaviour.expression`; blinks, gaze and head motion follow from seed. For another style or
    frame rate take the three steps one by one: `utter`, `curves`, `perform`."""
    said, style = utter(text, identity, emotion=emotion), identity % 2
    moved = curves(said, emotion=emotion, intensity=intensity, style=style, seed=seed)
    done = perform(identity, moved, said.audio, size=size)
    return done._replace(speech=said, emotion=emotion, intensity=intensity, style=style, seed=seed)


def utter(text: str, identity: int, *, emotion: str = "neutral") -> Speech:
    """`text` in the voice of a presenter, a moment of silence around it; an emotion changes pace and pitch."""
    name, speed, pitch = voice(identity)
    pace, lift, _ = MANNER.get(emotion[:3], MANNER["neu"])
    said = speech.say(text, voice=name, speed=round(speed * pace), pitch=pitch + lift)
    sound = np.pad(said.audio, [round(t * said.rate) for t in (BEFORE, AFTER)])
    late = [tuple(replace(s, start=s.start + BEFORE, end=s.end + BEFORE) for s in x) for x in (said.words, said.phones)]
    return Speech(sound, *late, said.rate)


@functools.cache
def voice(identity: int) -> tuple[str, int, int]:
    """espeak-ng's voice, speed (words a minute) and pitch of a presenter, chosen to go with the person's looks."""
    who, rng = person(identity), np.random.default_rng((8, identity))
    voices = HIGH if who.hair in LONG or (not who.beard and rng.random() < 0.35) else LOW
    name = str(rng.choice([*voices]))
    return name, int(rng.integers(145, 176)), int(rng.integers(40, 54)) + voices[name]


def curves(
    speech: Speech, *, emotion: str = "neutral", intensity: float = 1.0, style: int = 0, seed: int = 0, fps: Rate = 25
) -> Curves:
    """What a face does that says `speech`: Curves of the ARKit rig with head motion, as long as the sound to a frame.
    Whatever the emotion, the lips meet in a frame of every m, b and p, and the lower lip meets the teeth in f and v.
    DataError for an emotion, intensity or style that `behaviour.expression` lacks, SpeechError for an unknown phone."""
    n, phones = math.ceil(round(len(speech.audio) / speech.rate * fps, 6)), speech.phones
    times = (np.arange(n) + 0.5) / float(fps)  # a frame shows the middle of its time, as a camera's exposure does
    level = np.sqrt([np.mean(np.square(piece)) for piece in np.array_split(speech.audio, n)])
    loud = level / max(level.max(), 1e-6)  # (T,)
    spoken, size = visemes(phones, times), MANNER.get(emotion[:3], MANNER["neu"])[2]
    spoken[:, OPENING] *= (1 + (size - 1) * intensity) * (0.9 + 0.2 * loud[:, None])
    rng = np.random.default_rng((seed, 4))
    waves = np.sin(2 * np.pi * np.outer(times, rng.uniform(0.1, 0.5, 3)) + rng.uniform(0, 7, 3)).mean(1)
    felt = Curves(expression(emotion, intensity, style=style)[None], "mediapipe", fps).arkit  # (1, K)
    felt = felt * (0.9 + 0.2 * waves[:, None])  # no expression is held still
    if phones:  # speech takes part of the mouth from it
        talk = np.array((phones[0].start - 0.2, phones[0].start, phones[-1].end, phones[-1].end + 0.2))
        felt[:, MOUTH] *= np.interp(times, talk, (1, 0.6, 0.6, 1))[:, None]
    felt[:, OPENING] *= 1 - np.maximum(spoken[:, CLOSE], spoken[:, BITE] / BITTEN).clip(max=1)[:, None]
    values, head = _contacts((spoken + felt).clip(0, 1), phones, times), head_motion(loud, fps, seed=seed)
    return add_gaze(add_blinks(Curves(values, "arkit", fps, head), seed=seed), seed=seed)


def visemes(phones: Sequence[Phone], times: np.ndarray) -> np.ndarray:
    """The mouth's controls (T, 52), ARKit, at rising `times` (T,) in seconds, by dominance functions.
    sum_p D_p(t) target_p / sum_p D_p(t), D = strength exp(-|t - t_p| / reach): Cohen & Massaro with c = 1, |t - t_p|
    counted from the phone's steady part. A closure is centred on a frame, so that sampling keeps it."""
    names, *edges = zip(*_parts(phones))
    if unknown := set(names) - set(_phones()):
        raise SpeechError(f"There is no phone {min(unknown)!r}: give ARPAbet, as `speech.align_speech` does.")
    targets, pulls = (np.stack(x) for x in zip(*(_phones()[name] for name in names)))  # (P, K), (P, 5)
    start, end = np.array(edges)
    centre, hold = (start + end) / 2, np.maximum((end - start) / 4, (end - start) / 2 - ONSET)
    shut = np.isin(names, BILABIAL + LABIODENTAL)
    centre[shut] = times[np.abs(times[:, None] - centre[shut]).argmin(0)]
    away, values = (np.abs(times[:, None] - centre) - hold).clip(0), np.zeros((len(times), len(ARKIT)))  # (T, P)
    for g, columns in enumerate(GROUPS):
        pull = pulls[:, g] * np.exp(-away / (CLOSURE if g == 3 else pulls[:, 4])) + 1e-30
        values[:, columns] = pull @ targets[:, columns] / pull.sum(1, keepdims=True)
    return values


@functools.cache
def _phones() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each phone: targets (52,); strengths in the four groups and reach (5,)."""
    phones = _VISEMES["phones"].items()
    return {name: (np.array([made.get(n, 0.0) for n in ARKIT]), np.array(made["pull"])) for name, made in phones}


def _parts(phones: Sequence[Phone]) -> Iterator[tuple[str, float, float]]:
    """Phones, diphthongs as two, with the rests before, between and after them."""
    last = -1.0
    for phone in phones:
        if phone.start - last > GAP:
            yield "SIL", last, phone.start
        text, last = phone.text.rstrip("012"), phone.end  # without marks of stress
        names = _VISEMES["diphthongs"].get(text, (text,))
        edges = np.linspace(phone.start, last, len(names) + 1)
        yield from zip(names, edges, edges[1:])
    yield "SIL", last, max(last + 1, 1e4)


def _contacts(values: np.ndarray, phones: Sequence[Phone], times: np.ndarray) -> np.ndarray:
    """Controls (T, 52) in which no neighbour in time takes a closure its frame."""
    for kind, control, least in ((LABIODENTAL, BITE, BITTEN), (BILABIAL, CLOSE, 1)):
        middle = np.array([(phone.start + phone.end) / 2 for phone in phones if phone.text in kind])
        at = np.abs(times[:, None] - middle).argmin(0)
        values[at, control] = values[at, control].clip(least)
    return values


def perform(
    who: Person | int, curves: Curves, audio: np.ndarray, *, size: tuple[int, int] = (256, 256), rate: int = speech.RATE
) -> Performance:
    """A person, or the presenter of that number, moves as `curves` say, with the sound (S,) or (S, C) at `rate` Hz.
    The clip, of `size` (H, W), has a frame for each of the curves, at their rate; its track is exact, not detected."""
    who = who if isinstance(who, Person) else person(int(who))
    controls, n = curves.to("mediapipe").values.clip(0, 1), len(curves.values)
    drawn = render(who, controls, head=place(curves.head * (1, 1, -1), size), size=size)
    samples = sample_at(n, curves.fps, rate)
    sound = np.zeros((samples, 1 if audio.ndim == 1 else audio.shape[1]), np.float32)
    sound[: len(audio)] = audio[:samples].reshape(-1, sound.shape[1])
    track = FaceTrack(drawn.points, drawn.visible.any(1), size, curves.fps, controls, drawn.pose)
    bare = Speech(sound.mean(1), (), (), rate)
    return Performance(Clip(drawn.frames, curves.fps, sound, rate), track, bare, curves, who.seed)
