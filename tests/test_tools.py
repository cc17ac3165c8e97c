"""The tools of a clone: baselines and tolerances, the report, the student's copies of the notebooks."""

import json
from dataclasses import asdict, replace

import baselines
import lab
import nbformat
import pytest
import report
from runner import Outcome

from thlib.errors import CourseError

RUN = {"profile": "smoke", "seed": 0, "device": "cpu", "device_name": "x86_64 × 2 cores", "versions": {"thlib": "0"}}


def outcome(value=1.0, *, better="lower", next_best=None, seed=0, profile="smoke"):
    row = {"name": "error", "value": value, "unit": "px", "better": better, "next_best": next_best}
    return Outcome("01_a", profile, seed, status="passed", seconds=3.0, peak_mb=200.0, date="d", run=RUN, metrics=[row])


def test_a_tolerance_is_the_smallest_of_noise_share_and_gap():
    assert baselines.tolerance([2.0, 2.0]) == pytest.approx(0.02)  # 1 %
    assert baselines.tolerance([0.98, 1.0, 1.02]) == pytest.approx(0.06)  # 3 sd
    assert baselines.tolerance([2.0, 2.0], next_best=2.01) == pytest.approx(0.005)  # half the gap
    assert baselines.tolerance([-2.0, -2.0]) == pytest.approx(0.02)
    with pytest.raises(CourseError, match="average it"):
        baselines.tolerance([0.8, 1.0, 1.2])  # 3 sd over 10 %
    with pytest.raises(CourseError, match="average it"):
        baselines.tolerance([0.98, 1.0, 1.02], next_best=1.05)  # noise hides the gap to the rival


@pytest.mark.parametrize(
    ("value", "better", "verdict"),
    [
        (1.009, "lower", "ok"),
        (1.011, "lower", "worse"),
        (0.98, "lower", "better"),
        (0.989, "higher", "worse"),
        (1.02, "higher", "better"),
    ],
)
def test_only_a_change_for_the_worse_is_bad(value, better, verdict, tmp_path):
    baselines.update([outcome(better=better)], tmp_path)
    row = baselines.compare(outcome(value, better=better), baselines.load("smoke", tmp_path))[0]
    assert row.verdict == verdict
    assert (verdict in baselines.BAD) == (verdict == "worse")


def test_new_and_missing_metrics_are_bad(tmp_path):
    assert [row.verdict for row in baselines.compare(outcome(), {})] == ["new"]
    baselines.update([outcome()], tmp_path)
    silent = replace(outcome(), metrics=[])
    assert [row.verdict for row in baselines.compare(silent, baselines.load("smoke", tmp_path))] == ["missing"]


