"""Region corpora: one pooled vector per background region and per object of an image (A4, A, Eq. 1)."""

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
    """Pooled vectors of one side of one image; ``numbers`` holds the region of each, or the class of an object."""

    vectors: NDArray[np.float32]
    numbers: NDArray[np.int32]
    area: NDArray[np.int64]
    box: NDArray[np.int32]


def pool_labels(features: Tensor, labels: NDArray[np.int32], numbers: NDArray[np.int64], grid: Grid) -> PooledVectors:
    """Pool the features over the pixels of each of ``numbers`` in a label map."""
    compact = np.full(int(labels.max(initial=0)) + 2, -1, np.int32)
    compact[numbers] = np.arange(len(numbers))
    compacted = compact[labels]
    return PooledVectors(
        pool(features, grid.region_weights(compacted, len(numbers), features)).cpu().numpy(),
        numbers.astype(np.int32),
        np.bincount(compacted[compacted >= 0], minlength=len(numbers)).astype(np.int64),
        boxes(compacted, len(numbers)),
    )


def corpus_arrays(
    side: str, number: str, parts: list[PooledVectors], ids: list[str], channels: int
) -> dict[str, NDArray[Any]]:
    """Assemble the datasets of one side for the HDF5 file."""
    return {
        f"{side}/vectors": np.concatenate([np.zeros((0, channels), np.float32), *[part.vectors for part in parts]]),
        f"{side}/image": np.repeat(np.array(ids, object), [len(part.numbers) for part in parts]),
        f"{side}/{number}": np.concatenate([np.zeros(0, np.int32), *[part.numbers for part in parts]]),
        f"{side}/area": np.concatenate([np.zeros(0, np.int64), *[part.area for part in parts]]),
        f"{side}/box": np.concatenate([np.zeros((0, 4), np.int32), *[part.box for part in parts]]),
    }


def boxes(labels: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Return bounding boxes (count, 4) of labels 0…count−1, none absent: top, left, bottom, right, ends exclusive."""
    slices = find_objects(labels + 1, count)
    return np.array([(v.start, u.start, v.stop, u.stop) for v, u in slices], np.int32).reshape(-1, 4)
