"""Saying what was generated: a badge in the frames, tags in the container, a sidecar beside the file; and captions.

The record has the shape of a C2PA manifest (assertions `c2pa.actions.v2`, `c2pa.ingredient.v3`, `c2pa.hash.data` of
the C2PA specification 2.2), but carries no signature: it informs an honest reader and proves nothing to a court."""

# T frames  H height  W width
import html
import json
import textwrap
from collections import namedtuple
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

import thlib
from thlib.clip import Word
from thlib.data import atomic, sha256
from thlib.mux import opened

_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_TAG = "synopsis"  # the container tag that carries the record; `comment` carries a sentence for people


class Report(namedtuple("Report", "path record marks problems")):
    """What `verify` found. record: None where there is no mark; marks: "container", "sidecar"; problems: sentences."""

    @property
    def spans(self) -> list[tuple[float, float]]:
        """The generated spans, (start, end) in seconds; empty for a file without marks."""
        return [span for span, _ in _changes(self.record)] if self.record else []

    def __str__(self) -> str:
        lines = [f"{self.path}: no marks of an edit by thlib; that does not prove that nothing was edited"]
        if self.record:
            lines = [f"{self.path}: {_sentence(self.record)}"]
            lines += [f"  {start:.3f} to {end:.3f} s: {what}" for (start, end), what in _changes(self.record)]
            for what, label in (("source", "c2pa.ingredient.v3"), ("made with", "thlib.generation")):
                lines.append(f"  {what}: {json.dumps(_data(self.record, label))}")
            lines.append(f"  marks: {' and '.join(self.marks)}")
        lines += [f"  problem: {problem}" for problem in self.problems]
        return "\n".join("".join(char if char.isprintable() else "?" for char in line) for line in lines)


def badge(frames: np.ndarray, text: str = "AI-edited") -> np.ndarray:
    """A copy of frames uint8 (T, H, W, 3) with a badge in the lower right corner, at most 0.4 W wide and 0.4 H high."""
    height, width = frames.shape[1:3]
    (columns, rows), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 2, 5)
    canvas = np.zeros((rows + below + 24, columns + 36, 3), np.uint8)  # drawn large, then averaged down
    cv2.putText(canvas, text, (18, rows + 14), cv2.FONT_HERSHEY_SIMPLEX, 2, (255, 255, 255), 5, cv2.LINE_AA)
    scale = min(min(max(10, height / 18), 0.4 * height) / canvas.shape[0], 0.4 * width / canvas.shape[1])
    size = [max(1, int(scale * side)) for side in canvas.shape[1::-1]]
    patch = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)  # (h, w, 3)
    out, bottom, right = frames.copy(), *(side - round(min(height, width) / 50) for side in (height, width))
    window = out[:, bottom - patch.shape[0] : bottom, right - patch.shape[1] : right]
    window[:] = np.rint(0.2 * window + 0.8 * patch)
    return out


def record(
    source: str | Path | None, spans: Sequence[tuple], *, actions: Sequence[str] = (), details: Mapping | None = None
) -> dict:
    """What was done, as JSON values, the same for the same input.
    source: the edited file (its hash is recorded), None for a clip that was never one. spans: (start, end) in seconds
    of the result. actions: a sentence for each span. details: anything else that should be known, such as {"method":
    "classic", "badge": True, "seed": 0}; the files in its "weights" are recorded by name and hash."""
    told, agent = dict(details or {}), {"name": "thlib", "version": thlib.__version__}
    told["weights"] = {"/".join(Path(file).parts[-2:]): sha256(file) for file in told.get("weights", ())}
    kind = "compositeWithTrainedAlgorithmicMedia" if told["weights"] else "compositeSynthetic"
    times = [{"type": "npt", "start": f"{start:.3f}", "end": f"{end:.3f}"} for start, end in spans]
    pairs = zip(times, actions or ["generated"] * len(times), strict=True)
    changes = [{"description": what, "region": [{"type": "temporal", "time": time}]} for time, what in pairs]
    edited = {"action": "c2pa.edited", "softwareAgent": agent, "digitalSourceType": _SOURCE_TYPES + kind}
    assertions = {"c2pa.actions.v2": {"actions": [edited | {"changes": changes}]}, "thlib.generation": told}
    if source is not None:
        known = {"dc:title": Path(source).name, "hash": {"alg": "sha256", "value": sha256(source)}}
        assertions["c2pa.ingredient.v3"] = {"relationship": "parentOf"} | known
    labelled = [{"label": label, "data": data} for label, data in assertions.items()]
    return {"claim_generator_info": [agent], "assertions": labelled}


