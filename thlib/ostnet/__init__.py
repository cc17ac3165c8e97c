"""Method 3, OSTNet: a portrait follows another person's video, the driving face rescaled online."""

from thlib.ostnet.pipeline import MODES, OSTNetPipeline, portrait, render, retarget

__all__ = ["MODES", "OSTNetPipeline", "portrait", "render", "retarget"]
