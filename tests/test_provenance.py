"""provenance.py: the badge, the record in container and sidecar, what verify says of tampering, captions."""

import json
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from thlib import clip, data, provenance
from thlib.clip import Word
from thlib.errors import MediaError

SPANS = [(0.12, 0.28), (0.4, 0.52)]
ACTIONS = ["'now' became 'soon'", "'<b>bin</b>' was deleted"]


@pytest.fixture
def record(tmp_path):
    """A record with a source and weights that exist."""
    (tmp_path / "talk.mp4").write_bytes(b"source")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return provenance.record(
        tmp_path / "talk.mp4",
        SPANS,
        actions=ACTIONS,
        details={"method": "classic", "badge": True, "seed": 7, "weights": [tmp_path / "model.safetensors"]},
    )


def film(path: Path, tags: dict | None = None, grey: int = 90) -> Path:
    """A short film with tags."""
    frames = np.full((15, 48, 64, 3), grey, np.uint8)
    return clip.write(path, clip.Clip(frames, Fraction(25), np.zeros((9600, 1), np.float32), 16000), metadata=tags)


@pytest.fixture(params=[".mp4", ".mkv", ".mov"])
def edited(record, tmp_path, request):
    """An edited film with both marks."""
    out = film(tmp_path / f"out{request.param}", provenance.container_tags(record))
    provenance.write_sidecar(out, record)
    return out


# --- record, tags, sidecar, verify -------------------------------------------------------------------------------


def test_the_marks_round_trip_through_the_file(edited, record):
    report = provenance.verify(edited)
    assert report.marks == ("container", "sidecar")
    assert report.problems == ()
    assert report.spans == SPANS
    text = str(report)
    for part in ("0.120 to 0.280 s", *ACTIONS, "talk.mp4", "classic", '"seed": 7', "model.safetensors", "thlib 0."):
        assert part in text
    assert "problem" not in text


def test_a_file_without_marks_says_so(tmp_path):
    report = provenance.verify(film(tmp_path / "plain.mp4"))
    assert (report.record, report.marks, report.problems, report.spans) == (None, (), (), [])
    assert "no marks" in str(report)


def test_the_record_names_hashes_and_repeats_itself(record, tmp_path):
    again = provenance.record(
        tmp_path / "talk.mp4",
        SPANS,
        actions=ACTIONS,
        details={"method": "classic", "badge": True, "seed": 7, "weights": [tmp_path / "model.safetensors"]},
    )
    assert again == record == json.loads(json.dumps(record))
    text = json.dumps(record)
    assert data.sha256(tmp_path / "talk.mp4") in text
    assert data.sha256(tmp_path / "model.safetensors") in text
    assert str(tmp_path) not in text  # names, not the user's folders
    assert "TrainedAlgorithmicMedia" in text
    plain = provenance.record(None, [(0, 1)])
    assert "Trained" not in json.dumps(plain)
    assert [one["label"] for one in plain["assertions"]] == ["c2pa.actions.v2", "thlib.generation"]
    with pytest.raises(ValueError):
        provenance.record(None, SPANS, actions=ACTIONS[:1])


def test_a_lost_mark_is_a_problem(edited, record, tmp_path):
    edited.with_suffix(".provenance.json").unlink()
    report = provenance.verify(edited)
    assert report.marks == ("container",)
    assert report.spans == SPANS
    assert "only the container" in report.problems[0]
    stripped = film(tmp_path / f"stripped{edited.suffix}")  # as after an upload that drops the tags
    provenance.write_sidecar(stripped, record)
    report = provenance.verify(stripped)
    assert report.marks == ("sidecar",)
    assert len(report.problems) == 1


def test_a_file_changed_after_it_was_written_is_a_problem(edited, record):
    film(edited, provenance.container_tags(record), grey=91)
    (problem,) = provenance.verify(edited).problems
    assert "changed since" in problem


def test_marks_that_differ_are_a_problem(edited):
    sidecar = edited.with_suffix(".provenance.json")
    sidecar.write_text(sidecar.read_text().replace('"0.280"', '"0.180"'))
    (problem,) = provenance.verify(edited).problems
    assert "different things" in problem


@pytest.mark.parametrize(
    "text", ["", "{", "5", "[]", '{"assertions": 3}', "[" * 100_000, "\x00", '{"assertions": [{}]}']
)
def test_a_sidecar_that_is_no_record_is_a_problem(tmp_path, text):
    out = film(tmp_path / "out.mp4", {"synopsis": text.replace("\0", "")[:1000]})
    out.with_suffix(".provenance.json").write_text(text)
    report = provenance.verify(out)
    assert report.record is None
    assert "is not a record" in report.problems[0]


