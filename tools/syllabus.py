"""The path through the course: its twelve notebooks in their order, and what the recorded runs cost of them.

python tools/syllabus.py        writes the table into notebooks/README.md, between its two markers
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import baselines

README = Path(__file__).resolve().parents[1] / "notebooks" / "README.md"
BEGIN = "<!-- The path, written by tools/syllabus.py from tests/baselines: don't edit it by hand. -->"
END = "<!-- The end of the path. -->"
CLASS, CLASS_END = "<!-- What runs need, written by tools/syllabus.py. -->", "<!-- The end of what runs need. -->"
PATH = {
    "00_start_here": "All four steps of an edit, driven once with classical parts",
    "01_landmarks": "Find a face, take the head's motion off, calm a track, know when to distrust it",
    "02_speech": "Sound on the video's clock, visemes, alignment, the baseline to beat, a lip-reader",
    "03_diffusion": "Diffusion from noise to sample, small enough to see every step",
    "04_motion": "Method 1, first stage: words and the motion around them become lip motion",
    "05_warping": "Move a picture by its landmarks: splines, flow, what is hidden and what appears",
    "06_frames": "Method 1, second stage: warped frames become sharp ones",
    "07_text_editing": "Method 1 as a whole: edit your own clip",
    "08_rigs": "Blendshapes and controllers, blinks, gaze: a face that lives",
    "09_emotion": "Method 2, EmoFace: one sentence in seven emotions",
    "10_scale_transform": "Method 3, OSTNet: a portrait follows a driver of any size",
    "11_judging": "Metrics and their traps, a study with viewers, a detector, disclosure and law",
}


def path(folder: Path = README.parent) -> dict[str, str]:
    """Notebooks and what each is about; those of `folder` that the list lacks come last."""
    return PATH | {file.stem: "" for file in sorted(folder.glob("[0-9][0-9]_*.ipynb")) if file.stem not in PATH}


def cost(name: str, profile: str) -> str:
    """Time and peak memory of the recorded run of a notebook: "66 s, 1.1 GB", or "not yet recorded"."""
    entry = baselines.load(profile).get(name, {})
    if not entry.get("seconds"):
        return "not yet recorded"
    seconds, memory = entry["seconds"], f"{entry['peak_mb'] / 1e3:.1f} GB"
    return f"{f'{seconds / 60:.0f} min' if seconds >= 100 else f'{seconds:.0f} s'}, {memory}"


def table() -> str:
    """The path as a Markdown table; a notebook that is not there yet is named as planned."""
    rows = ["| notebook | what happens in it | smoke | laptop | GPU |", "|---|---|---|---|---|"]
    for name, about in path().items():
        there = (README.parent / f"{name}.ipynb").is_file()
        costs = [cost(name, profile) if there else "–" for profile in ("smoke", "laptop", "gpu")]
        rows.append(
            f"| {f'[{name}]({name}.ipynb)' if there else f'{name} *(planned)*'} | {about} | {' | '.join(costs)} |"
        )
    return "\n".join(rows)


def needs() -> str:
    """What a laptop must have, from the recorded runs, in a sentence or two."""
    there = [name for name in path() if (README.parent / f"{name}.ipynb").is_file()]
    told = []
    for profile in ("laptop", "smoke"):
        runs = {
            name: entry for name, entry in baselines.load(profile).items() if entry.get("seconds") and name in there
        }
        if runs:
            slowest, largest = (max(runs, key=lambda name, key=key: runs[name][key]) for key in ("seconds", "peak_mb"))
            seconds, memory = runs[slowest]["seconds"], runs[largest]["peak_mb"] / 1e3
            told.append(
                f"Under `{profile}`, recorded for {len(runs)} of {len(there)} notebooks, the longest run takes "
                f"{seconds:.0f} s (`{slowest}`, {runs[slowest]['device_name']}), and the largest needs {memory:.1f} GB "
                f"at its peak (`{largest}`)."
            )
    return "\n".join(told) or "No run has been recorded yet."


def written(text: str) -> str:
    """The text of the README with what the recorded runs say between its markers."""
    for begin, end, new in ((BEGIN, END, table()), (CLASS, CLASS_END, needs())):
        head, _, rest = text.partition(begin)
        text = f"{head}{begin}\n\n{new}\n\n{end}{rest.partition(end)[2]}"
    return text


def write() -> None:
    """Bring notebooks/README.md into step with tests/baselines."""
    README.write_text(written(README.read_text()))


if __name__ == "__main__":
    write()
