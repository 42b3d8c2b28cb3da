"""Closed-form head: fits one or several classes to supports by sums and one linear system, and scores queries.

Three scores of each query cell are added: a linear discriminant of each class against the background, with the
covariance of all support cells; the similarity to the nearest of several prototypes of the class minus that of the
background; and matching with prototypes that include the query's own confident cells, as in self-support matching. The
sum is then averaged over similar cells of the query, and the differences between classes over less similar ones too, so
that an object gets one class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from novelseg.core.labels import VOID
from novelseg.methods.closed_form.settings import ClosedFormSettings

MAX_PROTOTYPES = 64  # per class, and for the background; more are clustered again
KMEANS_STEPS = 8
AFFINITY_ROWS = 1 << 22  # entries of the self-similarity that are in memory at a time
CHOICE = 0.15  # temperature of the self-similarity for differences between classes (decision 0016)


@dataclass(frozen=True)
class SupportCells:
    """Cells of one support.

    Attributes
    ----------
    features : (N, C)
        Features of the cells that are not void, of unit length.
    labels : (N,) int64
        0 background, 1 … K the classes.
    """

    features: Tensor
    labels: Tensor


def support_cells(features: Tensor, labels: Tensor) -> SupportCells:
    """Gather the labelled cells of a support.

    Parameters
    ----------
    features : (C, h, w)
        Features of the image.
    labels : (h, w) integer
        0 background, 1 … K the classes, 255 void.
    """
    known = labels.flatten() != VOID
    return SupportCells(F.normalize(features.flatten(1)[:, known].T, dim=1), labels.flatten()[known].long())


@dataclass(frozen=True)
class Head:
    """A fitted head; it no longer needs the supports.

    Attributes
    ----------
    settings
        Its settings.
    directions : (K, C), offsets : (K,)
        Discriminant of each class against the background: positive on the class.
    weights : (K,)
        Factor of each class's discriminant.
    means : (K + 1, C)
        Unit-length mean of the pooled features of background and classes.
    prototypes : (P, C)
        Prototypes of background and classes, in this order, of unit length.
    counts
        Number of prototypes of background and of each class.
    """

    settings: ClosedFormSettings
    directions: Tensor
    offsets: Tensor
    weights: Tensor
    means: Tensor
    prototypes: Tensor
    counts: tuple[int, ...]

    def to(self, device: torch.device) -> Head:
        """Return the head on a device."""
        return Head(
            self.settings,
            self.directions.to(device),
            self.offsets.to(device),
            self.weights.to(device),
            self.means.to(device),
            self.prototypes.to(device),
            self.counts,
        )

    def scores(self, query: Tensor) -> Tensor:
        """Score the cells of a query.

        Parameters
        ----------
        query : (C, h, w)
            Features of the query.

        Returns
        -------
        (K, h, w)
            Logit of each class against the background, whose logit is 0.
        """
        return self.scores_of(F.normalize(query, dim=0))

    def scores_of(self, unit: Tensor) -> Tensor:
        """Score cells whose features (C, h, w) have unit length, like :meth:`scores`."""
        settings = self.settings
        cells = unit.flatten(1)  # (C, hw)
        discriminant = self.discriminant(cells)
        logits = self.weights[:, None] * discriminant
        logits = logits + settings.scale * self.nearest(cells)
        logits = logits + settings.scale * self._matched(cells, discriminant)
        shaped = logits.unflatten(1, unit.shape[1:])
        return (
            average_over_similar(unit, shaped, settings.affinity, settings.reduction) if settings.affinity else shaped
        )

    def discriminant(self, cells: Tensor) -> Tensor:
        """Return the discriminants of cells (C, hw), (K, hw)."""
        return self.directions @ cells + self.offsets[:, None]

    def nearest(self, cells: Tensor) -> Tensor:
        """Return the soft maximum of the similarities to each class's prototypes, minus the background's, (K, hw)."""
        temperature = self.settings.temperature
        similarity = (self.prototypes @ cells / temperature).split(self.counts)
        nearest = torch.stack([temperature * part.logsumexp(0) for part in similarity])
        return nearest[1:] - nearest[0]

    def _matched(self, cells: Tensor, discriminant: Tensor) -> Tensor:
        """Match with prototypes that are half the query's own, (K, hw)."""
        settings = self.settings
        confidence = (self.weights[:, None] * discriminant).sigmoid()
        background = (1 - confidence > settings.tau_bg).all(0, keepdim=True)
        rank = torch.cat([-discriminant.amax(0, keepdim=True), discriminant])
        chosen = torch.cat([background, confidence > settings.tau_fg])  # (K + 1, hw)
        best = rank.topk(min(settings.fallback_cells, rank.shape[1]), dim=1).indices
        fallback = torch.zeros_like(chosen).scatter_(1, best, True)
        chosen = torch.where(chosen.any(1, keepdim=True), chosen, fallback)
        own = F.normalize(chosen.to(cells) @ cells.T, dim=1)
        similarity = F.normalize(self.means + own, dim=1) @ cells
        return similarity[1:] - similarity[0]