def test_a_record_cannot_send_control_characters_to_the_terminal(tmp_path):
    out = film(tmp_path / "out.mp4")
    provenance.write_sidecar(out, provenance.record(None, [(0, 1)], actions=["\x1b[2J\nall is well"]))
    assert "\x1b" not in str(provenance.verify(out))
    assert "?[2J?all is well" in str(provenance.verify(out))


def test_what_is_no_media_file_is_refused(tmp_path):
    (tmp_path / "text.mp4").write_text("hello")
    for path in (tmp_path / "text.mp4", tmp_path / "missing.mp4", tmp_path):
        with pytest.raises(MediaError, match="cannot be read|does not exist|is a folder") as caught:
            provenance.verify(path)
        assert "\n" not in str(caught.value)


def test_a_failed_sidecar_leaves_nothing(tmp_path):
    out = film(tmp_path / "out.mp4")
    with pytest.raises(TypeError):
        provenance.write_sidecar(out, {"assertions": [object()]})
    assert {file.name for file in tmp_path.iterdir()} == {"out.mp4"}


# --- the badge ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [(288, 360), (128, 128), (1080, 1920), (1280, 720), (64, 64), (9, 400), (400, 9), (6, 6)]
)
def test_the_badge_is_small_and_never_in_the_middle(size):
    height, width = size
    frames = np.full((2, height, width, 3), 128, np.uint8)
    marked = provenance.badge(frames)
    assert (frames == 128).all()  # the input stays
    changed = (marked != frames).any(axis=(0, 3))
    rows, columns = np.nonzero(changed)
    assert 0 < len(rows) <= 0.16 * height * width + 1
    assert columns.min() > width / 2 or rows.min() > height / 2


def test_the_badge_can_be_seen_on_any_background_and_grows_with_the_frame():
    areas = []
    for height, level in ((128, 0), (288, 128), (1080, 255)):
        frames = np.full((1, height, height * 5 // 4, 3), level, np.uint8)
        marked = provenance.badge(frames)
        shown = (marked != frames).any(axis=-1)[0]
        rows, columns = np.nonzero(shown)
        patch = marked[0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].astype(int)
        assert np.ptp(patch) > 120  # light letters, dark ground
        areas.append(np.ptp(rows) * np.ptp(columns))
    assert areas == sorted(areas)
    assert areas[-1] > 10 * areas[0]


def test_the_badge_on_no_frames():
    assert provenance.badge(np.zeros((0, 48, 64, 3), np.uint8)).shape == (0, 48, 64, 3)


# --- captions ----------------------------------------------------------------------------------------------------


def cues(text: str) -> list[tuple[str, str, list[str]]]:
    head, *blocks = text.strip().split("\n\n")
    assert head == "WEBVTT"
    return [(*block.split("\n")[0].split(" --> "), block.split("\n")[1:]) for block in blocks]


def test_captions_are_cut_at_pauses_and_length():
    words = [Word(f"word{i}", 0.3 * i, 0.3 * i + 0.25) for i in range(60)]
    words += [Word("after", 3700.5, 3700.6), Word("", 3700.6, 3700.7)]
    found = cues(provenance.captions(words))
    assert " ".join(line for *_, lines in found for line in lines) == " ".join(word.text for word in words[:-1])
    assert all(len(lines) <= 2 and len(line) <= 42 for *_, lines in found for line in lines)
    assert all(start < end for start, end, _ in found)
    assert all(one[1] <= two[0] for one, two in pairwise(found))
    assert found[0][0] == "00:00:00.000"
    assert found[-1][:2] == ("01:01:40.500", "01:01:41.500")  # a short word stays for a second


def test_a_transcript_stays_text_in_captions():
    text = provenance.captions([Word("<script>alert(1)</script>", 0, 1), Word("-->\n\nNOTE", 1, 2), Word("a&b", 2, 3)])
    ((_, _, lines),) = cues(text)
    assert " ".join(lines) == "&lt;script&gt;alert(1)&lt;/script&gt; --&gt; NOTE a&amp;b"
    assert text.count("-->") == 1


def test_captions_are_written_whole_or_not_at_all(tmp_path):
    out = provenance.write_captions(tmp_path / "out.vtt", [Word("now", 0.5, 0.9)])
    assert cues(out.read_text())[0] == ("00:00:00.500", "00:00:01.500", ["now"])
    assert provenance.captions([]) == "WEBVTT\n"
    with pytest.raises(TypeError):
        provenance.write_captions(out, [Word("now", "soon", 1)])
    assert "now" in out.read_text()
    assert len(list(tmp_path.iterdir())) == 1
