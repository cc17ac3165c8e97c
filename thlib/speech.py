"""Speech: say a text, find its words and phones in a recording, features at the video's rate, TextGrid and GRID files.

Times are seconds from the first sample; phones are ARPAbet without stress; pauses are left out.
"""

# S samples  T frames
from __future__ import annotations

import math
import os
import re
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from thlib import data, espeak
from thlib.clip import Phone, Word
from thlib.errors import SpeechError

RATE = 16_000  # Hz, of every sound in this file
MEL_BANDS, MEL_WINDOW = 80, 1024  # a Hann window of 64 ms: at 25 frames/s nothing falls between two rows
PAD = 0.2  # s of silence that the aligner gets at both ends
NATS = 1024 * math.log(1.0001)  # pocketsphinx counts likelihood in these
REFUSE, DOUBT = -2.3, -21.0  # calibrated on the train split of grid-s1, see `_judge`
# The nearest ARPAbet phone of each vowel and consonant that espeak-ng's European voices use.
IPA = dict(
    re.findall(
        r"(\S+)=(\S+)",
        """ɑ=AA ɒ=AA æ=AE a=AE ɐ=AH ə=AH ʌ=AH ɔ=AO aʊ=AW aɪ=AY b=B tʃ=CH d=D ð=DH ɛ=EH e=EH ɚ=ER ɜ=ER ø=ER œ=ER eɪ=EY f=F
        ɡ=G h=HH ç=HH ɪ=IH ᵻ=IH i=IY dʒ=JH k=K x=K l=L m=M n=N ɲ=N ŋ=NG əʊ=OW oʊ=OW o=OW ɔɪ=OY p=P ɹ=R r=R ʁ=R s=S ʃ=SH t=T
        ɾ=T θ=TH ʊ=UH u=UW y=UW v=V β=V w=W j=Y z=Z ʒ=ZH""",
    )
)
_IPA = re.compile("|".join(sorted(IPA, key=len, reverse=True)))
_EDGES = re.compile(r"^[^\w&%+=@#$£€]+|[^\w&%+=@#$£€]+$")


class DoubtfulWord(Warning):
    """A word that the sound hardly says, or a sound that has no word."""


@dataclass(frozen=True, eq=False)
class Speech:
    """Sound with its words and phones: audio float32 (S,) mono in [-1, 1] at `rate` Hz."""

    audio: np.ndarray
    words: tuple[Word, ...]
    phones: tuple[Phone, ...]
    rate: int = RATE


def say(text: str, *, voice: str = "en-gb", speed: int = 175, pitch: int = 50) -> Speech:
    """`text` spoken by espeak-ng, with the exact times of its words and phones.

    voice: a language code, "en-us" or with a variant "en-gb+f3"; speed: words a minute, 80 to 450; pitch: 0 to 100.
    SpeechError if there is nothing to say, or no such voice.
    """
    tokens = _tokens(text)
    if not any(map(_bare, tokens)):
        raise SpeechError(f"the text {text[:60]!r} has no words: give at least one to say")
    # A zero-width space before each token keeps espeak from saying "of the" or "it was" as one word.
    answer = espeak.ask(" ".join(f"\u200b{token}" for token in tokens), voice=voice, speed=speed, pitch=pitch)
    spoken = list(_spoken(answer, np.cumsum([0] + [len(token) + 2 for token in tokens]).tolist()))
    words = []
    for i, group in groupby(spoken, key=lambda pair: pair[0]):
        phones = [phone for _, phone in group]
        words += [Word(word, phones[0].start, phones[-1].end) for word in [_bare(tokens[i])] if word]
    audio = _mono16k(answer["samples"] / np.float32(32768), answer["rate"])
    return Speech(audio, tuple(words), tuple(phone for _, phone in spoken))


def align(audio: np.ndarray, transcript: str, *, rate: int = RATE) -> list[Word]:
    """The words of `transcript` with their times in `audio` (S,) or (S, C); otherwise as `align_speech`."""
    return list(align_speech(audio, transcript, rate=rate).words)


