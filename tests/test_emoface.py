"""EmoFace, classically: what follows the sound, what the emotion, what the seed; and odd sounds."""

import csv

import numpy as np
import pytest

from thlib import data
from thlib.behaviour import EMOTIONS, expression
from thlib.clip import Video, read
from thlib.emoface import FPS, EmoFacePipeline
from thlib.errors import DataError, SpeechError
from thlib.landmarks import BLENDSHAPES, track
from thlib.metrics import correlation
from thlib.rig import ARKIT, LIVE_LINK, METAHUMAN, Curves
from thlib.speech import RATE, say


@pytest.fixture(scope="module")
def rig():
    return EmoFacePipeline.from_pretrained()


@pytest.fixture(scope="module")
def sound():
    return say("Mama may buy a big blue bow.").audio


def test_curves_are_as_long_as_the_sound_in_all_three_rigs(rig, sound):
    curves = rig(sound)
    frames = round(len(sound) / RATE * 60)
    assert abs(len(curves.values) - frames) <= 2
    assert (curves.arkit.shape[1], curves.metahuman.shape[1], curves.fps) == (52, 174, 60)
    assert 0 <= curves.arkit.min() <= curves.arkit.max() <= 1
    assert abs(len(rig(sound, fps=25).values) - len(sound) / RATE * 25) <= 1


def test_the_same_seed_gives_the_same_curves_and_another_seed_other_blinks(rig, sound):
    long = np.tile(sound, 4)
    one, again, other = rig(long, seed=3), rig(long, seed=3), rig(long, seed=4)
    assert np.array_equal(one.values, again.values)
    assert np.array_equal(one.head, again.head)
    assert not np.array_equal(one["eyeBlinkLeft"], other["eyeBlinkLeft"])
    assert not np.array_equal(one.head, other.head)
    assert np.array_equal(one["jawOpen"], other["jawOpen"])  # the mouth follows the sound alone
    assert one["eyeBlinkLeft"].max() == pytest.approx(1)


@pytest.mark.parametrize("emotion", [e for e in EMOTIONS if e != "neutral"])
def test_an_emotion_adds_its_expression_by_its_intensity(rig, sound, emotion):
    plain, half, full = rig(sound), rig(sound, emotion, intensity=0.5), rig(sound, emotion)
    added = Curves(expression(emotion)[None], "mediapipe", 60).to("arkit")
    strongest = max((n for n in ARKIT if not n.startswith("eye")), key=lambda name: added[name][0])
    gain = [np.median(curves[strongest] - plain[strongest]) for curves in (half, full)]
    assert gain[1] == pytest.approx(added[strongest][0], abs=0.05)
    assert gain[0] == pytest.approx(gain[1] / 2, abs=0.05)
    assert np.array_equal(rig(sound, emotion, intensity=0).values, plain.values)


def test_the_mouth_opens_with_the_voice_and_rests_in_silence(rig, sound):
    pause = np.zeros(RATE, np.float32)
    curves = rig(np.concatenate([pause, sound, pause]), fps=25)
    mouth = curves["jawOpen"]
    assert mouth[:22].max() < 0.02
    assert mouth[-22:].max() < 0.02
    assert mouth[25:-25].max() > 0.15
    listening = rig(np.zeros(20 * RATE, np.float32))
    spoken = [n for n in ARKIT if n.startswith(("jaw", "mouth"))]
    assert max(listening[n].max() for n in spoken) == 0
    assert listening["eyeBlinkLeft"].max() == pytest.approx(1)
    assert listening.head.std() > 0


def test_odd_sound_works_or_is_refused_in_a_sentence(rig, sound):
    assert len(rig(sound[: RATE // 25]).values) in (2, 3)  # 40 ms
    for bad in (sound[:100], sound[:0], np.stack([sound, sound]), np.where(np.arange(len(sound)) == 9, np.nan, sound)):
        with pytest.raises(SpeechError, match="at least a frame"):
            rig(bad)
    with pytest.raises(DataError, match="disgust"):
        rig(sound, "bored")
    with pytest.raises(DataError, match="take 'classic'"):
        rig(sound, method="emoface")
    with pytest.raises(DataError, match=r"take 'default' or a \.safetensors"):
        EmoFacePipeline.from_pretrained("best")


def test_a_long_sound_gives_all_its_frames(rig, sound):
    long = np.resize(sound, 65 * RATE)  # the published code writes the last of several pieces alone
    curves = rig(long, fps=25)
    assert len(curves.values) == 65 * 25
    first, last = curves["jawOpen"][: 60 * 25], curves["jawOpen"][-5 * 25 :]
    assert first.max() > 0.1 < last.max()


def test_files_hold_the_published_columns(rig, sound, tmp_path):
    curves = rig(sound, "happy")
    with curves.save(tmp_path / "talk.csv").open() as file:
        head, *rows = csv.reader(file)
    assert tuple(head) == LIVE_LINK
    assert len(rows) == len(curves.values)
    column = [float(row[head.index("MouthSmileLeft")]) for row in rows]
    assert np.abs(column - curves["mouthSmileLeft"]).max() < 1e-4
    text = np.loadtxt(curves.save(tmp_path / "talk.txt"), delimiter=",")
    assert text.shape == (len(rows), 174)
    pull = METAHUMAN.index("CTRL_L_mouth_cornerPull-translateY")
    assert np.abs(text[:, pull] - curves.metahuman[:, pull]).max() < 1e-5


def test_on_unseen_sentences_the_jaw_follows_the_sound_and_a_late_one_does_not(rig, mirror):
    files = [f for f, e in data.manifest("grid-s1").files.items() if f.endswith(".mpg") and e.split == "test"][:8]
    follows, late = [], []
    for file in files:
        path = data.path(f"grid-s1/{file}")
        found, said = track(Video(path)), rig.speech(read(path).mono16k())
        jaw, n = found.controls[:, BLENDSHAPES.index("jawOpen")], min(len(found.controls), len(said.values))
        follows.append(correlation(said["jawOpen"][:n], jaw[:n]))
        late.append(correlation(said["jawOpen"][: n - 8], jaw[8:n]))
    assert float(FPS) == 25
    assert np.median(follows) > 0.7
    assert np.median(late) < 0.4
