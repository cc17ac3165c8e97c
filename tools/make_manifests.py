"""Write the `files:` of data_manifests/*.yaml from the index.json of a mirror folder, keeping their hand-written heads.

    python tools/make_manifests.py MIRROR

A file's own `consent` that stands in a manifest is kept; what equals the data set's licence or tier is left out.
"""

import json
import sys
from pathlib import Path

import yaml

FOLDER = Path(__file__).resolve().parents[1] / "data_manifests"
FIELDS = ("url", "bytes", "sha256", "split", "transcript", "licence", "tier", "shows", "consent")


def write(manifest: Path, entries: list[dict]) -> None:
    """Replace the files of one manifest by the index entries, one line each."""
    head = manifest.read_text(encoding="utf-8").split("\nfiles:")[0].rstrip()
    known = yaml.load(manifest.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # yes stays yes
    lines = []
    for entry in sorted(entries, key=lambda entry: entry["path"]):
        name = entry["path"].partition("/")[2]
        entry |= {key: known["files"][name][key] for key in ["consent"] if key in known.get("files", {}).get(name, {})}
        entry["url"] = entry["url"].removeprefix(known["base"])
        fields = {key: entry[key] for key in FIELDS if key in entry and entry[key] != known.get(key)}
        if known["licence"].startswith(entry["licence"][:12]):
            fields.pop("licence", None)
        line = yaml.safe_dump(fields, default_flow_style=True, sort_keys=False, width=10**6).strip()
        lines.append(f"  {name}: {line}")
    text = "\n".join(lines)
    manifest.write_text(f"{head}\nfiles:\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    index = json.loads((Path(sys.argv[1]) / "index.json").read_text(encoding="utf-8"))
    for name in sorted({entry["path"].partition("/")[0] for entry in index}):
        write(FOLDER / f"{name}.yaml", [entry for entry in index if entry["path"].startswith(f"{name}/")])