def align_speech(audio: np.ndarray, transcript: str, *, rate: int = RATE) -> Speech:
    """English speech, audio (S,) or (S, C) at `rate` Hz, at 16 kHz with the times of its words and phones.

    Forced alignment by pocketsphinx (Huggins-Daines et al. 2006), its acoustic model and dictionary; a word that the
    dictionary lacks is spelt by espeak-ng. SpeechError if there are no words or no sound, or if the sound does not say
    the words; DoubtfulWord warns of a single place where they differ.
    """
    words, sound = list(filter(None, map(_bare, _tokens(transcript)))), _mono16k(audio, rate)
    if not words:
        raise SpeechError(f"the transcript {transcript[:60]!r} has no words: write down what is said")
    if not sound.size or np.abs(sound).max() < 1e-4:
        raise SpeechError(f"the sound ({len(sound) / RATE:.2f} s) is silent: give one that says the {len(words)} words")
    spellings = {word: _spellings(word) for word in words}
    if len(sound) / RATE < 0.03 * sum(min(spelling.count(" ") + 1 for spelling in spellings[word]) for word in words):
        raise SpeechError(f"{len(sound) / RATE:.2f} s of sound can't hold {len(words)} words: give the whole recording")
    found = _decode(sound, words, spellings)
    if found is None or (doubts := _judge(*found)) is None:
        raise SpeechError(f"the sound does not say {transcript[:60]!r}: check that the transcript belongs to it")
    for doubt in doubts:
        warnings.warn(f"{doubt}: check the transcript there", DoubtfulWord, stacklevel=2)
    spans = [(word, [_phone(*part, len(sound) / RATE) for part in parts]) for word, parts in found[0] if word]
    timed = [Word(word, phones[0].start, phones[-1].end) for word, phones in spans]
    return Speech(sound, tuple(timed), tuple(phone for _, phones in spans for phone in phones))


