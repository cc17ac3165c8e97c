"""Views where readers meet them: in the JupyterLab of `make lab`, by mouse and keys, and on a page without network."""

import ast
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import browser
import nbformat
import psutil
import pytest
import runner
from conftest import ROOT
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook

PATIENCE = 120_000  # ms, for a busy machine
VIEW = "application/vnd.jupyter.widget-view+json"
IMPORTS = "import ipywidgets as widgets\nimport numpy as np\nfrom thlib import course, show, speech\n"


def sliced(notebook: Path, wanted: str) -> list[str]:
    """The code up to the cell that holds `wanted`, of it only those statements without which that one cannot run."""
    cells = [c.source for c in nbformat.read(notebook, 4).cells if c.cell_type == "code"]
    last = next(k for k, source in enumerate(cells) if wanted in source)
    kept, needed = [], set()
    for source in reversed(cells[: last + 1]):
        lines = []
        for statement in reversed(ast.parse(source).body):
            reads, binds, changes = names(statement)
            if not kept or (binds | changes) & needed or "course.start(" in source:
                lines, needed = [ast.get_source_segment(source, statement), *lines], needed - binds | reads
        kept = ["\n".join(lines), *kept] if lines else kept
    return [source.replace('PROFILE = "laptop"', 'PROFILE = "smoke"') for source in kept]


def names(statement: ast.stmt) -> tuple[set[str], set[str], set[str]]:
    """The names that a statement reads, those that it binds, and those of which it changes a part."""
    nodes = list(ast.walk(statement))
    inner = {a.arg for a in nodes if isinstance(a, ast.arg)}
    for scope in (n for n in nodes if isinstance(n, ast.FunctionDef | ast.comprehension)):
        inner |= {n.id for n in ast.walk(scope) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    found = [n for n in nodes if isinstance(n, ast.Name)]
    stores = {n.id for n in found if isinstance(n.ctx, ast.Store)} - inner
    parts = [n.value for n in nodes if isinstance(n, ast.Subscript | ast.Attribute) and isinstance(n.ctx, ast.Store)]
    changes = {n.id for value in parts for n in ast.walk(value) if isinstance(n, ast.Name)}
    if isinstance(statement, ast.AugAssign):
        stores, changes = set(), stores | changes  # what it was before counts too
    binds = stores | {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    binds |= {(a.asname or a.name).split(".")[0] for a in nodes if isinstance(a, ast.alias)}
    return {n.id for n in found if isinstance(n.ctx, ast.Load)} - inner, binds, changes


def write(path: Path, cells: list[str]) -> Path:
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells], metadata=kernel), path)
    return path


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as one:
        yield one


