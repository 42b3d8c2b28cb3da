"""Numbers with a meaning of their own in masks and lists."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

VOID = 255  # neither foreground nor background: borders, ignored pixels
TRAIN, VAL = 0, 1  # the lists that an image may be in


def binary(mask: NDArray[np.uint8], label: int) -> NDArray[np.uint8]:
    """Index mask to the mask of one class: 1 there, 255 on void, 0 elsewhere."""
    found: NDArray[np.uint8] = np.where(mask == VOID, np.uint8(VOID), (mask == label).astype(np.uint8))
    return found
