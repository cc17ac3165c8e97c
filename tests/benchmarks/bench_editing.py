"""The tables of text-based editing: SelfEdit and GridEdit, seen and unseen speaker. `make bench` prints them.

Seen: the shipped weights `default`, fitted on the 240 train clips of GRID's s1 among others. Unseen: `stranger`, fitted
on one clip each of seven other speakers. `--limit n` takes every n-th case.
"""

import numpy as np
import protocol
import pytest
import tables
from retrieval import Retrieval

from thlib import metrics
from thlib.editing.pipeline import TextEditPipeline
from thlib.editing.refine import MouthNet, Repair
from thlib.landmarks import LIPS
from thlib.presenter.corpus import PresenterCorpus


@pytest.fixture(scope="module")
def models(mirror):
    """Every model of lips from sound, by column and row."""
    nets = {name: TextEditPipeline.from_pretrained(name).nets for name in ("default", "stranger")}
    return {"seen": {**nets["default"], "retrieval": Retrieval(protocol.clips("train"))}, "unseen": nets["stranger"]}


@pytest.fixture(scope="module")
def test_clips(mirror):
    """The test split by name."""
    return {f.name: f for f in protocol.clips("test")}


@pytest.fixture(scope="module")
def grid_cases(request, test_clips):
    """GridEdit's 120 edits, or every n-th."""
    pairs = protocol.grid_pairs()[:: request.config.getoption("limit")]
    return [protocol.grid_edit(test_clips[a], test_clips[b]) for a, b in pairs]


@pytest.fixture(scope="module")
def self_cases(request, test_clips):
    """SelfEdit on the test split."""
    names = sorted(test_clips)[:: request.config.getoption("limit")]
    return [protocol.self_edit(test_clips[n], *protocol.grid_clip(n)) for n in names]


def show(title: str, rows: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, list[float]]]:
    """Print a table and give its values back."""
    values = protocol.collect(rows)
    print(f"\n{title}\n{tables.table(values, median=('opening r',))}")
    return values


def motion_rows(cases, models) -> dict[str, list[dict[str, float]]]:
    """Rows of landmarks: what the sound's models say, and their adversaries, before any picture is made."""
    rows = {"truth": [protocol.judge(c, protocol.true_lips(c), rest=protocol.rest_of(c)[0][LIPS, :2]) for c in cases]}
    still = [np.zeros_like(protocol.true_lips(c)) for c in cases]
    rows["no motion"] = [protocol.judge(c, s, rest=protocol.rest_of(c)[0][LIPS, :2]) for c, s in zip(cases, still)]
    rows["cross-fade"] = [protocol.judge_points(c, protocol.faded_points(c)) for c in cases]
    if cases[0].name != cases[0].truth.name:  # changed words
        everybody = [*protocol.clips("train"), *protocol.clips("test")]
        again = [(c, lips) for c in cases if (lips := protocol.said_again(c, everybody)) is not None]
        rest = [protocol.rest_of(c)[0][LIPS, :2] for c, _ in again]
        rows["said again"] = [protocol.judge(c, lips, rest=r) for (c, lips), r in zip(again, rest)]
    rows["duration alone"] = [protocol.read_durations(c) for c in cases]
    for column, of in models.items():
        for name, model in ((n, m) for n, m in of.items() if not isinstance(m, MouthNet)):
            rows[f"{name}, {column}"] = [protocol.of_motion(c, model) for c in cases]
            if name == "diffusion":
                rows[f"{name}, mean of 8, {column}"] = [protocol.of_motion(c, model, samples=8) for c in cases]
    return rows


WAYS = {  # of making pictures of a motion: `refine`, and what else stage 2 leaves open
    "classic": Repair("none"),
    "predict": Repair("predict"),
    "predict & diffuse": Repair(),
    "predict & diffuse, mean of 8": Repair(samples=8),
    "diffuse": Repair("diffuse"),
    "warp_blend": Repair(order="warp_blend"),
    "border reference": Repair(reference="border"),
}


