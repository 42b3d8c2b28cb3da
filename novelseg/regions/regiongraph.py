"""Regions, the arcs between them, and what is measured on both; merging adds the measurements up (A3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh

from novelseg.regions.contours import WORDS, Contours, largest_eigenvalue

LEVELS = 16  # hard bins of a Lab channel
HISTOGRAMS = (LEVELS, LEVELS, LEVELS, WORDS)
FEATURES = 28  # of an arc that has not been rated yet
VECTORS = 12  # eigenvectors of the normalised cut
STRAIGHT = 0.2  # mean normal of a straight arc: 0.7 to 1 of its length; of a closed one: 0
DENSE = 160  # regions up to which all eigenvectors are computed at once

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class RegionGraph:
    """Regions of an image and the arcs between neighbours.

    Attributes
    ----------
    first, second : (M,) int64
        Regions on both sides of each arc, ``first < second``, in rising order.
    arcs : (M, 1 + K) float64
        Sums along each arc: its length in pixel pairs, then each cue's strength.
    regions : (R, 1 + 3 + 3 + 80) float64
        Sums over each region: area in px, Lab, squares of Lab, histograms of L, a, b and textons.
    """

    first: Integers
    second: Integers
    arcs: Floats
    regions: Floats

    @property
    def size(self) -> int:
        """Number of regions."""
        return len(self.regions)

    @property
    def cues(self) -> int:
        """Number of strengths measured on each arc."""
        return int(self.arcs.shape[1]) - 1

    @property
    def length(self) -> Floats:
        """Arc lengths, pixel pairs."""
        return self.arcs[:, 0]


def _joined(first: Integers, second: Integers, size: int) -> tuple[Integers, Integers, Integers]:
    """Distinct unordered pairs, and each pair's number among them."""
    keys, number = np.unique(np.minimum(first, second) * size + np.maximum(first, second), return_inverse=True)
    return keys // size, keys % size, number


def measure(basins: Integers, evidence: Contours) -> RegionGraph:
    """Measure the regions of a label map and the arcs between them.

    Parameters
    ----------
    basins : (H, W) int64
        Regions 0…R−1.
    evidence
        Of the same image.

    Returns
    -------
    RegionGraph
        With one column of cue strength Σ √(nᵀJn) for each of the evidence's cues; J is averaged over the two pixels of
        a pair, n is the arc's mean normal. The normals of an arc that turns around a region cancel; there each pair
        takes its own strongest orientation, √λ_max.
    """
    size = int(basins.max()) + 1
    flat = basins.reshape(-1)
    pixel = np.arange(basins.size).reshape(basins.shape)
    across = np.nonzero((basins[:, :-1] != basins[:, 1:]).reshape(-1))[0]
    down = np.nonzero((basins[:-1] != basins[1:]).reshape(-1))[0]
    one = np.concatenate([pixel[:, :-1].reshape(-1)[across], pixel[:-1].reshape(-1)[down]])
    other = np.concatenate([pixel[:, 1:].reshape(-1)[across], pixel[1:].reshape(-1)[down]])
    first, second, arc = _joined(flat[one], flat[other], size)
    count = len(first)
    side = np.where(flat[one] < flat[other], 1.0, -1.0)
    horizontal = np.bincount(arc[: len(across)], side[: len(across)], count)
    vertical = np.bincount(arc[len(across) :], side[len(across) :], count)
    length = np.bincount(arc, minlength=count)
    norm = np.maximum(np.hypot(horizontal, vertical), 1e-9)
    nx, ny = (horizontal / norm).astype(np.float32)[arc], (vertical / norm).astype(np.float32)[arc]
    turning = (norm < STRAIGHT * length)[arc]
    arcs = np.empty((count, 1 + len(evidence.tensors)))
    arcs[:, 0] = length
    for cue, tensor in enumerate(evidence.tensors.reshape(len(evidence.tensors), 3, -1), 1):
        xx, xy, yy = ((plane[one] + plane[other]) / 2 for plane in tensor)
        form = nx * nx * xx + 2 * nx * ny * xy + ny * ny * yy
        form[turning] = largest_eigenvalue(xx[turning], xy[turning], yy[turning])
        arcs[:, cue] = np.bincount(arc, np.sqrt(np.maximum(0, form)), count)
    return RegionGraph(first, second, arcs, _region_sums(flat, size, evidence))


def _region_sums(flat: Integers, size: int, evidence: Contours) -> Floats:
    lab = evidence.lab.reshape(3, -1)
    columns = [np.bincount(flat, minlength=size)[:, None]]
    columns += [np.bincount(flat, plane, size)[:, None] for plane in lab]
    columns += [np.bincount(flat, plane * plane, size)[:, None] for plane in lab]
    bins = [*np.rint(lab * (LEVELS - 1)).astype(np.int64), evidence.words.reshape(-1)]
    for values, width in zip(bins, HISTOGRAMS, strict=True):
        columns.append(np.bincount(flat * width + values, minlength=size * width).reshape(size, width))
    return np.concatenate(columns, axis=1).astype(np.float64)


