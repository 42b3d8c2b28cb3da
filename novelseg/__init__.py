"""Few-shot segmentation: a few pictures of something new with masks, and masks of it in other pictures.

>>> from novelseg import Segmenter  # doctest: +SKIP
>>> masks = Segmenter.load("bundle.safetensors").fit(images, masks).predict(queries)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from novelseg.inference.segmenter import Segmenter

__version__ = "0.2.0"
__all__ = ["Segmenter", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the segmenter, and with it torch, when it is asked for."""
    if name == "Segmenter":
        return importlib.import_module("novelseg.inference.segmenter").Segmenter
    raise AttributeError(f"module 'novelseg' has no attribute '{name}'")
