"""Opening of the segmenter that the options of a command describe."""

from __future__ import annotations

import warnings
from typing import Any

from novelseg.core.progress import say
from novelseg.inference.segmenter import Segmenter


def open_segmenter(**params: Any) -> Segmenter:
    """Read and check a bundle or weights, and report what is to be known about them.

    Parameters
    ----------
    params
        Those of :class:`novelseg.Segmenter`.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        segmenter = Segmenter.load(**params)
    for warning in caught:
        say(f"note: {warning.message}")
    return segmenter
