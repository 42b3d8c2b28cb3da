"""Region adjacency graph with measurements of regions and arcs, which are sums, so that merging adds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh

from novelseg.regions.contours import TEXTON_COUNT, Contours, largest_eigenvalue

LEVELS = 16  # hard bins of a Lab channel
HISTOGRAMS = (LEVELS, LEVELS, LEVELS, TEXTON_COUNT)  # numbers of bins: L, a, b, textons
FEATURES = 28  # features of an arc before its first rating
VECTORS = 12  # eigenvectors of the normalised cut
# An arc whose summed normals are shorter than this share of its length turns around a region. For comparison, the share
# is 0.7 to 1 for a straight arc and 0 for a closed one.
STRAIGHT = 0.2
DENSE = 160  # maximum number of regions for the dense eigensolver; larger graphs use the sparse one

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class RegionGraph:
    """Regions of an image and the arcs (boundaries) between neighbouring regions.

    Attributes
    ----------
    first, second : (M,) int64
        The two regions of each arc, ``first < second``, sorted by ``first``, then ``second``.
    arcs : (M, 1 + K) float64
        Sums along each arc: its length in pixel pairs, then the strength of each of K cues.
    regions : (R, 1 + 3 + 3 + 80) float64
        Sums over each region: area in px, Lab, squared Lab, and histograms of L, a, b and textons.
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
        """Number K of cues whose strength is measured on each arc."""
        return int(self.arcs.shape[1]) - 1

    @property
    def length(self) -> Floats:
        """Length of each arc, in pixel pairs; (M,)."""
        return self.arcs[:, 0]


def _distinct_pairs(first: Integers, second: Integers, size: int) -> tuple[Integers, Integers, Integers]:
    """Return the distinct unordered pairs (smaller, larger) of regions 0…size−1, and for each given pair its number."""
    keys, number = np.unique(np.minimum(first, second) * size + np.maximum(first, second), return_inverse=True)
    return keys // size, keys % size, number


def measure(basins: Integers, evidence: Contours) -> RegionGraph:
    """Measure the regions of a label map and the arcs between them.

    Parameters
    ----------
    basins : (H, W) int64
        Region of each pixel, 0…R−1.
    evidence
        Contour evidence of the same image.

    Returns
    -------
    RegionGraph
        The graph; the strength of each cue is Σ √(nᵀJn) over the pixel pairs of an arc, where J is the mean of the two
        pixels and n the mean normal of the arc. If an arc turns around a region, its normals cancel, and each pair
        contributes its strongest orientation √λ_max instead.
    """
    size = int(basins.max()) + 1
    flat = basins.reshape(-1)
    pixel = np.arange(basins.size).reshape(basins.shape)
    across = np.nonzero((basins[:, :-1] != basins[:, 1:]).reshape(-1))[0]
    down = np.nonzero((basins[:-1] != basins[1:]).reshape(-1))[0]
    near = np.concatenate([pixel[:, :-1].reshape(-1)[across], pixel[:-1].reshape(-1)[down]])
    far = np.concatenate([pixel[:, 1:].reshape(-1)[across], pixel[1:].reshape(-1)[down]])
    first, second, arc = _distinct_pairs(flat[near], flat[far], size)
    count = len(first)
    sign = np.where(flat[near] < flat[far], 1.0, -1.0)  # normals point from the first region to the second
    horizontal = np.bincount(arc[: len(across)], sign[: len(across)], count)
    vertical = np.bincount(arc[len(across) :], sign[len(across) :], count)
    length = np.bincount(arc, minlength=count)
    norm = np.maximum(np.hypot(horizontal, vertical), 1e-9)
    nx, ny = (horizontal / norm).astype(np.float32)[arc], (vertical / norm).astype(np.float32)[arc]
    turning = (norm < STRAIGHT * length)[arc]
    arcs = np.empty((count, 1 + len(evidence.tensors)))
    arcs[:, 0] = length
    for cue, tensor in enumerate(evidence.tensors.reshape(len(evidence.tensors), 3, -1), 1):
        xx, xy, yy = ((plane[near] + plane[far]) / 2 for plane in tensor)
        form = nx * nx * xx + 2 * nx * ny * xy + ny * ny * yy
        form[turning] = largest_eigenvalue(xx[turning], xy[turning], yy[turning])
        arcs[:, cue] = np.bincount(arc, np.sqrt(np.maximum(0, form)), count)
    return RegionGraph(first, second, arcs, _region_sums(flat, size, evidence))


