"""Region hierarchies: built once per image, then cut at any contour strength.

A hierarchy is a tree whose leaves are *basins* (small regions). Its heights are in [0, 1] and never decrease towards
the root. A cut at τ joins all basins that merge below τ; its regions are the connected components of the ultrametric
contour map thresholded at τ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_REGIONS = 1 << 16  # region numbers are stored as uint16


@dataclass(frozen=True)
class Hierarchy:
    """The region hierarchy of one image.

    Attributes
    ----------
    basins : (H, W) uint16
        Leaf of each pixel, 0…L−1.
    parents : (M,) int32
        Parent of each node. Leaves come first; the root is the last node and its own parent.
    heights : (M,) float32
        Contour strength in [0, 1] at which the children of a node merge: 0 for leaves, 1 if they never merge.
    """

    basins: NDArray[np.uint16]
    parents: NDArray[np.int32]
    heights: NDArray[np.float32]


def tree_fault(hierarchy: Hierarchy) -> str:
    """Return why a hierarchy that was read from a file is not a tree over its basins; empty if it is one."""
    basins, parents, heights = hierarchy.basins, hierarchy.parents, hierarchy.heights
    numbers = np.arange(len(parents))
    if (parents[:-1] <= numbers[:-1]).any() or (parents >= len(parents)).any() or parents[-1] != numbers[-1]:
        return "a node's parent does not come after it"
    if int(basins.max()) >= len(parents):
        return "a basin is not a node of the tree"
    within = (heights >= 0) & (heights <= 1)  # false for NaN
    if not within.all() or (heights[parents] < heights).any():
        return "heights are not in [0, 1], or fall towards the root"
    return ""


def fit_size(height: int, width: int, longest: int) -> tuple[int, int]:
    """Return the height and width, px, of an image reduced to at most ``longest`` px on its longer side."""
    scale = min(1.0, longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


class TooManyRegionsError(Exception):
    """Raised when an image has more than :data:`MAX_REGIONS` regions."""


def as_basins(labels: NDArray[np.integer]) -> NDArray[np.uint16]:
    """Convert labels 0…L−1 to uint16, the type in which basins are stored.

    Raises
    ------
    TooManyRegionsError
        If there are more than :data:`MAX_REGIONS` labels.
    """
    count = int(labels.max()) + 1
    if count > MAX_REGIONS:
        raise TooManyRegionsError(f"{count} regions, expected at most {MAX_REGIONS}")
    return labels.astype(np.uint16)


def flat_hierarchy(labels: NDArray[np.integer]) -> Hierarchy:
    """Convert a label map to a hierarchy whose regions never merge: a cut at any strength returns the label map.

    Parameters
    ----------
    labels : (H, W) integer
        Region of each pixel; any numbers, with or without gaps.

    Raises
    ------
    TooManyRegionsError
        If there are more than :data:`MAX_REGIONS` regions.
    """
    basins = as_basins(np.unique(labels, return_inverse=True)[1].reshape(labels.shape))
    count = int(basins.max()) + 1
    if count == 1:
        return Hierarchy(basins, np.zeros(1, np.int32), np.zeros(1, np.float32))
    heights = np.zeros(count + 1, np.float32)
    heights[count] = 1
    return Hierarchy(basins, np.full(count + 1, count, np.int32), heights)


def regions_at(hierarchy: Hierarchy, tau: float) -> NDArray[np.uint16]:
    """Return the region of each basin, (L,), numbered 0…R−1; basins that merge below strength ``tau`` share one."""
    parents, heights = hierarchy.parents, hierarchy.heights
    top = np.where(heights[parents] < tau, parents, np.arange(len(parents)))
    while True:  # each round doubles the number of levels climbed
        higher = top[top]
        if np.array_equal(higher, top):
            break
        top = higher
    leaves = int(hierarchy.basins.max()) + 1
    return np.unique(top[:leaves], return_inverse=True)[1].astype(np.uint16)


def cut(hierarchy: Hierarchy, tau: float, size: tuple[int, int]) -> NDArray[np.uint16]:
    """Cut a hierarchy into the regions of an image.

    Parameters
    ----------
    hierarchy
        Hierarchy of the image.
    tau
        Contour strength of the cut, in [0, 1]; basins that merge below it form one region.
    size
        Height and width of the image, px. A hierarchy of a reduced image is enlarged by nearest neighbour.

    Returns
    -------
    (H, W) uint16
        Region of each pixel, numbered 0…R−1.
    """
    labels: NDArray[np.uint16] = regions_at(hierarchy, tau)[hierarchy.basins]
    rows = (np.arange(size[0]) * labels.shape[0]) // size[0]
    columns = (np.arange(size[1]) * labels.shape[1]) // size[1]
    resized: NDArray[np.uint16] = labels[rows][:, columns]
    return resized
