"""How truly the networks see three hundred presenters, and how fast they are drawn: a table on the standard output."""

import time

import numpy as np
import presenter_judge as judge
import pytest

from thlib.presenter.render import person, render

GATES = dict.fromkeys(judge.SWEPT[:5], 0.85) | {"mouthPucker": 0.65, "mouthFunnel": 0.65}
BANDS = ((1, 3), (4, 5), (6, 7), (8, 10))


@pytest.fixture(scope="module")
def seen(mirror, request):
    return judge.look(range(90_000, 90_000 + 300 // request.config.getoption("limit")))


def test_faces_and_landmarks(seen):
    print(f"\nfaces found {seen.found.mean():.1%} of {len(seen.found)}")
    for pupils in (False, True):
        scale = "pupils" if pupils else "outer eye corners"
        whole, mouth = seen.median(pupils=pupils), judge.mouth(seen, pupils=pupils)
        print(f"median error, % of the {scale}' distance: {whole:.2f}, around the mouth {mouth:.2f}")
    for band in BANDS:
        at = (seen.tone >= band[0]) & (seen.tone <= band[1])
        whole, mouth = seen.median(tones=band), judge.mouth(seen, tones=band)
        print(f"Monk {band[0]}-{band[1]}: found {seen.found[at].mean():.1%}, error {whole:.2f}, mouth {mouth:.2f}")
    assert seen.found.mean() >= 0.995
    assert seen.median() <= 2.5
    assert judge.mouth(seen) <= 3.0


def test_controls(seen):
    print("\ncontrol: correlation; mean score where it is set to 0, 0.25, 0.5, 0.75, 1")
    for name in judge.SWEPT:
        at = seen.found & (seen.swept == name)
        given, read = seen.given[at, judge.AT[name]], seen.read[at, judge.AT[name]]
        steps = " ".join(f"{read[np.isclose(given, v)].mean():.2f}" for v in np.linspace(0, 1, judge.STEPS))
        print(f"{name:18s} {seen.correlation(name):.2f}   {steps}")
    assert {name for name, least in GATES.items() if seen.correlation(name) < least} == set()


def test_speed():
    controls = np.zeros((40, 52), np.float32)
    for n in (128, 256):
        render(person(0), controls[:1], size=(n, n))
        start = time.process_time()
        render(person(0), controls, size=(n, n))
        print(f"\n{n}²: {len(controls) / (time.process_time() - start):.0f} frames/s of one core")
