"""The house rules: arrows, budgets, consent, a set-up that agrees with itself; each proven on a planted breach.

A checker takes the root of a tree and returns complaints, [] if there are none.
"""

import ast
import importlib.metadata
import random
import re
import shutil
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from thlib import data

# An import goes to a lower floor, or stays in its own package. What a later issue adds is listed already.
FLOORS = (
    ("errors",),
    ("data", "mux", "espeak"),
    ("clip", "mesh"),
    ("landmarks", "speech", "diffusion", "provenance"),
    ("rig", "warp"),
    ("footage", "metrics", "training", "behaviour"),
    ("presenter",),
    ("editing", "emoface", "ostnet"),
    ("show", "course"),
    ("cli",),
)
METHODS = FLOORS[7]
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names}
MEDIA = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".mp4", ".webm", ".mpg", ".mov", ".avi", ".wav", ".flac", ".mp3"}
IMPORTED_AS = {
    "cv2": "opencv-python-headless",
    "IPython": "ipywidgets",  # needs it, as matplotlib needs pillow
    "PIL": "matplotlib",
    "skimage": "scikit-image",
    "traitlets": "ipywidgets",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
NOT_NEEDED = {
    ("face-alignment", "opencv-python"): "the headless one stands in: a bare machine has no libGL",
    ("pocketsphinx", "sounddevice"): "only for its microphone",
}
PLATFORMS = [
    {"python_version": py, "python_full_version": f"{py}.0", "sys_platform": platform, "platform_system": system}
    | {"os_name": "nt" if system == "Windows" else "posix", "platform_machine": "x86_64", "extra": ""}
    for py in ("3.11", "3.12", "3.13")
    for platform, system in (("linux", "Linux"), ("darwin", "Darwin"), ("win32", "Windows"))
]


def sources(root: Path) -> dict[str, ast.Module]:
    """The library's modules: dotted name without `thlib.` -> syntax tree with its text in `.text`."""
    trees = {}
    for file in sorted((root / "thlib").rglob("*.py")):
        name = ".".join(file.relative_to(root / "thlib").with_suffix("").parts).removesuffix("__init__").rstrip(".")
        trees[name] = ast.parse(file.read_text())
        trees[name].text = file.read_text()
    return trees


def tracked(root: Path) -> list[Path]:
    """The files in git; in a tree without git, all."""
    if not (root / ".git").exists():
        return [file for file in root.rglob("*") if file.is_file()]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout.decode()
    return [root / name for name in listed.split("\0") if name and (root / name).is_file()]


def imports(tree: ast.Module) -> set[str]:
    """All that a module imports, also inside functions: "thlib.clip.Word" for "from thlib.clip import Word"."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {"." * node.level + f"{node.module}.{alias.name}" for alias in node.names}
    return found


def arrows(root: Path) -> list[str]:
    """Imports that do not go down, modules that are on no floor, circles."""
    trees, complaints, edges = sources(root), [], {}
    for name, tree in trees.items():
        own = name.split(".")[0]
        if own not in FLOOR and name:
            complaints.append(f"{name} is on no floor")
        edges[name] = {_module(i.removeprefix("thlib."), trees) for i in imports(tree) if i.startswith("thlib.")}
        for target in sorted(edges[name]):
            other = target.split(".")[0]
            if other in FLOOR and own in FLOOR and other != own and FLOOR[other] >= FLOOR[own]:
                complaints.append(f"{name} imports {target}, which is not below it")
        if any(i.startswith(".") for i in imports(tree)):
            complaints.append(f"{name} imports relatively")
    return complaints + [f"{name} imports itself in a circle" for name in trees if name in _reached(name, edges)]


def _module(target: str, trees: dict[str, ast.Module]) -> str:
    """The module of "clip.Word"; as it stands if there is none of that name."""
    parts = target.split(".")
    names = [".".join(parts[:k]) for k in range(len(parts), 0, -1)]
    return next((name for name in names if name in trees), target)


def _reached(start: str, edges: dict[str, set[str]]) -> set[str]:
    seen, todo = set(), set(edges[start])
    while todo:
        name = todo.pop()
        seen.add(name)
        todo |= edges.get(name, set()) - seen
    return seen


def budgets(root: Path) -> list[str]:
    """Sizes of files and of the whole."""
    lines = {name: tree.text.count("\n") for name, tree in sources(root).items()}
    methods = sum(count for name, count in lines.items() if name.split(".")[0] in METHODS)
    weights = sum(f.stat().st_size for f in (root / "thlib" / "weights").rglob("*") if f.is_file()) / 1e6
    size = sum(file.stat().st_size for file in tracked(root)) / 1e6
    limits = [(len(lines), 36, "files"), (sum(lines.values()), 6500, "lines"), (methods, 2200, "lines of the methods")]
    limits += [(count, 400, f"lines of {name}") for name, count in lines.items()]
    limits += [(weights, 40, "MB of weights"), (size + _history(root), 120, "MB to clone")]
    return [f"{count:.0f} {what}, more than {limit}" for count, limit, what in limits if count > limit]


def _history(root: Path) -> float:
    """MB of what a clone fetches: each object that the last commit reaches, once, however the repository stores it."""
    if not (root / ".git").exists():
        return 0.0
    asked = ["git", "rev-list", "--disk-usage", "--objects", "HEAD"]
    return int(subprocess.run(asked, cwd=root, capture_output=True, text=True, check=True).stdout) / 1e6


def functions(root: Path) -> list[str]:
    """Bodies, arguments, docstrings and hints of the library's functions."""
    complaints, bodies = [], []
    for name, tree in sources(root).items():
        for node, public in _definitions(tree):
            where = f"{name}.{node.name} (line {node.lineno})"
            if public and not ast.get_docstring(node):
                complaints.append(f"{where} has no docstring")
            if isinstance(node, ast.ClassDef):
                continue
            bodies.append(_body(node))
            complaints += [f"{where}: {bodies[-1]} lines, more than 45"] * (bodies[-1] > 45)
            complaints += [f"{where}: {fault}" for fault in _arguments(node, public)]
    if bodies and statistics.median(bodies) > 10:
        complaints.append(f"the median body has {statistics.median(bodies)} lines, more than 10")
    return complaints


def _definitions(tree: ast.AST, public: bool = True):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            seen = public and not node.name.startswith("_")
            yield node, seen
            yield from _definitions(node, seen and isinstance(node, ast.ClassDef))
        else:
            yield from _definitions(node, public)


def _body(node: ast.FunctionDef) -> int:
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def _arguments(node: ast.FunctionDef, public: bool) -> list[str]:
    if any("command" in ast.dump(decorator) for decorator in node.decorator_list):
        return []  # its arguments are the options of the command line
    given = node.args.posonlyargs + node.args.args
    given = [a for a in given if a.arg not in ("self", "cls")]
    count = len(given) + len(node.args.kwonlyargs)
    faults = [f"{count} arguments, more than 6"] * (count > 6)
    if public:
        optional = given[len(given) - len(node.args.defaults) :] if node.args.defaults else []
        faults += [f"option {a.arg!r} comes third or later by position" for a in given[2:] if a in optional]
        faults += [f"{a.arg} has no type hint" for a in given + node.args.kwonlyargs if a.annotation is None]
        faults += ["no return hint"] * (node.returns is None)
    return faults


def clean(root: Path) -> list[str]:
    """Prints, places of the writer's machine, and names of package hosts, where they have no business."""
    complaints = [
        f"{name} calls print"
        for name, tree in sources(root).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]
    foreign = re.compile(r"/[w]ork/|/[o]pt/|/[r]oot/|[p]ythonhosted|[p]ypi\.org")
    for file in tracked(root):
        if file.suffix in {".py", ".md", ".yaml", ".yml", ".toml", ".sh", ".ipynb", ".js", ".cff", ".lock", ""}:
            hits = foreign.findall(file.read_text(errors="replace"))
            complaints += [f"{file.relative_to(root)} mentions {hit}" for hit in hits]
    return complaints


def pictures(root: Path) -> list[str]:
    """Committed pictures, sounds and videos that docs/pictures.yaml does not clear, or clears wrongly."""
    listed = yaml.safe_load((root / "docs" / "pictures.yaml").read_text()) or {}
    found = {file.relative_to(root).as_posix() for file in tracked(root) if file.suffix.lower() in MEDIA}
    complaints = [f"{name} is not listed in docs/pictures.yaml" for name in sorted(found - set(listed))]
    complaints += [f"{name} is listed but not there" for name in sorted(set(listed) - found)]
    for name, entry in listed.items():
        for source in entry["sources"]:
            if source != "drawn" and data.consent(source).publish != "yes":
                complaints.append(f"{name} shows {source}, whose people did not agree to be published")
    return complaints


def lock(root: Path) -> dict[str, Requirement]:
    """The lock's entries by name. AssertionError for a line that pins nothing."""
    lines = (root / "requirements.lock").read_text().splitlines()
    assert not [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+( ; [^;]+)?", line)], "lines pin nothing"
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def set_up(root: Path) -> list[str]:
    """Where pyproject.toml, requirements.lock, environment.yml and postBuild contradict one another."""
    project, pins = tomllib.loads((root / "pyproject.toml").read_text())["project"], lock(root)
    direct, extras = [Requirement(text) for text in project["dependencies"]], project["optional-dependencies"]
    complaints = [f"{len(direct)} direct dependencies, more than 30"] * (len(direct) > 30)
    for need in direct + [Requirement(text) for text in extras["test"]]:
        pin = pins.get(canonicalize_name(need.name))
        if pin is None or not need.specifier.contains(str(pin.specifier).removeprefix("==")):
            complaints.append(f"pyproject.toml wants {need}, the lock has {pin}")
    for extra in ("reference", "browser"):
        lines = (root / f"requirements-{extra}.lock").read_text().split()
        if not all("==" in line for line in lines) or not set(extras[extra]) <= {l.split("==")[0] for l in lines}:
            complaints.append(f"requirements-{extra}.lock is not the extra `{extra}`")
    for line in yaml.safe_load((root / "environment.yml").read_text())["dependencies"]:
        name, _, version = str(line).partition("=")
        if name == "python":
            complaints += [f"environment.yml: {line}"] * (version not in SpecifierSet(project["requires-python"]))
        elif name != "pip" and str(getattr(pins.get(name), "specifier", "")) != f"=={version}":
            complaints.append(f"environment.yml has {line}, the lock has {pins.get(name)}")
    for step in ("--no-deps -r requirements.lock", "--no-deps --no-build-isolation --editable ."):
        lacking = [f for f in ("postBuild", "tools/setup.sh") if step not in (root / f).read_text()]
        complaints += [f"{file} lacks the step pip install {step}" for file in lacking]
    return complaints


def imported(root: Path) -> list[str]:
    """Third-party packages that the library imports without naming them in pyproject.toml."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    direct = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    used = {i.split(".")[0] for tree in sources(root).values() for i in imports(tree)} - {"", "thlib"}
    foreign = used - set(sys.stdlib_module_names)
    return sorted(n for n in foreign if canonicalize_name(IMPORTED_AS.get(n, n)) not in direct)


CHECKERS = [arrows, budgets, functions, clean, pictures, set_up, imported]


@pytest.mark.parametrize("checker", CHECKERS, ids=lambda checker: checker.__name__)
def test_the_house_keeps(checker):
    assert checker(ROOT) == []


def test_the_lock_is_complete_for_every_python_and_platform():
    """Whatever an entry needs (by its metadata, here as installed) on any of them is an entry there too."""
    pins, lacking = lock(ROOT), set()
    for name, pin in pins.items():
        for platform in PLATFORMS:
            if not _applies(pin, platform) or not (found := _installed(name)):
                continue
            for need in map(Requirement, found.requires or []):
                other = canonicalize_name(need.name)
                held = other in pins and _applies(pins[other], platform)
                if _applies(need, platform) and not held and (name, other) not in NOT_NEEDED:
                    lacking.add(
                        f"{name} needs {need} on Python {platform['python_version']}, {platform['sys_platform']}"
                    )
    assert not lacking


def test_the_lock_installs_on_the_first_release_of_every_python():
    wanted = {name: found.metadata["Requires-Python"] for name in lock(ROOT) if (found := _installed(name))}
    early = {"3.11.0", "3.12.0", "3.13.0"}
    assert not {name: w for name, w in wanted.items() if w and not early <= set(SpecifierSet(w).filter(early))}


def _applies(need: Requirement, platform: dict[str, str]) -> bool:
    return need.marker is None or need.marker.evaluate(platform)


def _installed(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:  # an entry for another platform
        return None


SET_UP = ["pyproject.toml", "environment.yml", "postBuild", "requirements.lock"]
SET_UP += ["requirements-reference.lock", "requirements-browser.lock"]
LONG = "def f() -> None:\n    '''Doc.'''\n" + "    x = 1\n" * 46
BREACHES = [
    (arrows, {"thlib/clip.py": "def f():\n    import thlib.landmarks"}, "clip imports landmarks"),
    (arrows, {"thlib/clip.py": "from thlib import speech"}, "clip imports speech"),
    (arrows, {"thlib/emoface.py": "from thlib.editing.script import diff"}, "emoface imports editing.script"),
    (arrows, {"thlib/speech.py": "from thlib.warp import x"}, "speech imports warp"),
    (arrows, {"thlib/utils.py": ""}, "utils is on no floor"),
    (arrows, {"thlib/clip.py": "from .errors import MediaError"}, "relatively"),
    (
        arrows,
        {"thlib/ostnet/a.py": "import thlib.ostnet.b", "thlib/ostnet/b.py": "import thlib.ostnet.a"},
        "in a circle",
    ),
    (budgets, {f"thlib/m{k}.py": "" for k in range(37)}, "37 files"),
    (budgets, {"thlib/clip.py": "x = 1\n" * 401}, "401 lines of clip"),
    (budgets, {f"thlib/m{k}.py": "x = 1\n" * 400 for k in range(17)}, "6800 lines"),
    (budgets, {f"thlib/editing/m{k}.py": "x = 1\n" * 400 for k in range(6)}, "2400 lines of the methods"),
    (budgets, {"thlib/weights/w.safetensors": "x" * 40_100_000}, "MB of weights"),
    (functions, {"thlib/clip.py": LONG}, "46 lines, more than 45"),
    (functions, {"thlib/clip.py": "def f() -> None:\n    x = 1"}, "f (line 1) has no docstring"),
    (
        functions,
        {"thlib/clip.py": "class C:\n    '''Doc.'''\n    def m(self) -> None:\n        x = 1"},
        "m (line 3) has no",
    ),
    (functions, {"thlib/clip.py": "def _f(a, b, c, d, *, e, f, g):\n    x = 1"}, "7 arguments"),
    (functions, {"thlib/clip.py": "def f(a: int, b: int, c: int = 0) -> int:\n    'Doc.'"}, "option 'c' comes third"),
    (functions, {"thlib/clip.py": "def f(a) -> int:\n    'Doc.'"}, "a has no type hint"),
    (functions, {"thlib/clip.py": "".join(f"def _f{k}():\n" + "    x = 1\n" * 11 for k in range(3))}, "median"),
    (clean, {"thlib/clip.py": "print(1)"}, "calls print"),
    (clean, {"docs/x.md": "see /wo" + "rk/shared"}, "mentions"),
    (pictures, {"docs/face.png": "x"}, "docs/face.png is not listed"),
    (pictures, {"docs/face.png": "x", "docs/pictures.yaml": "docs/face.png: {sources: [hdtf/x.mp4]}"}, "did not agree"),
    (pictures, {"docs/pictures.yaml": "docs/gone.png: {sources: [drawn]}"}, "not there"),
    (set_up, {"environment.yml": "dependencies: [python=3.10]"}, "python=3.10"),
    (set_up, {"environment.yml": "dependencies: [numpy=1.0]"}, "numpy=1.0"),
    (set_up, {"postBuild": "pip install -r requirements.lock"}, "postBuild lacks"),
    (set_up, {"requirements-reference.lock": "other==1"}, "is not the extra"),
    (set_up, {"requirements-browser.lock": "greenlet==1\nplaywright"}, "is not the extra"),
    (imported, {"thlib/clip.py": "def f():\n    import tensorflow.keras"}, "tensorflow"),
]


@pytest.mark.parametrize(("checker", "files", "complaint"), BREACHES)
def test_a_breach_is_seen(checker, files, complaint, tmp_path):
    base = {name: (ROOT / name).read_text() for name in [*SET_UP, "tools/setup.sh"]} | {"docs/pictures.yaml": ""}
    for name, text in (base | files).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert any(complaint in told for told in checker(tmp_path)), checker(tmp_path)


def test_a_file_that_was_replaced_counts_in_a_clone_and_counts_once(tmp_path):
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], cwd=tmp_path, check=True)

    git("init", "-q")
    for k in range(2):
        (tmp_path / "w").write_bytes(random.Random(k).randbytes(1_000_000))
        git("add", "w")
        git("commit", "-q", "-m", f"{k}")
    assert _history(tmp_path) == pytest.approx(2, abs=0.01)
    git("repack", "-q", "-a")  # a pack beside the loose objects
    for file in list((tmp_path / ".git" / "objects" / "pack").glob("pack-*")):
        shutil.copy(file, file.with_name(file.name.replace("pack-", "pack-0")))
    assert _history(tmp_path) == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("pyproject.toml", '"tqdm"', '"tqdm==1.0"'),
        ("pyproject.toml", '"tqdm"', '"unheard-of"'),
        ("pyproject.toml", '"tqdm"', ", ".join(['"tqdm"'] * 9)),
    ],
)
def test_a_contradiction_in_the_set_up_is_seen(file, old, new, tmp_path):
    for name in SET_UP:
        (tmp_path / name).write_text((ROOT / name).read_text().replace(*((old, new) if name == file else ("", ""))))
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "setup.sh").write_text((ROOT / "tools" / "setup.sh").read_text())
    assert set_up(tmp_path)


def test_every_manifest_can_be_read_and_states_its_terms():
    for name in data.names():
        known = data.manifest(name)
        assert all((known.title, known.homepage, known.licence, known.citation)), name
        assert all(file.url is None or file.url.startswith("https://") for file in known.files.values()), name
