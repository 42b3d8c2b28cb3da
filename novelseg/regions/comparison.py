"""Region methods compared with what people drew: series of segmentations per image, scored and joined in one table."""

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
    joined,
    region_scores,
    summarise,
)

LEVELS = np.arange(1, 100) / 100
SCALES = np.geomspace(20, 3000, 16)  # felzenszwalb
SEGMENTS = np.unique(np.geomspace(2, 600, 16).astype(int))  # slic
HALF_STRENGTH = 0.1  # boundary strength that mean-pb's levels put at 0.5
BOUNDARY_EVERY = 4  # boundaries, slower to match, are scored at every fourth level

# A finest label map, and its regions at each of some levels.
Series = tuple[Labels, Sequence[Labels]]
Method = Callable[[NDArray[np.uint8], ucm.Model], "tuple[list[Series], Hierarchy | None]"]
Pair = tuple[float, float]


def _levels(tree: Hierarchy) -> list[Series]:
    return [(tree.basins, [regions_at(tree, level) for level in LEVELS])]


def _single(labels: Labels) -> Series:
    numbers = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    return numbers, [np.arange(int(numbers.max()) + 1)]


def _mean_pb(boundaries: NDArray[np.float32]) -> tuple[list[Series], None]:
    grid = hg.get_4_adjacency_graph(boundaries.shape)
    edges = hg.weight_graph(grid, boundaries.astype(np.float64), hg.WeightFunction.mean)
    tree, altitudes = hg.mean_pb_hierarchy(grid, edges, boundaries.shape)
    basins = hg.CptRegionAdjacencyGraph.construct(tree.leaf_graph)["vertex_map"]
    raised = ucm.rising(tree, altitudes)
    heights = (raised / (raised + HALF_STRENGTH)).astype(np.float32)
    parents = tree.parents().astype(np.int32)
    return _levels(Hierarchy(as_basins(np.asarray(basins).reshape(boundaries.shape)), parents, heights)), None


def _ucm(image: NDArray[np.uint8], model: ucm.Model) -> tuple[list[Series], Hierarchy]:
    tree = ucm.build(image, model)
    return _levels(tree), tree


def _mean_pb_cues(image: NDArray[np.uint8], model: ucm.Model) -> tuple[list[Series], None]:
    return _mean_pb(strength(contours(image, model.textons).tensors))


def _mean_pb_lab(image: NDArray[np.uint8], _: ucm.Model) -> tuple[list[Series], None]:
    total = np.zeros(image.shape[:2], np.float32)
    for plane in lab_planes(image):
        smooth = cv2.GaussianBlur(plane, (0, 0), 2)
        total += cv2.Sobel(smooth, cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(smooth, cv2.CV_32F, 0, 1) ** 2
    return _mean_pb(np.sqrt(total))


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


# What each level of a method's series is: contour strength, scale, number of segments.
SETTINGS = {name: {"felzenszwalb": SCALES, "slic": SEGMENTS}.get(name, LEVELS) for name in METHODS}


@dataclass(frozen=True)
class Scored:
    """One image under one method."""

    regions: RegionScores
    boundaries: NDArray[np.int64]  # (levels, 4)
    cpu_ms: float  # of one segmentation, or of the whole hierarchy and all its cuts
    at_tau: Pair | None  # boundary pixels and regions of the hierarchy's cut at τ


@dataclass(frozen=True)
class Job:
    """What a process needs to score an image."""

    item: Annotation
    model: ucm.Model
    tau: float


def _score(series: Sequence[Series], truths: Sequence[Labels]) -> tuple[RegionScores, NDArray[np.int64]]:
    parts = [region_scores(finest, levels, truths) for finest, levels in series]
    maps = [(finest, level) for finest, levels in series for level in levels]
    every = BOUNDARY_EVERY if len(maps) > 50 else 1
    drawn = [boundary(truth) for truth in truths]
    counts = [boundary_counts(boundary(level[finest]), drawn) for finest, level in maps[::every]]
    return joined(parts), np.stack(counts)


def _scored(job: Job) -> dict[str, Scored]:
    image, truths = read(job.item)
    found = {}
    for name, method in METHODS.items():
        start = time.process_time()
        series, tree = method(image, job.model)
        spent = (time.process_time() - start) * 1e3 / len(series)
        at_tau = None
        if tree is not None:
            labels = cut(tree, job.tau, (image.shape[0], image.shape[1]))
            at_tau = float(boundary(labels).sum()), float(labels.max()) + 1
        found[name] = Scored(*_score(series, truths), spent, at_tau)
    return found


def _agreement(job: Job) -> list[Scored]:
    """Each annotator against the others."""
    truths = read(job.item)[1]
    found = []
    for number, one in enumerate(truths):
        others = truths[:number] + truths[number + 1 :]
        if others:
            found.append(Scored(*_score([_single(one)], others), 0.0, None))
    return found


def _row(name: str, scores: Sequence[Scored]) -> dict[str, object]:
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
    """Score every method on annotated images, a row each, and the annotators against each other.

    ``human`` counts each annotator as a method of its own: its ODS and OIS are the same.
    """
    jobs = [Job(item, model, tau) for item in items]
    with one_thread():
        people = [score for part in workers.map(_agreement, jobs, "people", "image") for score in part]
        images = list(workers.map(_scored, jobs, "methods", "image"))
    rows = [_row("human, leave one out", people)] if people else []
    rows += [_row(name, [image[name] for image in images]) for name in METHODS]
    return pd.DataFrame(rows)