def picture_rows(cases, models, score) -> dict[str, list[dict[str, float]]]:
    """Rows of pictures, judged by `score(case, frames)`: the adversaries, the classical edits and ours."""
    rows: dict[str, list[dict[str, float]]] = {}
    movers = [name for name, net in models["seen"].items() if not isinstance(net, MouthNet)]
    editors = {f"classic, {n}": TextEditPipeline(models["seen"], lips=n, repair=WAYS["classic"]) for n in movers}
    stranger = TextEditPipeline(models["unseen"], lips="regressor", repair=WAYS["classic"])
    editors |= {"classic, regressor, unseen": stranger}
    editors |= {f"ours, {column}": TextEditPipeline(nets) for column, nets in models.items()}
    for case in cases:
        for name, make in protocol.held(case).items():
            rows.setdefault(name, []).append(score(case, make()))
        for name, editor in editors.items():
            rows.setdefault(name, []).append(score(case, protocol.made(case, editor)))
        for name in ("regressor", "diffusion", "regressor, unseen"):
            warped = protocol.warped(case, editors[f"classic, {name}"].motion(case.window))
            rows.setdefault(f"warp only, {name}", []).append(score(case, warped))
    return rows


def repair_rows(cases, models, score) -> dict[str, list[dict[str, float]]]:
    """Rows of pictures of the true landmarks, which show what stage 2 does alone, in both columns."""
    rows: dict[str, list[dict[str, float]]] = {}
    for case in cases:
        true = case.window.track.points[case.window.left + 1 : case.window.right]
        rows.setdefault("warp", []).append(score(case, protocol.warped(case, true)))
        for column, nets in models.items():
            for name, way in WAYS.items():
                frames = TextEditPipeline(nets, repair=way).frames(case.window, true)
                rows.setdefault(f"{name}, {column}", []).append(score(case, frames))
    return rows


def assert_wins(values, ours: str, rivals: list[str], columns: dict[str, bool]) -> None:
    """`ours` beats every rival in every column ({name: higher is better}), its interval of the difference without 0."""
    for rival in rivals:
        for column, higher in columns.items():
            a, b = values[ours][column], values[rival][column]
            assert tables.better(a, b, higher=higher), f"{ours} does not beat {rival} in {column}"


RIVALS = ["jump cut", "cross-fade", "hold", "mute"]


def test_grid_edit(grid_cases, models):
    """Changed words: what is read from the new lips, and how far they are from a true recording's."""
    motion = show("GridEdit, landmarks", motion_rows(grid_cases, models))
    apart = {
        n: [protocol.apart(c, of["diffusion"]) for c in grid_cases] for n, of in models.items() if "diffusion" in of
    }
    show("GridEdit, two samples of diffusion apart, lips %", apart)
    assert_wins(motion, "regressor, seen", ["no motion", "cross-fade"], {"lips %": False, "digits": True})
    pictures = show("GridEdit, pictures tracked again", picture_rows(grid_cases, models, protocol.judge_pictures))
    rivals = [*RIVALS, "old lips"]
    for ours in ("classic, regressor", "ours, seen"):
        assert_wins(pictures, ours, rivals, {"lips %": False, "digits": True, "adverbs": True})
    assert_wins(pictures, "ours, seen", ["classic, retrieval"], {"lips %": False})


def test_self_edit(self_cases, models):
    """Masked words: the same, with exact truth for the pictures."""
    motion = show("SelfEdit, landmarks", motion_rows(self_cases, models))
    assert_wins(motion, "regressor, seen", ["no motion", "cross-fade"], {"lips %": False})

    def score(case, frames):
        return protocol.judge_pictures(case, frames) | protocol.picture_scores(case, frames)

    pictures = show("SelfEdit, pictures", picture_rows(self_cases, models, score))
    for ours in ("classic, regressor", "ours, seen"):
        assert_wins(pictures, ours, RIVALS, {"lips %": False, "colours": True, "mouth PSNR": True})
    repaired = show(
        "SelfEdit, pictures of the true landmarks", repair_rows(self_cases, models, protocol.picture_scores)
    )
    for column in ("seen", "unseen"):
        assert_wins(repaired, f"predict & diffuse, mean of 8, {column}", ["warp"], {"mouth PSNR": True})


