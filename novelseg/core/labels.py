"""Reserved labels of masks, and numbers of the image lists."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

VOID = 255  # neither foreground nor background: borders, ignored pixels
TRAIN, VAL = 0, 1  # the training and the validation list


def binary(mask: NDArray[np.uint8], label: int) -> NDArray[np.uint8]:
    """Convert an index mask to the mask of one class: 1 on the class, 255 on void, 0 elsewhere."""
    class_mask: NDArray[np.uint8] = np.where(mask == VOID, np.uint8(VOID), (mask == label).astype(np.uint8))
    return class_mask
