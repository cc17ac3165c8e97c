"""Every notebook runs, records what its baseline expects, and turns red when a fault is planted in the library.

The students' build is what counts; that for teachers and that for Colab take turns beside it.
"""

import textwrap
from datetime import date
from pathlib import Path

import baselines
import pytest
import runner
from conftest import ROOT, require

from thlib import data

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))

# notebook -> fault -> (module, code run in it once it is loaded). None of this is in the library: a finder on
# PYTHONPATH plants it in the notebook's process.
FAULTS = {
    "00_start_here": {
        "lips four frames late": (
            "thlib.editing.context",
            """
            motion = MotionDiffusion.motion
            MotionDiffusion.motion = lambda *given, **options: np.roll(motion(*given, **options), 4, axis=1)
            """,
        ),
        "words found late": (
            "thlib.speech",
            """
            from dataclasses import replace
            find = align
            align = lambda *a, **o: [replace(w, start=w.start + 0.03) for w in find(*a, **o)]
            """,
        ),
        "landmarks shifted by 3 px": (
            "thlib.landmarks",
            """
            import dataclasses
            def shifted(find):
                def found(*args, **options):
                    true = find(*args, **options)
                    return dataclasses.replace(true, points=true.points + np.float32([3, 0, 0]))
                return found
            track = shifted(track)
            """,
        ),
        "smoothing off": (
            "thlib.landmarks",
            """
            FaceTrack.smoothed = Head.smoothed = lambda self, *frames: self
            """,
        ),
    },
    "01_landmarks": {
        "crops shifted by a pixel": (
            "thlib.mesh",
            """
            true = Region.to_frame
            Region.to_frame = lambda self, pixels: true(self, pixels) + [[0, 0, self.side / pixels], [0, 0, 0]]
            """,
        ),
        "aspect ratio of the wrong lids": (
            "thlib.landmarks",
            """
            EAR = np.roll(EAR, 1, axis=1)
            """,
        ),
        "smoothing of every point": (
            "thlib.landmarks",
            """
            import dataclasses
            def smoothed(self, frames=SMOOTH):
                if frames < 3:
                    return self
                return dataclasses.replace(self, points=savgol_filter(self.points, frames, 2, axis=0))
            FaceTrack.smoothed = smoothed
            """,
        ),
        "long gaps filled in silence": (
            "thlib.landmarks",
            """
            LONGEST_GAP = 20
            """,
        ),
    },
    "02_speech": {
        "features a frame late": (
            "thlib.speech",
            """
            heard = log_mel
            log_mel = lambda *a: np.roll(heard(*a), 1, axis=0)
            """,
        ),
        "words found late": (
            "thlib.speech",
            """
            from dataclasses import replace
            find = align
            align = lambda *a, **o: [replace(w, start=w.start + 0.03, end=w.end + 0.03) for w in find(*a, **o)]
            """,
        ),
        "a lip-reader that sees one frame a word": (
            "thlib.metrics",
            """
            seen = LipReader._features
            LipReader._features = lambda self, words: seen(self, [w[len(w) // 2 :][:1] for w in words])
            """,
        ),
    },
    "03_diffusion": {
        "a linear schedule": (
            "thlib.diffusion",
            """
            cosine = schedule
            schedule = lambda: DDIMScheduler.from_config(cosine().config, beta_schedule="linear")
            """,
        ),
        "guidance that ignores its scale": (
            "thlib.diffusion",
            """
            guided = lambda known, blind, scale: known
            """,
        ),
    },
    "04_motion": {
        "left and right exchanged in the gate": (
            "thlib.editing.context",
            """
            true = MotionDiffusion.gates
            MotionDiffusion.gates = lambda self, *given: true(self, *given)[..., [1, 0, 2]]
            """,
        ),
        "the hidden frames leak": (
            "thlib.editing.context",
            """
            true = MotionDiffusion.motion
            MotionDiffusion.motion = lambda self, mel, real, **o: true(self, mel + real[:, 14, 1:2], real, **o)
            """,
        ),
    },
    "05_warping": {
        "the spline's kernel is the cube": (
            "thlib.warp",
            """
            _phi = lambda squared: squared**1.5
            """,
        ),
        "the warp is not faded out": (
            "thlib.warp",
            """
            fade_out = lambda box, width: np.ones((box[3] - box[1], box[2] - box[0], 1), np.float32)
            """,
        ),
    },
    "06_frames": {
        "every frame has noise of its own": (
            "thlib.editing.refine",
            """
            true = sample
            sample = lambda denoise, noise, **o: true(denoise, torch.randn_like(noise), **o)
            """,
        ),
        "the residual is taken away": (
            "thlib.editing.refine",
            """
            true = Crops.pasted
            Crops.pasted = lambda self, residual, **o: true(self, -residual, **o)
            """,
        ),
    },
    "07_text_editing": {
        "patches a frame late": (
            "thlib.editing.sound",
            """
            found = patches
            patches = lambda *a, **o: [p._replace(k0=p.k0 + 1, k1=p.k1 + 1) for p in found(*a, **o)]
            """,
        ),
        "no margin around the patch": (
            "thlib.editing.pipeline",
            """
            MARGIN = 0.0
            """,
        ),
        "a real frame beside the edit is touched": (
            "thlib.clip",
            """
            exact = splice_clip
            def splice_clip(clip, edits):
                out = exact(clip, edits)
                out.frames[round(edits[0][0] * clip.fps) - 1] ^= 1
                return out
            """,
        ),
        "the file tells other seconds": (
            "thlib.provenance",
            """
            true = record
            record = lambda source, spans, **o: true(source, [(a - 1, b - 1) for a, b in spans], **o)
            """,
        ),
    },
}
SEEN_IN_PIXELS = ("landmarks shifted by 3 px", "smoothing off")  # where landmarks are known, nothing is tracked
FINDER = """
import importlib.util, sys
class Planter:
    def find_spec(self, name, path=None, target=None):
        if name != {module!r}:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (load(module), exec({code!r}, module.__dict__))
        return spec
sys.meta_path.insert(0, Planter())
"""