def fit(supports: Sequence[SupportCells], classes: int, settings: ClosedFormSettings) -> Head:
    """Fit the head.

    Parameters
    ----------
    supports
        Cells of the supports; each of the classes, and the background, has a cell in at least one of them.
    classes
        Number K of classes.
    settings
        Its settings.

    Returns
    -------
    Head
        Equal supports in the same order give an equal head.

    Raises
    ------
    ValueError
        If a class or the background has no cell in any support.
    """
    return combine([statistics_of(one, classes, settings) for one in supports], settings)


@dataclass(frozen=True)
class Statistics:
    """What the head needs of one support.

    Attributes
    ----------
    counts : (K + 1,)
        Cells of background and classes.
    sums : (K + 1, C)
        Sums of their features.
    products
        For each label that it shows, the sum of the features' outer products, (C, C).
    prototypes
        For each label that it shows, its prototypes, (P, C).
    """

    counts: Tensor
    sums: Tensor
    products: dict[int, Tensor]
    prototypes: dict[int, Tensor]


def statistics_of(support: SupportCells, classes: int, settings: ClosedFormSettings) -> Statistics:
    """Compute what the head needs of a support.

    Parameters
    ----------
    support
        Its cells.
    classes
        Number K of classes.
    settings
        Settings of the head.
    """
    features, labels = support.features, support.labels
    parts = {label: features[labels == label] for label in labels.unique().tolist()}
    sums = features.new_zeros(classes + 1, features.shape[1])
    products, prototypes = {}, {}
    for label, part in parts.items():
        sums[label] = part.sum(0)
        products[label] = part.T @ part
        count = settings.object_prototypes if label else settings.background_prototypes
        prototypes[label] = spherical_kmeans(part, count, settings.seed)
    return Statistics(torch.bincount(labels, minlength=classes + 1), sums, products, prototypes)


def combine(supports: Sequence[Statistics], settings: ClosedFormSettings) -> Head:
    """Fit the head to the statistics of supports; see :func:`fit`."""
    cells = torch.stack([one.counts for one in supports])  # (S, K + 1)
    missing = (cells.sum(0) == 0).nonzero().flatten().tolist()
    if missing:
        raise ValueError(f"{'class ' + str(missing[0]) if missing[0] else 'the background'} has no cell in any support")
    means, covariance = _moments(supports, cells)
    ridge = settings.ridge * covariance.diagonal().mean()
    covariance.diagonal().add_(ridge)
    # With one class this is ridge regression of +1 and -1, each side with half of the weight.
    directions = torch.linalg.solve(covariance, (means[1:] - means[0]).T / 2).T
    offsets = -(directions * (means[1:] + means[0]) / 2).sum(1)
    shown = (cells[:, 1:] > 0).sum(0)  # supports of each class
    prototypes = [_prototypes(supports, label, settings) for label in range(cells.shape[1])]
    return Head(
        settings,
        directions,
        offsets,
        settings.discriminant_weight * (shown - 1) / shown,
        torch.stack([_mean_of_means(supports, label) for label in range(cells.shape[1])]),
        torch.cat(prototypes),
        tuple(len(part) for part in prototypes),
    )