def test_a_metric_whose_data_are_not_here_is_not_run(tmp_path, monkeypatch):
    footage = replace(outcome(), metrics=[outcome().metrics[0] | {"needs": "grid-s1/bbaf4p.mpg"}])
    baselines.update([footage], tmp_path)
    silent, known = replace(outcome(), metrics=[]), baselines.load("smoke", tmp_path)
    for verdict, folder in (("not run", tmp_path), ("missing", tmp_path / "mirror")):
        (tmp_path / "mirror" / "grid-s1").mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror" / "grid-s1" / "bbaf4p.mpg").touch()
        monkeypatch.setenv("THLIB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("THLIB_MIRROR", str(folder))
        (row,) = baselines.compare(silent, known)
        assert row.verdict == verdict
        assert (verdict in baselines.BAD) == (verdict == "missing")


def test_a_baseline_says_how_it_came_about_and_keeps_the_others(tmp_path):
    baselines.update([replace(outcome(), name="00_b")], tmp_path)
    baselines.update([outcome(0.99 + 0.005 * seed, seed=seed) for seed in range(5)], tmp_path)
    entry = baselines.load("smoke", tmp_path)["01_a"]
    assert list(baselines.load("smoke", tmp_path)) == ["00_b", "01_a"]
    assert entry["seeds"] == [0, 1, 2, 3, 4]
    assert (entry["device"], entry["versions"], entry["date"]) == ("cpu", {"thlib": "0"}, "d")
    assert (entry["seconds"], entry["peak_mb"]) == (3.0, 200)
    assert entry["metrics"]["error"]["value"] == pytest.approx(1.0)
    assert entry["metrics"]["error"]["tolerance"] == pytest.approx(3 * 0.0079057, rel=1e-3)
    baselines.update([outcome(2.0, profile="laptop")], tmp_path)  # one seed: smoke's relative tolerance
    laptop = baselines.load("laptop", tmp_path)["01_a"]["metrics"]["error"]
    assert laptop["tolerance"] == pytest.approx(2 * 3 * 0.0079057, rel=1e-3)


def test_what_cannot_be_a_baseline_is_refused(tmp_path):
    with pytest.raises(CourseError, match="CUDA"):
        baselines.update([outcome(profile="gpu")], tmp_path)
    with pytest.raises(CourseError, match="no baseline: broken"):
        baselines.update([replace(outcome(), status="failed", reason="broken")], tmp_path)
    with pytest.raises(CourseError, match="exactly once"):
        baselines.update([outcome(), replace(outcome(), metrics=[])], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """A folder with one executed notebook and its outcome, and baselines of its own."""
    monkeypatch.setattr(baselines, "FOLDER", tmp_path)
    monkeypatch.setattr(baselines.load, "__defaults__", (tmp_path,))
    display = nbformat.v4.new_output("display_data", {"image/png": "aGVsbG8=", "text/plain": "a picture"})
    live = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/html": "<b>its still form</b>"}
    view = nbformat.v4.new_output("display_data", live)
    cell = nbformat.v4.new_code_cell("x = 1", outputs=[display, view], execution_count=1)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "01_a.ipynb")
    (tmp_path / "01_a.json").write_text(json.dumps(asdict(outcome(1.25))))
    baselines.update([outcome()], tmp_path)
    return tmp_path


def test_the_report_shows_runs_and_metrics_against_baselines(executed):
    page, well = report.index(executed)
    text = page.read_text()
    assert not well
    for part in ("<a href='01_a.html'>", "passed", "200 MB", "x86_64 × 2 cores", "1.25", "0.01", "worse"):
        assert part in text
    notebook = (executed / "01_a.html").read_text()
    assert "data:image/png;base64,aGVsbG8=" in notebook
    assert 'src="http' not in notebook
    assert "<b>its still form</b>" in notebook
    assert "widget-view+json" not in notebook
    baselines.update([outcome(1.25)], executed)
    assert report.index(executed)[1]


def test_the_report_of_a_failed_run_escapes_its_reason(executed):
    failed = replace(outcome(), status="failed", reason="ValueError: <script>alert(1)</script>", metrics=[])
    (executed / "01_a.json").write_text(json.dumps(asdict(failed)))
    page, well = report.index(executed)
    assert not well
    assert "<script>alert" not in page.read_text()


def test_copies_of_notebooks_are_updated_but_edited_ones_kept(tmp_path):
    source, target = tmp_path / "notebooks", tmp_path / "course"
    source.mkdir()
    for name in ("00_a", "01_b"):
        (source / f"{name}.ipynb").write_text(f"{name} version 1")
    assert lab.update(source, target) == {"00_a.ipynb": "new", "01_b.ipynb": "new"}
    (target / "00_a.ipynb").write_text("my answers")
    for name in ("00_a", "01_b"):
        (source / f"{name}.ipynb").write_text(f"{name} version 2")
    assert lab.update(source, target) == {"00_a.ipynb": "kept", "01_b.ipynb": "updated"}
    assert (target / "00_a.ipynb").read_text() == "my answers"
    assert (target / "01_b.ipynb").read_text() == "01_b version 2"
    assert lab.update(source, target) == {"00_a.ipynb": "kept", "01_b.ipynb": "same"}
    (target / "00_a.ipynb").unlink()  # thrown away: a fresh one comes
    assert lab.update(source, target)["00_a.ipynb"] == "new"


def test_a_file_of_unknown_origin_is_never_overwritten(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_a.ipynb").write_text("the course's")
    (tmp_path / "course").mkdir()
    (tmp_path / "course" / "00_a.ipynb").write_text("somebody's")
    assert lab.update(tmp_path / "notebooks", tmp_path / "course") == {"00_a.ipynb": "kept"}