def log_mel(audio: np.ndarray, fps: Fraction | float, n_frames: int) -> np.ndarray:
    """Log-mel features (T, 80) of 16 kHz mono `audio` (S,), one row a video frame; row k is centred at (k + 0.5) / fps.

    log(power + 1e-6) in librosa's 80 bands under a Hann window of 64 ms; beyond its ends the sound is silent.
    """
    import librosa

    centres = [round(Fraction(2 * k + 1, 2) / Fraction(fps) * RATE) for k in range(n_frames)]
    beyond = max(0, centres[-1] + MEL_WINDOW // 2 - len(audio))
    padded = np.pad(np.asarray(audio, np.float32), (MEL_WINDOW // 2, beyond))
    windows = padded[np.add.outer(centres, np.arange(MEL_WINDOW))]  # (T, 1024)
    settings = {"sr": RATE, "n_fft": MEL_WINDOW, "hop_length": MEL_WINDOW, "n_mels": MEL_BANDS, "center": False}
    return np.log(librosa.feature.melspectrogram(y=windows, **settings)[..., 0] + 1e-6)


def wav2vec2(audio: np.ndarray, fps: Fraction | float, n_frames: int) -> np.ndarray:
    """Features (T, 768) of 16 kHz mono `audio` (S,) by wav2vec 2.0 (Baevski et al. 2020), row k at (k + 0.5) / fps.

    Last hidden states of `wav2vec2-base-960h`, taken in pieces of a minute, interpolated linearly in time.
    DataError says how to get the weights where they are not at hand.
    """
    import torch

    files = data.fetch("wav2vec2-base-960h", ["config.json", "model.safetensors"])
    model = _wav2vec2(files["config.json"], files["model.safetensors"].parent)
    sound = (audio - audio.mean()) / np.sqrt(audio.var() + 1e-7)
    sound = np.pad(sound, (0, 400)).astype(np.float32)  # a state sees 400 samples, the next begins 320 later
    pieces = [sound[i : i + 60 * RATE + 80] for i in range(0, len(sound) - 399, 60 * RATE)]
    with torch.inference_mode():
        states = [model(torch.from_numpy(piece)[None]).last_hidden_state[0].numpy() for piece in pieces]
    states = np.concatenate(states)  # (about 50 a second, 768)
    at = ((np.arange(n_frames) + 0.5) / float(fps) * RATE - 200) / 320
    return np.stack([np.interp(at, np.arange(len(states)), feature) for feature in states.T], 1).astype(np.float32)


@cache
def _wav2vec2(config: Path, folder: Path) -> Any:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    settings = {"config": Wav2Vec2Config.from_json_file(config), "use_safetensors": True, "local_files_only": True}
    return Wav2Vec2Model.from_pretrained(folder, **settings).eval()


def read_align(path: str | Path) -> list[Word]:
    """The words of a GRID `.align` file (start, end, word; 25,000 units a second), silences dropped."""
    try:
        rows = [line.split() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
        return [Word(w, int(a) / 25_000, int(b) / 25_000) for a, b, w in rows if w not in ("sil", "sp")]
    except (OSError, ValueError) as problem:
        raise SpeechError(f"{path} is no GRID alignment: lines of start, end and word are needed") from problem


def read_textgrid(path: str | Path) -> tuple[list[Word], list[Phone]]:
    """Words and phones of a Praat TextGrid, from its tiers whose names end in "words" and "phones" (MFA's names)."""
    from praatio import textgrid

    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    except Exception as problem:  # praatio raises whatever the file makes it stumble on
        raise SpeechError(f"{path} is no Praat TextGrid: give one that Praat or MFA has written") from problem
    words, phones = (
        [
            kind(entry.label, entry.start, entry.end)
            for name in grid.tierNames
            if name.endswith(tier)
            for entry in grid.getTier(name).entries
        ]
        for tier, kind in (("words", Word), ("phones", Phone))
    )
    if not words:
        raise SpeechError(f"{path} has no words: a tier called words is needed, not {', '.join(grid.tierNames)}")
    return words, phones


def write_textgrid(path: str | Path, words: Sequence[Word], phones: Sequence[Phone] = ()) -> Path:
    """Write words and phones (in order of time) as a Praat TextGrid with the tiers "words" and "phones"; its path."""
    from praatio import textgrid

    grid, end = textgrid.Textgrid(), max(span.end for span in [*words, *phones])
    for name, spans in (("words", words), ("phones", phones)):
        if spans:
            entries = [(span.start, span.end, span.text) for span in spans]
            grid.addTier(textgrid.IntervalTier(name, entries, 0, end))
    with data.atomic(path) as half:
        grid.save(str(half), format="long_textgrid", includeBlankSpaces=True)
    return Path(path)


def _tokens(text: str) -> list[str]:
    """The text at its spaces and dashes, free of characters that can't be seen. SpeechError if there is markup in it."""
    if markup := re.search("<[^<>]*>", text):
        raise SpeechError(f"the text contains the markup {markup[0][:60]!r}: give plain words")
    parts = ("".join(filter(str.isprintable, part)) for part in re.sub("[—–…]", r" \g<0> ", text).split())
    return [part for part in parts if part]


def _bare(token: str) -> str:
    """A token without the punctuation around it; "" for one that is no word."""
    return _EDGES.sub("", token)


def _spoken(answer: dict[str, Any], starts: list[int]) -> Iterator[tuple[int, Phone]]:
    """The phones of espeak's events, each with the token that it belongs to; token i begins at character starts[i]."""
    token, begin, marks = 0, None, []  # marks: sample, token, ARPAbet symbols (none for a pause)
    for position, ipa, sample in answer["events"]:
        if position is not None:
            token, begin = bisect_right(starts, position) - 1, sample
        elif symbols := [IPA[sound] for sound in _IPA.findall(ipa)]:
            marks.append((sample if begin is None else begin, token, symbols))
            begin = None
        elif begin is None:
            marks.append((sample, token, []))
    ends = sorted({sample for sample, _, _ in marks}) + [len(answer["samples"])]
    for start, group in groupby(marks, key=lambda mark: mark[0]):
        sounds = [(i, symbol) for _, i, symbols in group for symbol in symbols]  # espeak joins some: share the time
        edges = np.linspace(start, ends[ends.index(start) + 1], len(sounds) + 1) / answer["rate"]
        for (i, symbol), a, b in zip(sounds, edges, edges[1:]):
            yield i, Phone(symbol, float(a), float(b))


def _mono16k(audio: np.ndarray, rate: int) -> np.ndarray:
    """Sound (S,) or (S, C) at `rate` as float32 (S,) at 16 kHz."""
    from scipy.signal import resample_poly

    mono = audio if audio.ndim == 1 else audio.mean(1)
    common = math.gcd(rate, RATE)
    return resample_poly(mono, RATE // common, rate // common).astype(np.float32)


@cache
def _dictionary() -> dict[str, list[str]]:
    """pocketsphinx's English dictionary (a form of CMUdict): word -> spellings, "AH B AW T"."""
    import pocketsphinx

    spellings = {"z": ["Z EH D"]}  # as the British say it
    for line in Path(pocketsphinx.get_model_path(), "en-us", "cmudict-en-us.dict").read_text().splitlines():
        word, spelling = line.split(maxsplit=1)
        spellings.setdefault(re.sub(r"\(\d+\)$", "", word), []).append(spelling.strip())
    return spellings


def _spellings(word: str) -> list[str]:
    """How a word may be said: as the dictionary has it, or part by part, or as espeak's American voice says it."""
    known, word = _dictionary(), word.lower().replace("’", "'")
    if word in known:
        return known[word]
    if all(part in known for part in word.split("-")):
        return [" ".join(known[part][0] for part in word.split("-"))]
    spelling = " ".join(phone.text for phone in say(word, voice="en-us").phones)
    return [spelling]


def _decode(sound: np.ndarray, words: list[str], spellings: dict[str, list[str]]) -> tuple[list, np.ndarray] | None:
    """The best path through the words, and the best of a free phone loop.

    Segments in order, (word, or "" for silence; [(phone, first frame, frames, nats)]), and the nats of the loop in each
    frame of 10 ms; None where the words fit nowhere. `compallsen` gives both the same scale: 0 is a frame's best senone.
    """
    from pocketsphinx import Decoder, get_model_path

    decoder = Decoder(
        hmm=os.path.join(get_model_path(), "en-us", "en-us"),
        dict=None,
        lm=None,
        loglevel="FATAL",
        compallsen=True,
        allphone_ci=True,
        beam=1e-100,
        pbeam=1e-100,
    )
    names = {word: f"w{i}" for i, word in enumerate(spellings)}
    for word, name in names.items():
        for k, spelling in enumerate(spellings[word]):
            decoder.add_word(f"{name}({k + 1})" if k else name, spelling, False)
    dither = np.random.default_rng(0).normal(0, 1e-3, len(sound) + 2 * round(PAD * RATE))
    sound = np.pad(sound, round(PAD * RATE)) + dither
    pcm = (sound.clip(-1, 1) * 32767).astype("<i2").tobytes()
    decoder.set_align_text(" ".join(names[word] for word in words))
    try:
        _listen(decoder, pcm)
        decoder.set_alignment()
        _listen(decoder, pcm)
    except RuntimeError:
        return None
    queue = list(words)
    segments = []
    for segment in decoder.get_alignment():
        word = queue.pop(0) if segment.name.startswith("w") else ""
        segments.append((word, [(phone.name, phone.start, phone.duration, phone.score * NATS) for phone in segment]))
    if queue:
        return None
    decoder.add_allphone_file("free", None)
    decoder.activate_search("free")
    _listen(decoder, pcm)
    free = []
    for segment in decoder.seg():
        n = segment.end_frame + 1 - segment.start_frame
        free += [1024 * math.log(segment.ascore) / n] * n
    return segments, np.array(free)


def _judge(segments: list, free: np.ndarray) -> list[str] | None:
    """Places where sound and text differ, told in words; None if they do throughout.

    Goodness of pronunciation (Witt & Young 2000): log likelihood of the text's phones over that of the free loop.
    """
    gains = []
    for word, phones in segments:
        start, n = phones[0][1], sum(phone[2] for phone in phones)
        gains.append((word, start, n, sum(phone[3] for phone in phones) - free[start : start + n].sum()))
    if np.mean([gain / n for word, _, n, gain in gains if word]) < REFUSE:
        return None
    differ = [(word, start / 100 - PAD) for word, start, n, gain in gains if gain / math.sqrt(n) < DOUBT]
    return [f"the sound at {at:.2f} s {f'hardly says {word!r}' if word else 'has no word'}" for word, at in differ]


def _phone(text: str, start: int, frames: int, _nats: float, duration: float) -> Phone:
    a, b = (min(max(frame / 100 - PAD, 0.0), duration) for frame in (start, start + frames))
    return Phone(text, a, b)


def _listen(decoder: Any, pcm: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()
