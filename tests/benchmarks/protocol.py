"""SelfEdit and GridEdit: which frames are taken away, what stands in for them, and how that is judged.

Both judge lips in the speaker's head-fixed frame, in % of the distance of the eye corners, each clip's own mean over
the unedited words subtracted. Rows of motion are judged as landmarks; rows of pictures are tracked again first.
"""

# T frames  N new frames  P lip points (40)
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations

import measures
import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from thlib import clip, data, metrics
from thlib.editing.context import MotionDiffusion, rows_at
from thlib.editing.frames import inbetween
from thlib.editing.pipeline import TextEditPipeline, Window
from thlib.editing.sound import Patch
from thlib.footage import Footage, grid
from thlib.landmarks import LIPS, FaceTrack, Head, mouth_opening, track
from thlib.speech import align_speech

WILD = {  # what is said in talking clips, as a speech recogniser (Moonshine, Jeffries et al. 2024) hears it, mended
    "obama_weekly_450": "to speak with you about the battle we're waging against an oil spill that is assaulting our "
    "shores and our citizens On April twentieth an explosion ripped through B P Deepwater Horizon drilling rig about "
    "forty miles off the coast of Louisiana Eleven workers lost their lives Seventeen others",
    "wda_katiehill": "congressional district and I'm currently in D C for my second week of new member orientation In "
    "addition to learning where things are and how to use the tunnels",
    "may_512": "The new year is a time to reflect on what is passed and look ahead to the opportunity",
    "retalk_1_vfr": "my biggest weaknesses is asking for help when I need it I'd like to do better at that",
    "synctalk_demo": "Hello and welcome to this video I am a talking head synthesized by sync talk featuring accurate "
    "lip movements and natural facial expressions along with continuous and stable head poses",
}
SLOTS = {"colours": 1, "letters": 3, "digits": 4, "adverbs": 5}  # which word of a sentence each reader reads
clips = cache(grid)


@dataclass(frozen=True)
class Case:
    """One edit with its truth: frames [left + 1, right) of `window` become `n`, which `truth` shows.

    truth  the clip with the real new frames, and where they lie in it: frames [at, at + n).
    said   by slot, the word and its frames among the new ones.   shared (T of the truth,) bool: unedited words.
    """

    name: str
    window: Window
    truth: Footage
    at: int
    said: dict[str, tuple[str, slice]]
    shared: np.ndarray


def frames_of(words: Sequence[clip.Word], fps: float) -> list[tuple[int, int]]:
    """First and one-past-last frame of each word; GRID's times are whole frames."""
    return [(round(w.start * fps), round(w.end * fps)) for w in words]


@cache
def readers() -> dict[str, metrics.LipReader]:
    """Lip-readers of each slot's words, fitted on the true lips of the train split."""
    out = {}
    for name, slot in SLOTS.items():
        spans = [(f, *frames_of(f.words, 25)[slot]) for f in clips("train")]
        labels = [f.words[slot].text for f, *_ in spans]
        out[name] = metrics.LipReader().fit([f.motion[a:b, LIPS, :2] for f, a, b in spans], labels)
    return out


@cache
def by_duration() -> dict[str, LinearDiscriminantAnalysis]:
    """Readers that know nothing of a word but its number of frames: that much belongs to the sound."""
    out = {}
    for name, slot in SLOTS.items():
        spans = [frames_of(f.words, 25)[slot] for f in clips("train")]
        labels = [f.words[slot].text for f in clips("train")]
        out[name] = LinearDiscriminantAnalysis().fit([[b - a] for a, b in spans], labels)
    return out


def read_durations(case: Case) -> dict[str, float]:
    """What `by_duration` reads of a case's words."""
    of = {n: by_duration()[n].predict([[where.stop - where.start]])[0] for n, (_, where) in case.said.items()}
    return {name: float(of[name] == word) for name, (word, _) in case.said.items()}


