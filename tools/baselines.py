"""Metrics against baselines: `tests/baselines/<profile>.json`, tolerances from the spread over seeds, verdicts."""

# A record is {notebook: {"seeds", "device", "versions", "date", "seconds", "peak_mb", "metrics"}}, where metrics is
# {name: {value, tolerance, unit, better}}.
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner import Outcome

from thlib import data
from thlib.errors import CourseError

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "baselines"
SEEDS = {"smoke": (0, 1, 2, 3, 4), "laptop": (0,), "gpu": (0,)}
BAD = ("worse", "missing", "new")


@dataclass(frozen=True)
class Row:
    """One metric of one run; value or baseline is None where there is none.

    verdict: "ok", "better", "not run" (the data it needs are not here), or one of BAD.
    """

    name: str
    unit: str
    value: float | None
    baseline: float | None
    tolerance: float | None
    verdict: str


def tolerance(values: Sequence[float], next_best: float | None = None) -> float:
    """How far a metric may get worse: the smallest of max(3 sd, 1 %), 10 %, and half the gap to the next-best method.

    values: one a seed. CourseError if the metric is noisier than that allows (3 sd): average it, or drop it.

    >>> tolerance([1.0, 1.0]), tolerance([0.99, 1.0, 1.01]), tolerance([1.0, 1.0], next_best=1.01)
    (0.01, 0.03, 0.005)
    """
    centre = statistics.fmean(values)
    noise = 3 * statistics.stdev(values) if len(values) > 1 else 0.0
    gap = [] if next_best is None else [abs(centre - next_best) / 2]
    allowed = min(max(noise, 0.01 * abs(centre)), 0.1 * abs(centre), *gap)
    if noise > allowed * (1 + 1e-9):
        raise CourseError(
            f"3 standard deviations over seeds are {noise:.3g}, more than the tolerance {allowed:.3g} of a metric "
            f"of {centre:.3g}: average it over more samples, or drop it"
        )
    return round(allowed, 12)


def record(outcomes: Sequence[Outcome], relative: dict | None = None) -> dict:
    """The baseline entry of a notebook from its runs, one a seed; `relative`: an entry whose relative tolerances hold.

    CourseError if a run did not pass, recorded other metrics than the first, is too noisy, or if a gpu run had no GPU.
    """
    first = outcomes[0]
    for outcome in outcomes:
        if outcome.status != "passed":
            raise CourseError(f"{outcome.name} with seed {outcome.seed} is no baseline: {outcome.reason}")
    if first.profile == "gpu" and first.run["device"] != "cuda":
        raise CourseError(f"{first.name} ran on {first.run['device']}: baselines of the gpu profile need a CUDA device")
    entry = {"seeds": [outcome.seed for outcome in outcomes], "device": first.run["device"]}
    entry |= {"device_name": first.run["device_name"], "versions": first.run["versions"], "date": first.date}
    entry |= {"seconds": statistics.median(o.seconds for o in outcomes), "peak_mb": _peak(outcomes)}
    entry["metrics"] = {row["name"]: _metric(row, outcomes, relative) for row in first.metrics}
    return entry


def compare(outcome: Outcome, profile_baselines: dict) -> list[Row]:
    """A row for each metric that was recorded or should have been; only a change for the worse fails."""
    known = profile_baselines.get(outcome.name, {"metrics": {}})["metrics"]
    rows = []
    for metric in outcome.metrics:
        base = known.get(metric["name"])
        verdict = _verdict(metric["value"], base) if base else "new"
        value, limit = (base["value"], base["tolerance"]) if base else (None, None)
        rows.append(Row(metric["name"], metric["unit"], metric["value"], value, limit, verdict))
    gone = {n: base for n, base in known.items() if n not in {metric["name"] for metric in outcome.metrics}}
    for name, base in gone.items():
        verdict = "not run" if base.get("needs") and data.missing(base["needs"]) else "missing"
        rows.append(Row(name, base["unit"], None, base["value"], base["tolerance"], verdict))
    return rows


def load(profile: str, folder: Path = FOLDER) -> dict:
    """The baselines of a profile, {} before there are any."""
    file = folder / f"{profile}.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def update(outcomes: Sequence[Outcome], folder: Path = FOLDER) -> None:
    """Write the runs of one notebook into its profile's baselines; laptop and gpu take smoke's relative tolerances."""
    name, profile = outcomes[0].name, outcomes[0].profile
    relative = load("smoke", folder).get(name) if profile != "smoke" else None
    content = load(profile, folder) | {name: record(outcomes, relative)}
    folder.mkdir(parents=True, exist_ok=True)
    half = folder / f"{profile}.json.partial"
    half.write_text(json.dumps(dict(sorted(content.items())), indent=1, ensure_ascii=False) + "\n")
    half.replace(folder / f"{profile}.json")
    if folder.resolve() == Path(__file__).resolve().parents[1] / "tests" / "baselines":
        import syllabus  # reads what was just written

        syllabus.write()


def _peak(outcomes: Sequence[Outcome]) -> int:
    return max(round(outcome.peak_mb) for outcome in outcomes)


def _metric(row: dict, outcomes: Sequence[Outcome], relative: dict | None) -> dict:
    name = row["name"]
    found = [[m for m in outcome.metrics if m["name"] == name] for outcome in outcomes]
    if any(len(same) != 1 for same in found):
        raise CourseError(f"metric {name!r} is not recorded exactly once in every run: give each a name of its own")
    values = [same[0]["value"] for same in found]
    try:
        allowed = tolerance(values, row["next_best"])
    except CourseError as error:
        raise CourseError(f"metric {name!r} of {outcomes[0].name}: {error}") from None
    value = statistics.fmean(values)
    if relative and (base := relative["metrics"].get(name)) and base["value"]:
        allowed = abs(value * base["tolerance"] / base["value"])
    needs = {"needs": row["needs"]} if row.get("needs") else {}
    return {"value": value, "tolerance": allowed, "unit": row["unit"], "better": row["better"]} | needs


def _verdict(value: float, base: dict) -> str:
    gain = (value - base["value"]) * (1 if base["better"] == "higher" else -1)
    slack = base["tolerance"] + 1e-9 * abs(base["value"])  # the last digits of floating point
    return "worse" if gain < -slack else "better" if gain > slack else "ok"
