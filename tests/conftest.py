"""Shared fixtures, and the runner of notebooks: `pytest tests/test_notebooks.py --profile smoke [--update-baselines]`.

What needs footage, namespaces or a reference is reported as not run, or fails where THLIB_REQUIRE names it.
"""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "benchmarks")]


def require(kind: str, available: bool, why: str):
    """Go on if `available`; else skip as "not run", or fail where THLIB_REQUIRE (comma list) contains `kind`."""
    if available:
        return
    if kind in os.environ.get("THLIB_REQUIRE", "").split(","):
        pytest.fail(f"required but not run ({kind}): {why}")
    pytest.skip(f"not run ({kind}): {why}")


def pytest_addoption(parser):
    """The notebooks' profile, whether baselines are written instead of compared, and benchmarks in short."""
    parser.addoption("--profile", default="smoke", choices=["smoke", "laptop", "gpu"], help="sizes of the notebooks")
    parser.addoption("--limit", type=int, default=1, help="benchmarks: take every n-th case")
    parser.addoption("--steps", type=int, default=1500, help="benchmarks: steps of training in the ablations")
    parser.addoption("--update-baselines", action="store_true", help="write tests/baselines/<profile>.json")


def pytest_report_header():
    """Say what this machine can't run before anything is skipped."""
    return f"footage: {os.environ.get('THLIB_MIRROR') or 'none (THLIB_MIRROR)'}"


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The mirror folder with real footage (THLIB_MIRROR)."""
    root = os.environ.get("THLIB_MIRROR", "")
    require("mirror", bool(root) and Path(root).is_dir(), "THLIB_MIRROR names no folder")
    return Path(root).resolve()


@pytest.fixture(scope="session")
def fresh_cache(tmp_path_factory):
    """A function that makes an environment whose cache has the user's downloads but none of his computed results."""
    from thlib import data

    def make() -> dict[str, str]:
        cache = tmp_path_factory.mktemp("cache")
        if (data.cache() / "thlib-downloads").is_dir():
            (cache / "thlib-downloads").symlink_to(data.cache() / "thlib-downloads")
        return {"THLIB_CACHE": str(cache)}

    return make


@pytest.fixture(scope="session")
def execute(request, tmp_path_factory):
    """A function that runs a build of a notebook under the profile of the command line, by default into out/tests."""
    import build_course
    import runner

    def run(
        notebook: Path, env: dict[str, str], *, seed: int = 0, folder: Path | None = None, role: str = "student"
    ) -> runner.Outcome:
        absent = runner.missing(notebook)
        require("mirror", not absent, f"{notebook.stem} needs {', '.join(absent)}")
        profile = request.config.getoption("profile")
        folder = folder or ROOT / "out" / "tests"
        build = build_course.cut(notebook, role, folder / role)
        into = folder if role == "student" else folder / role / "executed"
        return runner.execute(build, into, profile=profile, seed=seed, env=env)

    return run
