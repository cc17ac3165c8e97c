"""What is missing on this machine, a sentence each; `thlib doctor` prints them."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from thlib import data, speech
from thlib.errors import ThlibError

ROOT = Path(__file__).resolve().parents[1]


def complaints() -> Iterator[str]:
    """What is missing on this machine, a sentence each; `thlib doctor` prints them."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        yield f"Python {sys.version.split()[0]} is not 3.11 to 3.13: make .venv with one of these (make setup)."
    yield from _packages()
    if "absent" in data.status("mediapipe-face-landmarker").values():
        yield "The landmark model is not here (3.7 MB): thlib data fetch mediapipe-face-landmarker."
    if not os.environ.get("THLIB_MIRROR"):
        yield "THLIB_MIRROR is not set: notebooks and tests on real footage are not run, or download it."
    try:
        speech.say("yes")
    except (ThlibError, ImportError, OSError) as error:
        yield f"espeak-ng does not speak ({error}): pip install espeakng-loader, or make setup."
    free = shutil.disk_usage(next(p for p in (data.cache(), *data.cache().parents) if p.exists())).free / 1e9
    if free < 2:
        yield f"{free:.1f} GB are free at the cache {data.cache()}, 2 GB are needed: set THLIB_CACHE to another folder."


def _packages() -> Iterator[str]:
    lock = ROOT / "requirements.lock"
    lines = lock.read_text().splitlines() if lock.is_file() else []
    for name, wanted in (line.split("==") for line in lines if ";" not in line):  # ";": for some platforms only
        try:
            have = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            have = "absent"
        if have != wanted:
            yield f"{name} is {have}, {wanted} is needed: make setup installs it."
