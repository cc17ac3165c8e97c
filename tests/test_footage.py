"""Footage to learn from: what is loaded, what is left out, and what counts as spoken."""

from fractions import Fraction

import numpy as np
import pytest

from thlib import clip, data, footage, metrics
from thlib.clip import Word
from thlib.errors import FaceError
from thlib.landmarks import LIPS, FaceTrack, neutral
from thlib.speech import read_align


def test_spoken_frames_lie_in_words_and_show_the_face():
    points = np.repeat((neutral() * 50 + 100)[None], 50, 0).astype(np.float32)
    visible = np.ones(50, bool)
    visible[12] = False
    track = FaceTrack(points, visible, (288, 360), Fraction(25))
    mel = np.zeros((50, 80), np.float32)
    f = footage.Footage.of("made", track, mel=mel, words=[Word("a", 0.4, 0.6), Word("b", 1.0, 1.2)])
    assert np.flatnonzero(f.spoken).tolist() == [10, 11, 13, 14, 25, 26, 27, 28, 29]
    silent = footage.Footage.of("made", track, mel=mel, words=[])
    np.testing.assert_array_equal(silent.spoken, visible)
    np.testing.assert_allclose(f.motion, 0, atol=1e-5)
    assert f.sound.shape == (50, 119)
    assert not f.sound[:, 80:].any()  # no video to hear them in


def test_a_real_clip_has_lips_that_move_with_its_words(mirror):
    f = footage.load(data.path("grid-s1/bbbf6n.mpg"), read_align(data.path("grid-s1/bbbf6n.align")))
    assert f.mel.shape == (75, 80)
    assert f.sound.shape == (75, 119)
    words, silent = f.spoken, np.flatnonzero(~f.spoken)[[0, -1]]
    assert np.mean(f.sound[words, 80:].sum(1) > 0.5) > 0.9  # its phones, by alignment
    assert not f.sound[silent, 80:].any()
    moves = 100 * np.linalg.norm(f.motion[:, LIPS, :2], axis=-1).mean(1)
    assert moves[f.spoken].mean() > 1
    assert np.abs(f.motion[f.spoken].mean(0)).max() < 1e-5


@pytest.mark.parametrize("fps", [60, 20])
def test_a_clip_of_another_rate_teaches_at_25_frames_a_second(mirror, fps, tmp_path):
    """Frames repeated or left out: the same film, the same sound, the same lips."""
    words, film = read_align(data.path("grid-s1/bbbf6n.align")), clip.read(data.path("grid-s1/bbbf6n.mpg"))
    index = (np.arange(3 * fps) * 25 + 12) // fps
    path = clip.write(tmp_path / "film.mp4", clip.Clip(film.frames[index], Fraction(fps), film.audio, film.audio_rate))
    other, f = footage.load(path, words), footage.load(data.path("grid-s1/bbbf6n.mpg"), words)
    assert other.sound.shape == f.sound.shape
    assert np.corrcoef(other.sound[5:-5].ravel(), f.sound[5:-5].ravel())[0, 1] > 0.98
    lips = [metrics.opening(one.fixed[:, LIPS, :2]) for one in (other, f)]
    assert np.corrcoef(*lips)[0, 1] > (0.97 if fps > 25 else 0.9)


def test_a_clip_that_hardly_shows_a_face_is_refused(mirror):
    with pytest.raises(FaceError, match="needed"):
        footage.load(data.path("talking-clips/lp_s13_noface_detected.mp4"))


def test_other_speakers_are_seven_and_none_of_them_is_s1(mirror):
    others = footage.grid("others")
    names = {f.name for f in others}
    assert len(names) == 7
    assert all(f.sound[:, 80:].any() for f in others)  # phones, although most have no word times
    for f in others:  # the mouth that waits is not what its lips rest at: they rest at the mean of speech
        assert f.words[0].start > 0.3
        assert f.words[-1].end < 2.4
        assert 30 < f.spoken.sum() < 50
        np.testing.assert_allclose(f.motion[f.spoken].mean(0), 0, atol=1e-5)
    assert not names & {name.removesuffix(".mpg") for name in data.manifest("grid-s1").files}
