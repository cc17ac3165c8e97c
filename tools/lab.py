"""Copy the course's notebooks into a folder of the student's own: an edited one is never overwritten."""

import hashlib
import json
import os
import sys
from pathlib import Path

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


def main(source: str, target: str) -> None:
    """Copy, and say what was done."""
    for name, verdict in update(Path(source), Path(target)).items():
        note = ": you edited it, so the new version stays in notebooks/" if verdict == "kept" else ""
        sys.stdout.write(f"{target}/{name}: {verdict}{note}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
