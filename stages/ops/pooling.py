"""Masked average pooling at feature resolution, exact (A, Eq. 1).

Upsampling is linear: Σ_uv Up(F)_uv·m_uv = Σ_ij F_ij·(Upᵀm)_ij. So the mask is splatted to the feature grid with the
transposed bilinear operator, and the upsampled features (C×H×W) are never built. ``Up`` is bilinear, corners aligned.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EPSILON = 1e-5


def _taps(cells: int, pixels: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """First of the two cells that a pixel lies between, and the weight of the second; (pixels,) each."""
    place = np.arange(pixels, dtype=np.float64) * ((cells - 1) / (pixels - 1) if pixels > 1 else 0.0)
    first = np.minimum(place.astype(np.int64), max(cells - 2, 0))
    return first, np.asarray(place - first, np.float64)


@cache
def up_matrix(cells: int, pixels: int) -> Tensor:
    """One axis of ``Up``: row u holds the weights of the cells at pixel u, (pixels, cells) float32."""
    first, weight = _taps(cells, pixels)
    matrix = np.zeros((pixels, cells))
    rows = np.arange(pixels)
    matrix[rows, first] = 1 - weight
    matrix[rows, np.minimum(first + 1, cells - 1)] += weight
    return torch.from_numpy(matrix.astype(np.float32))


def splat_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Transposed bilinear operator on a few masks.

    Parameters
    ----------
    masks : (..., H, W) float
        Weights of the pixels.
    size
        Height h and width w of the feature grid.

    Returns
    -------
    (..., h, w) float
        Weights of the cells; the sum over cells equals the sum over pixels.
    """
    rows = up_matrix(size[0], masks.shape[-2]).to(masks)
    columns = up_matrix(size[1], masks.shape[-1]).to(masks)
    return rows.T @ masks @ columns


def splat_labels(labels: NDArray[np.integer], count: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """Transposed bilinear operator on all regions of a label map at once; cost does not grow with their number.

    Parameters
    ----------
    labels : (H, W) integer
        Region of each pixel, 0…count−1; other values belong to no region.
    count
        Number of regions R.
    size
        Height h and width w of the feature grid.

    Returns
    -------
    (R, h·w) float32
    """
    (h, w), (height, width) = size, labels.shape
    i, b = _taps(h, height)
    j, a = _taps(w, width)
    u, v = np.nonzero((labels >= 0) & (labels < count))
    region = labels[u, v].astype(np.int64) * (h * w)
    i1, j1 = np.minimum(i + 1, h - 1), np.minimum(j + 1, w - 1)
    total = np.zeros(count * h * w)
    for row, row_weight in ((i, 1 - b), (i1, b)):
        for column, column_weight in ((j, 1 - a), (j1, a)):
            cell = region + row[u] * w + column[v]
            total += np.bincount(cell, row_weight[u] * column_weight[v], minlength=total.size)
    return total.reshape(count, h * w).astype(np.float32)


def region_weights(labels: NDArray[np.integer], count: int, features: Tensor) -> Tensor:
    """Splatted masks (R, h, w) of a label map on the grid of features (C, h, w), in the form that their device likes.

    A GPU multiplies one mask a region, which is the same number each time; a CPU adds up pixels.
    """
    size = (features.shape[-2], features.shape[-1])
    if features.device.type == "cpu":
        splatted: Tensor = torch.from_numpy(splat_labels(labels, count, size)).unflatten(1, size)
        return splatted
    on_device = torch.from_numpy(labels.astype(np.int64)).to(features.device)
    masks = on_device[None] == torch.arange(count, device=features.device)[:, None, None]
    weights: Tensor = splat_masks(masks.float(), size)
    return weights


def pool(features: Tensor, weights: Tensor) -> Tensor:
    """Masked average pooling (Eq. 1) with splatted masks.

    Parameters
    ----------
    features : (..., C, h, w)
        Feature maps.
    weights : (..., R, h, w)
        Splatted masks of R regions each.

    Returns
    -------
    (..., R, C)
    """
    weights = weights.flatten(-2).to(features)  # (..., R, hw)
    sums = weights @ features.flatten(-2).transpose(-1, -2)  # (..., R, C)
    return sums / (weights.sum(-1, keepdim=True) + EPSILON)
