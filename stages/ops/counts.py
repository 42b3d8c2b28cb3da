"""Pixel counts of predictions against masks, from which all scores follow (A9)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.core.labels import VOID
from stages.ops.matching import upsample

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


def count_many(logits: Tensor, masks: Tensor) -> Tensor:
    """Pixel counts of many predictions for images of one size.

    Parameters
    ----------
    logits : (E, h, w)
        Foreground minus background at feature resolution; upsampled to the masks' size, above zero is foreground.
    masks : (E, H, W) uint8
        1 foreground, 0 background, 255 left out.

    Returns
    -------
    (E, 4) int64
        In the order of :data:`COUNTS`.
    """
    foreground = upsample(logits[:, None], (masks.shape[-2], masks.shape[-1]))[:, 0] > 0
    valid, truth = masks != VOID, masks == 1
    hit = (foreground & truth).sum((1, 2))
    union = (foreground & valid).sum((1, 2)) + truth.sum((1, 2)) - hit
    valid_pixels = valid.sum((1, 2))
    return torch.stack([hit, union, valid_pixels - union, valid_pixels - hit], 1)


def object_iou(prediction: NDArray[np.integer], mask: NDArray[np.integer]) -> float | None:
    """IoU of the object in one picture; None where neither holds any.

    Parameters
    ----------
    prediction, mask
        As of :func:`pixel_counts`.
    """
    intersection, union, *_ = pixel_counts(prediction, mask)
    return intersection / union if union else None
