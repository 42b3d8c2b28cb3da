"""The learned region hierarchy: watershed basins, then stages of average linkage, each measured anew (A3).

A stage rates every arc between two regions with a small network, links regions by length-weighted average, and merges
what lies below its cut; the regions that are left are measured again, and the next stage rates them. A raw level is the
number of the stage plus the rating, so that later merges always lie higher. ``levels`` then brings raw levels to MCG's
scale: a cut at t leaves as much boundary as MCG leaves at t.
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
    merged,
    spectral,
    with_strength,
)

Network = Callable[[Floats], Floats]


@dataclass(frozen=True)
class ArcNetwork:
    """A few small networks of one shape whose ratings are averaged.

    Attributes
    ----------
    mean, deviation : (F,) float32
        Of each feature over the training arcs.
    weights : list of (E, I, O) float32
        Of each layer of the E networks; ReLU between layers, a sigmoid at the end.
    biases : list of (E, 1, O) float32
    """

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    weights: Sequence[NDArray[np.float32]]
    biases: Sequence[NDArray[np.float32]]

    def __call__(self, values: Floats) -> Floats:
        """Rate arcs: (M, F) to (M,), the share of annotators who would draw them."""
        hidden: NDArray[Any] = ((values - self.mean) / self.deviation)[None]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = np.maximum(0, hidden @ weight.astype(np.float64) + bias)
        logits = hidden @ self.weights[-1].astype(np.float64) + self.biases[-1]
        ratings: Floats = (1 / (1 + np.exp(-logits[..., 0]))).mean(axis=0)
        return ratings


@dataclass(frozen=True)
class Model:
    """What has been learned from BSDS500.

    Attributes
    ----------
    textons : (32, 10) float32
        Centres of texture descriptors.
    networks : K rating networks
        One a stage.
    cuts : K − 1 floats
        Rating below which each stage but the last merges.
    levels : (2, T) float64
        Raw levels, rising, and the contour strength in [0, 1) that each stands for.
    """

    textons: NDArray[np.float32]
    networks: Sequence[Network]
    cuts: Sequence[float]
    levels: Floats


@dataclass(frozen=True)
class Merges:
    """A tree over the basins with raw levels, and the regions that the last stage started from."""

    parents: Integers
    levels: Floats
    label: Integers
    graph: RegionGraph


@lru_cache(maxsize=2)
def _grid(shape: tuple[int, int]) -> Any:
    """Four-neighbour graph of a pixel grid; photographs of one set come in two shapes."""
    return hg.get_4_adjacency_graph(shape)


def watershed(boundary: Plane) -> Integers:
    """Basins of a boundary strength, numbered 0…R−1."""
    if boundary.size == 1:
        return np.zeros((1, 1), np.int64)
    grid = _grid(boundary.shape)
    edges = hg.weight_graph(grid, boundary.astype(np.float64), hg.WeightFunction.mean)
    numbers = hg.labelisation_watershed(grid, edges).reshape(-1).astype(np.int64)
    used = np.bincount(numbers) > 0
    basins: Integers = (np.cumsum(used) - 1)[numbers].reshape(boundary.shape)
    return basins


def arc_features(graph: RegionGraph) -> Floats:
    """What a network sees of each arc, (M, F); after the first stage also the last rating's normalised cut."""
    found = features(graph)
    if graph.cues == len(CUES):
        return found
    return np.concatenate([found, spectral(graph, graph.arcs[:, -1] / graph.length)], axis=1)


def features_of(stage: int) -> int:
    """Number of features that the network of a stage sees."""
    return FEATURES + (stage + 2 if stage else 0)  # one rating of each stage before, two normalised-cut distances


def rising(tree: Any, altitudes: Floats) -> Floats:
    """Raise each altitude to the highest one below it."""
    leaves = np.zeros(tree.num_leaves())
    raised: Floats = hg.accumulate_and_max_sequential(tree, altitudes, leaves, hg.Accumulators.max)
    return raised


def _linkage(graph: RegionGraph, rating: Floats) -> tuple[Integers, Floats]:
    """Average linkage of neighbours, weighted by arc length: parents, and levels that never fall towards the root."""
    arcs = hg.UndirectedGraph(graph.size)
    arcs.add_edges(graph.first, graph.second)
    tree, altitudes = hg.binary_partition_tree_average_linkage(arcs, rating, graph.length)
    return tree.parents().astype(np.int64), rising(tree, altitudes)


def merge(graph: RegionGraph, networks: Sequence[Network], cuts: Sequence[float]) -> Merges:
    """Merge basins stage by stage.

    Parameters
    ----------
    graph
        Of the basins.
    networks
        One a stage.
    cuts
        One a stage; where there is one fewer, the last stage merges everything. A stage that would merge everything
        is the last.

    Returns
    -------
    Merges
        ``graph`` and ``label`` (region of each basin) after the last cut.
    """
    label = np.arange(graph.size)
    nodes = label  # node of the joined tree for each present region
    parents = [label.copy()]
    levels = [np.zeros(graph.size)]
    total = graph.size
    for stage, network in enumerate(networks):
        if graph.size == 1:
            break
        rating = network(arc_features(graph))
        up, height = _linkage(graph, rating)
        kept = height < cuts[stage] if stage < len(cuts) else np.ones(len(up), bool)
        kept[: graph.size] = True
        new = np.cumsum(kept) - 1 - graph.size + total
        new[: graph.size] = nodes
        inner = np.nonzero(kept)[0]
        top = ~kept[up] | (up == np.arange(len(up)))
        above = np.where(top, new, new[up])
        joined = np.concatenate([*parents, np.zeros(len(inner) - graph.size, np.int64)])
        joined[new[inner]] = above[inner]
        parents = [joined]
        levels.append(stage + height[inner[graph.size :]])
        total = len(joined)
        # Number the regions that are left: those whose parent is not kept.
        climb = np.where(top, np.arange(len(up)), up)
        for node in range(len(up) - 1, -1, -1):
            climb[node] = climb[climb[node]]
        roots, region = np.unique(climb[: graph.size], return_inverse=True)
        nodes = new[roots]
        if stage < len(cuts):
            graph = merged(with_strength(graph, rating), region)
            label = region[label]
    return Merges(parents[0], np.concatenate(levels), label, graph)


def basins_of(image: NDArray[np.uint8], textons: NDArray[np.float32]) -> tuple[Integers, Contours]:
    """Basins of an image and the evidence they come from."""
    evidence = contours(image, textons)
    return watershed(strength(evidence.tensors)), evidence


def build(image: NDArray[np.uint8], model: Model) -> Hierarchy:
    """Build the hierarchy of an image.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB, no larger than the training images (longer side 481 px) by much.
    model
        Learned weights.

    Returns
    -------
    Hierarchy
        On MCG's scale.

    Raises
    ------
    TooManyRegionsError
        If there are more basins than can be numbered; make the image smaller first.
    """
    basins, evidence = basins_of(image, model.textons)
    stored = as_basins(basins)
    merges = merge(measure(basins, evidence), model.networks, model.cuts)
    heights = np.interp(merges.levels, *model.levels)
    heights[: basins.max() + 1] = 0
    return Hierarchy(stored, merges.parents.astype(np.int32), heights.astype(np.float32))
