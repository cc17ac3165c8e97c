"""`thlib course`: run the clone's notebooks and write the report over them."""

# No `from __future__ import annotations`: typer reads the hints as they are.
from pathlib import Path
from typing import Annotated

import build_course
import runner
import typer
from tqdm import tqdm

from thlib.errors import CourseError

Out = Annotated[Path, typer.Option("--out", "-o", help="folder of the executed notebooks")]
Folder = Annotated[Path, typer.Option(help="folder of the notebooks")]
HERE = Path(__file__).resolve().parents[1] / "notebooks"

app = typer.Typer(help="The notebooks: run them, and write the report.", no_args_is_help=True, add_completion=False)


@app.command("list")
def list_notebooks(notebooks: Folder = HERE) -> None:
    """The notebooks in their order, and what each lacks on this machine."""
    for file in runner.notebooks(notebooks):
        absent = runner.missing(file)
        typer.echo(file.stem + (f": needs {', '.join(absent)}" if absent else ""))


@app.command()
def run(
    names: Annotated[list[str] | None, typer.Argument(help="default: all")] = None,
    profile: str = "smoke",
    *,
    seed: int = 0,
    out: Out = Path("out/course"),
    notebooks: Folder = HERE,
) -> None:
    """Execute the students' build of the notebooks into a folder; exit code 1 if one fails."""
    files, failed = {file.stem: file for file in runner.notebooks(notebooks)}, False
    if unknown := [name for name in names or [] if name not in files]:
        raise CourseError(f"there is no notebook {', '.join(unknown)}: choose from {', '.join(files)}")
    for name in tqdm(names or files, desc=f"notebooks, {profile}"):
        outcome = runner.execute(
            build_course.cut(files[name], "student", out / "student"), out, profile=profile, seed=seed
        )
        tqdm.write(f"{name}: {outcome.status} in {outcome.seconds:.0f} s {outcome.reason}".rstrip())
        failed |= outcome.status == "failed"
    raise typer.Exit(failed)


@app.command()
def report(out: Out = Path("out/course")) -> None:
    """Write index.html over the executed notebooks; exit code 1 if one failed or a metric got worse."""
    from report import index

    page, well = index(out)
    typer.echo(f"{page}{'' if well else ': something failed or got worse, see there'}")
    raise typer.Exit(not well)