def said_again(case: Case, others: Sequence[Footage]) -> np.ndarray | None:
    """Lips (N, P, 2) of another true recording of GridEdit's two words, each word stretched to the truth's frames."""
    want = [w.text for w in case.truth.words[4:]]
    again = next((f for f in others if f.name != case.truth.name and [w.text for w in f.words[4:]] == want), None)
    if again is None:
        return None
    lips = again.fixed[:, LIPS, :2] - again.fixed[slice(*_shared(again)), LIPS, :2].mean(0)
    old, new = ([t for span in frames_of(f.words, 25)[4:] for t in span] for f in (again, case.truth))
    places = np.interp(np.arange(case.at, case.at + case.window.n) + 0.5, new, old) - 0.5
    return rows_at(lips, places.clip(0, len(lips) - 1))


def _shared(f: Footage) -> tuple[int, int]:
    spans = frames_of(f.words, 25)
    return spans[0][0], spans[3][1]


def grid_pairs(split: str = "test") -> list[tuple[str, str]]:
    """Ordered pairs of GRID clips whose first four words are the same: 120 in the test split."""
    names = sorted(f.removesuffix(".mpg") for f, e in data.manifest("grid-s1").files.items() if e.split == split)
    names = list(dict.fromkeys(n.removesuffix(".align") for n in names))
    return [pair for pair in permutations(names, 2) if pair[0][:4] == pair[1][:4]]


@cache
def grid_clip(name: str) -> tuple[clip.Clip, FaceTrack]:
    """A clip of speaker s1 with its track."""
    path = data.path(f"grid-s1/{name}.mpg")
    return clip.read(path), track(clip.Video(path))


def grid_edit(a: Footage, b: Footage) -> Case:
    """The last two words of `a` become those of `b`, whose own sound says them, in its frame phase."""
    (_, sa), (_, ea) = frames_of(a.words, 25)[3], frames_of(a.words, 25)[5]
    spans = frames_of(b.words, 25)
    sb, eb = spans[3][1], spans[5][1]
    pictures, found = grid_clip(a.name)
    sound = np.concatenate([a.sound[:sa], b.sound[sb:eb], a.sound[ea:]])
    window = Window(pictures, found, sound, a.words[:4], left=sa - 1, right=ea, n=eb - sb)
    said = _said(b.words, ("digits", "adverbs"), sb)
    shared = np.zeros(len(b.mel), bool)
    shared[spans[0][0] : sb] = True
    return Case(f"{a.name}-{b.name}", window, b, sb, said, shared)


def _said(words: Sequence[clip.Word], names: Sequence[str], first: int) -> dict[str, tuple[str, slice]]:
    spans = [frames_of(words, 25)[SLOTS[name]] for name in names]
    texts = [words[SLOTS[name]].text for name in names]
    return {n: (t, slice(a - first, b - first)) for n, t, (a, b) in zip(names, texts, spans)}


def self_edit(f: Footage, pictures: clip.Clip, found: FaceTrack) -> Case:
    """Words 2-4 of a clip are taken away and made again from its own sound."""
    spans = frames_of(f.words, float(found.fps))
    a, b = spans[1][0], spans[3][1]
    window = Window(pictures, found, f.sound, [*f.words[:1], *f.words[4:]], left=a - 1, right=b, n=b - a)
    shared = f.spoken.copy()
    shared[a:b] = False
    return Case(f.name, window, f, a, _said(f.words, ("colours", "letters"), a), shared)


def wild_edits(editor: TextEditPipeline, every: int = 1) -> Iterator[Case]:
    """SelfEdit of people nobody has learned from: every three words, two apart, of the clips of `WILD` are taken away
    and made again from the clip's own sound, which may come late: `editor.window` sees to that, as in any edit."""
    for name, said in WILD.items():
        video = clip.Video(data.path(f"talking-clips/{name}.mp4"))
        speech = align_speech(clip.mono16k(video.audio, video.audio_rate), said)
        for i in range(1, len(speech.words) - 3, 2 * every):
            k0, k1 = (round(t * float(video.fps)) for t in (speech.words[i].start, speech.words[i + 2].end))
            patch = Patch(None, k0, k1, k1 - k0, video.fps, None, speech.words[i : i + 3], "recording", [])
            w = editor.window(video, speech.words, patch=patch, sound=speech, moved=0)
            truth = Footage.of(name, w.track, mel=w.mel, words=w.words)
            yield Case(f"{name} {i}", w, truth, w.left + 1, {}, w.footage.spoken)


# --- judging ----------------------------------------------------------------------------------------------------------


