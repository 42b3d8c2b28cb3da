"""Measures of agreement between segmentations and human annotations (Arbelaez et al., TPAMI 2011, section 5).

Region measures are computed from contingency tables: the number of pixels that region i of a segmentation shares with
region j of an annotation. A series of successively coarser segmentations is scored from the table of the finest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

TOLERANCE = 0.0075  # maximum distance of matched boundary pixels, as a share of the image diagonal

Labels = NDArray[np.integer]


@dataclass(frozen=True)
class RegionScores:
    """Region measures of T segmentations of one image against all its annotations.

    Attributes
    ----------
    overlap : (T, G) float64
        Intersection over union of each of the G annotated regions with its best region of the segmentation.
    area : (G,) int64
        Areas of the annotated regions, px.
    rand : (T,) float64
        Rand index, mean over annotations (PRI).
    variation : (T,) float64
        Variation of information in bits, mean over annotations (VI).
    count : (T,) int64
        Number of regions of each segmentation.
    """

    overlap: NDArray[np.float64]
    area: NDArray[np.int64]
    rand: NDArray[np.float64]
    variation: NDArray[np.float64]
    count: NDArray[np.int64]


def _entropy(counts: NDArray[Any], total: float) -> float:
    """Return the entropy of counts that sum to ``total``, in bits."""
    shares = counts[counts > 0] / total
    return float(-(shares * np.log2(shares)).sum())


def region_scores(finest: Labels, levels: Sequence[Labels], truths: Sequence[Labels]) -> RegionScores:
    """Score segmentations of one image by their regions.

    Parameters
    ----------
    finest : (H, W) integer
        The finest segmentation, a label map 0…L−1; the others join its regions.
    levels : list of (L,) integer
        For each of T segmentations, the region 0…R−1 of each label of ``finest``; ``[np.arange(L)]`` for ``finest``
        alone.
    truths : list of (H, W) integer
        Label map of each annotator, numbered from 0.

    Returns
    -------
    RegionScores
        Scores of the T segmentations.
    """
    flat = finest.reshape(-1).astype(np.int64)
    pixels = float(flat.size)
    overlaps, areas = [], []
    rand = np.zeros(len(levels))
    variation = np.zeros(len(levels))
    for truth in truths:
        regions = int(truth.max()) + 1
        table = np.bincount(flat * regions + truth.reshape(-1).astype(np.int64))
        entries = np.nonzero(table)[0]
        weight, label, annotated = table[entries].astype(np.float64), entries // regions, entries % regions
        true_area = np.bincount(annotated, weight, regions)
        best = np.zeros((len(levels), regions))
        for number, level in enumerate(levels):
            predicted = level[label].astype(np.int64)
            keys, entry = np.unique(predicted * regions + annotated, return_inverse=True)
            shared = np.bincount(entry, weight)
            row, column = keys // regions, keys % regions
            area = np.bincount(row, shared)
            np.maximum.at(best[number], column, shared / (area[row] + true_area[column] - shared))
            squares = ((area**2).sum() + (true_area**2).sum()) / 2 - (shared**2).sum()
            rand[number] += 1 - squares / max(1.0, pixels * (pixels - 1) / 2)
            joint = _entropy(shared, pixels)
            variation[number] += 2 * joint - _entropy(area, pixels) - _entropy(true_area, pixels)
        present = true_area > 0
        overlaps.append(best[:, present])
        areas.append(true_area[present].astype(np.int64))
    return RegionScores(
        np.concatenate(overlaps, axis=1),
        np.concatenate(areas),
        rand / len(truths),
        variation / len(truths),
        np.array([len(np.unique(level)) for level in levels]),
    )


def boundary(labels: Labels) -> NDArray[np.bool_]:
    """Return the boundary pixels of a label map, thinned to lines one pixel wide; (H, W).

    Before thinning, these are the pixels whose label differs from the pixel to the right, below, or diagonally below to
    the right.
    """
    differs = np.zeros(labels.shape, bool)
    differs[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    differs[:-1] |= labels[:-1] != labels[1:]
    differs[:-1, :-1] |= labels[:-1, :-1] != labels[1:, 1:]
    thinned: NDArray[np.bool_] = skeletonize(differs)
    return thinned


def match_boundaries(
    mine: NDArray[np.bool_], theirs: NDArray[np.bool_], tolerance: float = TOLERANCE
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Match the boundary pixels of two maps one to one, nearest pairs first.

    Offsets are processed in order of their length, then row, then column; for each offset, all pairs of pixels that are
    still unmatched are matched.

    Parameters
    ----------
    mine, theirs : (H, W) bool
        Boundary pixels.
    tolerance
        Maximum distance of matched pixels, as a share of the image diagonal.

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
    my_rest, their_rest = mine.copy(), theirs.copy()  # unmatched pixels
    for dy, dx in sorted(offsets, key=lambda offset: (offset[0] ** 2 + offset[1] ** 2, offset)):
        here = np.s_[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
        there = np.s_[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
        pairs = my_rest[here] & their_rest[there]
        my_rest[here] ^= pairs
        their_rest[there] ^= pairs
    return mine & ~my_rest, theirs & ~their_rest


def boundary_counts(mine: NDArray[np.bool_], truths: Sequence[NDArray[np.bool_]]) -> NDArray[np.int64]:
    """Count the boundary pixels of a segmentation and of its annotations, for precision and recall.

    A pixel of the segmentation counts as matched if it is matched with any annotation; the pixels of the annotations
    are summed over annotators.

    Parameters
    ----------
    mine : (H, W)
        Boundary pixels of the segmentation.
    truths : (H, W) each
        Boundary pixels of each annotation.

    Returns
    -------
    (4,)
        Matched pixels of the segmentation, all of them, matched pixels of the annotations, all of them.
    """
    my_matched = np.zeros_like(mine)
    their_matched = their_total = 0
    for theirs in truths:
        my_pixels, their_pixels = match_boundaries(mine, theirs)
        my_matched |= my_pixels
        their_matched += int(their_pixels.sum())
        their_total += int(theirs.sum())
    return np.array([my_matched.sum(), mine.sum(), their_matched, their_total], np.int64)


def concatenate_scores(parts: Sequence[RegionScores]) -> RegionScores:
    """Concatenate the scores of several series of segmentations of one image."""
    return RegionScores(
        np.concatenate([part.overlap for part in parts]),
        parts[0].area,
        np.concatenate([part.rand for part in parts]),
        np.concatenate([part.variation for part in parts]),
        np.concatenate([part.count for part in parts]),
    )


@dataclass(frozen=True)
class Summary:
    """Region measures of one method on a set of images.

    Attributes
    ----------
    level
        Index of the level with the best covering on the whole set.
    covering_ods, rand_ods, variation_ods
        Measures at the one level that is best for the whole set, of each measure.
    covering_ois, rand_ois, variation_ois
        Measures with each image at its own best level.
    covering_best
        Covering with each annotated region at its own best level.
    regions
        Mean number of regions at ``level``.
    """

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
    """Summarise the scores of one method over images.

    Covering is the mean over the annotated regions of all images, weighted by area; PRI and VI are means over images.
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
    """Compute precision, recall and F from the sum of :func:`boundary_counts` over images."""
    precision = float(counts[0] / max(1, counts[1]))
    recall = float(counts[2] / max(1, counts[3]))
    return precision, recall, 2 * precision * recall / max(1e-12, precision + recall)
