"""The anatomy of a notebook and its hygiene, of the source and its student build; each rule on a planted breach.

python tests/test_anatomy.py notebooks/01_landmarks.ipynb     the measures and complaints of one notebook
"""

import ast
import inspect
import json
import re
import sys
from itertools import combinations, pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
import build_course
import numpy as np
import pytest
from conftest import ROOT

from thlib import show

EXERCISE = re.compile(r"### Exercise (\d+) · .+ (●○○|●●○|●●●) (\d+) minutes\n")
BANNED = re.compile(r"https?:|\bpip3?\b|conda install|\blog_?in\(|^\s*[%!](?!matplotlib inline\s*$)", re.M)
DEMOS = ("show.Dials(", "show.rig(", "show.transcript(", "show.compare(")
STATEFUL = {"show", "plot", "imshow", "scatter", "bar", "hist", "title", "savefig"}  # of pyplot: the figure is hidden


def read(file: Path) -> list[dict]:
    """A notebook's cells, each with its text in "text" and its tags in "tags"."""
    cells = json.loads(file.read_text())["cells"]
    return [cell | {"text": "".join(cell["source"]), "tags": build_course.tags(cell)} for cell in cells]


def code(cells: list[dict]) -> list[dict]:
    return [cell for cell in cells if cell["cell_type"] == "code"]


def lines(cell: dict) -> int:
    return sum(bool(line.strip()) and not line.startswith("# needs:") for line in cell["text"].splitlines())


def words(text: str) -> int:
    return len(re.findall(r"\S*\w\S*", re.sub(r"<[^>]+>", " ", text)))


def prose(cells: list[dict]) -> str:
    return "\n\n".join(cell["text"] for cell in cells if cell["cell_type"] == "markdown")


def tree(cell: dict) -> ast.Module:
    """The syntax tree of a code cell, without magics."""
    return ast.parse(re.sub(r"^\s*[%!].*", "pass", cell["text"], flags=re.M))


def forced(before: dict, cell: dict) -> bool:
    """Code after code that the format asks for: exercise and check, parameters and imports, metrics and the table."""
    return "check" in cell["tags"] or bool({"parameters", "metrics"} & before["tags"])


def measures(cells: list[dict]) -> dict[str, float]:
    """The numbers that have budgets, of a student build."""
    size, pairs = [lines(cell) for cell in code(cells)] or [0], pairwise(cells)
    after = sum(b["cell_type"] == a["cell_type"] == "code" and not forced(a, b) for a, b in pairs)
    return {
        "cells": len(cells),
        "median of code lines": float(np.median(size)),
        "p90 of code lines": float(np.percentile(size, 90)),
        "code lines of the longest cell": max(size),
        "words of prose per line of code": words(prose(cells)) / max(1, sum(size)),
        "share of code after code": after / len(size),
        "exercises": sum("exercise" in cell["tags"] for cell in cells),
    }


BUDGETS = {  # as in `measures`: from, to
    "cells": (45, 65),
    "median of code lines": (0, 6),
    "p90 of code lines": (0, 15),
    "code lines of the longest cell": (0, 25),
    "words of prose per line of code": (7, 10),
    "share of code after code": (0, 0.2),
    "exercises": (3, 6),
}


def budgets(cells: list[dict]) -> list[str]:
    """The numbers of the student build that leave their budgets, and which cells are too long."""
    student = build_course.kept(cells, "student")
    found = measures(student)
    told = [f"{found[m]:.3g} {m}, not {low} to {high}" for m, (low, high) in BUDGETS.items() if found[m] < low]
    for name, (low, high) in BUDGETS.items():
        if found[name] > high:
            told.append(f"{found[name]:.3g} {name}, not {low} to {high}")
    long = [f"cell {cells.index(cell)}: {lines(cell)} lines of code" for cell in code(student) if lines(cell) > 25]
    return told + long


