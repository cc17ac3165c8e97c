"""The pages of the site: who may be seen, what is credited, and that they need nothing from elsewhere."""

import base64
import io
import json
import os
import re
import time
from fractions import Fraction
from html import unescape
from html.parser import HTMLParser

import build_site
import nbformat
import numpy as np
import pytest
import runner
import yaml
from browser import chromium
from conftest import ROOT
from PIL import Image

from thlib import clip, data, show
from thlib.course import METRIC, RUN

START = "from thlib import course, data\nrun = course.start(PROFILE, SEED, DEVICE)\n"
START += "run.metric('error', 0.25, 'px', better='lower')"
ROWS = {
    RUN: {"device": "cpu"},
    METRIC: {"name": "error", "value": 1, "unit": "px", "better": "lower", "next_best": None},
}
QUICK = f"from IPython.display import display\nfrom thlib import data\ndisplay({ROWS}, raw=True)"  # without torch
SHOW = "from IPython.display import Image\ndisplay(Image({}))"
GRID = SHOW.format("data.path('grid-s1/face.png')")
WILD = SHOW.format("data.path('talking-clips/face.png')")
SETS = {"grid-s1": "A", "talking-clips": "B", "ravdess-sample": "C", "portraits": "B"}


class Loads(HTMLParser):
    """Collects what a page loads, and the links on which a reader may click."""

    def __init__(self):
        super().__init__()
        self.loaded, self.links, self.tags = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for key, value in attrs:
            if key in ("src", "srcset", "poster", "data", "background") or (tag == "link" and key == "href"):
                self.loaded.append(value)
            elif key == "href":
                self.links.append(value)


def loads(html):
    """(what a page loads from a file or an address, its links, its tags)."""
    parser = Loads()
    parser.feed(html)
    styles = re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", html.split("</style>")[0])
    loaded = [*parser.loaded, *(a or b for a, b in styles)]
    return [place for place in loaded if not place.startswith("data:")], parser.links, parser.tags


