"""The presenter's corpus: splits that share nothing, determinism, a cache that survives a kill, speech that aligns."""

import os
import re
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from torch.utils.data import DataLoader

from thlib import data, speech
from thlib.behaviour import EMOTIONS
from thlib.errors import DataError, SpeechError
from thlib.landmarks import LIPS, Head, mouth_opening
from thlib.presenter import corpus
from thlib.presenter.corpus import SPLITS, PresenterCorpus, sentence, sentences
from thlib.presenter.speak import utter

SMALL = {"n": 4, "size": 32}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache of its own."""
    monkeypatch.setenv("THLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "thlib-presenter"


def same(one, other):
    """Whether two items are the same to the byte."""
    a, b = ({k: np.asarray(v) for k, v in item.items()} for item in (one, other))
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].tobytes() == b[k].tobytes() for k in a
    )


# --- sentences ---


def test_sentences_of_splits_are_disjoint_and_many():
    drawn = {split: {sentence(split, np.random.default_rng(k)) for k in range(600)} for split in SPLITS}
    assert len(drawn["train"]) > 400
    assert not drawn["train"] & drawn["test"]
    assert not drawn["train"] & drawn["validation"]
    assert not drawn["validation"] & drawn["test"]
    assert all(re.fullmatch(r"[A-Z][A-Za-z ,]+[.?]", text) for texts in drawn.values() for text in texts)


def test_the_balanced_sentences_hold_every_phone():
    every = [text for split in SPLITS for text in sentences(split)]
    assert len(every) == len(set(every)) == 60
    assert all(len(sentences(split)) >= 3 for split in SPLITS)
    phones = [phone.text for text in every for phone in speech.say(text).phones]
    counts = {symbol: phones.count(symbol) for symbol in set(speech.IPA.values())}
    assert min(counts.values()) >= 8, counts
    assert sum(phones.count(p) for p in "MBP") > 100


def test_unknown_splits_are_refused():
    with pytest.raises(DataError, match="'dev'.*train, validation, test"):
        PresenterCorpus("dev")


def test_what_the_presenter_says_is_aligned():
    rng, errors, refused = np.random.default_rng(11), [], 0
    every = [text for split in SPLITS for text in sentences(split)]
    for k in range(30):
        text = every[2 * k] if k % 2 else sentence("test", rng)
        spoken = utter(text, int(rng.integers(5000)), emotion=EMOTIONS[k % 7])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", speech.DoubtfulWord)
                words = speech.align(spoken.audio, text)
        except SpeechError:
            refused += 1
            continue
        assert [w.text for w in words] == [w.text for w in spoken.words]
        errors += [abs(a.start - b.start) for a, b in zip(words, spoken.words)]
    assert refused <= 1
    assert np.median(errors) <= 0.03
    assert np.percentile(errors, 90) <= 0.06


# --- items ---


def test_an_item_holds_all_that_is_known():
    item = PresenterCorpus("train", **SMALL)[1]
    t = len(item["frames"])
    assert item["frames"].shape == (t, 32, 32, 3)
    assert item["frames"].dtype == np.uint8
    assert item["controls"].shape == (t, 52)
    assert item["points"].shape == (t, 478, 3)
    assert item["pose"].shape == (t, 4, 4)
    assert item["head"].shape == (t, 3)
    assert item["visible"].all()
    assert t == int(np.ceil(len(item["audio"]) / 16000 * 25))
    assert len(item["words"]) == len(item["word_times"]) > 1
    assert len(item["phones"]) == len(item["phone_times"]) > 4
    assert (np.diff(item["phone_times"], axis=1) > 0).all()
    assert item["word_times"][-1, 1] < len(item["audio"]) / 16000
    assert int(item["identity"]) % 10 in SPLITS["train"]
    assert 0 <= int(item["emotion"]) < 7


def test_lips_meet_in_the_corpus():
    met = []
    for item in map(PresenterCorpus("validation", n=8, size=32).__getitem__, range(8)):
        opening = mouth_opening(item["points"])
        for phone, (start, end) in zip(item["phones"], item["phone_times"]):
            if phone in ("M", "B", "P"):
                met.append(opening[int(start * 25) : int(np.ceil(end * 25))].min() < 0.01)
    assert len(met) > 8
    assert np.mean(met) >= 0.98


def test_identities_of_splits_are_disjoint():
    people = {}
    for split, digits in SPLITS.items():
        clips = PresenterCorpus(split, n=5, size=32)
        people[split] = {int(clips[k]["identity"]) for k in range(5)}
        assert all(identity % 10 in digits for identity in people[split])
        assert len(people[split]) > 2
    assert len(set(map(frozenset, map(tuple, SPLITS.values())))) == 3


def test_an_item_depends_on_seed_and_index_alone(monkeypatch, tmp_path):
    first = PresenterCorpus("test", n=3, size=32)[2]
    stored = PresenterCorpus("test", n=3, size=32)[2]
    assert same(first, stored)
    monkeypatch.setenv("THLIB_CACHE", str(tmp_path / "another"))
    longer = PresenterCorpus("test", n=50, size=32)
    assert same(first, longer[2])
    assert same(first, longer[-48])
    assert not same(first, longer[3])
    assert not same(first, PresenterCorpus("test", n=3, size=32, seed=1)[2])
    larger = PresenterCorpus("test", n=3, size=48)[2]
    np.testing.assert_array_equal(larger["audio"], first["audio"])
    np.testing.assert_allclose(larger["points"] / 48, first["points"] / 32, atol=1e-4)
    with pytest.raises(IndexError):
        longer[50]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_make_the_same_bytes(monkeypatch, tmp_path):
    loaded = []
    for workers in (0, 1, 4):
        monkeypatch.setenv("THLIB_CACHE", str(tmp_path / f"cache{workers}"))
        loader = DataLoader(PresenterCorpus("train", **SMALL), batch_size=None, num_workers=workers)
        loaded.append(list(loader))
    for one, other in zip(loaded[0] * 2, loaded[1] + loaded[2], strict=True):
        assert same(one, other)


def test_another_process_makes_the_same_bytes(tmp_path):
    code = "from thlib.presenter.corpus import PresenterCorpus as P; P('train', n=4, size=32)[0]"
    env = os.environ | {"THLIB_CACHE": str(tmp_path / "foreign"), "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    (file,) = (tmp_path / "foreign" / "thlib-presenter").iterdir()
    with np.load(file) as stored:
        assert same(dict(stored), PresenterCorpus("train", **SMALL)[0])


def test_the_cache_survives_a_kill(cache):
    code = "from thlib.presenter.corpus import PresenterCorpus as P; [P('train', n=99, size=32)[k] for k in range(99)]"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 60
        while len(list(cache.glob("*.npz"))) < 2 or not list(cache.glob("*.partial")):  # in the middle of a write
            assert time.monotonic() < deadline
            time.sleep(0.0005)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    clips = PresenterCorpus("train", n=99, size=32)
    done = len(list(cache.glob("*.npz")))
    made = [clips[k] for k in range(done + 1)]
    os.environ["THLIB_CACHE"] += "-fresh"
    assert all(same(clips[k], item) for k, item in enumerate(made))


def test_a_spoilt_file_and_other_code_are_made_anew(cache, monkeypatch):
    clips = PresenterCorpus("train", **SMALL)
    item = clips[0]
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    assert same(clips[0], item)
    monkeypatch.setattr(corpus, "_recipe", lambda: "another face")
    assert same(clips[0], item)
    assert len(list(cache.iterdir())) == 2
    assert data.purge("all") > 0


def test_a_clip_is_drawn_again_as_a_performance():
    clips = PresenterCorpus("train", **SMALL)
    done, item = clips.performance(3), clips[3]
    np.testing.assert_array_equal(done.clip.frames, item["frames"])
    np.testing.assert_array_equal(done.track.points, item["points"])
    assert EMOTIONS.index(done.emotion) == item["emotion"]


def test_footage_moves_as_the_drawn_performance_does():
    made = PresenterCorpus("train", n=4)
    for index in (0, 3):
        track, bare = made.performance(index).track, made.footage(index)
        shape = bare.shape
        drawn = Head.fit(track.points, shape=shape).fix(track.points)
        np.testing.assert_allclose(
            mouth_opening(track.points), np.linalg.norm(bare.fixed[:, 13] - bare.fixed[:, 14], axis=-1), atol=0.01
        )
        apart = np.linalg.norm((drawn - drawn.mean(0)) - (bare.fixed - bare.fixed.mean(0)), axis=-1)
        assert apart[:, LIPS].max() < 0.02
        assert np.linalg.norm(drawn - drawn.mean(0), axis=-1)[:, LIPS].max() > 0.05
        assert np.mean(bare.sound[bare.spoken, 80:].sum(1) > 0.5) > 0.8  # its phones are known
