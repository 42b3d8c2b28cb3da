"""mIoU and FB-IoU, their spread over seeds and a bootstrap interval, from pixel counts of episodes.

Rows of several repetitions of the trainings, on the same episodes, have the training seed in the column ``training``;
scores are means over the repetitions, and intervals are over both the repetitions and the query images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from novelseg.ops.counts import COUNTS

TRAINING = "training"  # column of the training seed, in rows of several repetitions


@dataclass(frozen=True)
class Scores:
    """Scores of one fold, shot and variant: per cent, and deviations in points."""

    miou: float
    miou_std: float
    miou_low: float
    miou_high: float
    fb_iou: float
    fb_iou_std: float


def class_iou(rows: pd.DataFrame) -> pd.Series[float]:
    """Compute the IoU of each class in [0, 1], from intersections and unions summed over all rows."""
    sums = rows.groupby("class")[["fg_intersection", "fg_union"]].sum()
    return sums["fg_intersection"] / sums["fg_union"]


def fb_iou(rows: pd.DataFrame) -> float:
    """Compute the class-agnostic mean of foreground and background IoU, in [0, 1]."""
    sums = rows[list(COUNTS)].sum()
    return float((sums["fg_intersection"] / sums["fg_union"] + sums["bg_intersection"] / sums["bg_union"]) / 2)


def _spread(values: list[float]) -> float:
    """Compute the standard deviation over seeds (n − 1); zero for one seed."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _repetitions(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Split rows by training seed; rows without the column are those of one repetition."""
    return [part for _, part in rows.groupby(TRAINING)] if TRAINING in rows else [rows]


def bootstrap_miou(rows: pd.DataFrame, samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Compute mIoU of resampled query images and training seeds, (samples,), in [0, 1].

    Query images are drawn with replacement, each with all its episodes of all seeds, since episodes that share a query
    are not independent. The score of a sample is that of :func:`seed_mean`.

    Rows of several repetitions have two crossed factors, since every encoder sees the same episodes: a sample draws
    query images, and, independently of them, as many training seeds as there are, with replacement; each drawn seed is
    scored on the same drawn queries (the pigeonhole bootstrap [1]_). Drawing other queries within each seed would take
    the luck of the queries for a mean of independent parts, and give too narrow an interval. With T seeds the bootstrap
    has (T − 1)/T of the variance of a mean over T seeds on average, two thirds for three.

    Parameters
    ----------
    rows
        Pixel counts of episodes of one fold, shot and variant.
    samples
        Number of samples.
    rng
        Generator; it draws the queries first, so that rows of one repetition give the same samples with and without the
        column of the training seed.

    References
    ----------
    .. [1] A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2), 2007,
       https://doi.org/10.1214/07-AOAS122
    """
    count, parts = rows["query"].nunique(), _repetitions(rows)
    times = rng.multinomial(count, np.full(count, 1 / count), size=samples)
    mious = np.stack([resampled_miou(part, times) for part in parts], 1)  # (samples, repetitions)
    if len(parts) == 1:
        return mious[:, 0]
    drawn = rng.multinomial(len(parts), np.full(len(parts), 1 / len(parts)), size=samples)
    means: NDArray[np.float64] = (drawn * mious).sum(1) / len(parts)
    return means


def resampled_miou(rows: pd.DataFrame, times: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Compute mIoU in [0, 1] as the mean over seeds of each seed's score, when queries count several times or not.

    Parameters
    ----------
    rows
        Pixel counts of episodes.
    times : (samples, queries)
        How often each query image, in the order of the sorted names, is in each sample.

    Returns
    -------
    (samples,)
        A class without episodes of a seed in a sample is left out of that seed's mean, and a seed without any of the
        mean over seeds.
    """
    codes = [rows[name].astype("category").cat.codes.to_numpy() for name in ("query", "seed", "class")]
    shape = tuple(int(own.max()) + 1 for own in codes)
    sums = []
    for column in ("fg_intersection", "fg_union"):
        table = np.zeros(shape)
        np.add.at(table, tuple(codes), rows[column].to_numpy())
        sums.append((times @ table.reshape(shape[0], -1)).reshape(-1, *shape[1:]))  # (samples, seeds, classes)
    present = sums[1] > 0
    ious = np.where(present, sums[0] / np.maximum(sums[1], 1), 0)
    classes = present.sum(2)  # (samples, seeds)
    means: NDArray[np.float64] = (ious.sum(2) / np.maximum(classes, 1)).sum(1) / (classes > 0).sum(1)
    return means


def seed_mean(rows: pd.DataFrame) -> float:
    """Compute mIoU in [0, 1] as the mean over seeds, and over repetitions of the trainings, of each one's score."""
    keys = [name for name in (TRAINING, "seed") if name in rows]
    return float(np.mean([class_iou(part).mean() for _, part in rows.groupby(keys)]))


def scores(rows: pd.DataFrame, samples: int, rng: np.random.Generator) -> Scores:
    """Compute the scores of the rows of one fold, shot and variant.

    ``miou`` and ``fb_iou`` are means over seeds of each seed's score, and that of a seed over repetitions.
    """
    seeds = [_repetitions(part) for _, part in rows.groupby("seed")]
    mious = [100 * float(np.mean([class_iou(part).mean() for part in parts])) for parts in seeds]
    fbs = [100 * float(np.mean([fb_iou(part) for part in parts])) for parts in seeds]
    low, high = 100 * np.percentile(bootstrap_miou(rows, samples, rng), [2.5, 97.5])
    return Scores(float(np.mean(mious)), _spread(mious), float(low), float(high), float(np.mean(fbs)), _spread(fbs))
