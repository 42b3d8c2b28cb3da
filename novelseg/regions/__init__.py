"""Region hierarchies: contour evidence, region graph, ultrametric contour map, learning, and measures of quality.

>>> from novelseg.regions import segment_regions  # doctest: +SKIP
>>> labels = segment_regions(image, tau=0.45)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from novelseg.core.extras import needs_extras

if TYPE_CHECKING:
    from novelseg.regions.hierarchy import cut
    from novelseg.regions.learned import build_hierarchy, segment_regions

__all__ = ["build_hierarchy", "cut", "segment_regions"]
_MODULES = {"build_hierarchy": "learned", "cut": "hierarchy", "segment_regions": "learned"}


def __getattr__(name: str) -> Any:
    """Import a function on first use: ``cut`` needs only NumPy, the others the extra ``[regions]``."""
    if name in _MODULES:
        with needs_extras(f"novelseg.regions.{name}"):
            return getattr(importlib.import_module(f"novelseg.regions.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'novelseg.regions' has no attribute '{name}'")
