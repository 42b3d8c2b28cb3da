"""Three-level k-means (A, Eq. 2): level 1 on the vectors, each further level on the centres of the previous one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import faiss
import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError


@dataclass(frozen=True)
class Level:
    """One level of prototypes.

    Attributes
    ----------
    centres : (K, D) float32
        Centres of the clusters.
    members : (K,) int64
        Number of corpus vectors below each centre.
    parent : (K,) int32
        Number of the centre at the next coarser level; −1 at the coarsest.
    inertia
        Sum of squared distances from the vectors clustered at this level to their centres.
    """

    centres: NDArray[np.float32]
    members: NDArray[np.int64]
    parent: NDArray[np.int32]
    inertia: float


def normalise(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to unit length; a zero row stays zero."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (vectors / np.maximum(norm, np.finfo(np.float32).tiny)).astype(np.float32, copy=False)
    return unit


def _kmeans(vectors: NDArray[np.float32], k: int, restarts: int, iterations: int, seed: int) -> NDArray[np.float32]:
    """Return the centres, (k, D), of the k-means run with the lowest inertia."""
    faiss.omp_set_num_threads(1)  # a fixed order of summation: the same centres on any number of cores
    run = faiss.Kmeans(
        vectors.shape[1],
        k,
        niter=iterations,
        nredo=restarts,
        seed=seed % (1 << 31),
        min_points_per_centroid=1,
        max_points_per_centroid=max(256, -(-len(vectors) // k)),
    )
    run.train(np.ascontiguousarray(vectors))
    return np.asarray(run.centroids, np.float32)


def nearest(
    vectors: NDArray[np.float32], centres: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the nearest centre of each vector by Euclidean distance, and the squared distances; (N,) both."""
    search = faiss.IndexFlatL2(centres.shape[1])
    search.add(np.ascontiguousarray(centres))
    distances, labels = search.search(np.ascontiguousarray(vectors), 1)
    return labels[:, 0], distances[:, 0]


def scaled(vectors: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    """Scale vectors to unit length if the metric is ``cosine``; otherwise return them unchanged."""
    return normalise(vectors) if metric == "cosine" else vectors


@dataclass(frozen=True)
class Corpus:
    """A collection of vectors that is read block by block, with one block in memory at a time.

    Attributes
    ----------
    name
        Name for messages.
    count
        Number of vectors.
    blocks
        Function that yields the blocks, (B, D) float32 each, in the same order on every call.
    """

    name: str
    count: int
    blocks: Callable[[], Iterator[NDArray[np.float32]]]

    def sample(self, size: int, seed: int) -> NDArray[np.float32]:
        """Draw ``size`` vectors uniformly without replacement, or all if the corpus has fewer; in corpus order."""
        rng = np.random.Generator(np.random.PCG64(seed))
        indices = np.sort(rng.choice(self.count, size, replace=False)) if size < self.count else np.arange(self.count)
        sample: NDArray[np.float32] | None = None
        start = filled = 0
        for block in self.blocks():
            sample = np.empty((len(indices), block.shape[1]), np.float32) if sample is None else sample
            rows = indices[filled : np.searchsorted(indices, start + len(block))] - start
            sample[filled : filled + len(rows)] = block[rows]
            start, filled = start + len(block), filled + len(rows)
        return np.zeros((0, 1), np.float32) if sample is None else sample


def three_levels(
    corpus: Corpus,
    clusters: list[int],
    *,
    metric: str,
    restarts: int,
    iterations: int,
    seed: int,
    most: int,
) -> list[Level]:
    """Cluster a corpus at successively coarser levels by k-means.

    Parameters
    ----------
    corpus
        The vectors.
    clusters
        Number of clusters K of each level, decreasing.
    metric
        ``cosine``: vectors, and centres before the next level clusters them, are scaled to unit length; ``euclidean``:
        they are not scaled.
    restarts, iterations, seed
        Restarts, iterations and seed of every k-means run; the restart with the lowest inertia is used.
    most
        Maximum number of vectors for k-means; a larger corpus is sampled uniformly. Members and inertia refer to the
        whole corpus in any case.

    Returns
    -------
    list of Level
        The levels, from fine to coarse.

    Raises
    ------
    InputError
        If the first level has more clusters than the corpus has vectors.
    """
    if clusters[0] > corpus.count:
        raise InputError(
            f"prototypes.clusters starts with {clusters[0]} clusters, but the {corpus.name} corpus has {corpus.count} "
            "vectors; lower prototypes.clusters, or add images (for regions: lower features.min_region_area)"
        )

    points = replace(corpus, blocks=lambda: (scaled(block, metric) for block in corpus.blocks()))
    centres = _kmeans(points.sample(most, seed), clusters[0], restarts, iterations, seed)
    members, inertia = np.zeros(clusters[0], np.int64), 0.0
    for block in points.blocks():
        labels, distances = nearest(block, centres)
        members += np.bincount(labels, minlength=clusters[0])
        inertia += float(distances.sum(dtype=np.float64))
    levels = [(centres, members, inertia)]
    parents = []
    for k in clusters[1:]:
        finer_centres, finer_members = scaled(levels[-1][0], metric), levels[-1][1]
        centres = _kmeans(finer_centres, k, restarts, iterations, seed)
        labels, distances = nearest(finer_centres, centres)
        parents.append(labels.astype(np.int32))
        members = np.zeros(k, np.int64)
        np.add.at(members, labels, finer_members)
        levels.append((centres, members, float(distances.sum(dtype=np.float64))))
    parents.append(np.full(clusters[-1], -1, np.int32))
    return [Level(*level[:2], parent, level[2]) for level, parent in zip(levels, parents, strict=True)]
