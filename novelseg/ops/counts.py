"""Pixel counts of predictions against masks, from which all scores follow (A9)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from novelseg.core.labels import VOID

COUNTS = ("fg_intersection", "fg_union", "bg_intersection", "bg_union")


def pixel_counts(prediction: NDArray[np.integer], mask: NDArray[np.integer]) -> tuple[int, int, int, int]:
    """Intersection and union of foreground, then of background; pixels with mask 255 are left out.

    Parameters
    ----------
    prediction : (H, W)
        1 foreground, 0 background.
    mask : (H, W)
        The same, 255 void.
    """
    valid = mask != VOID
    counts = []
    for side in (1, 0):
        here, there = (prediction == side) & valid, mask == side
        counts += [int((here & there).sum()), int((here | there).sum())]
    return counts[0], counts[1], counts[2], counts[3]


def object_iou(prediction: NDArray[np.integer], mask: NDArray[np.integer]) -> float | None:
    """IoU of the object in one picture; None where neither holds any.

    Parameters
    ----------
    prediction, mask
        As of :func:`pixel_counts`.
    """
    intersection, union, *_ = pixel_counts(prediction, mask)
    return intersection / union if union else None
