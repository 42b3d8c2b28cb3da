"""Three-level k-means (A, Eq. 2): level 1 on the vectors, each further level on the centres of the one before."""

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
    members : (K,) int64
        Corpus vectors below each centre.
    parent : (K,) int32
        Centre of the next coarser level, −1 at the coarsest.
    inertia
        Sum of squared distances from what was clustered at this level to its centres.
    """

    centres: NDArray[np.float32]
    members: NDArray[np.int64]
    parent: NDArray[np.int32]
    inertia: float


def normalise(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows to unit length; a zero row stays zero."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (vectors / np.maximum(norm, np.finfo(np.float32).tiny)).astype(np.float32, copy=False)
    return unit


def _kmeans(vectors: NDArray[np.float32], k: int, restarts: int, iterations: int, seed: int) -> NDArray[np.float32]:
    faiss.omp_set_num_threads(1)  # one order of summation: the same centres whatever the number of cores
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
    """Nearest centre of each vector by Euclidean distance, and the squared distances; (N,) both."""
    search = faiss.IndexFlatL2(centres.shape[1])
    search.add(np.ascontiguousarray(centres))
    distances, labels = search.search(np.ascontiguousarray(vectors), 1)
    return labels[:, 0], distances[:, 0]


def scaled(vectors: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    """Vectors as they are clustered: of unit length under ``cosine``."""
    return normalise(vectors) if metric == "cosine" else vectors


@dataclass(frozen=True)
class Corpus:
    """Vectors in blocks, of which one is in memory at a time.

    Attributes
    ----------
    name
        For messages.
    count
        Vectors in all.
    blocks
        Gives the blocks, (B, D) float32 each, in the same order whenever it is called.
    """

    name: str
    count: int
    blocks: Callable[[], Iterator[NDArray[np.float32]]]

    def sample(self, size: int, seed: int) -> NDArray[np.float32]:
        """At most ``size`` vectors in the corpus' order, each as likely as any other; all where there are no more."""
        rng = np.random.Generator(np.random.PCG64(seed))
        chosen = np.sort(rng.choice(self.count, size, replace=False)) if size < self.count else np.arange(self.count)
        found: NDArray[np.float32] | None = None
        start = done = 0
        for block in self.blocks():
            found = np.empty((len(chosen), block.shape[1]), np.float32) if found is None else found
            mine = chosen[done : np.searchsorted(chosen, start + len(block))] - start
            found[done : done + len(mine)] = block[mine]
            start, done = start + len(block), done + len(mine)
        return np.zeros((0, 1), np.float32) if found is None else found


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
    """Cluster a corpus at successively coarser levels.

    Parameters
    ----------
    corpus
        The vectors.
    clusters
        K of each level, falling.
    metric
        ``cosine``: vectors and the centres that are clustered again have unit length; ``euclidean``: as they are.
    restarts, iterations, seed
        Of every k-means run; the run of least inertia is kept.
    most
        Vectors that k-means sees: of a larger corpus, an even sample. Members and inertia are of the whole corpus.

    Raises
    ------
    InputError
        If a level has more clusters than there is to cluster.
    """
    if clusters[0] > corpus.count:
        raise InputError(
            f"prototypes.clusters asks for {clusters[0]} clusters, but the {corpus.name} corpus has {corpus.count} "
            "vectors; lower it, or add images (for regions: lower features.min_region_area)"
        )

    points = replace(corpus, blocks=lambda: (scaled(block, metric) for block in corpus.blocks()))
    centres = _kmeans(points.sample(most, seed), clusters[0], restarts, iterations, seed)
    members, inertia = np.zeros(clusters[0], np.int64), 0.0
    for block in points.blocks():
        labels, distances = nearest(block, centres)
        members += np.bincount(labels, minlength=clusters[0])
        inertia += float(distances.sum(dtype=np.float64))
    found = [(centres, members, inertia)]
    parents = []
    for k in clusters[1:]:
        finer, below = scaled(found[-1][0], metric), found[-1][1]
        centres = _kmeans(finer, k, restarts, iterations, seed)
        labels, distances = nearest(finer, centres)
        parents.append(labels.astype(np.int32))
        members = np.zeros(k, np.int64)
        np.add.at(members, labels, below)
        found.append((centres, members, float(distances.sum(dtype=np.float64))))
    parents.append(np.full(clusters[-1], -1, np.int32))
    return [Level(*level[:2], parent, level[2]) for level, parent in zip(found, parents, strict=True)]
