"""Bring a build of the course into a folder of the reader's own: a notebook that he edited is never overwritten.

python tools/lab.py student|instructor folder
"""

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import build_course
import runner

RECORD = ".copied.json"  # notebook name -> SHA-256 of what was copied last


def update(source: Path, target: Path) -> dict[str, str]:
    """Bring `target` up to date; what became of each notebook: "new", "same", "updated" or "kept" (edited by hand)."""
    target.mkdir(parents=True, exist_ok=True)
    record = target / RECORD
    copied = json.loads(record.read_text()) if record.is_file() else {}
    verdicts = {}
    for notebook in sorted(source.glob("*.ipynb")):
        fresh, own = notebook.read_bytes(), target / notebook.name
        there = _digest(own.read_bytes()) if own.is_file() else None
        verdicts[own.name] = _verdict(there, copied.get(own.name), _digest(fresh))
        if verdicts[own.name] in ("new", "updated"):
            half = own.with_name(f"{own.name}.partial")
            half.write_bytes(fresh)
            os.replace(half, own)
        if verdicts[own.name] != "kept":
            copied[own.name] = _digest(fresh)
    half = record.with_name(f"{RECORD}.partial")
    half.write_text(json.dumps(copied, indent=1))
    os.replace(half, record)
    return verdicts


def _verdict(there: str | None, copied: str | None, fresh: str) -> str:
    if there is None:
        return "new"
    if there == fresh:
        return "same"
    return "updated" if there == copied else "kept"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main(role: str, target: str) -> None:
    """Cut the build, copy it, and say what was done."""
    with tempfile.TemporaryDirectory() as folder:
        for source in runner.notebooks(build_course.ROOT / "notebooks"):
            build_course.cut(source, role, Path(folder))
        verdicts = update(Path(folder), Path(target))
    for name, verdict in verdicts.items():
        note = ": you edited it, so it stays; rename it, and the new version comes" if verdict == "kept" else ""
        sys.stdout.write(f"{target}/{name}: {verdict}{note}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