def _moments(supports: Sequence[Statistics], cells: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means (K + 1, C) of background and classes, and the covariance (C, C) of all cells.

    In the covariance the background has half of the weight, and the classes share the other half equally.
    """
    sums = torch.stack([one.sums for one in supports]).sum(0)
    share = sums.new_full((cells.shape[1],), 0.5 / (cells.shape[1] - 1))
    share[0] = 0.5
    weight = (share / cells.sum(0)).tolist()  # of one cell
    products = sums.new_zeros(sums.shape[1], sums.shape[1])
    for support in supports:
        for label, product in support.products.items():
            products.add_(product, alpha=weight[label])
    means = sums / cells.sum(0)[:, None]
    mean = share @ means
    return means, products.addr_(mean, mean, alpha=-1)


def _mean_of_means(supports: Sequence[Statistics], label: int) -> Tensor:
    """Return the unit-length mean of the supports' mean features of a label, (C,)."""
    pooled = [one.sums[label] / one.counts[label] for one in supports if label in one.products]
    return F.normalize(torch.stack(pooled).mean(0), dim=0)


def _prototypes(supports: Sequence[Statistics], label: int, settings: ClosedFormSettings) -> Tensor:
    """Return the prototypes of a label, (P, C): cluster centres of each support's cells, at most 64 in all."""
    centres = torch.cat([one.prototypes[label] for one in supports if label in one.prototypes])
    return centres if len(centres) <= MAX_PROTOTYPES else spherical_kmeans(centres, MAX_PROTOTYPES, settings.seed)


def spherical_kmeans(cells: Tensor, count: int, seed: int) -> Tensor:
    """Cluster unit-length features by cosine similarity.

    Parameters
    ----------
    cells : (N, C)
        Features of unit length.
    count
        Number P of clusters; with at most as many cells, each cell is a centre.
    seed
        Seed of the draw of the first centres.

    Returns
    -------
    (P, C)
        Centres of unit length; a cluster that loses all its cells keeps its centre.
    """
    if len(cells) <= count:
        return cells
    generator = torch.Generator().manual_seed(seed)
    centres = cells[torch.randperm(len(cells), generator=generator)[:count].to(cells.device)]
    for _ in range(KMEANS_STEPS):
        nearest = (cells @ centres.T).argmax(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, cells)
        empty = torch.bincount(nearest, minlength=count) == 0
        centres = torch.where(empty[:, None], centres, F.normalize(sums, dim=1))
    return centres


def average_over_similar(unit: Tensor, scores: Tensor, temperature: float, reduction: int) -> Tensor:
    """Average scores over similar cells: softmax of the cosine similarities between blocks of cells.

    Of several classes, the largest of the averaged scores is kept. Which class has it follows from the differences
    between the classes, averaged at the temperature ``CHOICE``, in which blocks count by the sigmoid of their largest
    score: parts of one object differ more than the object differs from the background, but have one class.

    Parameters
    ----------
    unit : (C, h, w)
        Features of unit length.
    scores : (K, h, w)
        Scores of the cells.
    temperature
        Temperature of the softmax.
    reduction
        Side of a block, in cells.

    Returns
    -------
    (K, h, w)
        Averaged scores, interpolated between the centres of the blocks.
    """
    blocks = F.normalize(_block_means(unit, reduction), dim=0)
    rows, columns = blocks.shape[1:]
    flat, values = blocks.flatten(1), _block_means(scores, reduction).flatten(1).T  # (C, n), (n, K)
    differences, importance = values - values.mean(1, keepdim=True), F.logsigmoid(values.amax(1))
    step = max(1, AFFINITY_ROWS // flat.shape[1])
    averaged = []
    for at in range(0, len(values), step):
        similarity = flat[:, at : at + step].T @ flat
        part = (similarity / temperature).softmax(1) @ values
        if len(scores) > 1:
            choice = (similarity / CHOICE + importance).softmax(1) @ differences
            part = part.amax(1, keepdim=True) + choice - choice.amax(1, keepdim=True)
        averaged.append(part)
    coarse = torch.cat(averaged).T.unflatten(1, (rows, columns))[None]
    size = (rows * reduction, columns * reduction)
    fine: Tensor = F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)[0]
    return fine[:, : unit.shape[1], : unit.shape[2]]


def _block_means(values: Tensor, side: int) -> Tensor:
    """Average (D, h, w) over blocks; blocks at the border may be smaller."""
    means: Tensor = F.avg_pool2d(values[None], side, ceil_mode=True, count_include_pad=False)[0]
    return means
