"""Text-based editing from end to end: change the words of a talking video, get a video that says them.

    editor = TextEditPipeline.from_pretrained()
    out = editor(Video("talk.mp4"), words, "set blue by a nine please")
    out.save("edited.mp4")

Five steps (Fried et al. 2019 and Han et al. 2024 have the same): words -> spans -> sound -> lips -> frames. Only a
window around each edit is decoded, tracked and drawn; outside the spans every frame and sample stays what it was."""

# T frames of a window  N new frames  L landmarks (478)
from collections import namedtuple
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Self

import numpy as np

from thlib import provenance
from thlib.clip import MAX_BYTES, Clip, Video, Word, splice_clip, write
from thlib.editing import frames as stage2
from thlib.editing.context import MotionDiffusion, rows_at
from thlib.editing.motion import LipNet, between, heads_between
from thlib.editing.refine import Crops, MouthNet, Repair, heard, repaired
from thlib.editing.script import diff
from thlib.editing.sound import Patch, patches, retime, shifted
from thlib.errors import DataError, EditError, FaceError
from thlib.footage import LIP_RATE, Footage
from thlib.landmarks import LIPS, FaceTrack, Head, beside, faces, track
from thlib.metrics import correlation, motion_steps, opening, sync_offset
from thlib.speech import MEL_BANDS, Speech, heard_phones, log_mel, write_textgrid

WEIGHTS = Path(__file__).parents[1] / "weights" / "editing"
CONTEXT = 4.0  # seconds of real footage read on each side of an edit
MARGIN = 0.08  # seconds on each side of the new sound in which the face, by co-articulation, moves otherwise
SOURCES = {"recording": "New words from the recording.", "cut": "Words deleted and the gap bridged."}
UNHEARD = " The sound does not clearly say its words, so lips follow it without knowing its phones."
LATE = " The footage's sound comes {:.2f} s after its lips; the new lips keep to that."
LATER, KNOWN, DOUBT = 0.1, 0.85, 0.5  # in r: by which a shift must be better; where trust is whole; least trust
LONGEST = 12.0  # seconds of new video an edit may have
WHOLE = Repair()
FASTEST = 10  # words a second that nobody exceeds