def head(cells: list[dict]) -> list[str]:
    """Title and promise; objectives, new ideas, prerequisites, minutes; parameters; imports and start."""
    top, aims, told = cells[0]["text"], cells[1]["text"], []
    if not re.match(r"# \d\d · .+\n\n\*\*[^*]+\*\*", top):
        told.append("cell 0: no title `# NN · Title` with a bold promise below")
    if re.search(r"\*(Next|The path|Path)\b|\]\(http", top):
        told.append("cell 0: path and badges are generated, not written")
    goals = re.search(r"\*\*You will be able to\*\*\n\n((?:[- ].+\n)+)", aims + "\n")
    if not goals or not 3 <= len(re.findall(r"^- ", goals[1], re.M)) <= 5:
        told.append("cell 1: not 3 to 5 objectives `- …` below **You will be able to**")
    ideas = re.search(r"\*\*New ideas \((\d)\):\*\*([^.]+)\.", aims)
    if not ideas or not int(ideas[1]) == ideas[2].count("·") + 1 <= 6:
        told.append("cell 1: no `**New ideas (n):** a · b.` that names n of them, at most 6")
    if re.search(r"[Rr]uns on:?\s+\*?CPU", aims):
        told.append("cell 1: what a run costs is generated, not written")
    if "**You need**" not in aims or not re.search(r"\bminutes\b", aims):
        told.append("cell 1: **You need** … and the minutes are not there")
    first, second = [*code(cells)[:2], *[{"text": "", "tags": set()}] * 2][:2]
    names = {target.id for node in tree(first).body if isinstance(node, ast.Assign) for target in node.targets}
    if "parameters" not in first["tags"] or not {"PROFILE", "SEED", "DEVICE"} <= names or len(names) > 8:
        told.append("the first code cell is not tagged `parameters`, with PROFILE, SEED, DEVICE and at most 5 more")
    if "course.start(" not in second["text"]:
        told.append("the second code cell does not call course.start(…)")
    return told


def body(cells: list[dict]) -> list[str]:
    """A demo with questions, something to think about, the two tables, metrics, progress, the recap."""
    student = build_course.kept(cells, "student")
    text, told = prose(student), []
    demos = [k for k, cell in enumerate(student) if cell["cell_type"] == "code" and _calls(cell["text"], DEMOS)]
    beside = [prose(student[max(0, k - 1) : k + 2]) for k in demos]
    if not any(near.count("?") >= 2 for near in beside):
        told.append(f"no demo ({', '.join(DEMOS)}) that has two questions in the text just before or after it")
    if "*Think:*" not in text:
        told.append("no *Think:*")
    tops = re.findall(r"^(\|.+\|)\n\|[-:| ]+\|$", text, re.M)
    if not any(re.search("paper|published", t, re.I) and re.search(r"\b(here|ours|us|we)\b", t, re.I) for t in tops):
        told.append("no table with columns for the paper and for what we built")
    if "*known" not in text:
        told.append("nothing is marked *known*")
    if not any(re.search(r"\btools?\b", top) for top in tops):
        told.append("no table of tools, its first column `tool`")
    if not any("metrics" in cell["tags"] and "run.metric(" in cell["text"] for cell in student):
        told.append("no cell tagged `metrics` that calls run.metric(…)")
    if not code(student)[-1:] or code(student)[-1]["text"].strip() != "course.progress()":
        told.append("the last code cell is not `course.progress()`")
    recap = student[-1]["text"]
    if (
        not recap.startswith("## Recap")
        or recap.count("?") < 3
        or not re.search(r"\*References:.*(doi|arXiv)", recap, re.S)
    ):
        told.append(
            "the last cell is no `## Recap` with the objectives as questions and *References: …* with doi or arXiv"
        )
    return told


def _calls(text: str, names: tuple[str, ...]) -> bool:
    return any(name in text for name in names)


def exercises(cells: list[dict]) -> list[str]:
    """The four cells of an exercise: its text, exercise, solution, check."""
    told, numbers = [], []
    for k, cell in enumerate(cells):
        if found := EXERCISE.search(cell["text"] + "\n"):
            numbers.append(int(found[1]))
            task, _, hints = cell["text"][found.end() :].partition("<details>")
            told += [f"cell {k}: the task has {words(task)} words, more than 150"] * (words(task) > 150)
            told += [f"cell {k}: the exercise has no hint in <details>"] * ("<summary>Hint" not in hints)
            follow = [sorted(c["tags"] & {"exercise", "solution", "check"}) for c in cells[k + 1 : k + 4]]
            if follow != [["exercise"], ["solution"], ["check"]]:
                told.append(f"cell {k}: after the exercise's text come {follow}, not exercise, solution, check")
        elif "### Exercise" in cell["text"]:
            told.append(f"cell {k}: its heading is not `### Exercise k · Title ●○○ n minutes`")
    if numbers != list(range(1, sum("exercise" in cell["tags"] for cell in cells) + 1)):
        told.append(f"exercises are numbered {numbers}, not from 1 to the number of cells tagged `exercise`")
    return told


