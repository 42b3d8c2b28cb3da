"""Pixel counts of predictions against masks, from which all scores are computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from novelseg.core.labels import VOID

COUNTS = ("fg_intersection", "fg_union", "bg_intersection", "bg_union")


def pixel_counts(prediction: NDArray[np.integer], mask: NDArray[np.integer]) -> tuple[int, int, int, int]:
    """Count the pixels of intersection and union; void pixels are ignored.

    Parameters
    ----------
    prediction : (H, W)
        1 foreground, 0 background.
    mask : (H, W)
        1 foreground, 0 background, 255 void.

    Returns
    -------
    tuple of four ints
        The counts named in :data:`COUNTS`.
    """
    valid = mask != VOID
    counts = []
    for side in (1, 0):
        predicted, annotated = (prediction == side) & valid, mask == side
        counts += [int((predicted & annotated).sum()), int((predicted | annotated).sum())]
    return counts[0], counts[1], counts[2], counts[3]


def object_iou(prediction: NDArray[np.integer], mask: NDArray[np.integer]) -> float | None:
    """Compute the IoU of the foreground of one image, or None if prediction and mask have no foreground.

    Parameters
    ----------
    prediction, mask
        See :func:`pixel_counts`.
    """
    intersection, union, *_ = pixel_counts(prediction, mask)
    return intersection / union if union else None
