"""Connected regions of label images, by runs of equal pixels in rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def keep_regions(labels: NDArray[np.uint8], least: int, largest: bool) -> NDArray[np.uint8]:
    """Set small regions of a label image to the background.

    Parameters
    ----------
    labels : (H, W)
        0 background, 1 … K classes. A region is a set of pixels of one class that are connected by their eight
        neighbours.
    least
        Smallest number of pixels of a region that is kept.
    largest
        Whether only the largest region of each class is kept; of equal ones, the one that begins first.

    Returns
    -------
    (H, W)
        The remaining regions; ``labels`` is not changed.
    """
    height, width = labels.shape
    starts, ends = _runs(labels)
    if not len(starts):
        return labels
    values = labels.reshape(-1)[starts]
    regions = _connected(starts, ends, values, width)
    areas = np.bincount(regions, ends - starts, minlength=len(starts))  # at the first run of each region
    kept = areas[regions] >= least
    if largest:
        for label in np.unique(values):
            own = np.flatnonzero(values == label)
            kept[own] &= regions[own] == regions[own[areas[regions[own]].argmax()]]
    steps = np.zeros(height * width + 1, np.int16)
    np.add.at(steps, starts[kept], values[kept].astype(np.int16))
    np.add.at(steps, ends[kept], -values[kept].astype(np.int16))
    return np.cumsum(steps[:-1], dtype=np.int16).astype(np.uint8).reshape(height, width)


def _runs(labels: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first pixel of each run of a class within a row, and the pixel after its last, as flat positions."""
    flat = labels.reshape(-1)
    begins = np.ones(flat.shape, bool)
    begins[1:] = flat[1:] != flat[:-1]
    begins[:: labels.shape[1]] = True
    bounds = np.append(np.flatnonzero(begins), len(flat))
    objects = flat[bounds[:-1]] > 0
    return bounds[:-1][objects], bounds[1:][objects]


def _connected(
    starts: NDArray[np.int64], ends: NDArray[np.int64], values: NDArray[np.uint8], width: int
) -> NDArray[np.int64]:
    """Return, for each run, the number of the first run of its region."""
    # One more column between the rows, so that runs at the ends of two rows do not touch.
    rows = starts // width
    first, last = starts + rows, ends + rows  # positions in rows of width + 1
    low = np.searchsorted(last, first + width + 1, "left")  # runs of the next row that touch
    high = np.searchsorted(first, last + width + 1, "right")
    counts = np.maximum(high - low, 0)
    above = np.repeat(np.arange(len(starts)), counts)
    below = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts) + np.repeat(low, counts)
    same = values[above] == values[below]
    above, below = above[same], below[same]
    regions = np.arange(len(starts))
    while True:
        smaller = np.minimum(regions[above], regions[below])
        joined = regions.copy()
        np.minimum.at(joined, regions[above], smaller)
        np.minimum.at(joined, regions[below], smaller)
        while not np.array_equal(shorter := joined[joined], joined):
            joined = shorter
        if np.array_equal(joined, regions):
            return regions
        regions = joined