def hygiene(cells: list[dict]) -> list[str]:
    """Outputs and attachments in git; installs, addresses, logins and magics in code."""
    told = []
    for k, cell in enumerate(cells):
        if cell.get("outputs") or cell.get("execution_count") or cell.get("attachments"):
            told.append(f"cell {k}: outputs, counts or attachments in git")
        if cell["cell_type"] == "code" and (hit := BANNED.search(cell["text"])):
            told.append(f"cell {k}: {hit[0].strip()!r} in code")
    return told


def alt_texts(cells: list[dict]) -> list[str]:
    """Pictures, sounds and videos that are shown without words for those who can't see them."""
    told = []
    for k, cell in enumerate(cells):
        if cell["cell_type"] == "markdown":
            bare = re.findall(r"!\[\s*\]\(|<img(?![^>]*\balt=[\"'][^\"']+)[^>]*>", cell["text"])
            told += [f"cell {k}: {hit!r} without alt text" for hit in bare]
            continue
        calls = [node for node in ast.walk(tree(cell)) if isinstance(node, ast.Call)]
        named = [(ast.unparse(call.func), call) for call in calls]
        for name, call in named:
            if name.startswith("show.") and not _has_alt(name.removeprefix("show."), call):
                told.append(f"cell {k}: {name}(…) without alt text of at least three words")
            if name.startswith("plt.") and name.removeprefix("plt.") in STATEFUL:
                told.append(f"cell {k}: {name}(…) draws where no alt text can be: use an axis, and show.figure")
        if {"plt.subplots", "plt.figure"} & {name for name, _ in named} and "show.figure(" not in cell["text"]:
            told.append(f"cell {k}: draws a figure and does not show it by show.figure")
        if "IPython" in cell["text"]:
            told.append(f"cell {k}: shows by IPython, without alt text")
    return told


def _has_alt(name: str, call: ast.Call) -> bool:
    """Whether the call of a view gives an alt text; a literal one has at least three words."""
    view = getattr(show, name, None)
    names = list(inspect.signature(view).parameters) if inspect.isfunction(view) else []
    if "alt" not in names:
        return True
    given = dict(zip(names, call.args)) | {keyword.arg: keyword.value for keyword in call.keywords}
    alt = given.get("alt")
    if isinstance(alt, ast.Name | ast.Attribute | ast.Call | ast.BinOp | ast.JoinedStr | ast.Subscript | ast.IfExp):
        return True
    return isinstance(alt, ast.Constant) and isinstance(alt.value, str) and len(alt.value.split()) >= 3


RULES = [budgets, head, body, exercises, hygiene, alt_texts]


def complaints(file: Path) -> list[str]:
    """All that a notebook's source and its student build break."""
    cells = read(file)
    metadata = json.loads(file.read_text())["metadata"]
    return ["it keeps widget state"] * ("widgets" in metadata) + [told for rule in RULES for told in rule(cells)]


def pasted(files: list[Path]) -> list[str]:
    """Functions with the same body in two notebooks: they belong into the library."""
    bodies = {}
    for file in files:
        for cell in code(read(file)):
            for node in ast.walk(tree(cell)):
                if isinstance(node, ast.FunctionDef):
                    dump = ast.dump(node.args) + "".join(map(ast.dump, node.body))
                    bodies.setdefault(dump, {})[file.name] = node.name
    return [
        f"{one} defines {names[one]} with the body of {names[other]} in {other}"
        for names in bodies.values()
        for one, other in combinations(names, 2)
    ]


NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_keeps_the_anatomy(notebook):
    told = complaints(notebook)
    assert not told, "\n".join([f"{notebook.name}:", *told])


def test_no_helper_is_pasted():
    assert len(NOTEBOOKS) >= 2
    assert not pasted(NOTEBOOKS)