def plant(folder: Path, module: str, code: str) -> dict[str, str]:
    """The environment of a process in which `code` runs inside `module` as soon as that is imported."""
    (folder / "sitecustomize.py").write_text(FINDER.format(module=module, code=textwrap.dedent(code)))
    return {"PYTHONPATH": str(folder)}


def complaint(outcome: runner.Outcome) -> str:
    """Why an executed notebook is red: a failed run, or a metric that is worse than, or not in, its baselines."""
    if outcome.status == "failed":
        return outcome.reason
    rows = baselines.compare(outcome, baselines.load(outcome.profile))
    bad = [row for row in rows if row.verdict in baselines.BAD]
    return "; ".join(f"{r.name} {r.verdict}: {r.value} against {r.baseline} ± {r.tolerance}" for r in bad)


@pytest.fixture(scope="session")
def shared_cache(fresh_cache):
    return fresh_cache()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(notebook, execute, shared_cache, request):
    profile = request.config.getoption("profile")
    if request.config.getoption("update_baselines"):
        baselines.update([execute(notebook, shared_cache, seed=seed) for seed in baselines.SEEDS[profile]])
        return
    assert not complaint(execute(notebook, shared_cache))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_another_build_of_a_notebook(notebook, execute, shared_cache, request):
    if request.config.getoption("profile") != "smoke" or request.config.getoption("update_baselines"):
        pytest.skip("the other builds run under the smoke profile, against baselines that stand")
    role = ("instructor", "colab")[(date.today().toordinal() + NOTEBOOKS.index(notebook)) % 2]
    strict = {"THLIB_STRICT": "1"} if role == "instructor" else {}  # every solution must pass its check
    told = complaint(execute(notebook, shared_cache | strict, role=role))
    assert not told, f"{role}: {told}"


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name, faults in FAULTS.items() for fault in faults])
def test_a_planted_fault_turns_the_notebook_red(name, fault, execute, fresh_cache, tmp_path, request):
    if request.config.getoption("profile") != "smoke" or request.config.getoption("update_baselines"):
        pytest.skip("faults are planted under the smoke profile, against baselines that stand")
    if fault in SEEN_IN_PIXELS:
        lacking = data.missing("mediapipe-face-landmarker")
        require("mirror", not lacking, f"only pixels show that {fault}: the landmark model is not here")
    env = fresh_cache() | plant(tmp_path, *FAULTS[name][fault])
    reason = complaint(execute(ROOT / "notebooks" / f"{name}.ipynb", env, folder=tmp_path / "out"))
    assert "AssertionError" in reason or "worse" in reason, f"not seen, or the fault itself broke: {reason!r}"


def test_a_fault_is_planted_where_it_should_be(tmp_path):
    import os
    import subprocess
    import sys

    env = os.environ | plant(tmp_path, "thlib.errors", "\n            class Planted(ThlibError):\n                pass")
    code = "import thlib.clip, thlib.errors; assert issubclass(thlib.errors.Planted, thlib.errors.ThlibError)"
    subprocess.run([sys.executable, "-c", code], env=env, check=True, cwd=tmp_path)


def test_every_notebook_has_two_planted_faults():
    assert NOTEBOOKS
    assert {path.stem for path in NOTEBOOKS} <= set(FAULTS)
    assert all(len(faults) >= 2 for faults in FAULTS.values())
