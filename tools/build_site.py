"""Static pages of the executed notebooks, to be put on any web server: out/site/index.html, a page a notebook.

python tools/build_site.py [--profile smoke] [--out out/site] [--runs out/course out/tests]

Only the presenter, paintings in the public domain and corpus speakers who agreed may be seen. What a run opened is
written down (tools/witness), and a page whose run opened anything that may not be shown, or that no manifest knows, is
refused. A run among `--runs` of the notebook as it stands, that is in order, is taken; else the notebook is executed
where nothing exists but what may be shown: cells that need other data (`# needs:`) are passed over, and whatever opens
such data fails. Pages load nothing from elsewhere, and hold no script.
"""

import argparse
import io
import json
import os
import re
import shutil
import sys
import tempfile
import time
from base64 import b64encode
from html import escape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import build_course
import runner
import syllabus
import yaml

from thlib import data

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "out" / "published"  # what may be shown, and the runs that saw nothing else
TEXTS = {  # page: its Markdown, as seen from the notebooks, and what the links call it
    "teach": ("README.md", "to teach it"),
    "ready": ("prerequisites.md", "are you ready?"),
    "help": ("troubleshooting.md", "when it fails"),
    "words": ("glossary.md", "words and signs"),
    "ethics": ("../ETHICS.md", "ethics"),
}
ABOUT = """Change the words of a talking video and watch it say them; make a face speak from sound and an emotion; let a
portrait follow another person's video. Twelve notebooks build three published methods from the ground up. Everything
runs on a laptop without a GPU and without the internet. These pages are the notebooks, executed: videos play with their
sound, what you would drag stands still, and the exercises are open."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; media-src 'self' data:"
STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; color: #111; background: #fff; max-width: 52rem; margin: 1rem auto 4rem;
padding: 0 1rem } nav { font-size: .85rem; border-bottom: 1px solid #ccc; padding-bottom: .6rem } nav a, nav b {
margin-right: .5rem; white-space: nowrap } img, video, svg { max-width: 100%; height: auto } audio { width: 100% }
pre { overflow-x: auto; padding: .6rem; background: #f6f6f6; border-radius: 4px; font-size: .83rem; line-height: 1.4 }
.output_area { overflow-x: auto; margin: .4rem 0 1rem } .output_area pre { background: none; border-radius: 0;
border-left: 3px solid #ccc; white-space: pre-wrap } .prompt, .anchor-link { display: none }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { text-align: left; padding: .25rem .7rem; border-bottom: 1px solid #ccc; vertical-align: top }
footer { margin-top: 3rem; border-top: 1px solid #ccc; font-size: .85rem; color: #444 } summary { cursor: pointer }
details { margin: .3rem 0 } a { color: #005a8c } figure { margin: 1rem 0 } figcaption { font-size: .85rem; color: #444 }
"""
MATH = re.compile(
    r"(?P<code>(?P<tick>`+).*?(?P=tick))|\$\$(?P<block>.+?)\$\$|(?<![\\$\w])\$(?P<text>[^\s$](?:[^$\n]*[^\s$])?)\$(?!\w)",
    re.S,
)


# --- consent ----------------------------------------------------------------------------------------------------------
def refusal(entry: str) -> str:
    """Why a data file ("set/file"), or a file of unknown origin, may not be seen on a page; "" if it may."""
    name, _, file = entry.partition("/")
    known = data.manifest(name).files.get(file) if name in data.names() else None
    if known is None:
        return f"{entry} is in no manifest, so nobody is known to have agreed to be shown"
    if known.consent.publish != "yes" or known.tier != "A":
        return f"{entry} may not be shown (tier {known.tier}, consent to publish: {known.consent.publish})"
    return ""


def refusals(executed: Path) -> list[str]:
    """Why an executed notebook may become no page: [] if it may."""
    record = executed.with_suffix(".json")
    if not executed.is_file() or not record.is_file():
        return ["it was not executed"]
    outcome = runner.Outcome(**json.loads(record.read_text()))
    if outcome.status != "passed":
        return [outcome.reason]
    if outcome.opened is None:
        return ["nobody wrote down what its run opened"]
    if outcome.digest != data.sha256(executed):
        return ["it was changed after its run"]
    return [told for told in map(refusal, outcome.opened) if told]


