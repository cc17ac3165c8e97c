"""thlib: the thin library under the talking-head course (text-based editing, EmoFace, OSTNet)."""

import importlib

__version__ = "0.1.0"

_MODULES = "behaviour clip course data editing emoface errors landmarks metrics ostnet presenter provenance rig show"


def __getattr__(name: str):
    # Submodules load on first use, so that `import thlib` costs nothing.
    if name in (*_MODULES.split(), "speech", "training", "warp"):
        return importlib.import_module(f"thlib.{name}")
    raise AttributeError(f"module 'thlib' has no attribute {name!r}")