# A small notebook that keeps every rule, as (kind, tags, text); breaches change it.
FILLER = "word " * 24
ANSWER = "<details><summary>Hint</summary>Add.</details>"
MODEL = [
    ("markdown", "", "# 07 · Model\n\n**In an hour you know.**"),
    (
        "markdown",
        "",
        "**You will be able to**\n\n- one;\n- two,\n  and more;\n- three.\n\n**New ideas (2):** a · b.\n\n"
        "**You need** notebook 00. About 10 minutes.",
    ),
    ("code", "parameters", "PROFILE = 'smoke'\nSEED = 0\nDEVICE = 'cpu'"),
    ("code", "", "from thlib import course, show\nrun = course.start(PROFILE, SEED, DEVICE)"),
    ("markdown", "", "## Where we are\n\n*Think:* why?"),
    *[
        cell
        for k in (1, 2, 3)
        for cell in (
            ("markdown", "", f"### Exercise {k} · Add ●○○ 5 minutes\n\nDo it.\n\n{ANSWER}"),
            ("code", "exercise", f"def add{k}(a, b):\n    return ..."),
            ("code", "solution", f"def add{k}(a, b):\n    return a + b"),
            ("code", "check", f"add{k} = course.check('07.add{k}', add{k})"),
        )
    ],
    *[cell for k in range(14) for cell in (("markdown", "", FILLER), ("code", "", f"x = {k}\ny = x\nprint(y)"))],
    ("markdown", "", "Drag it. What is high? What is low?"),
    ("code", "", "show.Dials(draw, dials)"),
    ("markdown", "instructor", "Five minutes."),
    (
        "markdown",
        "",
        "| | paper | here |\n|---|---|---|\n| a | *known* | b |\n\n| tool | does |\n|---|---|\n| SadTalker | it |",
    ),
    ("code", "metrics", "run.metric('error', 1, 'px', better='lower')"),
    ("code", "", "course.progress()"),
    ("markdown", "", "## Recap\n\n- one?\n- two?\n- three?\n\n*References: N. N. 2020, arXiv 2001.00001.*"),
]


def model(old: str = "", new: str = "", *, add: list[tuple[str, str, str]] = []) -> list[dict]:  # noqa: B006
    """The model's cells, `old` replaced by `new` in their texts or tags; `add`: cells before the recap's tables."""
    cells = [*MODEL[:-4], *add, *MODEL[-4:]]
    assert not old or any(old in part for cell in cells for part in cell)
    changed = [(kind, tag.replace(old, new), text.replace(old, new)) for kind, tag, text in cells]
    rows = [
        {"cell_type": kind, "metadata": {"tags": tag.split()}, "source": text, "text": text, "tags": set(tag.split())}
        for kind, tag, text in changed
    ]
    return [row | ({"outputs": [], "execution_count": None} if row["cell_type"] == "code" else {}) for row in rows]


def test_the_model_keeps_every_rule():
    assert [told for rule in RULES for told in rule(model())] == []


MD, CODE = ("markdown", "", "word " * 10), ("code", "", "x = 1")
BREACHES = [
    (budgets, {"add": [MD] * 18}, "66 cells"),
    (budgets, {"old": "y = x", "new": "y = x\n" * 5}, "median"),
    (budgets, {"add": [MD, ("code", "", "x = 1\n" * 16)] * 5}, "p90"),
    (budgets, {"add": [("code", "", "x = 1\n" * 26)]}, "26 code lines of the longest cell"),
    (budgets, {"add": [("code", "", "x = 1\n\n" * 26)]}, "26 lines of code"),
    (budgets, {"old": FILLER, "new": "word " * 9}, "words of prose"),
    (budgets, {"old": FILLER, "new": "word " * 99}, "words of prose"),
    (budgets, {"add": [CODE] * 8}, "share of code after code"),
    (budgets, {"old": "exercise", "new": "exorcise"}, "0 exercises"),
    (head, {"old": "# 07 ·", "new": "# Model"}, "no title"),
    (head, {"old": "**In an hour you know.**", "new": "In an hour you know."}, "bold promise"),
    (head, {"old": "you know.**", "new": "you know.**\n\n*Next: `08`.*"}, "generated, not written"),
    (head, {"old": "- two,\n  and more;\n", "new": ""}, "3 to 5 objectives"),
    (head, {"old": "(2):** a", "new": "(3):** a"}, "names n of them"),
    (head, {"old": "(2):** a", "new": "(7):** a · b · c · d · e · f"}, "at most 6"),
    (head, {"old": "**You need**", "new": "Needs"}, "**You need**"),
    (head, {"old": "10 minutes", "new": "an hour"}, "minutes"),
    (head, {"old": "10 minutes.", "new": "10 minutes. Runs on: CPU 1 minute."}, "what a run costs"),
    (head, {"old": "parameters", "new": ""}, "tagged `parameters`"),
    (head, {"old": "SEED = 0", "new": "\n".join(f"A{k} = SEED = 0" for k in range(6))}, "at most 5 more"),
    (head, {"old": "course.start", "new": "course.begin"}, "course.start"),
    (body, {"old": "show.Dials", "new": "show.dials"}, "no demo"),
    (body, {"old": "What is low?", "new": "See."}, "two questions"),
    (body, {"old": "*Think:*", "new": ""}, "no *Think:*"),
    (body, {"old": "| paper |", "new": "| book |"}, "for the paper"),
    (body, {"old": "*known*", "new": "known"}, "*known*"),
    (body, {"old": "| tool |", "new": "| thing |"}, "table of tools"),
    (body, {"old": "metrics", "new": ""}, "tagged `metrics`"),
    (body, {"old": "course.progress()", "new": "1"}, "course.progress()"),
    (body, {"old": "- two?", "new": "- two"}, "objectives as questions"),
    (body, {"old": "arXiv 2001.00001", "new": "a book"}, "doi or arXiv"),
    (exercises, {"old": "Do it.", "new": "do " * 151}, "151 words"),
    (exercises, {"old": "<summary>Hint", "new": "<summary>Answer"}, "no hint"),
    (exercises, {"old": "●○○ 5 minutes", "new": "5 minutes"}, "its heading is not"),
    (exercises, {"old": "solution", "new": ""}, "not exercise, solution, check"),
    (exercises, {"old": "Exercise 2", "new": "Exercise 4"}, "numbered [1, 4, 3]"),
    (hygiene, {"old": "print(y)", "new": "!pip install y"}, "'!' in code"),
    (hygiene, {"old": "print(y)", "new": "os.system('pip install y')"}, "'pip' in code"),
    (hygiene, {"old": "print(y)", "new": "u = 'https://x.org'"}, "'https:' in code"),
    (hygiene, {"old": "print(y)", "new": "%load_ext x"}, "'%' in code"),
    (hygiene, {"old": "print(y)", "new": "hub.login()"}, "'login(' in code"),
    (alt_texts, {"old": "print(y)", "new": "show.picture(y)"}, "show.picture(…) without alt"),
    (alt_texts, {"old": "print(y)", "new": "show.picture(y, '')"}, "show.picture(…) without alt"),
    (alt_texts, {"old": "print(y)", "new": "show.player(y, width=3)"}, "show.player(…) without alt"),
    (alt_texts, {"old": "print(y)", "new": "plt.imshow(y)"}, "plt.imshow(…) draws"),
    (alt_texts, {"old": "print(y)", "new": "plt.show()"}, "plt.show(…) draws"),
    (alt_texts, {"old": "print(y)", "new": "figure, axis = plt.subplots()"}, "does not show it"),
    (alt_texts, {"old": "print(y)", "new": "from IPython.display import Image"}, "by IPython"),
    (alt_texts, {"old": "Drag it.", "new": "![](a.png)"}, "without alt"),
    (alt_texts, {"old": "Drag it.", "new": "<img src='a.png'>"}, "without alt"),
]