def true_lips(case: Case) -> np.ndarray:
    """The truth (N, P, 2): lips of the real new frames, less their clip's mean over the unedited words."""
    lips = case.truth.fixed[:, LIPS, :2]
    return (lips - lips[case.shared].mean(0))[case.at : case.at + case.window.n]


def judge(case: Case, lips: np.ndarray, *, rest: np.ndarray) -> dict[str, float]:
    """What a row's lips (N, P, 2), relative to the clip's mean over the unedited words (`rest`), are worth."""
    truth = true_lips(case)
    opened = metrics.opening(lips + rest), metrics.opening(truth + rest)
    out = {
        "lips %": metrics.lip_error(lips, truth),
        "opening r": metrics.correlation(*opened),
        "deviation": metrics.deviation_ratio(lips, truth),
        "offset": abs(metrics.sync_offset(lips + rest, truth + rest)),
    }
    for name, (word, where) in case.said.items():
        out[name] = float(readers()[name].read([lips[where]])[0] == word)
    return out


def rest_of(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The mean face (478, 3) of the window's unedited words and the shape (478, 3) that heads are fixed to."""
    real = case.window.footage
    return real.rest, real.shape


def judge_points(case: Case, points: np.ndarray) -> dict[str, float]:
    """`judge` of landmarks (N, 478, 3) in pixels."""
    rest, shape = rest_of(case)
    lips = (Head.fit(points, shape=shape).fix(points) - rest)[:, LIPS, :2]
    return judge(case, lips, rest=rest[LIPS, :2])


def judge_pictures(case: Case, frames: np.ndarray) -> dict[str, float]:
    """`judge_points` of new frames uint8 (N, H, W, 3), tracked between real ones; and their seams."""
    w = case.window
    before, after = w.clip.frames[: w.left + 1][-12:], w.clip.frames[w.right :][:12]
    joined = replace(w.clip, frames=np.concatenate([before, frames, after]))
    found = track(joined).points
    s, e = len(before), len(before) + w.n
    rest, shape = rest_of(case)
    fixed = Head.fit(found, shape=shape).fix(found)[:, LIPS]
    own = w.footage.fixed[:, LIPS]
    joins = [k for k in (s - 1, e - 1) if 0 <= k < len(fixed) - 1]
    lips_steps, own_steps = metrics.motion_steps(fixed), metrics.motion_steps(own)
    rows, columns = metrics.mouth_box(w.track.points[:, LIPS], height=96, width=112)
    face_steps = metrics.picture_steps(joined.frames[:, rows, columns])
    own_face = metrics.picture_steps(w.clip.frames[:, rows, columns])
    return judge(case, (fixed[s:e] - rest[LIPS])[..., :2], rest=rest[LIPS, :2]) | {
        "seams, lips": metrics.share_above([lips_steps[k] for k in joins], own_steps),
        "seams, pixels": metrics.share_above([face_steps[k] for k in joins], own_face),
    }


def picture_scores(case: Case, frames: np.ndarray) -> dict[str, float]:
    """SelfEdit only: new frames against the masked ones, in the mouth (48 x 56 a face of GRID's size) and the face."""
    w = case.window
    truth = w.clip.frames[w.left + 1 : w.right]
    scale = float(Head.fit(w.track.points).scale.mean()) / 50  # GRID's s1 has about 50 pixels between the eye corners
    mouth = metrics.mouth_box(w.track.points[w.left + 1 : w.right, LIPS], height=48 * scale, width=56 * scale)
    x, y = w.track.points[w.left + 1 : w.right, :, 0], w.track.points[w.left + 1 : w.right, :, 1]
    face = slice(int(y.min()), int(y.max())), slice(int(x.min()), int(x.max()))
    inside = (slice(None), *mouth)
    return {
        "mouth PSNR": metrics.psnr(frames[inside], truth[inside]),
        "mouth SSIM": metrics.ssim(frames[inside], truth[inside]),
        "face PSNR": metrics.psnr(frames[:, *face], truth[:, *face]),
        "gradient": metrics.gradient_energy(frames[inside]) / metrics.gradient_energy(truth[inside]),
        "flicker": metrics.flicker(frames[inside]) / metrics.flicker(truth[inside]),
        "outside": outside(case, frames, mouth),
    }


def outside(case: Case, frames: np.ndarray, mouth: tuple[slice, slice]) -> float:
    """PSNR of the face outside the mouth against motion-compensated neighbours, mean over every fourth new frame."""
    points = case.window.track.points
    mask = np.zeros(frames.shape[1:3], bool)
    low, high = points[..., :2].min((0, 1)).astype(int).clip(0), points[..., :2].max((0, 1)).astype(int)
    mask[low[1] : high[1], low[0] : high[0]] = True
    mask[mouth] = False
    return float(np.mean([measures.outside_psnr(frames[k], frames[k - 1], mask) for k in range(1, len(frames), 4)]))


# --- rows -------------------------------------------------------------------------------------------------------------


def of_motion(case: Case, model, samples: int = 1) -> dict[str, float]:
    """What a model says, as it is, before it is made to land on the real borders; of diffusion the mean of samples."""
    w, (rest, _) = case.window, rest_of(case)
    if isinstance(model, MotionDiffusion):
        motion = model.motion(w.sound, w.motion, edit=w.edit, samples=samples).mean(0)
    else:
        motion = model.predict(w.mel)
    return judge(case, motion[w.edit][:, LIPS, :2], rest=rest[LIPS, :2])


def apart(case: Case, model: MotionDiffusion) -> dict[str, float]:
    """How far two samples of a diffusion lie apart in lips, %: in the middle third of the edit and at its two ends."""
    w = case.window
    a, b = model.motion(w.sound, w.motion, edit=w.edit, samples=2)[:, w.edit][:, :, LIPS, :2]
    middle, ends = slice(w.n // 3, w.n - w.n // 3), [0, -1]
    return {"middle": metrics.lip_error(a[middle], b[middle]), "ends": metrics.lip_error(a[ends], b[ends])}


def held(case: Case) -> dict[str, Callable[[], np.ndarray]]:
    """The adversaries as pictures, each a function that makes frames uint8 (N, H, W, 3).

    Jump cut: the frame before for half the time, then the one after. Old lips (where words change): the frames that
    stood there, run on. Cross-fade: from border to border. Hold: the frame before. Mute: the most closed mouth.
    """
    w = case.window
    frames, n, last = w.clip.frames, w.n, len(w.clip.frames) - 1
    right = min(w.right, last)
    share = ((np.arange(n) + 1) / (n + 1)).reshape(-1, 1, 1, 1)
    stays = np.flatnonzero(w.footage.visible)
    closed = stays[mouth_opening(w.track.points[stays]).argmin()]
    picked = {
        "jump cut": np.where(np.arange(n) < n / 2, w.left, right),
        "hold": np.full(n, w.left),
        "mute": np.full(n, closed),
    }
    if case.name != case.truth.name:
        picked["old lips"] = np.minimum(w.left + 1 + np.arange(n), last)
    faded = {"cross-fade": lambda: np.rint(frames[w.left] * (1 - share) + frames[right] * share).astype(np.uint8)}
    return {name: (lambda index=index: frames[index]) for name, index in picked.items()} | faded


def faded_points(case: Case) -> np.ndarray:
    """Cross-fade as landmarks (N, 478, 3): the borders' points, interpolated."""
    w = case.window
    share = ((np.arange(w.n) + 1) / (w.n + 1))[:, None, None]
    a, b = (w.track.points[min(k, len(w.track.points) - 1)] for k in (w.left, w.right))
    return a * (1 - share) + b * share


def made(case: Case, editor: TextEditPipeline) -> np.ndarray:
    """New frames by the pipeline's two stages."""
    return editor.frames(case.window, editor.motion(case.window))


def warped(case: Case, target: np.ndarray) -> np.ndarray:
    """New frames that show landmarks `target` (N, 478, 3): the border frames warped, nothing taken from elsewhere."""
    w = case.window
    left, right = zip(w.border(w.clip.frames), w.border(w.track.points))
    left, right = (None if end[0] is None else end for end in (left, right))
    return np.stack([*inbetween(left, right, target=target, order="interpolate_warp")])


def collect(rows: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, list[float]]]:
    """From a list of scores a case to a list of values a column."""
    return {name: {k: [s[k] for s in scores] for k in scores[0]} for name, scores in rows.items()}
