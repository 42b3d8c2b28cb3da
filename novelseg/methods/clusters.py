"""Clusters of feature cells: average linkage of a query's cells, and prototypes of the parts of supports."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from novelseg.methods.closed_form.head import spherical_kmeans
from novelseg.methods.contract import RefinementTask, SupportFeatures, side_inputs_of


def average_linkage(cells: Tensor, distance: float) -> Tensor:
    """Cluster cells by agglomeration with average linkage of the cosine distance, exactly.

    The mean similarity of two clusters is the sum of their entries in the matrix of all similarities, divided by the
    product of their sizes. In each round, all pairs of clusters that are each other's nearest merge at once: average
    linkage is reducible, so that a merger brings no other cluster closer, and the order of such mergers does not
    matter. Usually a few dozen rounds suffice.

    Parameters
    ----------
    cells : (N, C)
        Features of unit length.
    distance
        Clusters merge while the mean cosine distance between their cells is below this.

    Returns
    -------
    (N,) int64
        Cluster of each cell, numbered 0…K−1 in the order of their first cells.
    """
    sums = _symmetric(cells @ cells.T)  # (K, K), of the clusters so far
    sizes = cells.new_ones(len(cells))
    labels = torch.arange(len(cells), device=cells.device)
    while len(sizes) > 1:
        means = sums / (sizes[:, None] * sizes)
        means.fill_diagonal_(-torch.inf)
        nearest = means.argmax(1)  # of equal ones the first; thus the first of the closest pairs is always mutual
        own = torch.arange(len(sizes), device=cells.device)
        close = means.gather(1, nearest[:, None])[:, 0] > 1 - distance
        merging = (nearest[nearest] == own) & (own < nearest) & close
        if not merging.any():
            break
        into = own.clone()
        into[nearest[merging]] = own[merging]
        number = torch.unique(into, return_inverse=True)[1]
        count = int(number.max()) + 1
        rows = sums.new_zeros(count, len(sums)).index_add_(0, number, sums)
        sums = _symmetric(sums.new_zeros(count, count).index_add_(0, number, rows.T.contiguous()))
        sizes = sizes.new_zeros(count).index_add_(0, number, sizes)
        labels = number[labels]
    return labels


def _symmetric(matrix: Tensor) -> Tensor:
    """Remove the asymmetry that rounding causes, without which mutual neighbours might be missed."""
    return (matrix + matrix.T) / 2


def cluster_directions(cells: Tensor, labels: Tensor) -> Tensor:
    """Return the unit-length mean of the cells (N, C) of each cluster 0…K−1, (K, C)."""
    return F.normalize(cluster_averages(cells, labels), dim=1)


def cluster_averages(values: Tensor, labels: Tensor) -> Tensor:
    """Average values (N, D) over the cells of each cluster 0…K−1, (K, D)."""
    count = int(labels.max()) + 1
    sums = values.new_zeros(count, values.shape[1]).index_add_(0, labels, values)
    return sums / torch.bincount(labels, minlength=count)[:, None]


def query_clusters(task: RefinementTask, distance: float, tau: float | None) -> Tensor:
    """Return the cluster of each cell of the query, (hw,), numbered 0…K−1.

    Parameters
    ----------
    task
        The episode.
    distance
        Cosine distance at which average linkage stops.
    tau
        Contour strength at which the region hierarchy of the query is cut instead; None for average linkage.
    """
    if tau is None:
        return average_linkage(F.normalize(task.query.flatten(1), dim=0).T.contiguous(), distance)
    regions = side_inputs_of(task).regions(task.case.query, tau).flatten()
    numbers: Tensor = torch.unique(regions, return_inverse=True)[1]
    return numbers


def side_cells(supports: tuple[SupportFeatures, ...], side: int) -> Tensor:
    """Return the unit-length cells of background (0) or object (1) of all supports, (N, C).

    If no support has such a cell, because the object is small, the cells are the supports' pooled features.
    """
    parts = [support.features[:, support.labels == side].T for support in supports]
    cells = torch.cat(parts)
    if not len(cells):
        cells = torch.stack([support.prototypes[side] for support in supports])
    return F.normalize(cells, dim=1)


def side_prototypes(task: RefinementTask, side: int, count: int, seed: int, tau: float | None) -> Tensor:
    """Return prototypes of background (0) or object (1), (P, C) of unit length.

    Parameters
    ----------
    task
        The episode.
    side
        0 background, 1 object.
    count
        Number of clusters of k-means by cosine over the cells of all supports.
    seed
        Seed of the first centres.
    tau
        Contour strength at which the supports' region hierarchies are cut; each region's part of the side then gives a
        prototype. None for k-means.
    """
    if tau is None:
        return spherical_kmeans(side_cells(task.supports, side), count, seed)
    means = []
    for support, image in zip(task.supports, task.case.supports, strict=True):
        cells = support.features[:, support.labels == side].T
        if len(cells):
            regions = side_inputs_of(task).regions(image, tau)[support.labels == side]
            means.append(cluster_directions(F.normalize(cells, dim=1), torch.unique(regions, return_inverse=True)[1]))
    return torch.cat(means) if means else side_cells(task.supports, side)