def picture(shade):
    """A PNG of one grey."""
    content = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), shade, np.uint8)).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder of notebooks, and a mirror in which the course's own data sets hold one tiny picture each.

    Their terms are the true ones, with the tiny files in place of the true."""
    (tmp_path / "manifests").mkdir()
    for shade, name in enumerate(SETS):
        terms = yaml.safe_load((ROOT / "data_manifests" / f"{name}.yaml").read_text())
        assert terms["tier"] == SETS[name]
        content = {"face.png": picture(10 * shade), "painting.png": picture(10 * shade + 5)}
        for file, pixels in content.items():
            (tmp_path / "mirror" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "mirror" / name / file).write_bytes(pixels)
            os.utime(tmp_path / "mirror" / name / file, (time.time() - 1000,) * 2)
        yes = {"edit": "yes", "publish": "yes"}
        consent = {key: {True: "yes", False: "no"}.get(value, value) for key, value in terms["consent"].items()}
        files = {file: {"sha256": data.sha256(tmp_path / "mirror" / name / file)} for file in content}
        files["painting.png"] |= {"tier": "A", "consent": yes, "licence": "public domain", "shows": "a painting"}
        terms |= {"files": files, "consent": consent}
        (tmp_path / "manifests" / f"{name}.yaml").write_text(yaml.safe_dump(terms))
    monkeypatch.setenv("THLIB_MANIFESTS", str(tmp_path / "manifests"))
    monkeypatch.setenv("THLIB_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("THLIB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "notebooks").mkdir()
    return tmp_path


def write(world, name, *cells, start=QUICK):
    """A notebook of the world's folder."""
    notebook = nbformat.v4.new_notebook(metadata={"thlib": {"needs": []}})
    notebook.cells = [nbformat.v4.new_markdown_cell(f"# {name}\n\n**A promise.**")]
    parameters = "PROFILE = 'smoke'\nSEED = 0\nDEVICE = 'cpu'"
    notebook.cells += [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    notebook.cells += [nbformat.v4.new_code_cell(cell) for cell in (start, *cells)]
    nbformat.write(notebook, world / "notebooks" / f"{name}.ipynb")
    return world / "notebooks" / f"{name}.ipynb"


def site(world):
    """Build the site of the world; (refused notebooks, pages by name)."""
    refused = build_site.build(world / "site", [world / "runs"], folder=world / "notebooks", work=world / "published")
    return refused, {file.stem: file.read_text() for file in (world / "site").glob("*.html")}


# --- consent ----------------------------------------------------------------------------------------------------------
def test_only_the_presenter_paintings_and_credited_grid_are_seen(world):
    """One build of five notebooks: GRID passes with its credit; frames of tier B, of C and of unknown people do not."""
    (world / "mine.png").write_bytes(picture(200))
    os.utime(world / "mine.png", (time.time() - 1000,) * 2)
    write(world, "00_grid", GRID, SHOW.format("data.path('portraits/painting.png')"))
    write(world, "01_tier_b", GRID, WILD)
    write(world, "02_tier_c", SHOW.format(repr(str(world / "mirror" / "ravdess-sample" / "face.png"))))
    write(world, "03_unknown", SHOW.format(repr(str(world / "mine.png"))))
    write(world, "04_passed_over", f"# needs: talking-clips/face.png\n{WILD}", "1 + 1", start=START)
    refused, pages = site(world)
    assert set(pages) == {"index", "00_grid", "04_passed_over"}
    assert "DataError: there is no file" not in str(refused)
    assert re.search(r"DataError: talking-clips/face.png .* not at hand", refused["01_tier_b"][0])
    assert refused["02_tier_c"] == ["ravdess-sample/face.png may not be shown (tier C, consent to publish: no)"]
    assert "mine.png is in no manifest" in refused["03_unknown"][0]
    for name, shades in (("grid-s1", (0,)), ("talking-clips", (10,)), ("ravdess-sample", (20,))):
        for shade in shades:
            inside = [page for page, html in pages.items() if base64.b64encode(picture(shade)).decode() in html]
            assert inside == (["00_grid"] if name == "grid-s1" else []), name
    for part in ("Cooke, Barker, Cunningham, Shao (2006)", "CC BY 4.0", "a painting", "public domain"):
        assert part in pages["00_grid"].partition("<footer>")[2]
    assert "passed over" in pages["04_passed_over"]
    assert "Not shown: DataError" in pages["index"]


def test_a_recorded_run_is_taken_if_it_saw_nobody_else_and_not_otherwise(world, monkeypatch):
    """Runs of the tests see all data; their pages are made of them only if they opened none but what may be shown."""
    sources = write(world, "00_grid", GRID), write(world, "01_wild", WILD)
    for source in sources:
        assert runner.execute(source, world / "runs").status == "passed"
    assert build_site.refusals(world / "runs" / "00_grid.ipynb") == []
    assert "tier B" in build_site.refusals(world / "runs" / "01_wild.ipynb")[0]
    ran = []
    monkeypatch.setattr(runner, "execute", lambda source, *a, **o: ran.append(source.stem))
    _, pages = site(world)
    assert ran == ["01_wild"]
    assert set(pages) == {"index", "00_grid"}
    record = json.loads((world / "runs" / "00_grid.json").read_text())
    for change, told in (
        ({"opened": None}, "nobody wrote down"),
        ({"digest": ""}, "changed after its run"),
        ({"status": "failed", "reason": "boom"}, "boom"),
        ({"opened": [*record["opened"], "hdtf/x.mp4"]}, "hdtf/x.mp4 is in no manifest"),
    ):
        (world / "runs" / "00_grid.json").write_text(json.dumps(record | change))
        assert told in build_site.refusals(world / "runs" / "00_grid.ipynb")[0]
        assert "00_grid" in site(world)[0]
    (world / "runs" / "00_grid.json").write_text(json.dumps(record))
    write(world, "00_grid", GRID, "x = 'a cell more'")  # the notebook went on: its run is old
    ran.clear()
    assert "00_grid" in site(world)[0]
    assert "00_grid" in ran


def test_a_run_that_passed_over_what_is_here_by_now_is_made_anew(world):
    told = {"output_type": "stream", "name": "stdout", "text": ["This cell is passed over, for its data are not here"]}
    for needs, outputs, anew in (
        ("grid-s1/face.png", [told], True),
        ("grid-s1", [told], True),
        ("grid-s1/face.png", [], False),
        ("talking-clips/face.png", [told], False),  # will never be shown
        ("grid-speakers", [told], False),  # not at hand
    ):
        cell = {"cell_type": "code", "source": f"# needs: {needs}\n1 + 1", "outputs": outputs, "metadata": {}}
        assert build_site.poorer({"cells": [cell]}) == anew, needs


def test_a_page_exchanged_after_its_run_is_refused(world):
    """A record vouches for one file: another notebook's pictures under its name do not pass."""
    write(world, "00_grid", GRID)
    outcome = runner.execute(world / "notebooks" / "00_grid.ipynb", world / "runs")
    assert outcome.opened == ["grid-s1/face.png"]
    executed = world / "runs" / "00_grid.ipynb"
    executed.write_text(executed.read_text().replace("A promise", "A picture of somebody else"))
    assert build_site.refusals(executed) == ["it was changed after its run"]


def test_what_may_be_shown_is_all_that_a_run_for_the_site_finds(world):
    env = build_site.publishable(world / "published")
    there = {file.relative_to(env["THLIB_MIRROR"]).as_posix() for file in (world / "published").rglob("*.png")}
    assert there == {"grid-s1/face.png", "grid-s1/painting.png", "portraits/painting.png"} | {
        f"{name}/painting.png" for name in ("talking-clips", "ravdess-sample")
    }
    (world / "published" / "mirror" / "talking-clips" / "face.png").write_bytes(b"left behind")
    build_site.publishable(world / "published")
    assert not (world / "published" / "mirror" / "talking-clips" / "face.png").exists()


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("grid-s1/bbaf4p.mpg", ""),
        ("grid-speakers/brbk7n.mpg", ""),
        ("portraits/mona_lisa.jpg", ""),
        ("mediapipe-face-landmarker/face_landmarker.task", ""),
        ("portraits/astronaut.png", "tier A, consent to publish: no"),
        ("talking-clips/echomimic_a.mp4", "tier B"),
        ("emoface-sample/", "in no manifest"),
        ("somewhere/else.mp4", "in no manifest"),
        ("/tmp/mine.mp4", "in no manifest"),
    ],
)
def test_the_gate_knows_the_true_manifests(entry, told):
    assert told in build_site.refusal(entry)
    assert bool(told) == bool(build_site.refusal(entry))