def presenter_rows(request, nets) -> dict[str, list[dict[str, float]]]:
    """Words 2-4 of presenters of the test split, whom no network has seen, made again from their own sound: lips as
    landmarks, and the share of m, b and p at which they shut (below 0.02 eye corners). Clips without one are left out.
    """
    corpus, rows = PresenterCorpus("test", n=80), {}
    for i in range(0, len(corpus), request.config.getoption("limit")):
        f, phones = corpus.footage(i), corpus.performance(i).phones
        a, b = (round(f.words[k].start * 25) for k in (1, min(4, len(f.words) - 1)))
        edit = np.isin(np.arange(len(f.mel)), np.arange(a, b))
        f = f._replace(spoken=f.spoken & ~edit)  # as in an edit: where the lips rest, what stays tells
        real = np.where(edit[:, None, None], np.nan, f.motion)
        samples = nets["diffusion"].motion(f.sound, real, edit=edit, samples=8)[:, edit]
        share = ((np.arange(b - a) + 1) / (b - a + 1))[:, None, None]
        made = {"one sample": samples[0], "mean of 8": samples.mean(0), "truth": f.motion[edit]}
        made |= {"cross-fade": f.motion[a - 1] * (1 - share) + f.motion[b] * share}
        shut = [(round(p.start * 25) - 1 - a, round(p.end * 25) + 1 - a) for p in phones if p.text in ("M", "B", "P")]
        if not (shut := [(first, last) for first, last in shut if first >= 0 and last <= b - a]):
            continue
        for name, motion in made.items():
            opened = metrics.opening((motion + f.rest)[:, LIPS, :2])
            score = {"lips %": metrics.lip_error(motion[:, LIPS, :2], f.motion[edit][:, LIPS, :2])}
            score["shut"] = float(np.mean([opened[p:q].min() < 0.02 for p, q in shut]))
            rows.setdefault(name, []).append(score)
    return rows


def test_presenters(request, models):
    """People who were never seen, but of a kind that was."""
    values = show("Presenters of the test split, landmarks", presenter_rows(request, models["seen"]))
    assert np.mean(values["mean of 8"]["lips %"]) <= 0.5 * np.mean(values["cross-fade"]["lips %"])
    assert np.mean(values["mean of 8"]["shut"]) >= 0.9


def wild_rows(request, nets) -> dict[str, list[dict[str, float]]]:
    """Lips of people in the wild, whom no network has seen, as landmarks that have landed on the real borders."""
    ours, rows = TextEditPipeline(nets), {}
    regressor = TextEditPipeline(nets, lips="regressor")
    for case in protocol.wild_edits(ours, request.config.getoption("limit")):
        w = case.window
        made = {"truth": w.track.points[w.left + 1 : w.right], "cross-fade": protocol.faded_points(case)}
        made |= {"one sample": ours.motion(w), "mean of 8": ours.motion(w, samples=8), "regressor": regressor.motion(w)}
        for name, points in made.items():
            rows.setdefault(name, []).append(protocol.judge_points(case, points) | {"late": w.late})
    return rows


def test_wild(request, models):
    """SelfEdit of people never seen, in footage as it comes; by `default`, to which all but GRID's people are new."""
    values = show("SelfEdit in the wild, landmarks", wild_rows(request, models["seen"]))
    assert np.median(values["mean of 8"]["opening r"]) >= 0.6
    assert_wins(values, "mean of 8", ["cross-fade"], {"opening r": True})
