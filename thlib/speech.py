"""Speech: say a text, find its words and phones in a recording, features at the video's rate, TextGrid and GRID files.

Times are seconds from the first sample; phones are ARPAbet without stress; pauses are left out."""

# S samples  T frames
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import groupby
from pathlib import Path

import librosa
import numpy as np
from pocketsphinx import Decoder, get_model_path
from praatio import textgrid

from thlib import data, espeak
from thlib.clip import Phone, Word, mono16k
from thlib.errors import SpeechError

RATE = 16_000  # Hz, of every sound in this file
MEL_BANDS, MEL_WINDOW = 80, 1024  # a Hann window of 64 ms: at 25 frames/s nothing falls between two rows
PAD = 0.2  # s of silence that the aligner gets at both ends
NATS = 1024 * math.log(1.0001)  # pocketsphinx counts likelihood in these
DOUBT, WORST, REFUSE = 21.0, 30.0, 15.1  # misfits (see `_decode`), calibrated on the train split of grid-s1
COINS = {"$": "dollars", "£": "pounds", "€": "euros"}
IPA = data.shipped("phones.yaml")
PHONES = sorted(set(IPA.values()))  # ARPAbet, 39
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
    SpeechError if there is nothing to say, a word can't be said, or there is no such voice."""
    tokens = _tokens(text)
    if not (80 <= speed <= 450 and 0 <= pitch <= 100):
        raise SpeechError(f"speed {speed} and pitch {pitch} can't be spoken: choose 80 to 450 and 0 to 100")
    # A zero-width space before each token keeps espeak from saying "of the" or "it was" as one word.
    parts = ["\u200b" + re.sub(r"([$£€])(\d[\d.,]*)", lambda m: f"{m[2]} {COINS[m[1]]}", token) for token, _ in tokens]
    answer = espeak.ask(" ".join(parts), voice=voice, speed=speed, pitch=pitch)
    spoken = list(_spoken(answer, np.cumsum([0] + [len(part) + 1 for part in parts]).tolist()))
    groups = [(i, [phone for _, phone in group]) for i, group in groupby(spoken, key=lambda pair: pair[0])]
    words = [Word(tokens[i][1], phones[0].start, phones[-1].end) for i, phones in groups]
    if unsaid := {word for _, word in tokens if word} - {word.text for word in words}:
        raise SpeechError(f"the voice {voice} can't say {sorted(unsaid)[0]!r}: spell it out in letters")
    audio = mono16k(answer["samples"] / np.float32(32768), answer["rate"])
    return Speech(audio, tuple(word for word in words if word.text), tuple(phone for _, phone in spoken))


def align(audio: np.ndarray, transcript: str, *, rate: int = RATE) -> list[Word]:
    """The words of `transcript` with their times in `audio` (S,) or (S, C); otherwise as `align_speech`."""
    return list(align_speech(audio, transcript, rate=rate).words)


def align_speech(audio: np.ndarray, transcript: str, *, rate: int = RATE) -> Speech:
    """English speech, audio (S,) or (S, C) at `rate` Hz, at 16 kHz with the times of its words and phones.
    Forced alignment by pocketsphinx (Huggins-Daines et al. 2006), its acoustic model and dictionary; a word that the
    dictionary lacks is spelt by espeak-ng. SpeechError: silence, or other words; DoubtfulWord: one differs."""
    words = [word for _, word in _tokens(transcript) if word]
    if not np.abs(audio).max(initial=0) > 1e-4:
        raise SpeechError(f"the sound ({len(audio) / rate:.2f} s) is silent: give one that says the {len(words)} words")
    sound = mono16k(audio, rate)
    path = _decode(sound, words)
    misfit = math.hypot(*(min(own, WORST) for _, _, own in path)) / math.sqrt(len(words) + 1)
    if not path or misfit > REFUSE:
        raise SpeechError(f"the sound does not say {transcript[:60]!r}: check that the two belong together")
    for word, (first, *_), own in path:
        if own > DOUBT:
            told = f"the sound at {first.start:.2f} s {f'hardly says {word!r}' if word else 'has no word'}"
            warnings.warn(f"{told}: check the transcript there", DoubtfulWord, stacklevel=2)
    spoken = [(word, phones) for word, phones, _ in path if word]
    timed = tuple(Word(word, phones[0].start, phones[-1].end) for word, phones in spoken)
    return Speech(sound, timed, tuple(phone for _, phones in spoken for phone in phones))