class Edit(namedtuple("Edit", "source pieces points words spans notes method seed weights")):
    """The result: `clip`, its `words`, generated `spans` in seconds, `notes`; `method`, `seed` and files of `weights`.
    pieces: [(t0, t1, Clip)], what replaces what, seconds of the source; points: landmarks (N, 478, 3) of each."""

    @property
    def clip(self) -> Clip:
        """The edited clip in memory; MediaError where a `Video` is too long for that: `save` writes it."""
        source = self.source if isinstance(self.source, Clip) else self.source.clip()
        return splice_clip(source, self.pieces)

    def save(self, path: str | Path, *, exact: bool = False, badge: bool = True) -> Path:
        """Write the video with its captions (`.vtt`) and its provenance (tags, sidecar); `badge` marks new frames.
        exact: lossless outside the edits, in a larger file. Without a badge the provenance says so. Where the source
        came with its track and words, so does the result, which can then be edited again without a connection."""
        path, loaded, pieces = Path(path), isinstance(self.source, Clip), self.pieces
        if badge:
            pieces = [(a, b, replace(c, frames=provenance.badge(c.frames))) for a, b, c in pieces]
        told = {"method": self.method, "badge": badge, "seed": self.seed, "weights": self.weights}
        told |= {} if loaded else {"pictures": self.source.told(pieces, exact=exact)}
        record = provenance.record(None if loaded else self.source.path, self.spans, actions=self.notes, details=told)
        tags = provenance.container_tags(record)
        if loaded:
            write(path, splice_clip(self.source, pieces), exact=exact, metadata=tags)
        else:
            self.source.splice(pieces, path, exact=exact, metadata=tags)
        provenance.write_sidecar(path, record)
        provenance.write_captions(path.with_suffix(".vtt"), self.words)
        if not loaded and beside(self.source.path).is_file():
            self._track().save(beside(path))
            write_textgrid(path.with_suffix(".TextGrid"), self.words)
        return path

    def _track(self) -> FaceTrack:
        """The source's track with the new landmarks; controls within an edit are those of the nearer border."""
        found, fps, moved = track(self.source), self.source.fps, 0
        for (t0, t1, clip), points in zip(self.pieces, self.points):
            first, last, n = round(t0 * fps) + moved, round(t1 * fps) + moved, len(clip.frames)
            index = np.arange(len(found.points))
            borders = np.repeat([first - 1, last], [n // 2, n - n // 2]).clip(0, len(index) - 1)
            found = found.picked(np.concatenate([index[:first], borders, index[last:]]))
            found.points[first : first + n] = points
            moved += n - (last - first)
        return replace(found, pose=Head.fit(found.points).matrix)


class Window(namedtuple("Window", "clip track sound words left right n begin late trust", defaults=[0, 0, 1.0])):
    """Real footage around one edit, T frames from `begin`; those between `left` and `right` become `n` new ones.
    clip, track  T frames;  left, right: the last real frame before and the first after the edit (-1 and T: none).
    sound        (T', M) as in `Footage`, of the new sound, T' = T - (right - left - 1) + n; words: of the footage.
    late, trust  frames by which the footage's sound comes after its lips (`sound` is so much earlier); `followed`."""

    mel = property(lambda self: self.sound[:, :MEL_BANDS], doc="Log-mel (T', B) of the new sound.")
    edit = property(lambda self: np.isin(np.arange(len(self.mel)) - self.left - 1, range(self.n)), doc="New? (T',)")

    @cached_property
    def footage(self) -> Footage:
        """What stays, to learn the speaker from: `visible` is False inside the edit."""
        index = np.arange(len(self.track.points))
        stays = self.track.shown & ((index <= self.left) | (index >= self.right))
        gone = np.zeros((self.right - self.left - 1, self.mel.shape[1]), self.mel.dtype)
        mel = np.concatenate([self.mel[: self.left + 1], gone, self.mel[self.left + 1 + self.n :]])
        return Footage.of("window", replace(self.track, visible=stays), mel=mel, words=self.words)

    @property
    def motion(self) -> np.ndarray:
        """The footage's motion (T', 478, 3) where it stays; NaN in new frames and where no face is seen."""
        real = np.where(self.footage.visible[:, None, None], self.footage.motion, np.nan)
        return np.concatenate([real[: self.left + 1], np.full((self.n, 478, 3), np.nan), real[self.right :]])

    @cached_property
    def slow(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`sound`, `motion` and `edit` (1: new) at `LIP_RATE`, at which lips are moved."""
        at = _places(round(len(self.sound) * LIP_RATE / self.track.fps), len(self.sound))
        return tuple(rows_at(rows, at) for rows in (self.sound, self.motion, self.edit * 1.0))

    def border(self, values: Sequence) -> tuple:
        """The entries of `values` (T, ...) at the two border frames, None where there is none."""
        return tuple(values[k] if 0 <= k < len(values) else None for k in (self.left, self.right))


class TextEditPipeline:
    """Change the words of a talking video; its stages `motion` and `frames` can be called alone.
    lips: which of `nets` moves them, "diffusion", "regressor", "ridge"; None: as the method says; repair: pictures."""

    def __init__(self, nets: dict, *, lips: str | None = None, repair: Repair = WHOLE, weights: Sequence[Path] = ()):
        movers = [name for name, net in nets.items() if not isinstance(net, MouthNet)]
        if lips is not None and lips not in movers:
            raise EditError(f"Lips by {lips!r} are unknown; take one of {', '.join(movers)}.")
        self.nets, self.lips, self.repair, self.weights = nets, lips, repair, tuple(weights)

    @classmethod
    def from_pretrained(
        cls, name: str = "default", *, lips: str | None = None, repair: Repair = WHOLE, device: str = "cpu"
    ) -> Self:
        """The shipped weights `name`, or those in a folder of that name. DataError where there are none."""
        folder = Path(name) if Path(name).is_dir() else WEIGHTS / name
        if not folder.is_dir():
            known = ", ".join(sorted(p.name for p in WEIGHTS.glob("*/")))
            raise DataError(f"No weights {name!r} for editing; take one of {known}, or a folder with weights.")
        kinds = {"diffusion": MotionDiffusion, "predictor": MouthNet, "refiner": MouthNet}
        nets = {p.name: kinds.get(p.name, LipNet).from_pretrained(p) for p in sorted(folder.glob("*/"))}
        nets = {name: net.float().to(device).eval() for name, net in nets.items()}
        return cls(nets, lips=lips, repair=repair, weights=sorted(folder.glob("*/*.safetensors")))

    def __call__(
        self, source: Clip | Video, words: Sequence[Word], edited_text: str,
        speech: Speech | Sequence[Speech] | None = None, seed: int = 0, method: str = "diffusion",
    ) -> Edit:  # fmt: skip
        """Edit `source`, whose transcript is `words`, so that it says `edited_text`.
        speech  a recording that contains the new words, or a list, one a changed span; None: the words from elsewhere
                in the footage, else espeak's voice as a placeholder (the notes say so).
        method  "diffusion" moves lips and repairs pictures by it; "classic": lips by the regressor, pictures by warps.
        seed    of both diffusions: the same one gives the same result.
        EditError, SpeechError, FaceError and MediaError say what of the video, the words or the sound does not fit."""
        if method not in ("diffusion", "classic"):
            raise EditError(f"The method {method!r} is unknown; take 'diffusion' or 'classic'.")
        if method == "classic":
            way = {"lips": self.lips or "regressor", "repair": replace(self.repair, refine="none")}
            self = TextEditPipeline(self.nets, **way, weights=self.weights)
        if missing := [n for n in (self.lips or "diffusion", *self.repair.nets) if n not in self.nets]:
            what = f"These weights have no {' and no '.join(missing)}"
            raise EditError(f"{what}; train them, or take a method and lips of what they have: {', '.join(self.nets)}.")
        fps, total = source.fps, source.n_frames
        for before, word in pairwise([Word("", 0.0, 0.0), *words]):
            if not before.start <= word.start <= word.end <= source.duration + 0.1:
                where = f"{word.text!r} lies at {word.start:.2f}-{word.end:.2f} s of {source.duration:.2f} s"
                raise EditError(f"{where}, or before the word ahead; give words in order, at the times of this video.")
        spans, sound = diff(words, edited_text), _dark(total, source.audio, source)
        if (most := max(len(span.new) for span in spans)) > FASTEST * LONGEST:
            raise EditError(f"One edit has {most} new words; it may last {LONGEST:.0f} s: split it into shorter ones.")
        found = patches(sound, words, spans, speech=speech)
        for patch in found:
            if (seconds := float(patch.n_frames / fps)) > LONGEST:
                what = f"{' '.join(w.text for w in patch.words)!r} lasts {seconds:.1f} s"
                raise EditError(f"{what}; an edit may have {LONGEST:.0f} s: split it into shorter ones.")
        low, high = max(0, round(found[0].k0 - (CONTEXT + 1) * fps)), round(found[-1].k1 + (CONTEXT + 1) * fps)
        low -= low % (source.audio_rate / fps).denominator  # a frame that begins with a sample
        new = [((p.k0 - low) / fps, (p.k1 - low) / fps, _dark(p.n_frames, p.audio, sound)) for p in found]
        sound, said = splice_clip(sound.cut(low, min(total, high)), new), retime(words, found)
        told = Speech(sound.mono16k(), shifted(said, -low / fps), ())
        pieces, points, spans, notes, moved = [], [], [], [], 0
        for patch in found:
            taken = round(pieces[-1][1] * fps) if pieces else 0
            window = self.window(source, words, patch=patch, sound=told, moved=moved - low, taken=taken)
            points.append(self.motion(window, seed=seed))
            pictures = self.frames(window, points[-1], seed=seed)
            first, last = window.begin + window.left + 1, window.begin + window.right
            new = sound.cut(first + moved - low, first + moved - low + window.n)
            pieces.append((first / fps, last / fps, replace(new, frames=pictures)))
            spans.append((float((first + moved) / fps), float((first + moved + window.n) / fps)))
            deaf = patch.words and (self.lips or "diffusion") == "diffusion" and not window.sound[:, MEL_BANDS:].any()
            told_late = LATE.format(window.late / float(fps)) if window.late else ""
            notes.append((" ".join(patch.notes) or SOURCES[patch.source]) + UNHEARD * bool(deaf) + told_late)
            moved += patch.n_frames - (patch.k1 - patch.k0)
        how = f"{method}, lips by {self.lips or method}"
        used = [p for p in self.weights if p.parent.name in (self.lips or "diffusion", *self.repair.nets)]
        return Edit(source, pieces, points, said, spans, tuple(notes), how, seed, tuple(used))

    def window(
        self, source: Clip | Video, words: Sequence[Word], *, patch: Patch, sound: Speech, moved: int, taken: int = 0
    ) -> Window:
        """What one edit needs: `CONTEXT` seconds around it, tracked, with the result's `sound` (its words and audio
        count). moved: frames by which earlier edits have moved this one, less those before `sound` begins; taken:
        where in the source they end. FaceError where the face is hidden at a border or in the edit, or is not alone."""
        fps, total, margin = source.fps, source.n_frames, round(MARGIN * source.fps)
        first, last = max(0, patch.k0 - margin), min(total, patch.k1 + margin)  # the old frames that are replaced
        if (first, last) == (0, total):
            raise EditError("The edit covers all of the video; keep at least one real frame beside it.")
        room = MAX_BYTES // (3 * prod(source.size)) - (last - first) - 2  # frames beside the edit, in memory
        reach = min(CONTEXT * fps, max(room, fps) / 2)
        begin, end = max(0, round(first - reach)), min(total, round(last + reach))
        clip = source.cut(begin, end) if isinstance(source, Clip) else source.window(begin / fps, end / fps)
        n = end - begin + patch.n_frames - (patch.k1 - patch.k0)  # frames of the window afterwards
        start, stop = (begin + moved) / fps, (begin + moved + n) / fps
        a, b = (round(t * sound.rate) for t in (start, stop))
        audio = np.pad(sound.audio[max(a, 0) : b], (max(-a, 0), 0))  # earlier edits may have made less of it
        said = shifted([w for w in sound.words if start <= w.start and w.end <= stop], -start)
        known = isinstance(source, Video) and beside(source.path).is_file()  # the whole video's track came with it
        seen = track(source).picked(slice(begin, end)) if known else track(clip)
        if not (phones := heard_phones(audio, said, fps, n)).any():  # a slip elsewhere in the transcript
            phones = heard_phones(audio, shifted(patch.words, (patch.k0 - begin) / fps), fps, n)
        features = np.concatenate([log_mel(audio, fps, n), phones], 1)
        borders = first - begin - 1, last - begin, n - (end - begin) + last - first
        found = Window(clip, seen, features, shifted(words, -begin / fps), *borders, begin)
        late, trust = self.followed(found)
        left = min(max(found.left - late, taken - begin, -1), found.left)  # the old words' lips begin so much earlier
        features = features[np.minimum(np.arange(n) + late, n - 1)]
        found = found._replace(sound=features, left=left, n=found.n + found.left - left, late=late, trust=trust)
        _check_faces(found, detected=not known)
        return found

    def followed(self, window: Window) -> tuple[int, float]:
        """How the footage's lips follow its own sound: `Window.late`, by where the opening that the sound tells fits
        theirs best, if r is better so by `LATER`; `Window.trust`, by r there. Needs 4 seconds of face: else 0 and 1."""
        (sound, real, _), rest = window.slow, window.footage.rest
        if np.isfinite(real[:, 0, 0]).sum() < 4 * LIP_RATE or "diffusion" not in self.nets:
            return 0, 1.0
        told, real = ((m + rest)[:, LIPS, :2] for m in (self.nets["diffusion"].heard(sound), real))
        lag = max(0, sync_offset(told, real, most=8, margin=LATER))
        told, real = opening(told[lag:]), opening(real[: len(real) - lag])
        trust = np.clip(correlation(*(m[np.isfinite(real)] for m in (told, real))) / KNOWN, DOUBT, 1)
        return round(lag * window.track.fps / LIP_RATE), float(trust)

    def motion(self, window: Window, *, seed: int = 0, samples: int = 1) -> np.ndarray:
        """Stage 1: landmarks float32 (N, 478, 3), pixels, for the new frames: from the sound and the real footage.
        samples: how many motions are drawn and averaged: one is lively, the mean of many is nearer to the truth."""
        net, real, (sound, around, edit) = self.nets[self.lips or "diffusion"], window.footage, window.slow
        if isinstance(net, MotionDiffusion):
            trust = min(window.trust, net.trust.item())
            motion = net.motion(sound, around, edit=edit > 0, samples=samples, trust=trust, seed=seed).mean(0)
        else:
            motion = net.predict(sound[:, :MEL_BANDS])
        motion = np.nan_to_num(rows_at(motion, _places(len(window.sound), len(motion))))
        motion = np.pad(motion, ((1, 1), (0, 0), (0, 0)), mode="edge")  # and one frame on each side of the new ones
        motion = motion[window.left + 1 : window.left + window.n + 3]
        (left, right), pace = window.border(real.fixed), np.percentile(motion_steps(real.fixed[:, LIPS]), 90)
        fixed = between(motion, rest=real.rest, left=left, right=right, pace=pace)
        head = Head.fit(window.track.points, shape=real.shape)
        return heads_between(head, left=window.left, right=window.right, n=window.n).unfix(fixed)

    def frames(self, window: Window, target: np.ndarray, *, seed: int = 0) -> np.ndarray:
        """Stage 2: pictures uint8 (N, H, W, 3) at native resolution that show the landmarks `target` (N, 478, 3)."""
        points, pictures, repair = window.track.points, window.clip.frames, self.repair
        left, right = (None if k is None else (pictures[k], points[k]) for k in window.border(range(len(points))))
        stays = np.flatnonzero(window.footage.visible)
        library = ([pictures[k] for k in stays], points[stays]) if repair.reference == "nearest" else None  # views
        if repair.refine == "none" or not len(target):
            return stage2.render(left, right, target=target, library=library, order=repair.order)
        sound = heard(window.mel)[window.edit]
        crops = Crops.of(left, right, target=target, sound=sound, library=library, order=repair.order)
        return crops.pasted(repaired(self.nets, crops, repair, seed=seed), both=(left is not None, right is not None))


def _places(a: int, b: int) -> np.ndarray:
    """Where the middles of `a` rows lie among `b` rows of the same time."""
    return ((np.arange(a) + 0.5) * b / a - 0.5).clip(0, b - 1)


def _dark(n: int, audio: np.ndarray, like: Clip | Video) -> Clip:
    """Sound under n pictures of one pixel: what `patches` and `splice_clip` need of it."""
    return Clip(np.zeros((n, 1, 1, 3), np.uint8), like.fps, audio, like.audio_rate)


def _check_faces(window: Window, *, detected: bool) -> None:
    """FaceError unless one face is seen at both borders of the edit and inside."""
    fps, begin = float(window.clip.fps), window.begin
    for k in window.border(range(len(window.track.points))):
        if k is not None and not window.track.shown[k]:
            where = f"{(begin + k) / fps:.2f} s, where the edit meets the footage"
            raise FaceError(f"No face is seen at {where}; edit words around which the face is visible.")
        if k is not None and detected and (many := len(faces(window.clip.frames[k]))) > 1:
            where = f"{many} faces are seen at {(begin + k) / fps:.2f} s"
            raise FaceError(f"{where}; an edit needs one: cut the picture down to the one who speaks.")
    hidden = begin + window.left + 1 + np.flatnonzero(~window.track.visible[window.left + 1 : window.right])
    if len(hidden):
        where = f"{hidden[0] / fps:.2f}-{(hidden[-1] + 1) / fps:.2f} s, inside the edit"
        raise FaceError(f"The face is hidden at {where}; edit words during which it is visible.")
