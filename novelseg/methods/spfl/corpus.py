"""Region corpora: one pooled vector per background region and per object of an image (A, Eq. 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from torch import Tensor

from novelseg.backbones.grid import Grid
from novelseg.ops.pooling import pool


@dataclass(frozen=True)
class PooledVectors:
    """Pooled vectors of the background regions or of the objects of one image.

    Attributes
    ----------
    vectors : (N, C) float32
        Pooled features.
    numbers : (N,) int32
        Number of each region, or class of each object.
    area : (N,) int64
        Area, px.
    box : (N, 4) int32
        Bounding box, px: top, left, bottom, right; bottom and right are exclusive.
    """

    vectors: NDArray[np.float32]
    numbers: NDArray[np.int32]
    area: NDArray[np.int64]
    box: NDArray[np.int32]


def pool_labels(features: Tensor, labels: NDArray[np.int32], numbers: NDArray[np.int64], grid: Grid) -> PooledVectors:
    """Pool the features of an image over the pixels of some labels.

    Parameters
    ----------
    features : (C, h, w)
        Features of the image.
    labels : (H, W) int32
        Label map.
    numbers : (N,)
        Labels to pool, each of which occurs in the map.
    grid
        Positions of the cells of the features.
    """
    index_of = np.full(int(labels.max(initial=0)) + 2, -1, np.int32)
    index_of[numbers] = np.arange(len(numbers))
    indices = index_of[labels]
    return PooledVectors(
        pool(features, grid.region_weights(indices, len(numbers), features)).cpu().numpy(),
        numbers.astype(np.int32),
        np.bincount(indices[indices >= 0], minlength=len(numbers)).astype(np.int64),
        boxes(indices, len(numbers)),
    )


def corpus_arrays(
    side: str, number: str, parts: list[PooledVectors], ids: list[str], channels: int
) -> dict[str, NDArray[Any]]:
    """Concatenate the pooled vectors of images to datasets of an HDF5 file.

    Parameters
    ----------
    side
        Group of the datasets: ``fg`` or ``bg``.
    number
        Name of the dataset of :attr:`PooledVectors.numbers`.
    parts, ids
        Pooled vectors and id of each image.
    channels
        Number of feature channels C.
    """
    return {
        f"{side}/vectors": np.concatenate([np.zeros((0, channels), np.float32), *[part.vectors for part in parts]]),
        f"{side}/image": np.repeat(np.array(ids, object), [len(part.numbers) for part in parts]),
        f"{side}/{number}": np.concatenate([np.zeros(0, np.int32), *[part.numbers for part in parts]]),
        f"{side}/area": np.concatenate([np.zeros(0, np.int64), *[part.area for part in parts]]),
        f"{side}/box": np.concatenate([np.zeros((0, 4), np.int32), *[part.box for part in parts]]),
    }


def boxes(labels: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Return the bounding boxes of labels 0…count−1, all of which must occur; see :attr:`PooledVectors.box`."""
    slices = find_objects(labels + 1, count)
    return np.array([(v.start, u.start, v.stop, u.stop) for v, u in slices], np.int32).reshape(-1, 4)