@pytest.fixture(scope="module")
def lab(chromium, tmp_path_factory):
    """`make lab` in a folder that looks like the repository: its process, address, token and folder of notebooks."""
    folder, home = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("home")
    for name in ("Makefile", ".venv", "tools", "thlib", "notebooks", "requirements.lock", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    (home / "jupyter_server_config.json").write_text(json.dumps({"ServerApp": {"open_browser": False, "port": 0}}))
    news = home / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false"}')  # else a question lies over the page
    env = os.environ | {"JUPYTER_CONFIG_DIR": str(home), "JUPYTER_RUNTIME_DIR": str(home / "run"), "BROWSER": "false"}
    env |= {"IPYTHONDIR": str(home / "ipython"), "JUPYTERLAB_SETTINGS_DIR": str(home)}
    with (home / "log").open("wb") as log:
        command = ["make", "-o", ".venv/ready", "lab"]
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while not (found := list((home / "run").glob("jpserver-*.json"))) and time.monotonic() < until:
            assert process.poll() is None, (home / "log").read_text()
            time.sleep(0.2)
        time.sleep(0.5)
        server = json.loads(found[0].read_text())
        yield process, server["url"], server["token"], folder / "course"
    finally:
        members = [*psutil.Process(process.pid).children(recursive=True), process]
        os.killpg(process.pid, signal.SIGTERM)
        psutil.wait_procs(members[:-1], timeout=10)
        for member in members[:-1]:
            if member.is_running():
                member.kill()
        process.wait()


@pytest.fixture
def opened(chromium, lab):
    """A function that opens a notebook of the lab, runs all of it, and gives the page."""
    _, url, token, _ = lab
    page = chromium.new_page(viewport={"width": 1300, "height": 900})
    page.set_default_timeout(PATIENCE)

    def run_all(name: str):
        page.goto(f"{url}lab/workspaces/{name.partition('.')[0]}/tree/{name}?token={token}")  # with no tabs of others
        page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        page.get_by_text("| Idle").wait_for()  # before, the lab would drop what it is asked to run
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        return page

    yield run_all
    page.close()


def test_the_lab_is_only_for_who_has_its_token_and_sits_here(lab):
    process, url, token, _ = lab
    assert len(token) >= 32
    for path in ("api/contents", "api/kernels", "api/sessions"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{url}{path}", timeout=30)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{url}{path}?token={'0' * 48}", timeout=30)
        with urllib.request.urlopen(f"{url}{path}?token={token}", timeout=30) as answer:
            assert answer.status == 200
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    listening = {c.laddr.ip for one in family for c in one.net_connections() if c.status == psutil.CONN_LISTEN}
    assert listening
    assert listening <= {"127.0.0.1", "::1"}


def test_the_smoothing_slider_of_01_changes_the_picture(lab, opened):
    cells = sliced(lab[3] / "01_landmarks.ipynb", "show.Dials(smoothing")
    assert len(cells) > 4
    page = opened(write(lab[3] / "smoothing.ipynb", cells).name)
    picture = page.locator(".widget-html img").last
    picture.wait_for()
    before = picture.get_attribute("src")
    assert "7 frames" in picture.get_attribute("alt")
    handle = page.locator(".widget-slider .noUi-handle").last
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 90, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    page.wait_for_function("(old) => [...document.querySelectorAll('.widget-html img')].at(-1).src !== old", arg=before)
    frames = int(page.locator(".widget-slider .widget-readout").last.inner_text())
    assert frames > 7
    assert f"{frames} frames" in picture.get_attribute("alt")


def test_a_word_of_02_is_deleted_by_keyboard_and_comes_back(lab, opened):
    cells = sliced(lab[3] / "02_speech.ipynb", "show.transcript(")
    page = opened(write(lab[3] / "words.ipynb", [*cells, "print('kernel:', script.text, '.')"]).name)
    line = page.get_by_role("listbox", name="words of the text")
    line.wait_for()
    words = line.get_by_role("option").all_inner_texts()
    assert len(words) > 4
    line.scroll_into_view_if_needed()
    line.focus()
    for key in ("Home", "ArrowRight", "Delete"):
        page.keyboard.press(key)
    assert line.get_by_role("option").all_inner_texts() == [words[0], *words[2:]]
    _known(page, [words[0], *words[2:]])
    line.focus()
    page.keyboard.press("Control+z")
    assert line.get_by_role("option").all_inner_texts() == words
    for key in ("i", "b", "Escape", "a", "x", "0", "0"):  # the lab's own keys (cells, kernel) are not meant here
        page.keyboard.press(key)
    assert page.locator(".jp-Dialog").count() == 0
    assert page.locator(".jp-Notebook .jp-CodeCell").count() == len(cells) + 1
    _known(page, words)


def _known(page, words: list[str]) -> None:
    """The kernel has the text too: the last cell prints it, when it is run again."""
    page.locator(".jp-CodeCell .cm-content").last.click()
    page.keyboard.press("Control+Enter")
    page.get_by_text(f"kernel: {' '.join(words)} .", exact=False).last.wait_for()


VIEWS = [
    'said = speech.say("two words"); frames = np.zeros((9, 64, 96, 3), np.uint8) + 90',
    "from thlib.clip import Clip; film = Clip(frames, 25, said.audio[:5760, None], 16000)",
    'show.player(film, "A: a film", other=film)',
    'show.transcript(said.audio, said.words, "B: two words")',
    'show.rig("C: a face", size=64)',
    'show.rig("D: a face that plays", curves=np.zeros((9, 52)), size=64)',
    'show.compare(frames[0], frames[1], "E: two pictures")',
    'show.compare(film, film, "F: two films")',
    'show.sound(said.audio, "G: sound", words=said.words)',
    'show.Dials(lambda k: show.picture(frames[k], f"H: frame {k}"), {"k": widgets.IntSlider(3)}, positions=[{}])',
    'run.metric("none", 1.0, "", better="lower")',
]
SHOWN = """() => [...document.querySelectorAll("img[alt], video[aria-label], audio[aria-label]")].filter((node) => {
    const {width, height} = node.getBoundingClientRect();
    return width > 30 && height > 15 && (node.naturalWidth ?? node.duration ?? 1) > 0;
}).map((node) => (node.alt || node.ariaLabel).replace(/^(A|B|before|after): (?=[A-Z]:)/, "")[0])"""


def page_of(chromium, notebook, folder: Path) -> list[str]:
    """The first letters of all that is seen and heard of a notebook on its page, opened without network."""
    html, _ = HTMLExporter().from_notebook_node(notebook)
    (folder / "page.html").write_text(html)
    context = chromium.new_context(offline=True)
    page = context.new_page()
    page.goto((folder / "page.html").as_uri(), wait_until="domcontentloaded")
    page.wait_for_function("[...document.querySelectorAll('video, audio')].every((one) => one.readyState > 0)")
    seen = page.evaluate(SHOWN)
    context.close()
    return seen


def test_a_page_without_network_shows_every_still_form(chromium, tmp_path):
    source = tmp_path / "90_views.ipynb"
    write(
        source,
        ['PROFILE, SEED, DEVICE = "smoke", 0, "cpu"', IMPORTS + "run = course.start(PROFILE, SEED, DEVICE)", *VIEWS],
    )
    notebook = nbformat.read(source, 4)
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, source)
    outcome = runner.execute(source, tmp_path / "out")
    assert outcome.status == "passed", outcome.reason
    executed = nbformat.read(tmp_path / "out" / source.name, 4)
    assert "widgets" not in executed.metadata
    assert sorted(page_of(chromium, executed, tmp_path)) == sorted("AABBCDEFFGGH")
    bundles = [output["data"] for cell in executed.cells for output in cell.outputs if "data" in output]
    views = [data[VIEW] for data in bundles if VIEW in data]
    state = {"model_name": "AnyModel", "model_module": "anywidget", "model_module_version": "~0.11.0", "state": {}}
    states = {view["model_id"]: state for view in views}
    executed.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": states}}
    left = page_of(chromium, executed, tmp_path)
    assert sorted(left) == ["G", "G", "H"], "planted: with the widgets' states left in, the views are not seen"
