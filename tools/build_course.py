"""Cut the builds of the course from its one source, notebooks/: for students, for those who teach, for Colab.

python tools/build_course.py student|instructor|colab [--out folder]     (default: out/builds/<role>)
"""

import argparse
import json
import re
import sys
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import baselines
import runner

from thlib import data

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = {  # role -> tags of the cells that its build lacks
    "student": {"solution", "instructor"},
    "instructor": {"exercise"},
    "colab": {"solution", "instructor"},
}
# The repository is cloned and not only installed, for the exercises' checks lie in it.
CLONE = """# Set-up for Colab: does nothing where thlib is installed already.
import importlib.util
import subprocess
import sys

if not importlib.util.find_spec("thlib"):
    subprocess.run(["git", "clone", "--quiet", "--depth=1", "{address}", "thlib-course"], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--editable", "thlib-course"], check=True)
    sys.path.insert(0, "thlib-course")"""
NO_ADDRESS = """# Set-up for Colab: does nothing where thlib is installed already.
import importlib.util

if not importlib.util.find_spec("thlib"):
    raise SystemExit(
        "thlib is not installed, and this build does not know where to find it: "
        "set Repository in [project.urls] of pyproject.toml, and cut the build again"
    )"""


def read(file: Path) -> dict:
    """A notebook."""
    return json.loads(file.read_text())


def write(file: Path, notebook: dict) -> Path:
    """Write a notebook, whole or not at all; its file."""
    with data.atomic(file) as half:
        half.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    return file


def tags(cell: dict) -> set[str]:
    """The tags of a notebook's cell."""
    return set(cell["metadata"].get("tags", []))


def kept(cells: list[dict], role: str) -> list[dict]:
    """The cells of a source that the build of a role has."""
    return [cell for cell in cells if not tags(cell) & LEFT_OUT[role]]


def build(source: Path, role: str, project: Path = ROOT / "pyproject.toml") -> dict:
    """The notebook of a role: its cells, with the place on the path, badges and the cost of a run written into them.

    A build is its own build. Nothing is said that is not known: no badge without Repository in [project.urls], no cost
    before a recorded run.
    """
    notebook = read(source)
    about = notebook["metadata"].setdefault("thlib", {})
    if "build" in about:  # a student's own copy
        return notebook
    about["build"] = role
    notebook["cells"] = kept(notebook["cells"], role)
    address = tomllib.loads(project.read_text())["project"].get("urls", {}).get("Repository", "").rstrip("/")
    heads = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"][:2]
    for cell, added in zip(heads, (f"{path(source)}\n\n{badges(source, address)}", cost(source.stem))):
        if added.strip():
            cell["source"] = f"{''.join(cell['source']).rstrip()}\n\n{added.strip()}"
    if role == "colab":
        first = next((k for k, cell in enumerate(notebook["cells"]) if cell["cell_type"] == "code"), 0)
        text = CLONE.format(address=address) if address else NO_ADDRESS
        cell = {"cell_type": "code", "id": "colab", "metadata": {"tags": ["colab"]}, "source": text}
        notebook["cells"].insert(first, cell | {"outputs": [], "execution_count": None})
    return notebook


def path(source: Path) -> str:
    """The place on the path: the course's notebooks as links, this one in bold."""
    places = []
    for other in runner.notebooks(source.parent):
        name = other.stem.replace("_", " ")
        places.append(f"**{name}**" if other.stem == source.stem else f"[{name}]({other.name})")
    return f"*The path:* {' → '.join(places)}"


def badges(source: Path, address: str) -> str:
    """Links that open the notebook elsewhere, "" without a GitHub address; Colab opens branch `colab` of the builds."""
    if not (found := re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?", address)):
        return ""
    colab = f"https://colab.research.google.com/github/{found[1]}/blob/colab/{source.name}"
    binder = f"https://mybinder.org/v2/gh/{found[1]}/HEAD?urlpath=lab/tree/course/{source.name}"
    return f"*Without installing:* [open in Colab]({colab}) · [open on Binder]({binder})"


def cost(name: str) -> str:
    """What the last recorded runs took, "" where there are none."""
    told, memory = [], []
    for kind, profile in (("CPU", "laptop"), ("GPU", "gpu")):
        entry = baselines.load(profile).get(name, {})
        if seconds := entry.get("seconds"):
            told.append(f"{kind} {max(1, round(seconds / 60))} min")
            memory.append(entry["peak_mb"] / 1e3)
    return f"*Runs on:* {' / '.join(told)}, peak {max(memory):.1f} GB." if told else ""


def cut(source: Path, role: str, out: Path) -> Path:
    """Write the build of one notebook into a folder; its file."""
    out.mkdir(parents=True, exist_ok=True)
    return write(out / source.name, build(source, role))


def main() -> None:
    """Cut every notebook, and say where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=list(LEFT_OUT))
    parser.add_argument("--out", type=Path, help="folder of the build")
    given = parser.parse_args()
    for source in runner.notebooks(ROOT / "notebooks"):
        sys.stdout.write(f"{cut(source, given.role, given.out or ROOT / 'out' / 'builds' / given.role)}\n")


if __name__ == "__main__":
    main()
