"""Region hierarchies: built once from an image, cut at any contour strength later.

A hierarchy is a tree over *basins* (small regions). Its heights never fall towards the root and lie in [0, 1), so that
cutting at τ keeps together what merges below τ: the connected components of the thresholded ultrametric contour map.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import higra as hg
import numpy as np
from numpy.typing import NDArray

# Raw contour strength (mean Lab gradient along an arc, in units of the Lab range per pixel) at which the height is 0.5.
# With it a cut at 0.45 leaves MCG's boundary length on the BSDS500 training images; see docs/decisions/0003.
HALF_STRENGTH = 0.065


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
        Contour strength in [0, 1) at which a node's children merge; 0 for leaves.
    """

    basins: NDArray[np.uint16]
    parents: NDArray[np.int32]
    heights: NDArray[np.float32]


def fit_size(height: int, width: int, longest: int) -> tuple[int, int]:
    """Size with the same aspect whose longer side is at most ``longest``, px."""
    scale = min(1.0, longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _gradient(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Gradient magnitude of the smoothed Lab image, summed over two scales, (H, W)."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) / np.float32(100)
    total = np.zeros(image.shape[:2])
    for sigma in (1.5, 3.0):
        smooth = cv2.GaussianBlur(lab, (0, 0), sigma)
        dx, dy = (
            cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=0.125),
            cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=0.125),
        )
        total += np.sqrt((dx * dx + dy * dy).sum(axis=-1)) / 2
    blurred: NDArray[np.float64] = cv2.GaussianBlur(total, (0, 0), 1.0)
    return blurred


def build(image: NDArray[np.uint8]) -> Hierarchy:
    """Build the hierarchy of an image: watershed of the Lab gradient, then average linkage of the arcs.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB.

    Returns
    -------
    Hierarchy
        Of the whole image.

    Raises
    ------
    ValueError
        If there are more basins than uint16 can number; make the image smaller first.
    """
    height, width = image.shape[:2]
    if height * width == 1:
        return Hierarchy(np.zeros((1, 1), np.uint16), np.zeros(1, np.int32), np.zeros(1, np.float32))
    gradient = _gradient(image)
    grid = hg.get_4_adjacency_graph((height, width))
    edges = hg.weight_graph(grid, gradient, hg.WeightFunction.mean)
    basins = np.unique(hg.labelisation_watershed(grid, edges), return_inverse=True)[1].reshape(height, width)
    if basins.max() > np.iinfo(np.uint16).max:
        raise ValueError(f"{basins.max() + 1} basins; expected at most 65536")
    if basins.max() == 0:
        return Hierarchy(basins.astype(np.uint16), np.zeros(1, np.int32), np.zeros(1, np.float32))
    regions = hg.make_region_adjacency_graph_from_labelisation(grid, basins)
    arcs = hg.rag_accumulate_on_edges(regions, hg.Accumulators.mean, edges)
    lengths = hg.rag_accumulate_on_edges(regions, hg.Accumulators.sum, np.ones_like(edges))
    tree, strengths = hg.binary_partition_tree_average_linkage(regions, arcs, lengths)
    parents = tree.parents().astype(np.int32)
    return Hierarchy(basins.astype(np.uint16), parents, _heights(parents, strengths))


def _heights(parents: NDArray[np.int32], strengths: NDArray[np.float64]) -> NDArray[np.float32]:
    """Make merge strengths rise towards the root, and bring them to [0, 1)."""
    rising = strengths.copy()
    for node, parent in enumerate(parents):  # children stand before their parents
        rising[parent] = max(rising[parent], rising[node])
    return (rising / (rising + HALF_STRENGTH)).astype(np.float32)


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
        Region of each pixel, numbered 0…R−1 by first appearance of their basins.
    """
    parents, heights = hierarchy.parents, hierarchy.heights
    top = np.arange(len(parents))
    for node in range(len(parents) - 2, -1, -1):  # parents before their children
        if heights[parents[node]] < tau:
            top[node] = top[parents[node]]
    leaves = int(hierarchy.basins.max()) + 1
    region = np.unique(top[:leaves], return_inverse=True)[1].astype(np.uint16)
    labels: NDArray[np.uint16] = region[hierarchy.basins]
    rows = (np.arange(size[0]) * labels.shape[0]) // size[0]
    columns = (np.arange(size[1]) * labels.shape[1]) // size[1]
    enlarged: NDArray[np.uint16] = labels[rows][:, columns]
    return enlarged
