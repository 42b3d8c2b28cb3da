"""Region hierarchies: built once from an image, cut at any contour strength later.

A hierarchy is a tree over *basins* (small regions). Its heights lie in [0, 1] and never fall towards the root, so that
cutting at τ keeps together what merges below τ: the connected components of the thresholded ultrametric contour map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST = 1 << 16  # regions that uint16 can number


@dataclass(frozen=True)
class Hierarchy:
    """A tree of regions.

    Attributes
    ----------
    basins : (H, W) uint16
        Leaf at each pixel, 0…L−1.
    parents : (M,) int32
        Parent of each node, leaves first; the root, last, is its own parent.
    heights : (M,) float32
        Contour strength in [0, 1] at which a node's children merge; 0 for leaves, 1 for what never merges.
    """

    basins: NDArray[np.uint16]
    parents: NDArray[np.int32]
    heights: NDArray[np.float32]


def tree_fault(hierarchy: Hierarchy) -> str:
    """Return why a hierarchy that was read from a file is no tree over its basins; empty if it is one."""
    basins, parents, heights = hierarchy.basins, hierarchy.parents, hierarchy.heights
    numbers = np.arange(len(parents))
    if (parents[:-1] <= numbers[:-1]).any() or (parents >= len(parents)).any() or parents[-1] != numbers[-1]:
        return "a node's parent does not come after it"
    if int(basins.max()) >= len(parents):
        return "a basin is no node of the tree"
    within = (heights >= 0) & (heights <= 1)  # false for NaN
    if not within.all() or (heights[parents] < heights).any():
        return "heights are not in [0, 1], or fall towards the root"
    return ""


def fit_size(height: int, width: int, longest: int) -> tuple[int, int]:
    """Size with the same aspect whose longer side is at most ``longest``, px."""
    scale = min(1.0, longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


class TooManyRegionsError(Exception):
    """An image has more regions than a hierarchy can number."""


def as_basins(labels: NDArray[np.integer]) -> NDArray[np.uint16]:
    """Labels 0…L−1 as they are stored.

    Raises
    ------
    TooManyRegionsError
        If there are more than 65,536.
    """
    count = int(labels.max()) + 1
    if count > MOST:
        raise TooManyRegionsError(f"{count} regions, expected at most {MOST}")
    return labels.astype(np.uint16)


def flat(labels: NDArray[np.integer]) -> Hierarchy:
    """Give a label map as a hierarchy whose regions never merge: every cut up to 1 gives the map back.

    Parameters
    ----------
    labels : (H, W) integers
        Any numbers, gaps allowed; at most 65,536 different ones.

    Raises
    ------
    TooManyRegionsError
        If there are more regions.
    """
    basins = as_basins(np.unique(labels, return_inverse=True)[1].reshape(labels.shape))
    count = int(basins.max()) + 1
    if count == 1:
        return Hierarchy(basins, np.zeros(1, np.int32), np.zeros(1, np.float32))
    heights = np.zeros(count + 1, np.float32)
    heights[count] = 1
    return Hierarchy(basins, np.full(count + 1, count, np.int32), heights)


def regions_at(hierarchy: Hierarchy, tau: float) -> NDArray[np.uint16]:
    """Region of each basin at contour strength ``tau``, (L,), numbered 0…R−1; what merges below ``tau`` is one."""
    parents, heights = hierarchy.parents, hierarchy.heights
    top = np.where(heights[parents] < tau, parents, np.arange(len(parents)))
    while True:  # each round doubles the climb
        higher = top[top]
        if np.array_equal(higher, top):
            break
        top = higher
    leaves = int(hierarchy.basins.max()) + 1
    return np.unique(top[:leaves], return_inverse=True)[1].astype(np.uint16)


def cut(hierarchy: Hierarchy, tau: float, size: tuple[int, int]) -> NDArray[np.uint16]:
    """Regions of an image at contour strength ``tau``.

    Parameters
    ----------
    hierarchy
        Of the image.
    tau
        Contour strength in [0, 1]; children that merge below it stay together.
    size
        Height and width of the image, px; labels come back by nearest neighbour.

    Returns
    -------
    (H, W) uint16
        Region of each pixel, numbered 0…R−1.
    """
    labels: NDArray[np.uint16] = regions_at(hierarchy, tau)[hierarchy.basins]
    rows = (np.arange(size[0]) * labels.shape[0]) // size[0]
    columns = (np.arange(size[1]) * labels.shape[1]) // size[1]
    enlarged: NDArray[np.uint16] = labels[rows][:, columns]
    return enlarged