def merged(graph: RegionGraph, label: Integers) -> RegionGraph:
    """Merge regions: those with the same ``label`` (0…R'−1) become one; all sums add up."""
    size = int(label.max()) + 1
    into = sparse.csr_array((np.ones(graph.size), (label, np.arange(graph.size))), shape=(size, graph.size))
    first, second = label[graph.first], label[graph.second]
    kept = np.nonzero(first != second)[0]
    first, second, arc = _joined(first[kept], second[kept], size)
    join = sparse.csr_array((np.ones(len(kept)), (arc, kept)), shape=(len(first), len(graph.first)))
    return RegionGraph(first, second, join @ graph.arcs, into @ graph.regions)


def with_strength(graph: RegionGraph, strength: Floats) -> RegionGraph:
    """Add one more cue: a strength for each arc."""
    return RegionGraph(
        graph.first,
        graph.second,
        np.concatenate([graph.arcs, (strength * graph.length)[:, None]], axis=1),
        graph.regions,
    )


def features(graph: RegionGraph) -> Floats:
    """Describe each arc by what does not depend on the order of its two regions, (M, F).

    Mean strengths; χ² distances of the histograms; differences of mean Lab, plain and in units of the plainer side's
    deviation; deviations of L; sizes; and how much of each region's border the arc is.
    """
    first, second, length = graph.first, graph.second, graph.length
    area = graph.regions[:, 0]
    columns = list((graph.arcs[:, 1:] / length[:, None]).T)
    start = 7
    for width in HISTOGRAMS:
        share = graph.regions[:, start : start + width] / area[:, None]
        a, b = share[first], share[second]
        columns.append(np.sqrt(((a - b) ** 2 / (a + b + 1e-6)).sum(axis=1) / 2))
        start += width
    mean = graph.regions[:, 1:4] / area[:, None]
    variance = np.maximum(graph.regions[:, 4:7] / area[:, None] - mean**2, 0)
    step = np.abs(mean[first] - mean[second])
    columns += [step[:, 0], np.hypot(step[:, 1], step[:, 2])]
    smaller, larger = np.minimum(area[first], area[second]), np.maximum(area[first], area[second])
    columns += [np.log(smaller), np.log(length) - np.log(smaller) / 2, np.log(larger)]
    columns += list(np.log1p(step / (np.sqrt(np.minimum(variance[first], variance[second])) + 0.01)).T)
    deviation = np.sqrt(variance[:, 0])
    columns += [np.minimum(deviation[first], deviation[second]), np.maximum(deviation[first], deviation[second])]
    border = np.bincount(first, length, graph.size) + np.bincount(second, length, graph.size)
    shares = length / border[first], length / border[second]
    columns += [np.maximum(*shares), np.minimum(*shares)]
    return np.stack(columns, axis=1)


def spectral(graph: RegionGraph, strength: Floats, falloff: float = 0.12) -> Floats:
    """Distances of neighbours in the eigenvectors of the normalised cut, (M, 2).

    Arcs weigh length · exp(−strength / ``falloff``); the k-th vector counts 1/√λ_k. The first column uses four vectors,
    the second twelve.
    """
    size = graph.size
    count = min(VECTORS + 1, size - 1)
    if size < 8:
        return np.zeros((len(strength), 2))
    weight = graph.length * np.exp(-strength / falloff) + 1e-4
    pairs = (np.concatenate([graph.first, graph.second]), np.concatenate([graph.second, graph.first]))
    affinity = sparse.csc_array((np.concatenate([weight, weight]), pairs), shape=(size, size))
    degree = affinity.sum(axis=0)
    root = 1 / np.sqrt(degree)
    laplacian = sparse.eye_array(size, format="csc") - sparse.diags_array(root) @ affinity @ sparse.diags_array(root)
    if size <= DENSE:
        values, vectors = eigh(laplacian.toarray(), subset_by_index=(0, count - 1))
    else:
        values, vectors = eigsh(laplacian.tocsc(), k=count, sigma=-1e-3, which="LM", v0=np.sqrt(degree))
        order = np.argsort(values)
        values, vectors = values[order], vectors[:, order]
    vectors = vectors * root[:, None] * np.sqrt(degree.sum())
    squares = (vectors[graph.first, 1:] - vectors[graph.second, 1:]) ** 2 / np.maximum(values[1:], 1e-6)
    distances: Floats = np.sqrt(np.stack([squares[:, :4].sum(axis=1), squares.sum(axis=1)], axis=1))
    return np.log1p(distances)
