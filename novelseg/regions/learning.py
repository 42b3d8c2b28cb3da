"""Learning of the region hierarchy from BSDS500: textons, rating networks, and the scale of contour strengths."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import faiss
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from novelseg.core.progress import say
from novelseg.core.random import numpy_generator, torch_generator
from novelseg.core.threads import Workers
from novelseg.data.bsds import Annotation, read, read_image
from novelseg.regions.contours import RESPONSES, TEXTON_COUNT, lab_planes, texture
from novelseg.regions.hierarchy import Hierarchy, as_basins, regions_at
from novelseg.regions.partitions import boundary
from novelseg.regions.regiongraph import Floats, RegionGraph, measure
from novelseg.regions.ucm import ArcNetwork, Model, Network, arc_features, compute_basins, merge

SAMPLES = 1500  # texture descriptors per image
MEMBERS = 8  # networks whose ratings are averaged
HIDDEN = (32, 16)  # units of the hidden layers
CUTS = (0.03, 0.08, 0.2)  # rating below which each stage but the last merges
EPOCHS, BATCH = (3, 8, 8, 8), (4096, 1024, 1024, 1024)  # per stage
LEARNING_RATE = 6e-3
# Mean boundary length of MCG's regions, px per image, at each contour strength: measured on 200 training and 100
# validation images.
MCG_AT = (0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.45, 0.50, 0.60, 0.70, 0.80)
MCG_LENGTH = {
    "train": (7977, 6074, 5044, 4371, 3923, 3563, 3272, 3028, 2812, 2430, 2085, 1661),
    "val": (8085, 6152, 5018, 4299, 3761, 3357, 3044, 2767, 2550, 2190, 1796, 1372),
}


@dataclass(frozen=True)
class AnnotatedGraph:
    """Region graph of an image with its annotations.

    Attributes
    ----------
    graph
        Graph of R regions.
    tables : one (R, G) int32 per annotator
        Number of pixels that each region shares with each of the G regions that the annotator drew.
    """

    graph: RegionGraph
    tables: tuple[NDArray[np.int32], ...]


@dataclass(frozen=True)
class Arcs:
    """Training examples of a rating network.

    Attributes
    ----------
    features : (M, F) float32
        Features of the arcs.
    target : (M,) float32
        Share of annotators who separate the two regions of an arc.
    length : (M,) float32
        Length of the arcs, in pixel pairs.
    """

    features: NDArray[np.float32]
    target: NDArray[np.float32]
    length: NDArray[np.float32]


def _sample_descriptors(job: tuple[Annotation, int]) -> NDArray[np.float32]:
    """Draw texture descriptors of one image, (:data:`SAMPLES`, 10), or all if it has fewer."""
    item, seed = job
    descriptors = texture(lab_planes(read_image(item))[0]).reshape(RESPONSES, -1).T
    count = len(descriptors)
    rows = numpy_generator(seed, "textons", item.name).choice(count, min(SAMPLES, count), replace=False)
    return descriptors[np.sort(rows)]


def fit_textons(items: list[Annotation], seed: int, workers: Workers) -> NDArray[np.float32]:
    """Cluster the texture descriptors of images by k-means and return the centres, (32, 10)."""
    jobs = [(item, seed) for item in items]
    sample = np.concatenate(list(workers.map(_sample_descriptors, jobs, "textons", "image")))
    faiss.omp_set_num_threads(1)
    run = faiss.Kmeans(RESPONSES, TEXTON_COUNT, niter=50, nredo=3, seed=seed, max_points_per_centroid=len(sample))
    run.train(np.ascontiguousarray(sample))
    return np.asarray(run.centroids, np.float32)


def _basin_graph(job: tuple[Annotation, bool, NDArray[np.float32]]) -> AnnotatedGraph:
    """Compute the graph of the basins of an image, which is mirrored if the second entry of the job is true."""
    item, mirrored, textons = job
    image, truths = read(item)
    if mirrored:
        image, truths = np.ascontiguousarray(image[:, ::-1]), [truth[:, ::-1] for truth in truths]
    basins, evidence = compute_basins(image, textons)
    count = int(basins.max()) + 1
    tables = []
    for truth in truths:
        width = int(truth.max()) + 1
        keys = (basins * width + truth).reshape(-1)
        tables.append(np.bincount(keys, minlength=count * width).reshape(count, width).astype(np.int32))
    return AnnotatedGraph(measure(basins, evidence), tuple(tables))


def training_arcs(annotated: AnnotatedGraph) -> Arcs:
    """Convert the arcs of an image to training examples.

    Each region is assigned to the annotated region with which it shares the most pixels. An annotator separates two
    regions if they are assigned to different annotated regions.
    """
    graph = annotated.graph
    assigned = np.stack([table.argmax(axis=1) for table in annotated.tables])
    target = (assigned[:, graph.first] != assigned[:, graph.second]).mean(axis=0)
    return Arcs(arc_features(graph).astype(np.float32), target.astype(np.float32), graph.length.astype(np.float32))


def _merge_stage(job: tuple[AnnotatedGraph, Network, float]) -> AnnotatedGraph:
    """Merge the regions that a network rates below a cut, and add up their rows of the tables."""
    annotated, network, threshold = job
    merges = merge(annotated.graph, [network], [threshold])
    tables = []
    for table in annotated.tables:
        merged_table = np.zeros((merges.graph.size, table.shape[1]), np.int32)
        np.add.at(merged_table, merges.label, table)
        tables.append(merged_table)
    return AnnotatedGraph(merges.graph, tuple(tables))


def _forward(values: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    """Compute the logits (E, M) of E networks from their inputs (E, M, F)."""
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        values = F.relu(torch.baddbmm(bias, values, weight))
    return torch.baddbmm(biases[-1], values, weights[-1])[..., 0]


def fit_network(arcs: Arcs, epochs: int, batch: int, seed: int, key: str) -> tuple[ArcNetwork, float]:
    """Train the networks of a stage with Adam, a one-cycle schedule and cross-entropy weighted by arc length.

    Parameters
    ----------
    arcs
        Training examples.
    epochs, batch
        Number of epochs, and of arcs per batch.
    seed, key
        Seed, and name of the stage, from which initial weights and the order of the examples are drawn.

    Returns
    -------
    network
        The ensemble.
    loss
        Cross-entropy of its mean rating on the examples, nats.
    """
    mean, deviation = arcs.features.mean(axis=0, dtype=np.float64), arcs.features.std(axis=0, dtype=np.float64) + 1e-6
    values = torch.from_numpy(((arcs.features - mean) / deviation).astype(np.float32))
    target = torch.from_numpy(arcs.target)
    weight = torch.from_numpy(arcs.length / arcs.length.mean())
    generator = torch_generator(seed, "arc network", key)
    sizes = [values.shape[1], *HIDDEN, 1]
    weights: list[Tensor] = []
    biases: list[Tensor] = []
    for inputs, outputs in pairwise(sizes):
        for shape, tensors in (((MEMBERS, inputs, outputs), weights), ((MEMBERS, 1, outputs), biases)):
            initial = (torch.rand(shape, generator=generator) * 2 - 1) / inputs**0.5
            tensors.append(initial.requires_grad_())
    optimizer = torch.optim.Adam([*weights, *biases], LEARNING_RATE)
    count = len(values)
    steps = max(1, count // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * steps + 1)
    for _ in range(epochs):
        order = torch.stack([torch.randperm(count, generator=generator) for _ in range(MEMBERS)])
        for step in range(steps):
            rows = order[:, step * batch : (step + 1) * batch]
            logits = _forward(values[rows], weights, biases)
            loss = F.binary_cross_entropy_with_logits(logits, target[rows], weight[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network = ArcNetwork(
        mean.astype(np.float32),
        deviation.astype(np.float32),
        [tensor.detach().numpy() for tensor in weights],
        [tensor.detach().numpy() for tensor in biases],
    )
    rating = np.clip(network(arcs.features.astype(np.float64)), 1e-6, 1 - 1e-6)
    entropy = -(arcs.target * np.log(rating) + (1 - arcs.target) * np.log(1 - rating))
    return network, float(np.average(entropy, weights=arcs.length))


def _raw_levels() -> Floats:
    """Return the raw levels at which boundaries are measured: five up to the cut of each stage, 41 in the last one."""
    parts = [stage + np.linspace(0, threshold, 5) for stage, threshold in enumerate(CUTS)]
    return np.concatenate([*parts, len(CUTS) + np.linspace(0, 1, 41)])


def _boundary_lengths(job: tuple[Annotation, Model]) -> Floats:
    """Measure the boundary length, px, of the regions of an image at each raw level."""
    item, model = job
    basins, evidence = compute_basins(read_image(item), model.textons)
    merges = merge(measure(basins, evidence), model.networks, model.cuts)
    tree = Hierarchy(as_basins(basins), merges.parents.astype(np.int32), merges.levels.astype(np.float32))
    return np.array([boundary(regions_at(tree, level)[tree.basins]).sum() for level in _raw_levels()], np.float64)


def mcg_length(splits: list[str], images: list[int]) -> tuple[Floats, Floats]:
    """Return contour strengths, and the mean boundary length of MCG at each, px, over all images of some splits.

    Parameters
    ----------
    splits
        Keys of :data:`MCG_LENGTH`.
    images
        Number of images of each split.
    """
    return np.array(MCG_AT), np.average([MCG_LENGTH[split] for split in splits], axis=0, weights=images)


def level_table(raw: Floats, ours: Floats, at: Floats, length: Floats) -> Floats:
    """Map raw levels to contour strengths, so that a cut at any strength leaves the boundary length that MCG leaves.

    Beyond the strengths at which MCG was measured, its length is interpolated: to the length of all basins at 0, and to
    zero at 1.

    Parameters
    ----------
    raw, ours : (N,)
        Increasing raw levels, and the mean boundary length of this hierarchy at each, px.
    at, length : (T,)
        Contour strengths, and the mean boundary length of MCG at each, px.

    Returns
    -------
    (2, 101)
        Raw levels, increasing, and the strength of each (:attr:`novelseg.regions.ucm.Model.levels`).
    """
    our_length = np.minimum.accumulate(ours)
    strengths = np.arange(101) / 101
    target_length = np.interp(strengths, [0, *at, 1], [max(our_length[0], length[0]), *length, 0])
    levels = np.interp(target_length, our_length[::-1], raw[::-1])
    levels[0] = 0
    return np.stack([np.maximum.accumulate(levels), strengths])


def learn(items: list[Annotation], at: Floats, length: Floats, seed: int, workers: Workers) -> Model:
    """Learn the textons, networks and scale of the region hierarchy.

    Parameters
    ----------
    items
        Annotated images. The networks are trained on their mirror images too.
    at, length
        Contour strengths, and the mean boundary length of MCG at each, px (:func:`mcg_length`).
    seed
        Seed of all random choices.
    workers
        Worker processes.
    """
    textons = fit_textons(items, seed, workers)
    jobs = [(item, mirrored, textons) for mirrored in (False, True) for item in items]
    annotated = list(workers.map(_basin_graph, jobs, "basins", "image"))
    networks: list[Network] = []
    for stage in range(len(CUTS) + 1):
        parts = list(workers.map(training_arcs, annotated, f"stage {stage + 1}: arcs", "image"))
        arcs = Arcs(*(np.concatenate([getattr(part, name) for part in parts]) for name in Arcs.__annotations__))
        network, loss = fit_network(arcs, EPOCHS[stage], BATCH[stage], seed, str(stage))
        say(f"stage {stage + 1}: {len(arcs.target)} arcs, cross-entropy {loss:.4f}")
        networks.append(network)
        if stage < len(CUTS):
            merge_jobs = [(graph, network, CUTS[stage]) for graph in annotated]
            annotated = list(workers.map(_merge_stage, merge_jobs, f"stage {stage + 1}: merging", "image"))
    model = Model(textons, networks, CUTS, np.array([[0.0, 1.0], [0.0, 1.0]]))
    lengths = list(workers.map(_boundary_lengths, [(item, model) for item in items], "scale", "image"))
    return replace(model, levels=level_table(_raw_levels(), np.mean(lengths, axis=0), at, length))