def container_tags(record: Mapping) -> dict[str, str]:
    """Metadata for the container of an edited file: a sentence for people (`comment`) and the record itself."""
    spans = ", ".join(f"{start:.3f}-{end:.3f} s" for (start, end), _ in _changes(record))
    return {"comment": f"{_sentence(record)}: {spans}", _TAG: json.dumps(record, separators=(",", ":"))}


def write_sidecar(out: str | Path, record: Mapping) -> Path:
    """Write `<out>.provenance.json` (the suffix of `out` replaced): the record and the hash of the finished file."""
    bound = {"label": "c2pa.hash.data", "data": {"alg": "sha256", "name": Path(out).name, "hash": sha256(out)}}
    with atomic(_sidecar(out)) as half:
        text = json.dumps({**record, "assertions": [*record["assertions"], bound]}, indent=1)
        half.write_text(text + "\n", encoding="utf-8")
    return _sidecar(out)


def verify(path: str | Path) -> Report:
    """Read the marks of a media file and compare them. MediaError if it is not one.
    A problem is a mark that is missing or unreadable, two marks that differ, or a file changed since it was written."""
    path, problems = Path(path), []
    with opened(path) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    beside = _sidecar(path).read_text("utf-8", "replace") if _sidecar(path).is_file() else None
    found = {"container": _read(tags.get(_TAG)), "sidecar": _read(beside)}
    if beside is not None and not found["sidecar"]:
        problems.append(f"{_sidecar(path).name} is not a record of thlib")
    marks = tuple(mark for mark, one in found.items() if one)
    if len(marks) == 1:
        problems.append(f"only the {marks[0]} carries a record; the other one was lost or removed")
    if len(marks) == 2 and found["sidecar"]["assertions"][:-1] != found["container"]["assertions"]:
        problems.append("the container and the sidecar tell different things")
    if found["sidecar"] and _data(found["sidecar"], "c2pa.hash.data").get("hash") != sha256(path):
        problems.append("the file is not the one that the sidecar was written for, or was changed since")
    return Report(path, found["sidecar"] or found["container"], marks, tuple(problems))


def captions(words: Iterable[Word]) -> str:
    """WebVTT of the words: cues of at most two lines of 42 characters and six seconds, split at pauses of 0.6 s.
    A cue stays a second where the next one leaves room. Text is escaped: a transcript stays text (W3C WebVTT)."""
    cues: list[list[Word]] = []
    for word in (word for word in words if word.text.strip()):
        fits = cues and len(_lines([*cues[-1], word])) <= 2 and word.end - cues[-1][0].start <= 6
        if fits and word.start - cues[-1][-1].end <= 0.6:
            cues[-1].append(word)
        else:
            cues.append([word])
    blocks = ["WEBVTT"]
    for cue, following in zip(cues, [*(cue[0].start for cue in cues[1:]), np.inf]):
        end = max(cue[-1].end, min(cue[0].start + 1, following))
        text = html.escape("\n".join(_lines(cue)), quote=False)
        blocks.append(f"{_clock(cue[0].start)} --> {_clock(end)}\n{text}")
    return "\n\n".join(blocks) + "\n"


def write_captions(path: str | Path, words: Iterable[Word]) -> Path:
    """Write `captions(words)` to `path`."""
    with atomic(path) as half:
        half.write_text(captions(words), encoding="utf-8")
    return Path(path)


def _lines(words: list[Word]) -> list[str]:
    return textwrap.wrap(" ".join(part for word in words for part in word.text.split()), 42)


def _clock(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"


def _sidecar(path: str | Path) -> Path:
    return Path(path).with_suffix(".provenance.json")


def _data(record: Mapping, label: str) -> dict:
    return next((one["data"] for one in record["assertions"] if one["label"] == label), {})


def _sentence(record: Mapping) -> str:
    agent = record["claim_generator_info"][0]
    return f"AI-edited with {agent['name']} {agent['version']}"


def _changes(record: Mapping) -> list[tuple[tuple[float, float], str]]:
    """Each generated span, (start, end) in seconds, with its description."""
    changes = _data(record, "c2pa.actions.v2")["actions"][0]["changes"]
    times = [(change["region"][0]["time"], str(change["description"])) for change in changes]
    return [((float(time["start"]), float(time["end"])), what) for time, what in times]


def _read(text: str | None) -> dict | None:
    """The record in `text`, None if there is none that can be read throughout."""
    try:
        record = json.loads(text or "")
        _changes(record), _sentence(record), _data(record, "c2pa.hash.data").get("hash")
        return record
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
