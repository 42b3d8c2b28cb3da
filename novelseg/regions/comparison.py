"""Comparison of region methods with human annotations (BSDS500): one table of scores, one row per method."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import higra as hg
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb, slic

from novelseg.core.threads import Workers, one_thread
from novelseg.data.bsds import Annotation, read
from novelseg.regions import ucm
from novelseg.regions.contours import contours, lab_planes, strength
from novelseg.regions.hierarchy import Hierarchy, as_basins, cut, regions_at
from novelseg.regions.partitions import (
    Labels,
    RegionScores,
    boundary,
    boundary_counts,
    boundary_f,
    concatenate_scores,
    region_scores,
    summarise,
)

LEVELS = np.arange(1, 100) / 100  # contour strengths at which hierarchies are cut
SCALES = np.geomspace(20, 3000, 16)  # scales of felzenszwalb
SEGMENTS = np.unique(np.geomspace(2, 600, 16).astype(int))  # numbers of segments of slic
HALF_STRENGTH = 0.1  # boundary strength of mean_pb_hierarchy that is mapped to 0.5
BOUNDARY_EVERY = 4  # boundaries are scored at every fourth level only, because matching them is slow

# A series of segmentations: the finest label map, and for each level the region of each of its labels.
Series = tuple[Labels, Sequence[Labels]]
# A method maps an image and learned weights to its series and, for ``ucm``, the hierarchy.
Method = Callable[[NDArray[np.uint8], ucm.Model], "tuple[list[Series], Hierarchy | None]"]
Pair = tuple[float, float]


def _cut_at_levels(tree: Hierarchy) -> list[Series]:
    return [(tree.basins, [regions_at(tree, level) for level in LEVELS])]


def _single(labels: Labels) -> Series:
    """Return a series that consists of one segmentation."""
    numbers = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    return numbers, [np.arange(int(numbers.max()) + 1)]


def _mean_pb(boundaries: NDArray[np.float32]) -> tuple[list[Series], None]:
    """Build higra's ``mean_pb_hierarchy`` from a boundary strength (H, W), with heights in [0, 1)."""
    grid = hg.get_4_adjacency_graph(boundaries.shape)
    edges = hg.weight_graph(grid, boundaries.astype(np.float64), hg.WeightFunction.mean)
    tree, altitudes = hg.mean_pb_hierarchy(grid, edges, boundaries.shape)
    basins = hg.CptRegionAdjacencyGraph.construct(tree.leaf_graph)["vertex_map"]
    strengths = ucm.increasing(tree, altitudes)
    heights = (strengths / (strengths + HALF_STRENGTH)).astype(np.float32)
    parents = tree.parents().astype(np.int32)
    return _cut_at_levels(Hierarchy(as_basins(np.asarray(basins).reshape(boundaries.shape)), parents, heights)), None


def _ucm(image: NDArray[np.uint8], model: ucm.Model) -> tuple[list[Series], Hierarchy]:
    tree = ucm.build(image, model)
    return _cut_at_levels(tree), tree


def _mean_pb_cues(image: NDArray[np.uint8], model: ucm.Model) -> tuple[list[Series], None]:
    return _mean_pb(strength(contours(image, model.textons).tensors))