# --- pages ------------------------------------------------------------------------------------------------------------
def cell(html):
    """A notebook with one output."""
    out = nbformat.v4.new_output("display_data", html if isinstance(html, dict) else {"text/html": html})
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[out])])


def test_a_page_loads_nothing_and_has_no_script():
    live = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/html": "<b>its still form</b>"}
    html = build_site.page("t", build_site.body(cell(live)), nav="", foot="")
    assert "<b>its still form</b>" in html
    assert "widget-view" not in html
    loaded, _, tags = loads(html)
    assert loaded == []
    assert "script" not in tags
    planted = "<script src='https://example.org/a.js'></script><img src='https://example.org/a.png'>"
    html = build_site.page("t", build_site.body(cell(planted)), nav="", foot="")
    loaded, _, tags = loads(html)
    assert loaded == ["https://example.org/a.png"]  # the policy keeps it from being fetched; this test would see it
    assert "script" not in tags
    assert "default-src 'none'" in html


def test_links_lead_from_page_to_page_and_formulas_are_pictures():
    source = "[on](01_next.ipynb), $x_t^2$, `$HOME`, 5 $ and 6 $, $$\\frac{a}{b}$$ and $\\begin{oops}$"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(source)])
    html = build_site.body(notebook)
    assert 'href="01_next.html"' in html
    assert html.count('src="data:image/svg+xml') == 2
    assert 'alt="x_t^2"' in html
    assert "<code>$HOME</code>" in html
    assert "5 $ and 6 $" in html
    assert "<code>\\begin{oops}</code>" in unescape(html)


def test_every_link_of_the_site_leads_somewhere(world):
    write(world, "00_grid", GRID)
    for place, _ in build_site.TEXTS.values():
        (world / "notebooks" / place).write_text((ROOT / "notebooks" / place).read_text())
    refused, pages = site(world)
    assert not refused
    planned = {f"{name}.html" for name in build_site.syllabus.PATH}
    for name, html in pages.items():
        loaded, links, _ = loads(html)
        assert [place for place in loaded if not (world / "site" / place).is_file()] == [], name
        ours = {link.partition("#")[0] for link in links if not link.startswith(("http", "#"))}
        dead = {link for link in ours if not (world / "site" / link).is_file()} - planned
        assert not dead, f"{name}: {dead}"


def test_a_video_on_a_page_plays_with_its_sound_though_nothing_is_reached(tmp_path):
    """In Chromium, under the page's own policy, without a network."""
    with chromium() as browser:
        sound = 0.3 * np.sin(np.arange(16000) / 5)[:, None].astype(np.float32)
        frames = np.arange(25, dtype=np.uint8)[:, None, None, None] * np.ones((64, 64, 3), np.uint8) * 9
        view = show.player(clip.Clip(frames, Fraction(25), sound, 16000), "A grey square grows bright.")
        html = build_site.page("t", build_site.body(cell(view._repr_mimebundle_())), nav="", foot="")
        (tmp_path / "t.html").write_text(html)
        page, asked, faults = browser.new_page(), [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.goto((tmp_path / "t.html").as_uri())
        played = page.evaluate(
            """async () => { const video = document.querySelector("video"); await video.play();
            const wait = () => new Promise((done) => setTimeout(done, 100));
            for (let k = 0; k < 50 && video.currentTime < 0.2; k++) await wait();
            return [video.currentTime, video.webkitAudioDecodedByteCount, video.videoWidth]; }"""
        )
        assert played[0] > 0.1
        assert played[1] > 0
        assert played[2] == 64
        assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
        assert faults == []
