"""Seconds, peak memory and IoU of the segmenter on pictures of a VOC folder, beside the features alone.

    python -m benchmarks.instant --voc $NOVELSEG_DATA/voc-subset --weights PATH --out FILE.tsv

Supports and queries of one class are drawn from a list, and enlarged to ``--px``, the size of VOC's own pictures. Each
row of the table is measured in a process of its own, with one thread and pictures in memory: the features of the
queries alone, those of supports and queries, and fit and prediction of each variant with each number of supports.
``srofb-raw`` is SROFB with raw features, which was the segmenter's only way before the closed-form head. The row with
ten classes has one support of each; the one above it has as many supports of one class. *gain* is the mean IoU minus
that of the last variant, with its 95 % interval over pictures.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.processes import in_process, peak_mib
from benchmarks.tables import write
from benchmarks.untrained import CLASSES, Pictures, source_parser
from novelseg import Segmenter
from novelseg.core.errors import InputError
from novelseg.data.classes import VOC
from novelseg.inference.predictors import features_of
from novelseg.methods.refiners import SEGMENTER_VARIANTS
from novelseg.methods.variants import CLOSED_FORM
from novelseg.ops.counts import object_iou

COLUMNS = ("what", "classes", "supports", "seconds", "over_queries", "over_all", "peak_mib", "mean_iou", "gain")
FEATURES, SROFB, RAW = "features", "srofb", "srofb-raw"
SEVERAL = 10
DRAWS = 2000
Array = NDArray[np.uint8]


@dataclass(frozen=True)
class Job:
    """One row: what is measured, with how many classes, and how many supports of each."""

    what: str
    classes: int
    supports: int


@dataclass(frozen=True)
class Task:
    """Supports, queries and masks of the object in the queries."""

    images: list[Array]
    masks: list[Array]
    queries: list[Array]
    truths: list[Array]


def enlarged(image: Array, mask: Array, px: int) -> tuple[Array, Array]:
    """Resize a picture and its mask so that the longest side has ``px``."""
    height, width = mask.shape
    scale = px / max(height, width)
    size = max(1, round(scale * width)), max(1, round(scale * height))
    small = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)), np.array(small)


def draw(job: Job, options: argparse.Namespace) -> Task:
    """Draw supports and queries, the same ones for every row with as many classes and supports."""
    pictures = Pictures(options.voc, options.list)
    rng = np.random.default_rng(options.seed)
    first = VOC.index(options.label) + 1
    labels = [first, *(label for label in range(1, CLASSES + 1) if label != first)][: job.classes]
    large = {
        label: rng.permutation(np.flatnonzero(pictures.pixels[:, label] >= options.min_pixels)) for label in labels
    }
    queries = large[first][-options.queries :].tolist()
    for label in labels:
        left = len(set(large[label].tolist()) - set(queries))
        if left < job.supports:
            raise InputError(
                f"{left} pictures of the class {VOC[label - 1]} are left for supports in the list {options.list}, but "
                f"--shots asks for {job.supports}; use --list train, fewer --queries or another --label"
            )
    images, masks = [], []
    for position, label in enumerate(labels, 1):
        for number in [one for one in large[label].tolist() if one not in queries][: job.supports]:
            image, mask = enlarged(pictures.image(number), pictures.mask(number), options.px)
            images.append(image)
            masks.append(np.where(mask == 255, 255, np.where(mask == label, position, 0)).astype(np.uint8))
    shown = [enlarged(pictures.image(number), pictures.mask(number), options.px) for number in queries]
    truths = [np.where(mask == 255, 255, mask == first).astype(np.uint8) for _, mask in shown]
    return Task(images, masks, [image for image, _ in shown], truths)


def measure(job: Job, options: argparse.Namespace) -> tuple[float, int, float, list[float | None]]:
    """Measure one row and return seconds, the number of supports, peak memory and IoUs."""
    torch.set_num_threads(1)
    task = draw(job, options)
    variant = {FEATURES: CLOSED_FORM, RAW: SROFB}.get(job.what, job.what)
    segmenter = Segmenter.load(weights=options.weights, stem=options.stem, variant=variant, presence=0, side=options.px)
    if job.what == RAW:
        refiners = segmenter.bundle_.refiners
        raw = replace(refiners, srofb=replace(refiners.srofb, feature_norm=0))
        segmenter.bundle_ = replace(segmenter.bundle_, refiners=raw)
    segmenter._extract([np.zeros((64, 64, 3), np.uint8)])  # the first call of a network is slower
    start = time.perf_counter()
    if job.what == FEATURES:
        pictures = task.queries + (task.images if job.supports else [])
        for _ in features_of(segmenter._extract, pictures):
            pass
        seconds, ious = time.perf_counter() - start, []
    else:
        names = None if job.classes == 1 else [str(number) for number in range(job.classes)]
        masks = segmenter.fit(task.images, task.masks, names).predict(task.queries)
        seconds = time.perf_counter() - start
        ious = [object_iou((mask == 1).astype(np.uint8), truth) for mask, truth in zip(masks, task.truths, strict=True)]
    return seconds, len(task.images), peak_mib(), ious


def main() -> None:
    """Measure all rows, write them and print a table."""
    parser = source_parser(__doc__.splitlines()[0])
    parser.add_argument("--label", choices=VOC, default="cat")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--several", action="store_true", help="also ten classes with one support each")
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--px", type=int, default=500)
    parser.add_argument("--variants", nargs="+", choices=(*SEGMENTER_VARIANTS, RAW), default=[CLOSED_FORM])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    alone = in_process(measure, Job(FEATURES, 1, 0), options)
    rows = [_row(Job(FEATURES, 1, 0), alone, alone[0], alone[0], None)]
    jobs = [[Job(variant, 1, shots) for variant in options.variants] for shots in options.shots]
    if options.several:
        jobs += [[Job(CLOSED_FORM, 1, SEVERAL)], [Job(CLOSED_FORM, SEVERAL, 1)]]
    for group in jobs:
        first = group[0]
        everything = in_process(measure, Job(FEATURES, first.classes, first.supports), options)[0]
        found = [in_process(measure, job, options) for job in group]
        for job, result in zip(group, found, strict=True):
            other = None if job == group[-1] else found[-1][3]
            rows.append(_row(job, result, alone[0], everything, other))
    write(options.out, COLUMNS, rows)


def gain(ious: list[float | None], other: list[float | None]) -> str:
    """Return the difference of mean IoUs in points, with its 95 % interval over pictures."""
    difference = 100 * (np.array(ious, float) - np.array(other, float))
    picks = np.random.default_rng(0).integers(0, len(difference), (DRAWS, len(difference)))
    low, high = np.percentile(difference[picks].mean(1), [2.5, 97.5])
    return f"{difference.mean():+.1f} [{low:+.1f}, {high:+.1f}]"


def _row(job: Job, result: Any, alone: float, everything: float, other: list[float | None] | None) -> dict[str, Any]:
    seconds, supports, peak, ious = result
    return {
        **{"what": job.what, "classes": job.classes, "supports": supports, "seconds": f"{seconds:.2f}"},
        **{"over_queries": f"{seconds / alone:.2f}", "over_all": f"{seconds / everything:.2f}"},
        **{"peak_mib": f"{peak:.0f}", "mean_iou": f"{100 * np.mean(ious):.1f}" if ious else ""},
        "gain": "" if other is None else gain(ious, other),
    }


if __name__ == "__main__":
    main()