def _mean_pb_lab(image: NDArray[np.uint8], _: ucm.Model) -> tuple[list[Series], None]:
    squared_gradient = np.zeros(image.shape[:2], np.float32)
    for plane in lab_planes(image):
        smooth = cv2.GaussianBlur(plane, (0, 0), 2)
        squared_gradient += cv2.Sobel(smooth, cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(smooth, cv2.CV_32F, 0, 1) ** 2
    return _mean_pb(np.sqrt(squared_gradient))


def _felzenszwalb(image: NDArray[np.uint8], _: ucm.Model) -> tuple[list[Series], None]:
    return [_single(felzenszwalb(image, scale=scale)) for scale in SCALES], None


def _slic(image: NDArray[np.uint8], _: ucm.Model) -> tuple[list[Series], None]:
    return [_single(slic(image, n_segments=count)) for count in SEGMENTS], None


METHODS: dict[str, Method] = {
    "ucm": _ucm,
    "mean_pb_hierarchy of the same cues": _mean_pb_cues,
    "mean_pb_hierarchy of the Lab gradient": _mean_pb_lab,
    "felzenszwalb": _felzenszwalb,
    "slic": _slic,
}


# Method → the value of its parameter at each level: contour strength, scale or number of segments.
SETTINGS = {name: {"felzenszwalb": SCALES, "slic": SEGMENTS}.get(name, LEVELS) for name in METHODS}


@dataclass(frozen=True)
class ImageScores:
    """Scores of one method on one image.

    Attributes
    ----------
    regions
        Region measures of all levels.
    boundaries : (T, 4) int64
        :func:`boundary_counts` of the T levels whose boundaries are scored.
    cpu_ms
        CPU time of one segmentation, or of a hierarchy with all its cuts, ms.
    at_tau
        Numbers of boundary pixels and of regions of the hierarchy cut at τ; None without a hierarchy.
    """

    regions: RegionScores
    boundaries: NDArray[np.int64]
    cpu_ms: float
    at_tau: Pair | None


@dataclass(frozen=True)
class Job:
    """Input of a worker process: an annotated image, the learned weights, and the contour strength τ."""

    item: Annotation
    model: ucm.Model
    tau: float


def _score(series: Sequence[Series], truths: Sequence[Labels]) -> tuple[RegionScores, NDArray[np.int64]]:
    """Score the regions of all segmentations, and the boundaries of all or, in long series, of every fourth."""
    parts = [region_scores(finest, levels, truths) for finest, levels in series]
    maps = [(finest, level) for finest, levels in series for level in levels]
    every = BOUNDARY_EVERY if len(maps) > 50 else 1
    true_boundaries = [boundary(truth) for truth in truths]
    counts = [boundary_counts(boundary(level[finest]), true_boundaries) for finest, level in maps[::every]]
    return concatenate_scores(parts), np.stack(counts)


def _score_methods(job: Job) -> dict[str, ImageScores]:
    """Score every method on one image."""
    image, truths = read(job.item)
    scores = {}
    for name, method in METHODS.items():
        start = time.process_time()
        series, tree = method(image, job.model)
        cpu_ms = (time.process_time() - start) * 1e3 / len(series)
        at_tau = None
        if tree is not None:
            labels = cut(tree, job.tau, (image.shape[0], image.shape[1]))
            at_tau = float(boundary(labels).sum()), float(labels.max()) + 1
        scores[name] = ImageScores(*_score(series, truths), cpu_ms, at_tau)
    return scores


def _score_annotators(job: Job) -> list[ImageScores]:
    """Score each annotator of an image against the others."""
    truths = read(job.item)[1]
    scores = []
    for number, truth in enumerate(truths):
        others = truths[:number] + truths[number + 1 :]
        if others:
            scores.append(ImageScores(*_score([_single(truth)], others), 0.0, None))
    return scores


def _row(name: str, scores: Sequence[ImageScores]) -> dict[str, object]:
    """Summarise the scores of one method over images as a row of the table."""
    summary = summarise([score.regions for score in scores])
    counts = np.stack([score.boundaries for score in scores])
    f_ods = max(boundary_f(level)[2] for level in counts.sum(axis=0))
    best = [image[np.argmax([boundary_f(level)[2] for level in image])] for image in counts]
    row: dict[str, object] = {
        "method": name,
        "covering ODS": summary.covering_ods,
        "covering OIS": summary.covering_ois,
        "covering best": summary.covering_best,
        "PRI ODS": summary.rand_ods,
        "PRI OIS": summary.rand_ois,
        "VI ODS": summary.variation_ods,
        "VI OIS": summary.variation_ois,
        "boundary F ODS": f_ods,
        "boundary F OIS": boundary_f(np.sum(best, axis=0))[2],
        "ODS at": float(SETTINGS[name][summary.level]) if name in SETTINGS else None,
        "regions at ODS": summary.regions,
        "CPU ms": float(np.median([score.cpu_ms for score in scores])) or None,
    }
    cuts = np.array([score.at_tau for score in scores if score.at_tau is not None])
    if len(cuts):
        row |= {
            "boundary px at τ": cuts[:, 0].mean(),
            "regions at τ": cuts[:, 1].mean(),
            "median regions at τ": float(np.median(cuts[:, 1])),
            "fewest regions at τ": cuts[:, 1].min(),
        }
    return row


def compare(items: list[Annotation], model: ucm.Model, tau: float, workers: Workers) -> pd.DataFrame:
    """Score all methods on annotated images, and the annotators against each other.

    Parameters
    ----------
    items
        Annotated images.
    model
        Learned weights of the method ``ucm``.
    tau
        Contour strength of the cut whose boundary pixels and regions are counted, in [0, 1].
    workers
        Worker processes.

    Returns
    -------
    DataFrame
        One row per method. The row ``human, leave one out`` treats each annotation as a segmentation at a single level,
        so that its ODS and OIS are equal.
    """
    jobs = [Job(item, model, tau) for item in items]
    with one_thread():
        annotators = [score for part in workers.map(_score_annotators, jobs, "annotators", "image") for score in part]
        images = list(workers.map(_score_methods, jobs, "methods", "image"))
    rows = [_row("human, leave one out", annotators)] if annotators else []
    rows += [_row(name, [image[name] for image in images]) for name in METHODS]
    return pd.DataFrame(rows)