def _region_sums(flat: Integers, size: int, evidence: Contours) -> Floats:
    """Compute :attr:`RegionGraph.regions` from the region of each pixel, (H·W,)."""
    lab = evidence.lab.reshape(3, -1)
    columns = [np.bincount(flat, minlength=size)[:, None]]
    columns += [np.bincount(flat, plane, size)[:, None] for plane in lab]
    columns += [np.bincount(flat, plane * plane, size)[:, None] for plane in lab]
    bins = [*np.rint(lab * (LEVELS - 1)).astype(np.int64), evidence.textons.reshape(-1)]
    for values, width in zip(bins, HISTOGRAMS, strict=True):
        columns.append(np.bincount(flat * width + values, minlength=size * width).reshape(size, width))
    return np.concatenate(columns, axis=1).astype(np.float64)


def merge_regions(graph: RegionGraph, label: Integers) -> RegionGraph:
    """Merge all regions that have the same label (R,), 0…R′−1, and add their sums and those of their arcs."""
    size = int(label.max()) + 1
    add_regions = sparse.csr_array((np.ones(graph.size), (label, np.arange(graph.size))), shape=(size, graph.size))
    first, second = label[graph.first], label[graph.second]
    outer = np.nonzero(first != second)[0]  # arcs that still separate two regions
    first, second, arc = _distinct_pairs(first[outer], second[outer], size)
    add_arcs = sparse.csr_array((np.ones(len(outer)), (arc, outer)), shape=(len(first), len(graph.first)))
    return RegionGraph(first, second, add_arcs @ graph.arcs, add_regions @ graph.regions)


def with_strength(graph: RegionGraph, strength: Floats) -> RegionGraph:
    """Return the graph with one more cue, whose mean strength along each arc is ``strength`` (M,)."""
    return RegionGraph(
        graph.first,
        graph.second,
        np.concatenate([graph.arcs, (strength * graph.length)[:, None]], axis=1),
        graph.regions,
    )


def features(graph: RegionGraph) -> Floats:
    """Compute the features of each arc, (M, F), which do not depend on the order of its two regions.

    They are: the mean strength of each cue; χ² distances of the histograms; differences in lightness and in chroma
    (a, b); sizes of the regions and the arc; differences in mean L, a and b relative to the smaller standard deviation;
    standard deviations of L; and the shares of the two regions' borders that the arc makes up.
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
    difference = np.abs(mean[first] - mean[second])
    columns += [difference[:, 0], np.hypot(difference[:, 1], difference[:, 2])]
    smaller, larger = np.minimum(area[first], area[second]), np.maximum(area[first], area[second])
    columns += [np.log(smaller), np.log(length) - np.log(smaller) / 2, np.log(larger)]
    columns += list(np.log1p(difference / (np.sqrt(np.minimum(variance[first], variance[second])) + 0.01)).T)
    deviation = np.sqrt(variance[:, 0])
    columns += [np.minimum(deviation[first], deviation[second]), np.maximum(deviation[first], deviation[second])]
    border = np.bincount(first, length, graph.size) + np.bincount(second, length, graph.size)
    shares = length / border[first], length / border[second]
    columns += [np.maximum(*shares), np.minimum(*shares)]
    return np.stack(columns, axis=1)


def spectral(graph: RegionGraph, strength: Floats, falloff: float = 0.12) -> Floats:
    """Compute the distance of the two regions of each arc in the eigenvectors of the normalised cut, (M, 2).

    The affinity of two regions is length · exp(−strength / ``falloff``); the k-th eigenvector has the weight 1/√λ_k.
    The first column uses four eigenvectors, the second twelve. Both are log(1 + distance), or 0 for graphs of fewer
    than eight regions.
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
