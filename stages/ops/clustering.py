"""Three-level k-means (A, Eq. 2): level 1 on the vectors, each further level on the centres of the one before."""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError


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
    unit: NDArray[np.float32] = (vectors / np.maximum(norm, np.finfo(np.float32).tiny)).astype(np.float32)
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


def _assign(vectors: NDArray[np.float32], centres: NDArray[np.float32]) -> tuple[NDArray[np.int64], float]:
    """Nearest centre of each vector by Euclidean distance, and the sum of squared distances."""
    search = faiss.IndexFlatL2(centres.shape[1])
    search.add(np.ascontiguousarray(centres))
    distances, labels = search.search(np.ascontiguousarray(vectors), 1)
    return labels[:, 0], float(distances.sum(dtype=np.float64))


def three_levels(
    vectors: NDArray[np.float32],
    clusters: list[int],
    *,
    metric: str,
    restarts: int,
    iterations: int,
    seed: int,
    name: str,
) -> list[Level]:
    """Cluster a corpus at successively coarser levels.

    Parameters
    ----------
    vectors : (R, D) float32
        The corpus.
    clusters
        K of each level, falling.
    metric
        ``cosine``: vectors and the centres that are clustered again have unit length; ``euclidean``: as they are.
    restarts, iterations, seed
        Of every k-means run; the run of least inertia is kept.
    name
        Of the corpus, for messages.

    Raises
    ------
    InputError
        If a level has more clusters than there is to cluster.
    """
    if clusters[0] > len(vectors):
        raise InputError(
            f"prototypes.clusters asks for {clusters[0]} clusters, but the {name} corpus has {len(vectors)} vectors; "
            "lower it, or add images (for regions: lower features.min_region_area)"
        )
    points, owners = (normalise(vectors) if metric == "cosine" else vectors), np.arange(len(vectors))
    found: list[tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64], float]] = []
    for k in clusters:
        centres = _kmeans(points, k, restarts, iterations, seed)
        labels, inertia = _assign(points, centres)
        owners = labels[owners]  # centre of each corpus vector at this level
        found.append((centres, np.bincount(owners, minlength=k).astype(np.int64), labels, inertia))
        points = normalise(centres) if metric == "cosine" else centres
    parents = [labels.astype(np.int32) for _, _, labels, _ in found[1:]] + [np.full(clusters[-1], -1, np.int32)]
    return [
        Level(centres, members, parent, inertia)
        for (centres, members, _, inertia), parent in zip(found, parents, strict=True)
    ]
