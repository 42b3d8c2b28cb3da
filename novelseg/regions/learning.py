"""Learning the region hierarchy from BSDS500: textons, one rating network a stage, and the scale of the cuts (A3)."""

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
from novelseg.regions.contours import RESPONSES, WORDS, lab_planes, texture
from novelseg.regions.hierarchy import Hierarchy, as_basins, regions_at
from novelseg.regions.partitions import boundary
from novelseg.regions.regiongraph import Floats, RegionGraph, measure
from novelseg.regions.ucm import ArcNetwork, Model, Network, arc_features, basins_of, merge

SAMPLES = 1500  # texture descriptors an image
MEMBERS = 8  # networks whose ratings are averaged
HIDDEN = (32, 16)
CUTS = (0.03, 0.08, 0.2)
EPOCHS, BATCH = (3, 8, 8, 8), (4096, 1024, 1024, 1024)
LEARNING_RATE = 6e-3
# Mean boundary length (px an image) that MCG leaves when cut at t: measured on 200 training and 100 validation images.
MCG_AT = (0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.45, 0.50, 0.60, 0.70, 0.80)
MCG_LENGTH = {
    "train": (7977, 6074, 5044, 4371, 3923, 3563, 3272, 3028, 2812, 2430, 2085, 1661),
    "val": (8085, 6152, 5018, 4299, 3761, 3357, 3044, 2767, 2550, 2190, 1796, 1372),
}


@dataclass(frozen=True)
class Annotated:
    """Regions of an image, and the number of pixels that they share with the regions that each annotator drew."""

    graph: RegionGraph
    tables: tuple[NDArray[np.int32], ...]


@dataclass(frozen=True)
class Arcs:
    """Training examples: features (M, F), share of annotators who separate the two regions (M,), length (M,)."""

    features: NDArray[np.float32]
    target: NDArray[np.float32]
    length: NDArray[np.float32]


def _descriptors(job: tuple[Annotation, int]) -> NDArray[np.float32]:
    item, seed = job
    found = texture(lab_planes(read_image(item))[0]).reshape(RESPONSES, -1).T
    chosen = numpy_generator(seed, "textons", item.name).choice(len(found), min(SAMPLES, len(found)), replace=False)
    return found[np.sort(chosen)]


def fit_textons(items: list[Annotation], seed: int, workers: Workers) -> NDArray[np.float32]:
    """Cluster texture descriptors, (32, 10)."""
    sample = np.concatenate(list(workers.map(_descriptors, [(item, seed) for item in items], "textons", "image")))
    faiss.omp_set_num_threads(1)
    run = faiss.Kmeans(RESPONSES, WORDS, niter=50, nredo=3, seed=seed, max_points_per_centroid=len(sample))
    run.train(np.ascontiguousarray(sample))
    return np.asarray(run.centroids, np.float32)


def _measured(job: tuple[Annotation, bool, NDArray[np.float32]]) -> Annotated:
    item, mirrored, textons = job
    image, truths = read(item)
    if mirrored:
        image, truths = np.ascontiguousarray(image[:, ::-1]), [truth[:, ::-1] for truth in truths]
    basins, evidence = basins_of(image, textons)
    count = int(basins.max()) + 1
    tables = []
    for truth in truths:
        width = int(truth.max()) + 1
        keys = (basins * width + truth).reshape(-1)
        tables.append(np.bincount(keys, minlength=count * width).reshape(count, width).astype(np.int32))
    return Annotated(measure(basins, evidence), tuple(tables))


def examples(state: Annotated) -> Arcs:
    """What an annotator says of an arc: whether the two regions lie mostly in different regions of the annotation."""
    graph = state.graph
    mostly = np.stack([table.argmax(axis=1) for table in state.tables])
    target = (mostly[:, graph.first] != mostly[:, graph.second]).mean(axis=0)
    return Arcs(arc_features(graph).astype(np.float32), target.astype(np.float32), graph.length.astype(np.float32))


def _advanced(job: tuple[Annotated, Network, float]) -> Annotated:
    state, network, threshold = job
    merges = merge(state.graph, [network], [threshold])
    tables = []
    for table in state.tables:
        joined = np.zeros((merges.graph.size, table.shape[1]), np.int32)
        np.add.at(joined, merges.label, table)
        tables.append(joined)
    return Annotated(merges.graph, tuple(tables))


