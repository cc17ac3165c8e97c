"""Pages to open in a browser: what became of every notebook (`index`), and a video before and after its edit (`pair`).

python tools/report.py index out/course
python tools/report.py pair before.mpg out/edited.mp4 out/edited.html
"""

import json
import os
import re
import sys
from html import escape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import baselines
from runner import Outcome

from thlib.errors import CourseError

STYLE = """pre{white-space:pre-wrap;overflow-wrap:anywhere}

:root { color-scheme: light dark } body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto;
padding: 0 1rem } table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .3rem .8rem;
border-bottom: 1px solid #8886 } td.n { text-align: right; font-variant-numeric: tabular-nums } .bad { color: #d55e00;
font-weight: bold } .good { color: #0072b2 } video { width: 100% } .two { display: grid; grid-template-columns: 1fr 1fr;
gap: 1rem } @media (max-width: 40rem) { .two { grid-template-columns: 1fr } } small { opacity: .75 }
"""


def index(folder: Path) -> tuple[Path, bool]:
    """Write `index.html` and a page for each executed notebook of `folder`; the page, and whether all is well."""
    outcomes = [Outcome(**json.loads(file.read_text())) for file in sorted(folder.glob("[0-9][0-9]_*.json"))]
    if not outcomes:
        raise CourseError(f"no notebook was executed into {folder}: first thlib course run --out {folder}")
    rows = {outcome.name: _rows(outcome) for outcome in outcomes}
    well = not any(o.status == "failed" or any(r.verdict in baselines.BAD for r in rows[o.name]) for o in outcomes)
    for outcome in outcomes:
        _notebook(folder / f"{outcome.name}.ipynb")
    head = "<tr><th>notebook<th>status<th>seconds<th>peak memory<th>device<th>run</tr>"
    body = f"<table>{head}{''.join(_line(outcome, folder) for outcome in outcomes)}</table>"
    body += "".join(_metrics(outcome, rows[outcome.name]) for outcome in outcomes if rows[outcome.name])
    return _write(folder / "index.html", "The course, executed", body), well


def pair(before: Path, after: Path, page: Path) -> Path:
    """Write a page with the video before its edit (converted so that browsers play it) and after, and its record."""
    from thlib import clip, data, provenance

    original = page.with_name(f"{page.stem}.before.mp4")
    clip.write(original, clip.read(before))
    videos = "".join(
        f"<figure><figcaption>{title}</figcaption><video controls preload=auto src='{escape(file.name)}' "
        f"aria-label='{title}'></video></figure>"
        for title, file in (("Before: the recording", original), ("After: the edit", after))
    )
    told = escape(str(provenance.verify(after)))
    name = before.parent.name
    source = data.manifest(name).citation if name in data.names() else before.name
    body = f"<div class=two>{videos}</div><p><small>Source: {escape(source)}</small></p>"
    return _write(
        page,
        "A sentence, edited by its words",
        f"{body}<h2>What the file says of itself (thlib verify)</h2><pre>{told}</pre>",
    )


def _rows(outcome: Outcome) -> list[baselines.Row]:
    return baselines.compare(outcome, baselines.load(outcome.profile)) if outcome.status == "passed" else []


def _line(outcome: Outcome, folder: Path) -> str:
    name, reason = escape(outcome.name), escape(outcome.reason)
    page = f"<a href='{name}.html'>{name}</a>" if (folder / f"{outcome.name}.html").is_file() else name
    mark = {"passed": "good", "failed": "bad"}.get(outcome.status, "")
    gpu = max((metric.get("gpu_mb", 0) for metric in outcome.metrics), default=0)
    memory = f"{outcome.peak_mb:.0f} MB" + (f" + {gpu:.0f} MB on the GPU" if gpu else "")
    device = escape(str(outcome.run.get("device_name", "")))
    cut = "" if outcome.isolated else "<br><small>not cut off from the network</small>"
    return (
        f"<tr><td>{page}<td><span class='{mark}'>{outcome.status}</span><br><small>{reason}</small>"
        f"<td class=n>{outcome.seconds:.0f}<td class=n>{memory}<td>{device}{cut}"
        f"<td><small>{outcome.profile}, seed {outcome.seed}<br>{outcome.date}</small></tr>"
    )


def _metrics(outcome: Outcome, rows: list[baselines.Row]) -> str:
    head = "<tr><th>metric<th>unit<th>value<th>baseline<th>may get worse by<th>verdict</tr>"
    lines = "".join(
        f"<tr><td>{escape(row.name)}<td>{escape(row.unit)}<td class=n>{_number(row.value)}<td class=n>"
        f"{_number(row.baseline)}<td class=n>{_number(row.tolerance)}"
        f"<td class='{'bad' if row.verdict in baselines.BAD else 'good'}'>{row.verdict}</tr>"
        for row in rows
    )
    return f"<h2>{escape(outcome.name)}</h2><table>{head}{lines}</table>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _notebook(executed: Path) -> None:
    """The executed notebook as one page, pictures, sounds and videos inside, that loads nothing from elsewhere."""
    if not executed.is_file():
        executed.with_suffix(".html").unlink(missing_ok=True)
        return
    import nbformat
    from nbconvert import HTMLExporter

    notebook = nbformat.read(executed, 4)
    for bundle in [o["data"] for cell in notebook.cells for o in cell.get("outputs", []) if "data" in o]:
        if "text/html" in bundle:  # the still form of a view: without a kernel, its live one is a blank
            bundle.pop("application/vnd.jupyter.widget-view+json", None)
    html, _ = HTMLExporter(embed_images=True).from_notebook_node(notebook)
    executed.with_suffix(".html").write_text(re.sub(r"<script[^>]*\ssrc=\"https?:[^>]*>\s*</script>", "", html))


def _write(page: Path, title: str, body: str) -> Path:
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
    half = page.with_name(f"{page.name}.partial")
    half.write_text(f"{head}<h1>{title}</h1>{body}</html>\n")
    os.replace(half, page)
    return page


def main(verb: str, *paths: str) -> int:
    """Do what the command line asks; the exit code is 1 where a notebook failed or a metric got worse."""
    if verb == "pair":
        page, well = pair(*map(Path, paths)), True
    else:
        page, well = index(Path(*paths))
    sys.stdout.write(f"{page}{'' if well else ': something failed or got worse, see there'}\n")
    return not well


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
