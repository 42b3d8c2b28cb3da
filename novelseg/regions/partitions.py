"""How well a segmentation agrees with those that people drew (Arbelaez et al., TPAMI 2011, section 5).

Region measures come from contingency tables: pixels shared by region i of the segmentation and region j of an
annotation. A series of ever coarser segmentations is scored from the table of its finest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

TOLERANCE = 0.0075  # of the image diagonal: how far a boundary pixel may lie from its partner

Labels = NDArray[np.integer]


@dataclass(frozen=True)
class RegionScores:
    """Scores of T segmentations of one image against all its annotations.

    Attributes
    ----------
    overlap : (T, G) float64
        Best intersection over union with each of the annotations' G regions.
    area : (G,) int64
        Areas of those regions, px.
    rand : (T,) float64
        Rand index, mean over annotations (PRI).
    variation : (T,) float64
        Variation of information in bits, mean over annotations (VI).
    count : (T,) int64
        Regions of the segmentations.
    """

    overlap: NDArray[np.float64]
    area: NDArray[np.int64]
    rand: NDArray[np.float64]
    variation: NDArray[np.float64]
    count: NDArray[np.int64]


def _entropy(counts: NDArray[Any], total: float) -> float:
    shares = counts[counts > 0] / total
    return float(-(shares * np.log2(shares)).sum())


def region_scores(finest: Labels, levels: Sequence[Labels], truths: Sequence[Labels]) -> RegionScores:
    """Score segmentations of one image by their regions.

    Parameters
    ----------
    finest : (H, W) integers
        Label map 0…L−1 of which every scored segmentation is a coarsening.
    levels : T arrays (L,)
        Region of each of its labels, 0…R−1; for a single segmentation, ``[np.arange(L)]``.
    truths : label maps (H, W)
        One an annotator, numbered from 0.

    Returns
    -------
    RegionScores
    """
    flat = finest.reshape(-1).astype(np.int64)
    pixels = float(flat.size)
    overlaps, areas = [], []
    rand = np.zeros(len(levels))
    variation = np.zeros(len(levels))
    for truth in truths:
        regions = int(truth.max()) + 1
        table = np.bincount(flat * regions + truth.reshape(-1).astype(np.int64))
        cells = np.nonzero(table)[0]
        weight, leaf, theirs = table[cells].astype(np.float64), cells // regions, cells % regions
        true_area = np.bincount(theirs, weight, regions)
        best = np.zeros((len(levels), regions))
        for number, level in enumerate(levels):
            mine = level[leaf].astype(np.int64)
            keys, cell = np.unique(mine * regions + theirs, return_inverse=True)
            shared = np.bincount(cell, weight)
            row, column = keys // regions, keys % regions
            area = np.bincount(row, shared)
            np.maximum.at(best[number], column, shared / (area[row] + true_area[column] - shared))
            squares = ((area**2).sum() + (true_area**2).sum()) / 2 - (shared**2).sum()
            rand[number] += 1 - squares / max(1.0, pixels * (pixels - 1) / 2)
            joint = _entropy(shared, pixels)
            variation[number] += 2 * joint - _entropy(area, pixels) - _entropy(true_area, pixels)
        seen = true_area > 0
        overlaps.append(best[:, seen])
        areas.append(true_area[seen].astype(np.int64))
    return RegionScores(
        np.concatenate(overlaps, axis=1),
        np.concatenate(areas),
        rand / len(truths),
        variation / len(truths),
        np.array([len(np.unique(level)) for level in levels]),
    )


def boundary(labels: Labels) -> NDArray[np.bool_]:
    """Boundary pixels, thinned to lines one pixel wide.

    Before thinning these are the pixels whose label differs from the pixel to the right, below, or below to the right.
    """
    found = np.zeros(labels.shape, bool)
    found[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    found[:-1] |= labels[:-1] != labels[1:]
    found[:-1, :-1] |= labels[:-1, :-1] != labels[1:, 1:]
    thinned: NDArray[np.bool_] = skeletonize(found)
    return thinned


def match_boundaries(
    mine: NDArray[np.bool_], theirs: NDArray[np.bool_], tolerance: float = TOLERANCE
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pair boundary pixels one to one, the nearest first.

    Offsets are taken in the order of their length (then row, then column); at one offset all pairs of still unmatched
    pixels are matched. Each pixel has at most one partner, none farther than ``tolerance`` times the diagonal.

    Returns
    -------
    tuple of (H, W) bool
        Matched pixels of ``mine`` and of ``theirs``.
    """
    height, width = mine.shape
    reach = tolerance * float(np.hypot(height, width))
    rows, columns = min(int(reach), height - 1), min(int(reach), width - 1)
    grid = product(range(-rows, rows + 1), range(-columns, columns + 1))
    offsets = [(dy, dx) for dy, dx in grid if dy * dy + dx * dx <= reach**2]
    free, open_ = mine.copy(), theirs.copy()
    for dy, dx in sorted(offsets, key=lambda offset: (offset[0] ** 2 + offset[1] ** 2, offset)):
        here = np.s_[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
        there = np.s_[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
        pairs = free[here] & open_[there]
        free[here] ^= pairs
        open_[there] ^= pairs
    return mine & ~free, theirs & ~open_


def boundary_counts(mine: NDArray[np.bool_], truths: Sequence[NDArray[np.bool_]]) -> NDArray[np.int64]:
    """Matched and all boundary pixels of a segmentation, then of the annotations, (4,).

    A pixel of the segmentation counts as matched when some annotation's pixel is its partner; the annotations' pixels
    are summed over annotators.
    """
    hit = np.zeros_like(mine)
    found = total = 0
    for theirs in truths:
        ours, paired = match_boundaries(mine, theirs)
        hit |= ours
        found += int(paired.sum())
        total += int(theirs.sum())
    return np.array([hit.sum(), mine.sum(), found, total], np.int64)


def joined(parts: Sequence[RegionScores]) -> RegionScores:
    """Scores of several runs of segmentations of one image as one run."""
    return RegionScores(
        np.concatenate([part.overlap for part in parts]),
        parts[0].area,
        np.concatenate([part.rand for part in parts]),
        np.concatenate([part.variation for part in parts]),
        np.concatenate([part.count for part in parts]),
    )


@dataclass(frozen=True)
class Summary:
    """A method's scores on a set of images: at one level for all (ODS), at each image's best (OIS), and best of all."""

    level: int
    covering_ods: float
    covering_ois: float
    covering_best: float
    rand_ods: float
    rand_ois: float
    variation_ods: float
    variation_ois: float
    regions: float


def summarise(scores: Sequence[RegionScores]) -> Summary:
    """Join the scores of images (ODS, OIS, best).

    Covering sums over all annotations' regions of all images, each weighted by its area; PRI and VI are means over
    images. Each measure has its own best level; ``level`` and ``regions`` (mean number) belong to covering's.
    """
    covered = np.stack([score.overlap @ score.area for score in scores])
    total = sum(int(score.area.sum()) for score in scores)
    per_level = covered.sum(axis=0) / total
    level = int(per_level.argmax())
    best = sum(float(score.overlap.max(axis=0) @ score.area) for score in scores)
    rand = np.stack([score.rand for score in scores])
    variation = np.stack([score.variation for score in scores])
    return Summary(
        level,
        float(per_level[level]),
        float(covered.max(axis=1).sum()) / total,
        best / total,
        float(rand.mean(axis=0).max()),
        float(rand.max(axis=1).mean()),
        float(variation.mean(axis=0).min()),
        float(variation.min(axis=1).mean()),
        float(np.mean([score.count[level] for score in scores])),
    )


def boundary_f(counts: NDArray[np.int64]) -> tuple[float, float, float]:
    """Precision, recall and F of summed ``boundary_counts``."""
    precision = float(counts[0] / max(1, counts[1]))
    recall = float(counts[2] / max(1, counts[3]))
    return precision, recall, 2 * precision * recall / max(1e-12, precision + recall)