def _forward(values: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        values = F.relu(torch.baddbmm(bias, values, weight))
    return torch.baddbmm(biases[-1], values, weights[-1])[..., 0]


def fit_network(arcs: Arcs, epochs: int, batch: int, seed: int, key: str) -> tuple[ArcNetwork, float]:
    """Fit the networks of a stage by length-weighted cross-entropy (Adam, one cycle).

    Returns
    -------
    tuple
        The networks, and the cross-entropy of their mean rating on the examples (nats).
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
        for shape, into in (((MEMBERS, inputs, outputs), weights), ((MEMBERS, 1, outputs), biases)):
            first = (torch.rand(shape, generator=generator) * 2 - 1) / inputs**0.5
            into.append(first.requires_grad_())
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
    """Raw levels at which boundaries are measured: some below each stage's cut, many in the last stage."""
    parts = [stage + np.linspace(0, threshold, 5) for stage, threshold in enumerate(CUTS)]
    return np.concatenate([*parts, len(CUTS) + np.linspace(0, 1, 41)])


def _lengths(job: tuple[Annotation, Model]) -> Floats:
    """Boundary length of one image's cuts at the raw levels, px."""
    item, model = job
    basins, evidence = basins_of(read_image(item), model.textons)
    merges = merge(measure(basins, evidence), model.networks, model.cuts)
    tree = Hierarchy(as_basins(basins), merges.parents.astype(np.int32), merges.levels.astype(np.float32))
    return np.array([boundary(regions_at(tree, level)[tree.basins]).sum() for level in _raw_levels()], np.float64)


def mcg_length(splits: list[str], images: list[int]) -> tuple[Floats, Floats]:
    """MCG's mean boundary length over the images of some splits, against the level of the cut."""
    return np.array(MCG_AT), np.average([MCG_LENGTH[split] for split in splits], axis=0, weights=images)


def level_table(raw: Floats, ours: Floats, at: Floats, length: Floats) -> Floats:
    """Raw levels and the strengths they stand for, (2, 101): at equal strength, boundaries as long as MCG's.

    Below the first and above the last level that MCG was measured at, lengths are interpolated to all basins at 0 and
    to nothing at 1.

    Parameters
    ----------
    raw, ours : (N,)
        Rising raw levels and our mean boundary length at each, px.
    at, length
        Levels of MCG and its mean boundary length there, px.
    """
    falling = np.minimum.accumulate(ours)
    strengths = np.arange(101) / 101
    wanted = np.interp(strengths, [0, *at, 1], [max(falling[0], length[0]), *length, 0])
    levels = np.interp(wanted, falling[::-1], raw[::-1])
    levels[0] = 0
    return np.stack([np.maximum.accumulate(levels), strengths])


def learn(items: list[Annotation], at: Floats, length: Floats, seed: int, workers: Workers) -> Model:
    """Learn textons, networks and scale from annotated images; each image is also used mirrored."""
    textons = fit_textons(items, seed, workers)
    jobs = [(item, mirrored, textons) for mirrored in (False, True) for item in items]
    states = list(workers.map(_measured, jobs, "basins", "image"))
    networks: list[Network] = []
    for stage in range(len(CUTS) + 1):
        parts = list(workers.map(examples, states, f"stage {stage + 1}: arcs", "image"))
        arcs = Arcs(*(np.concatenate([getattr(part, name) for part in parts]) for name in Arcs.__annotations__))
        network, loss = fit_network(arcs, EPOCHS[stage], BATCH[stage], seed, str(stage))
        say(f"stage {stage + 1}: {len(arcs.target)} arcs, cross-entropy {loss:.4f}")
        networks.append(network)
        if stage < len(CUTS):
            todo = [(state, network, CUTS[stage]) for state in states]
            states = list(workers.map(_advanced, todo, f"stage {stage + 1}: merging", "image"))
    model = Model(textons, networks, CUTS, np.array([[0.0, 1.0], [0.0, 1.0]]))
    lengths = list(workers.map(_lengths, [(item, model) for item in items], "scale", "image"))
    return replace(model, levels=level_table(_raw_levels(), np.mean(lengths, axis=0), at, length))
