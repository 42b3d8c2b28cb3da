"""Few-shot segmentation: a few pictures of something new with masks, and masks of it in other pictures.

>>> from novelseg import Segmenter  # doctest: +SKIP
>>> masks = Segmenter.load("bundle.safetensors").fit(images, masks).predict(queries)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from novelseg.inference.segmenter import Segmenter
    from novelseg.version import __version__

__all__ = ["Segmenter", "__version__"]

_HOMES = {"Segmenter": "novelseg.inference.segmenter", "__version__": "novelseg.version"}


def __getattr__(name: str) -> Any:
    """Import a public name on its first use, since the segmenter imports torch, which takes a second.

    The version is imported here, too, so that it does not belong to the code of a stage.
    """
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'novelseg' has no attribute '{name}'")