@pytest.mark.parametrize(("rule", "change", "complaint"), BREACHES)
def test_a_breach_is_seen(rule, change, complaint):
    assert any(complaint in told for told in rule(model(**change))), rule(model(**change))


@pytest.mark.parametrize(
    "line", ["%matplotlib inline", "show.picture(y, alt='a face, lit')", "show.sheet(y)", "a %= 2"]
)
def test_what_is_clean_is_not_reported(line):
    cells = model("print(y)", line)
    assert hygiene(cells) + alt_texts(cells) == []


def write(folder: Path, name: str, cells: list[dict], **metadata) -> Path:
    """A notebook file of the cells."""
    (folder / name).write_text(
        json.dumps({"cells": [c | {"tags": 0} for c in cells], "metadata": metadata}, default=str)
    )
    return folder / name


def test_outputs_and_widget_states_in_git_are_seen(tmp_path):
    assert complaints(write(tmp_path, "07_model.ipynb", model())) == []
    assert "it keeps widget state" in complaints(write(tmp_path, "07_model.ipynb", model(), widgets={}))
    for part in ({"outputs": [{}]}, {"execution_count": 1}, {"attachments": {"a": 1}}):
        cells = [cell | part for cell in model()]
        assert "cell 3: outputs, counts or attachments in git" in complaints(write(tmp_path, "07_m.ipynb", cells))


def test_a_pasted_helper_is_seen(tmp_path):
    one = write(tmp_path, "07_a.ipynb", model("print(y)", "def f(x):\n    return x + 1"))
    other = write(tmp_path, "08_b.ipynb", model("print(y)", "def g(x):\n    return x + 1").copy()[17:])
    assert pasted([one, other]) == ["07_a.ipynb defines f with the body of g in 08_b.ipynb"]


if __name__ == "__main__":
    for given in map(Path, sys.argv[1:]):
        for name, value in measures(build_course.kept(read(given), "student")).items():
            print(f"{value:8.3g} {name} ({BUDGETS[name][0]} to {BUDGETS[name][1]})")
        print(*(complaints(given) or ["no complaints"]), sep="\n")