def log_mel(audio: np.ndarray, fps: Fraction | float, n_frames: int) -> np.ndarray:
    """Log-mel features (T, 80) of 16 kHz mono `audio` (S,), one row a video frame; row k is centred at (k + 0.5) / fps.
    log(power + 1e-6) in librosa's 80 bands under a Hann window of 64 ms; beyond its ends the sound is silent."""
    centres = [round(Fraction(2 * k + 1, 2) / Fraction(fps) * RATE) for k in range(n_frames)]
    padded = np.pad(audio, (MEL_WINDOW // 2, max(0, centres[-1] + MEL_WINDOW // 2 - len(audio)))).astype(np.float32)
    windows = padded[np.add.outer(centres, np.arange(MEL_WINDOW))]  # (T, 1024)
    settings = {"sr": RATE, "n_fft": MEL_WINDOW, "hop_length": MEL_WINDOW, "n_mels": MEL_BANDS, "center": False}
    return np.log(librosa.feature.melspectrogram(y=windows, **settings)[..., 0] + 1e-6)


def phone_shares(phones: Sequence[Phone], fps: Fraction | float, n_frames: int) -> np.ndarray:
    """How much of each video frame each phone fills: float32 (T, 39), columns as in `PHONES`, 0 in pauses."""
    edges, shares = np.arange(n_frames + 1) / float(fps), np.zeros((n_frames, len(PHONES)), np.float32)
    for phone in phones:
        overlap = np.minimum(edges[1:], phone.end) - np.maximum(edges[:-1], phone.start)
        shares[:, PHONES.index(phone.text)] += overlap.clip(0) * float(fps)
    return shares


def heard_phones(audio: np.ndarray, words: Sequence[Word], fps: Fraction | float, n_frames: int) -> np.ndarray:
    """`phone_shares` of the `words` in 16 kHz `audio` (S,), by forced alignment (`align_speech`) of the sound they lie
    in, no more: neighbours do not fit. All 0, which means unknown, without words and where they are not said there."""
    phones, begin = [], max(0.0, words[0].start) if words else 0.0
    with suppress(SpeechError), warnings.catch_warnings(action="ignore", category=DoubtfulWord):
        part = audio[round(begin * RATE) : round(words[-1].end * RATE)] if words else audio[:0]
        phones = align_speech(part, " ".join(word.text for word in words)).phones
    return phone_shares([Phone(p.text, p.start + begin, p.end + begin) for p in phones], fps, n_frames)


def standardised(mel: np.ndarray) -> np.ndarray:
    """Log-mel (T, B) less each band's mean over the clip, over 3: microphone and voice level are gone."""
    return ((mel - mel.mean(0)) / 3).astype(np.float32)


def windows(mel: np.ndarray, reach: int, *, mode: str = "edge") -> np.ndarray:
    """Each frame of (T, B) with its `reach` neighbours on both sides: (T, B (2 reach + 1)), neighbours innermost."""
    padded = np.pad(mel, ((reach, reach), (0, 0)), mode=mode)
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0).reshape(len(mel), -1)


def wav2vec2(audio: np.ndarray, fps: Fraction | float, n_frames: int) -> np.ndarray:
    """Features (T, 768) of 16 kHz mono `audio` (S,) by wav2vec 2.0 (Baevski et al. 2020), row k at (k + 0.5) / fps.
    Last hidden states of `wav2vec2-base-960h`, in pieces of a minute, interpolated. DataError without its weights."""
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
def _wav2vec2(config: Path, folder: Path):
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
    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    except Exception as problem:  # praatio raises whatever the file makes it stumble on
        raise SpeechError(f"{path} is no Praat TextGrid: give one that Praat or MFA has written") from problem
    rows = [(name, (row.label, row.start, row.end)) for name in grid.tierNames for row in grid.getTier(name).entries]
    words = [Word(*row) for name, row in rows if name.endswith("words")]
    phones = [Phone(*row) for name, row in rows if name.endswith("phones")]
    if not words:
        raise SpeechError(f"{path} has no words: a tier called words is needed, not {', '.join(grid.tierNames)}")
    return words, phones


def write_textgrid(path: str | Path, words: Sequence[Word], *, phones: Sequence[Phone] = ()) -> Path:
    """Write words and phones (in order of time) as a Praat TextGrid with the tiers "words" and "phones"; its path."""
    grid, end = textgrid.Textgrid(), max(span.end for span in [*words, *phones])
    for name, spans in [("words", words), ("phones", phones)][: 1 + bool(phones)]:
        grid.addTier(textgrid.IntervalTier(name, [(span.start, span.end, span.text) for span in spans], 0, end))
    with data.atomic(path) as half:
        grid.save(str(half), format="long_textgrid", includeBlankSpaces=True)
    return Path(path)


def _tokens(text: str) -> list[tuple[str, str]]:
    """The text split at spaces and dashes, each part also without the punctuation around it ("" if it is no word)."""
    if markup := re.search("<[^<>]*>", text):
        raise SpeechError(f"the text contains the markup {markup[0][:60]!r}: give plain words")
    seen = "".join(c for c in re.sub("[—–…]", r" \g<0> ", text) if c.isprintable() or c.isspace())
    tokens = [(token, _EDGES.sub("", token)) for token in seen.split()]
    if not any(word for _, word in tokens):
        raise SpeechError(f"the text {text[:60]!r} has no words: write down what is said, or is to be said")
    return tokens


def _spoken(answer: dict, starts: list[int]) -> Iterator[tuple[int, Phone]]:
    """The phones of espeak's events, each with the token that it belongs to; token i begins at character starts[i]."""
    token, begin, marks = 0, None, []  # marks: sample, token, ARPAbet symbols (none for a pause)
    for position, ipa, sample in answer["events"]:
        if position is not None:
            token, begin = int(np.searchsorted(starts, position, side="right")) - 1, sample
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


@cache
def _dictionary() -> dict[str, list[str]]:
    """pocketsphinx's English dictionary (a form of CMUdict): word -> spellings, "AH B AW T"."""
    spellings = {"z": ["Z EH D"]}  # as the British say it
    for line in Path(get_model_path(), "en-us", "cmudict-en-us.dict").read_text().splitlines():
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
    return [" ".join(phone.text for phone in say(word, voice="en-us").phones)]


def _decode(sound: np.ndarray, words: list[str]) -> list[tuple[str, list[Phone], float]]:
    """The best path of the sound through the words and pauses ("") between them: of each its phones and misfit; or [].
    The misfit (0: none) is a goodness of pronunciation (Witt & Young 2000): the log likelihood of a loop of free phones
    over that of the part's own phones in the same n frames, in nats, divided by the root of n."""
    names = {word: f"w{i}" for i, word in enumerate(words)}
    decoder, end = _decoder({name: _spellings(word) for word, name in names.items()}), len(sound) / RATE
    sound = np.pad(sound * (0.5 / np.abs(sound).max()), round(PAD * RATE))  # half of full scale, silence around it,
    sound = sound + np.random.default_rng(0).normal(0, 1e-3, len(sound))  # dither: zeros have no logarithm
    pcm, path, left = (sound * 32767).astype("<i2").tobytes(), [], list(words)
    _listen(decoder, pcm, "loop")  # the best path through any phones, in nats a frame
    free = [(span.end_frame + 1 - span.start_frame, 1024 * math.log(span.ascore)) for span in decoder.seg()]
    loop = np.repeat([nats / n for n, nats in free], [n for n, _ in free])
    steps = [(i, i + 1, 1.0, names[word]) for i, word in enumerate(words)]
    pauses = [(i, i, 0.005, "pause") for i in range(len(words) + 1)]
    decoder.add_fsg("text", decoder.create_fsg("text", 0, len(words), steps + pauses))
    try:
        _listen(decoder, pcm, "text")
        decoder.set_alignment()  # the words found, once more, down to their phones
        _listen(decoder, pcm)
    except RuntimeError:
        return []
    for part in decoder.get_alignment():
        word = left.pop(0) if part.name.startswith("w") else ""
        spans = [(phone.name, phone.start, phone.start + phone.duration) for phone in part]
        times = [(name, *(min(max(frame / 100 - PAD, 0.0), end) for frame in frames)) for name, *frames in spans]
        loss = loop[part.start : part.start + part.duration].sum() - part.score * NATS
        path.append((word, [Phone(*time) for time in times], max(loss / math.sqrt(part.duration), 0.0)))
    return [] if left else path


def _decoder(spellings: dict[str, list[str]]) -> Decoder:
    """A pocketsphinx decoder that knows these words only. A new one each time: it holds the state of one utterance."""
    # compallsen: all passes on one scale, where 0 is the frame's best state. bestpath would add marks of one frame.
    search = {"compallsen": True, "allphone_ci": True, "bestpath": False, "fsgusefiller": False, "topn": 2}
    search |= dict.fromkeys(("beam", "pbeam", "wbeam"), 1e-100) | {"dict": None, "lm": None, "loglevel": "FATAL"}
    decoder = Decoder(hmm=f"{get_model_path()}/en-us/en-us", **search)
    for name, variants in (spellings | {"pause": ["SIL"]}).items():
        for k, spelling in enumerate(variants):
            decoder.add_word(f"{name}({k + 1})" if k else name, spelling, False)
    decoder.add_allphone_file("loop", None)
    return decoder


def _listen(decoder: Decoder, pcm: bytes, search: str | None = None) -> None:
    if search:
        decoder.activate_search(search)
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()