def publishable(folder: Path) -> dict[str, str]:
    """Fill a mirror folder with what of the data at hand may be shown; the environment of a run that sees no other."""
    shutil.rmtree(folder / "mirror", ignore_errors=True)
    for name in data.names():
        for file, place in data.status(name).items():
            if place != "absent" and not refusal(f"{name}/{file}"):
                copy = folder / "mirror" / name / file
                copy.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(data.path(f"{name}/{file}"), copy)
                except OSError:  # another disk
                    shutil.copyfile(data.path(f"{name}/{file}"), copy)
    (folder / "mirror").mkdir(parents=True, exist_ok=True)
    return {"THLIB_MIRROR": str(folder / "mirror"), "THLIB_CACHE": str(folder / "cache")}


# --- runs -------------------------------------------------------------------------------------------------------------
def code(notebook: dict) -> list[str]:
    """The code of a notebook, cell by cell, without the parameters that a run puts in."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return ["".join(cell["source"]) for cell in cells if "injected-parameters" not in build_course.tags(cell)]


def poorer(executed: dict) -> bool:
    """Whether a run passed over a cell whose data may be shown and are at hand by now."""
    for cell in executed["cells"]:
        first, told = "".join(cell["source"]).partition("\n")[0], json.dumps(cell.get("outputs", []))
        needs = first.removeprefix("# needs:").split() if first.startswith("# needs:") else []
        files = [f"{need}/{file}" for need in needs if "/" not in need for file in data.manifest(need).files]
        shown = not any(map(refusal, [*files, *(need for need in needs if "/" in need)]))
        if needs and "This cell is passed over" in told and shown and not data.missing(*needs):
            return True
    return False


def run(source: Path, runs: list[Path], *, profile: str, work: Path = WORK) -> tuple[Path, list[str]]:
    """An executed notebook for the page of `source`, from `runs` or executed anew, and why it is refused, if it is."""
    build = build_course.build(source, "student")
    for executed in (folder / source.name for folder in [*runs, work]):
        if not refusals(executed):
            done = json.loads(executed.read_text())
            if code(done) == code(build) and not poorer(done):
                return executed, []
    cut = build_course.cut(source, "student", work / "student")
    runner.execute(cut, work, profile=profile, env=publishable(work))
    return work / source.name, refusals(work / source.name)


def filled(build: dict, executed: Path) -> dict:
    """A build with the outputs of its run: texts are as they stand today, whenever it was executed."""
    cells = [cell for cell in json.loads(executed.read_text())["cells"] if cell["cell_type"] == "code"]
    outputs = iter([cell for cell in cells if "injected-parameters" not in build_course.tags(cell)])
    for cell in build["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = next(outputs)["outputs"]
    return build


# --- pages ------------------------------------------------------------------------------------------------------------
def drawn(markdown: str) -> str:
    """A text in which formulas, $x$ and $$x$$, are pictures drawn by matplotlib; code stays as it is."""

    def draw(found: re.Match) -> str:
        if found["code"]:
            return found["code"]
        from matplotlib.mathtext import math_to_image

        tex, image = (found["block"] or found["text"]).strip(), io.BytesIO()
        try:
            math_to_image(f"${tex}$", image, dpi=72, format="svg")
        except ValueError:  # more than matplotlib reads
            return f"`{tex}`"
        size = f"{float(re.search(rb'height=.([0-9.]+)pt', image.getvalue())[1]) / 11:.2f}em"
        source = f"data:image/svg+xml;base64,{b64encode(image.getvalue()).decode()}"
        tag = f'<img src="{source}" alt="{escape(tex, quote=True)}" style="height: {size}; vertical-align: middle">'
        return f"\n\n{tag}\n\n" if found["block"] else tag

    return MATH.sub(draw, markdown)


def body(notebook: dict) -> str:
    """A notebook as HTML: texts, code and outputs, with the still forms of views and nothing that needs a script."""
    import nbformat
    from nbconvert import HTMLExporter

    node = nbformat.reads(json.dumps(notebook | {"nbformat": 4, "nbformat_minor": 5}), as_version=4)
    for cell in node.cells:
        if cell.cell_type == "markdown":
            cell.source = drawn(cell.source)
        for bundle in [output.data for output in cell.get("outputs", []) if "data" in output]:
            for kind in [kind for kind in bundle if kind.startswith("application/")]:
                del bundle[kind]
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("data", True)]
    html, _ = HTMLExporter(template_name="basic", embed_images=True).from_notebook_node(node)
    html = re.sub(r"<script\b.*?</script>", "", html, flags=re.S)
    return re.sub(r'href="(\d\d_\w+)\.ipynb"', r'href="\1.html"', html)


def text(file: Path) -> str:
    """A Markdown file as HTML, its links leading to pages."""
    from nbconvert.filters.markdown_mistune import markdown2html_mistune

    html = markdown2html_mistune(drawn(re.sub("<!--.*?-->", "", file.read_text(), flags=re.S)))
    html = re.sub(r'href="(\d\d_\w+)\.ipynb"', r'href="\1.html"', html)
    for name, place in ({"index": "../README.md"} | {name: place for name, (place, _) in TEXTS.items()}).items():
        html = html.replace(f'href="{place}', f'href="{name}.html')
    return html


def credits(opened: list[str]) -> str:
    """Whom and what a page owes its data to: citation and licence of every set that its run opened."""
    lines = []
    for name in sorted({entry.partition("/")[0] for entry in opened}):
        known, files = data.manifest(name), [e.partition("/")[2] for e in opened if e.partition("/")[0] == name]
        terms = sorted({known.files[file].licence for file in files})
        shows = "; ".join(dict.fromkeys(f"{known.files[f].shows or f}" for f in files)) if len(files) < 5 else ""
        lines.append(
            f"<li><b>{escape(known.title)}</b> ({escape(shows or f'{len(files)} files')}): {escape(known.citation)} "
            f"<a href='{escape(known.homepage)}'>{escape(known.homepage)}</a>. Licence: {escape('; '.join(terms))}."
        )
    people = "Everybody else on this page is a presenter: drawn by a program, nobody's face."
    return (
        f"<p>Data and models behind this page. {people}</p><ul>{''.join(lines)}</ul>" if lines else f"<p>{people}</p>"
    )


def page(title: str, content: str, *, nav: str, foot: str = "") -> str:
    """A whole page. Its policy forbids scripts and whatever lies elsewhere, also where a notebook brings some."""
    from pygments.formatters import HtmlFormatter

    style = STYLE + HtmlFormatter(style="friendly").get_style_defs(".highlight")
    head = (
        f'<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=Content-Security-Policy content="{POLICY}">'
    )
    head += f"<meta name=viewport content='width=device-width'><title>{escape(title)}</title><style>{style}</style>"
    foot += "<p>Text: CC BY 4.0. Code: MIT. Edit only people who agreed to it.</p>"
    return f"{head}<nav>{nav}</nav><main>{content}</main><footer>{foot}</footer></html>\n"


def nav(here: str, links: dict[str, str]) -> str:
    """Links to all pages ({page: what it is called}), the one that is open in bold."""
    return "".join(f"<b>{n}</b>" if k == here else f"<a href='{k}.html'>{n}</a>" for k, n in links.items())


def pictures(out: Path) -> str:
    """The moving pictures of docs/ that docs/pictures.yaml clears, copied and shown."""
    shown = ""
    for name, entry in yaml.safe_load((ROOT / "docs" / "pictures.yaml").read_text()).items():
        if name.endswith(".webp") and not any(refusal(source) for source in entry["sources"] if source != "drawn"):
            shutil.copyfile(ROOT / name, out / Path(name).name)
            alt = escape(entry["alt"], quote=True)
            shown += f"<figure><img src='{Path(name).name}' alt='{alt}'><figcaption>{alt}</figcaption></figure>"
    return shown


def promise(source: Path) -> str:
    """The bold sentence under a notebook's title."""
    found = re.search(r"\*\*(.+?)\*\*", "".join(build_course.read(source)["cells"][0]["source"]), re.S)
    return " ".join(found[1].split()) if found else ""


