"""The learned region hierarchy: watershed basins, merged in stages of average linkage.

A stage rates every arc between two regions with a small network, builds a tree by average linkage weighted by arc
length, and merges the regions below its cut. The merged regions are measured again and passed to the next stage. The
raw level of a merge is the number of its stage plus its rating, so that merges of later stages are always higher. A
table (``Model.levels``) maps raw levels to MCG's scale: a cut at t leaves the same boundary length as MCG does at t.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import higra as hg
import numpy as np
from numpy.typing import NDArray

from novelseg.regions.contours import CUES, Contours, Plane, contours, strength
from novelseg.regions.hierarchy import Hierarchy, as_basins
from novelseg.regions.regiongraph import (
    FEATURES,
    Floats,
    Integers,
    RegionGraph,
    features,
    measure,
    merge_regions,
    spectral,
    with_strength,
)

Network = Callable[[Floats], Floats]


@dataclass(frozen=True)
class ArcNetwork:
    """An ensemble of E small networks of one architecture, whose ratings are averaged.

    Attributes
    ----------
    mean, deviation : (F,) float32
        Mean and standard deviation of each feature over the training arcs.
    weights : list of (E, I, O) float32
        Weights of each layer. ReLU follows every layer but the last, which a sigmoid follows.
    biases : list of (E, 1, O) float32
        Biases of each layer.
    """

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    weights: Sequence[NDArray[np.float32]]
    biases: Sequence[NDArray[np.float32]]

    def __call__(self, values: Floats) -> Floats:
        """Estimate for each arc the share of annotators who would draw it: (M, F) to (M,)."""
        hidden: NDArray[Any] = ((values - self.mean) / self.deviation)[None]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = np.maximum(0, hidden @ weight.astype(np.float64) + bias)
        logits = hidden @ self.weights[-1].astype(np.float64) + self.biases[-1]
        ratings: Floats = (1 / (1 + np.exp(-logits[..., 0]))).mean(axis=0)
        return ratings


@dataclass(frozen=True)
class Model:
    """Learned parameters of the region hierarchy.

    Attributes
    ----------
    textons : (32, 10) float32
        Texture descriptors of the textons.
    networks
        The network that rates arcs, for each of K stages.
    cuts
        Rating below which regions merge, for each stage but the last, which merges everything.
    levels : (2, T) float64
        Raw levels, increasing, and the contour strength in [0, 1) of each.
    """

    textons: NDArray[np.float32]
    networks: Sequence[Network]
    cuts: Sequence[float]
    levels: Floats


@dataclass(frozen=True)
class Merges:
    """The result of merging.

    Attributes
    ----------
    parents : (N,) int64
        Parent of each node of the tree, leaves first; the root is the last node and its own parent.
    levels : (N,) float64
        Raw level of each node; 0 for leaves.
    label : (L,) int64
        Region of each basin after the last cut.
    graph
        Graph of these regions.
    """

    parents: Integers
    levels: Floats
    label: Integers
    graph: RegionGraph


@lru_cache(maxsize=2)
def _grid(shape: tuple[int, int]) -> Any:
    """Return the four-neighbour graph of a pixel grid; two are cached, for landscape and portrait images."""
    return hg.get_4_adjacency_graph(shape)


def watershed(boundary: Plane) -> Integers:
    """Compute the watershed basins of a boundary strength (H, W), numbered 0…R−1; (H, W)."""
    if boundary.size == 1:
        return np.zeros((1, 1), np.int64)
    grid = _grid(boundary.shape)
    edges = hg.weight_graph(grid, boundary.astype(np.float64), hg.WeightFunction.mean)
    numbers = hg.labelisation_watershed(grid, edges).reshape(-1).astype(np.int64)
    used = np.bincount(numbers) > 0
    basins: Integers = (np.cumsum(used) - 1)[numbers].reshape(boundary.shape)
    return basins


def arc_features(graph: RegionGraph) -> Floats:
    """Compute the input of a network for each arc, (M, F).

    After the first stage, it includes the distances in the normalised cut that the ratings of the previous stage give.
    """
    columns = features(graph)
    if graph.cues == len(CUES):
        return columns
    return np.concatenate([columns, spectral(graph, graph.arcs[:, -1] / graph.length)], axis=1)


def feature_count(stage: int) -> int:
    """Return the number of input features of the network of a stage, counted from 0."""
    return FEATURES + (stage + 2 if stage else 0)  # the rating of each earlier stage, and two normalised-cut distances


def increasing(tree: Any, altitudes: Floats) -> Floats:
    """Raise the altitude of each node of a tree to the maximum of its subtree, so that none decreases to the root."""
    leaves = np.zeros(tree.num_leaves())
    raised: Floats = hg.accumulate_and_max_sequential(tree, altitudes, leaves, hg.Accumulators.max)
    return raised


def _linkage(graph: RegionGraph, rating: Floats) -> tuple[Integers, Floats]:
    """Link neighbouring regions by average linkage, weighted by arc length.

    Returns
    -------
    parents, altitudes : (2R − 1,)
        The tree over the regions, and the mean rating at which each node merges; it never decreases towards the root.
    """
    adjacency = hg.UndirectedGraph(graph.size)
    adjacency.add_edges(graph.first, graph.second)
    tree, altitudes = hg.binary_partition_tree_average_linkage(adjacency, rating, graph.length)
    return tree.parents().astype(np.int64), increasing(tree, altitudes)


def merge(graph: RegionGraph, networks: Sequence[Network], cuts: Sequence[float]) -> Merges:
    """Merge basins in stages.

    Parameters
    ----------
    graph
        Graph of the basins.
    networks
        Rating network of each stage.
    cuts
        Rating of each stage below which regions merge. A stage without a cut merges everything. No stage follows one
        that leaves a single region.

    Returns
    -------
    Merges
        The tree over the basins, and the regions after the last cut.
    """
    label = np.arange(graph.size)
    nodes = label  # node of the whole tree for each region of ``graph``
    parents = label.copy()  # of the whole tree; a node without a parent yet is its own
    levels = [np.zeros(graph.size)]
    for stage, network in enumerate(networks):
        if graph.size == 1:
            break
        rating = network(arc_features(graph))
        parent, height = _linkage(graph, rating)  # of the stage's own tree
        merges = height < cuts[stage] if stage < len(cuts) else np.ones(len(parent), bool)
        merges[: graph.size] = True  # leaves belong to the tree in any case
        node_of = np.cumsum(merges) - 1 - graph.size + len(parents)  # stage's node → node of the whole tree
        node_of[: graph.size] = nodes
        merging = np.nonzero(merges)[0]
        top = ~merges[parent] | (parent == np.arange(len(parent)))  # nodes that do not merge any further in this stage
        parents = np.concatenate([parents, np.zeros(len(merging) - graph.size, np.int64)])
        parents[node_of[merging]] = np.where(top, node_of, node_of[parent])[merging]
        levels.append(stage + height[merging[graph.size :]])
        # Label the regions 0…R−1 by their topmost node.
        topmost = np.where(top, np.arange(len(parent)), parent)
        for node in range(len(parent) - 1, -1, -1):
            topmost[node] = topmost[topmost[node]]
        roots, region = np.unique(topmost[: graph.size], return_inverse=True)
        nodes = node_of[roots]
        if stage < len(cuts):
            graph = merge_regions(with_strength(graph, rating), region)
            label = region[label]
    return Merges(parents, np.concatenate(levels), label, graph)


def compute_basins(image: NDArray[np.uint8], textons: NDArray[np.float32]) -> tuple[Integers, Contours]:
    """Compute the watershed basins (H, W) of an image, and its contour evidence."""
    evidence = contours(image, textons)
    return watershed(strength(evidence.tensors)), evidence


def build(image: NDArray[np.uint8], model: Model) -> Hierarchy:
    """Build the hierarchy of an image.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB, of about the size of the training images (longer side 481 px).
    model
        Learned weights.

    Returns
    -------
    Hierarchy
        Hierarchy whose heights are contour strengths on MCG's scale.

    Raises
    ------
    TooManyRegionsError
        If the image has more basins than can be numbered.
    """
    basins, evidence = compute_basins(image, model.textons)
    stored = as_basins(basins)
    merges = merge(measure(basins, evidence), model.networks, model.cuts)
    heights = np.interp(merges.levels, *model.levels)
    heights[: basins.max() + 1] = 0
    return Hierarchy(stored, merges.parents.astype(np.int32), heights.astype(np.float32))
