"""Masked objects as the classification branch sees them: the picture, the pooling of its scores, and pooled features.

The classification branch is linear. The mean of its maps over any weights of the cells is therefore a function of nine
weighted means of the features, one per tap of the 3×3 convolution. A frozen encoder computes these once per object;
thousands of iterations then read 9·(C + 1) numbers per object instead of an image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from novelseg.backbones.extraction import FeatureExtractor
from novelseg.backbones.grid import Grid
from novelseg.core.labels import VOID
from novelseg.ops.geometry import square

EPSILON = 1e-6  # avoids a division by zero for an empty mask
TAPS = 9  # positions of a 3×3 kernel, row by row

ObjectView = tuple[int, int, bool]  # image, label, mirrored
Decode = Callable[[int], tuple[NDArray[np.uint8], NDArray[np.uint8]]]


def masked_object(
    colours: NDArray[np.uint8], mask: NDArray[np.uint8], label: int, side: int
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Set everything but the objects of a class to black.

    Parameters
    ----------
    colours : (H, W, 3) uint8
    mask : (H, W) uint8
        Labels, or 255 for void pixels.
    label
        The class.
    side
        Side of the square to which both are resized, px; 0 for their own size.

    Returns
    -------
    picture : (H′, W′, 3) uint8 or float32
        RGB, 0–255; resized colours are not rounded.
    object : (H′, W′) uint8
        1 for the class, 255 for void, else 0.
    """
    picture, labels = square(colours, mask, side) if side else (colours.copy(), mask)
    picture[labels != label] = 0
    return picture, np.where(labels == label, 1, np.where(labels == VOID, VOID, 0)).astype(np.uint8)


def pooling_weights(masks: Tensor, cells: tuple[int, int], grid: Grid, pooling: str) -> Tensor:
    """Compute the weights with which the maps of masked objects are averaged into scores.

    Parameters
    ----------
    masks : (B, H, W) uint8
        1 for the object.
    cells
        Height h and width w of the features.
    grid
        Positions of the cells.
    pooling
        ``image``: every cell counts alike; ``object``: each cell counts by its share of the object, as in masked
        average pooling (A, Eq. 1).

    Returns
    -------
    (B, h, w) float32
        Weights that add up to 1; zero for an empty mask with ``object``.
    """
    if pooling == "image":
        return torch.full((len(masks), *cells), 1 / (cells[0] * cells[1]), device=masks.device)
    weights = grid.splat_masks((masks == 1).float(), cells)
    return weights / weights.sum((-2, -1), keepdim=True).clamp(min=EPSILON)


def pooled_taps(features: Tensor, weights: Tensor) -> Tensor:
    """Average features under the nine taps of a 3×3 convolution with zero padding.

    Parameters
    ----------
    features : (C, h, w)
    weights : (h, w)
        Weights of the cells (:func:`pooling_weights`).

    Returns
    -------
    (9, C + 1)
        For each tap, Σ weight(p)·feature(p + tap), where features outside the image are zero; the last column is the
        weight of the cells whose tap lies inside.
    """
    height, width = weights.shape
    padded = F.pad(weights, (1, 1, 1, 1))
    # Σ_p w(p)·x(p + tap) = Σ_q w(q − tap)·x(q): the weights are shifted, not the features.
    shifted = torch.stack(
        [padded[2 - row : 2 - row + height, 2 - column : 2 - column + width] for row in range(3) for column in range(3)]
    ).flatten(1)
    return torch.cat([shifted @ features.flatten(1).T, shifted.sum(1, keepdim=True)], 1)


class PooledObjects:
    """Pooled features of all objects that a classifier is trained on, computed once on first use and kept on the CPU.

    They are the same whenever they are computed, so that a training that resumes reads what it read before.

    Parameters
    ----------
    members : list of (image, label)
        The objects.
    decode
        Decodes an image, (H, W, 3), and its mask, (H, W).
    size
        Height and width, px, at which an image enters the encoder.
    side
        Side of the square to which images are resized; 0 for their own size.
    mirrored
        Whether mirrored objects are needed too.
    pooled
        Computes a row of :func:`pooled_taps` from features (C, h, w) and a mask (H, W).
    """

    def __init__(
        self,
        members: list[tuple[int, int]],
        decode: Decode,
        size: Callable[[int], tuple[int, int]],
        side: int,
        mirrored: bool,
        pooled: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        self._decode, self._size, self._side, self._pooled = decode, size, side, pooled
        self.views: list[ObjectView] = [
            (image, label, flip) for flip in (False, True)[: 1 + mirrored] for image, label in members
        ]
        self._row = {view: row for row, view in enumerate(self.views)}
        self._taps: Tensor | None = None

    def _read(self, row: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        image, label, mirrored = self.views[row]
        picture, mask = masked_object(*self._decode(image), label, self._side)
        step = -1 if mirrored else 1
        return np.ascontiguousarray(picture[:, ::step]), np.ascontiguousarray(mask[:, ::step])

    def compute(self, extract: FeatureExtractor, label: str) -> None:
        """Compute the pooled features of all objects, if this has not been done."""
        if self._taps is not None:
            return
        taps = torch.empty(len(self.views), TAPS, extract.channels + 1)  # 9·(C + 1) numbers per object, no image
        sizes = [self._size(image) for image, _, _ in self.views]
        for row, mask, features in extract.each(sizes, self._read, label):
            taps[row] = self._pooled(features, torch.from_numpy(mask).to(extract.device)).cpu()
        self._taps = taps

    def rows(self, views: list[ObjectView]) -> Tensor:
        """Return the pooled features (B, 9, C + 1) of some objects, after :meth:`compute`."""
        assert self._taps is not None
        return self._taps[[self._row[view] for view in views]]
