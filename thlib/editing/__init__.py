"""Method 1, text-based talking-video editing: script -> sound -> motion -> frames, and the pipeline over them."""

from thlib.editing.pipeline import Edit, TextEditPipeline

__all__ = ["Edit", "TextEditPipeline"]