def index(out: Path, links: dict[str, str], refused: dict[str, list[str]], folder: Path) -> None:
    """The first page: what the course is, moving pictures, the path."""
    rows = ""
    for name, about in syllabus.path(folder).items():
        source = folder / f"{name}.ipynb"
        told = escape(promise(source) if source.is_file() else about) or escape(about)
        state = f"<a href='{name}.html'>{links[name]}</a>" if name in links else name.replace("_", " ")
        note = "" if source.is_file() else " <i>(planned)</i>"
        note += f"<br><i>Not shown: {escape('; '.join(refused[name]))}.</i>" if name in refused else ""
        costs = syllabus.cost(name, "laptop") if source.is_file() else "–"
        rows += f"<tr><td>{state}<td>{told}{note}<td>{costs}</tr>"
    content = f"<h1>The talking-head course</h1><p>{ABOUT}</p>{pictures(out)}"
    content += f"<table><tr><th>notebook<th>what it promises<th>on a laptop</tr>{rows}</table>"
    (out / "index.html").write_text(page("The talking-head course", content, nav=nav("index", links)))


def build(
    out: Path,
    runs: list[Path],
    *,
    profile: str = "smoke",
    folder: Path = ROOT / "notebooks",
    work: Path = WORK,
) -> dict[str, list[str]]:
    """Write the pages of a folder of notebooks into `out`, all or none; the notebooks that are refused, and why."""
    found = {source.stem: run(source, runs, profile=profile, work=work) for source in runner.notebooks(folder)}
    refused = {name: told for name, (_, told) in found.items() if told}
    links = {"index": "The course"} | {name: name.replace("_", " ") for name in found if name not in refused}
    links |= {name: title for name, (place, title) in TEXTS.items() if (folder / place).is_file()}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as half:
        new = Path(half) / "site"
        new.mkdir()
        index(new, links, refused, folder)
        for name in [name for name in found if name not in refused]:
            outcome = runner.Outcome(**json.loads(found[name][0].with_suffix(".json").read_text()))
            device = escape(str(outcome.run.get("device_name", "")))
            foot = f"{credits(outcome.opened)}<p>Executed {outcome.date} in {outcome.seconds:.0f} s on {device}, "
            foot += f"profile {outcome.profile}, seed {outcome.seed}.</p>"
            content = body(filled(build_course.build(folder / f"{name}.ipynb", "student"), found[name][0]))
            (new / f"{name}.html").write_text(page(links[name], content, nav=nav(name, links), foot=foot))
        for name in [name for name in TEXTS if name in links]:
            content = text(folder / TEXTS[name][0])
            (new / f"{name}.html").write_text(page(links[name], content, nav=nav(name, links)))
        shutil.rmtree(out, ignore_errors=True)
        new.replace(out)
    return refused


def main() -> int:
    """Do what the command line asks; exit code 1 where a notebook is refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="smoke", choices=list(runner.BUDGETS), help="of notebooks executed anew")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "site")
    parser.add_argument("--runs", type=Path, nargs="*", default=[ROOT / "out" / "course", ROOT / "out" / "tests"])
    given, begin = parser.parse_args(), time.monotonic()
    refused = build(given.out.absolute(), [folder.absolute() for folder in given.runs], profile=given.profile)
    for name, told in refused.items():
        sys.stdout.write(f"{name} is not shown: {'; '.join(told)}\n")
    sys.stdout.write(f"{given.out}/index.html in {time.monotonic() - begin:.0f} s\n")
    return bool(refused)


if __name__ == "__main__":
    sys.exit(main())
