"""Shared fixtures: what needs footage or another machine's gifts is reported as not run, or fails where THLIB_REQUIRE names it."""

import os
from pathlib import Path

import pytest


def require(kind: str, available: bool, why: str):
    """Go on if `available`; else skip as "not run", or fail where THLIB_REQUIRE (comma list) contains `kind`."""
    if available:
        return
    if kind in os.environ.get("THLIB_REQUIRE", "").split(","):
        pytest.fail(f"required but not run ({kind}): {why}")
    pytest.skip(f"not run ({kind}): {why}")


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The mirror folder with real footage (THLIB_MIRROR)."""
    root = os.environ.get("THLIB_MIRROR", "")
    require("mirror", bool(root) and Path(root).is_dir(), "THLIB_MIRROR names no folder")
    return Path(root).resolve()
