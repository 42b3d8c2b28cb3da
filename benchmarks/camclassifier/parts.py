"""The experiments: each trains on the cache and writes rows."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.camclassifier.cache import CLASSES, CPU, FOLDS, SETTINGS, Cache, network_of, read_cache, roles
from benchmarks.camclassifier.episodes import SUPPORTS, Episodes, class_mean, episodes_of, frame_of, paired_interval
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.core.labels import binary
from novelseg.core.progress import track
from novelseg.core.random import key_to_seed, numpy_generator
from novelseg.data.sampling import EpisodeSampler
from novelseg.evaluation.metrics import class_iou, fb_iou
from novelseg.evaluation.scoring import count_many
from novelseg.methods.bank import SupportBank
from novelseg.methods.cam.equations import (
    classification_loss,
    next_of_another_class,
)
from novelseg.methods.cam.network import UPSCALE, CamNetwork
from novelseg.methods.losses import upsampled_cross_entropy
from novelseg.methods.matching.prototypes import match_many
from novelseg.ops.counts import COUNTS
from novelseg.ops.draws import to_keys

LENGTHS = (100, 1500, 6000)  # iterations of the classifier
WEIGHTINGS = ("scores", "softmax", "sigmoid")
OBJECTS, PAIRS, RATE = 16, 4, 0.0005


def fit_classifier(network: CamNetwork, taps: Tensor, channels: Tensor, iterations: range, seed: int) -> None:
    """Train the classification branch on pooled features, (N, 9, C + 1)."""
    weights = [*network.classify.parameters(), *network.refine.parameters()]
    optimiser = torch.optim.Adam(weights, RATE)
    for iteration in iterations:
        picks = torch.from_numpy(numpy_generator(seed, "object", iteration).integers(len(taps), size=OBJECTS))
        optimiser.zero_grad()
        classification_loss(network.scores_of_pooled(taps[picks]), channels[picks]).backward()
        optimiser.step()


def classifier_rows(options: argparse.Namespace) -> None:
    """Train classifiers of several lengths; write accuracies, areas under the curve, and mIoU of the map alone."""
    cache, fold = read_cache(options.cache), options.fold
    index, val = cache.voc.index, cache.voc.index.validation_images()
    train = np.flatnonzero(index.split == 0)
    novel, unseen, known = roles(fold)
    lists = {
        "pseudo-novel": Episodes(cache, episodes_of(cache, train, unseen, options.episodes, "choose", fold)),
        "novel": Episodes(cache, episodes_of(cache, val, novel, options.episodes, "report", fold)),
    }
    free = val[~index.pixels[val][:, novel].any(axis=1)]
    objects = {"train": cache.rows(train, known), "val": cache.rows(free, known)}
    place = {int(label): number for number, label in enumerate(known)}
    channels = {
        name: torch.tensor([place[label] for label in cache.labels(part).tolist()]) for name, part in objects.items()
    }
    rows = []
    for pooling, relu in SETTINGS:
        network, done, taps = network_of(cache.encoder, len(known), pooling, relu, 0), 0, cache.taps[pooling, relu]
        for length in LENGTHS:
            fit_classifier(network, taps[objects["train"]], channels["train"], range(done, length), 0)
            done = length
            row: dict[str, Any] = {"fold": fold, "pooling": pooling, "relu": relu, "iterations": length}
            for name, part in objects.items():
                row |= learned(network, taps[part], channels[name], name)
            for name, episodes in lists.items():
                rows += map_rows(
                    episodes, network, {**row, "list": name}, WEIGHTINGS[: 3 if length == LENGTHS[-1] else 1]
                )
            print(f"fold {fold}, {pooling}, relu {relu}, {length}: {row['val_accuracy']:.2f}", flush=True)
    replace_rows(options.out / "cam-classifier-maps.tsv", pd.DataFrame(rows), ["fold"])


@torch.inference_mode()
def learned(network: CamNetwork, taps: Tensor, channels: Tensor, name: str) -> dict[str, float]:
    """Return what a classifier makes of some objects."""
    scores = network.scores_of_pooled(taps)
    return {
        f"{name}_objects": len(taps),
        f"{name}_accuracy": float((scores.argmax(1) == channels).float().mean()),
        f"{name}_loss": float(classification_loss(scores, channels)),
        f"{name}_commonest": float(torch.bincount(channels).max() / len(taps)),
    }


def map_rows(
    episodes: Episodes, network: CamNetwork, row: dict[str, Any], weightings: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Measure the maps of one classifier: by the support, and by the weighting of the known classes' maps."""
    maps, labels = episodes.maps(network), np.array([case.label for case in episodes.cases])
    kinds = [*((support, "scores") for support in SUPPORTS), *(("own", weighting) for weighting in weightings[1:])]
    curves = {kind: episodes.curves(episodes.priors(network, maps, *kind)) for kind in kinds}
    rows = []
    for support, weighting in kinds:
        values = curves[support, weighting]
        gain = curves["own", "scores"] - values
        low, high = paired_interval(gain, labels)
        facts = {**row, "support": support, "weighting": weighting, "auc": class_mean(values, labels)}
        facts |= {"own_minus": class_mean(gain, labels), "low": low, "high": high}
        if support == "own":
            frame = frame_of(episodes, episodes.counts(episodes.priors(network, maps, support, weighting) - 0.5, 1))
            facts |= {"miou": 100 * float(class_iou(frame).mean()), "fb_iou": 100 * fb_iou(frame)}
        rows.append(facts)
    return rows


def fit_joint(
    network: CamNetwork,
    cache: Cache,
    known: NDArray[np.int64],
    unseen: NDArray[np.int64],
    settings: dict[str, Any],
) -> None:
    """Train the classifier, then both branches on pairs; the encoder stays as it is."""
    train = np.flatnonzero(cache.voc.index.split == 0)
    part = cache.rows(train, known)
    place = {int(label): number for number, label in enumerate(known)}
    channels = torch.tensor([place[label] for label in cache.labels(part).tolist()])
    every = cache.taps[network.pooling, network.relu]
    seed, taps = settings["seed"], every[part]
    fit_classifier(network, taps, channels, range(settings["classifier"]), seed)
    sampler = EpisodeSampler(cache.voc.index, train, unseen, 1, "train")
    row = {member: number for number, member in enumerate(cache.members)}
    weights = [*network.classify.parameters(), *network.refine.parameters(), *network.decode.parameters()]
    optimiser = torch.optim.Adam(weights, RATE)
    grid = network.encoder.grid.finer(UPSCALE)
    for iteration in track(range(settings["joint"]), settings["joint"], "joint", "iteration"):
        for group in optimiser.param_groups:
            group["lr"] = RATE * 0.7 ** (4 * iteration // settings["joint"])
        rng = numpy_generator(seed, "pair", iteration)
        pairs = [sampler.draw(rng) for _ in range(PAIRS)]
        objects = torch.from_numpy(numpy_generator(seed, "more", iteration).integers(len(taps), size=OBJECTS))
        classification = classification_loss(network.scores_of_pooled(taps[objects]), channels[objects])
        scores = network.scores_of_pooled(every[[row[pair.supports[0], pair.label] for pair in pairs]])
        if network.prior == "other":
            scores = scores[next_of_another_class([pair.label for pair in pairs])]
        query = cache.query([pair.query for pair in pairs])
        priors = network.priors(query, scores)
        if iteration < settings["detach"]:
            priors = priors.detach()
        keys = to_keys([key_to_seed(seed, "shuffle", iteration, number) for number in range(PAIRS)], CPU)
        logits = network.segment(query, priors, keys)
        masks = [binary(cache.mask(pair.query).numpy(), pair.label) for pair in pairs]
        segmentation = upsampled_cross_entropy(logits, torch.from_numpy(np.stack(masks)), grid)
        optimiser.zero_grad()
        (segmentation + classification).backward()
        optimiser.step()


def replace_rows(path: Path, new: pd.DataFrame, keys: list[str]) -> None:
    """Write rows to a file, in place of those that have the same values in some columns."""
    if path.exists():
        old = pd.read_csv(path, sep="\t", dtype={"query": str})
        old = old.astype({key: new[key].dtype for key in keys})  # a share of 0.0 is written as 0
        known = set(map(tuple, new[keys].drop_duplicates().astype(str).to_numpy().tolist()))
        new = pd.concat([old[[tuple(row) not in known for row in old[keys].astype(str).to_numpy().tolist()]], new])
    new.sort_values(keys, kind="stable").to_csv(path, sep="\t", index=False, float_format="%.5g", lineterminator="\n")


def joint_rows(options: argparse.Namespace) -> None:
    """Choose settings of the joint training: the fold's classes are held out, those of the next fold pseudo-novel."""
    cache = read_cache(options.cache)
    labels = np.arange(1, CLASSES + 1).reshape(FOLDS, -1)
    pseudo, unseen, known = (labels[(options.fold + step) % FOLDS] for step in (1, 2, 3))
    train = np.flatnonzero(cache.voc.index.split == 0)
    episodes = Episodes(cache, episodes_of(cache, train, pseudo, options.episodes, "joint", options.fold))
    frames = []
    constant = options.settings[0]  # without a map, the share of detached iterations changes nothing
    for (pooling, relu, detach, classifier), prior in [
        *((one, "map") for one in options.settings),
        (constant, "constant"),
    ]:
        settings = {"seed": 0, "classifier": classifier, "joint": options.joint, "detach": int(detach * options.joint)}
        network = network_of(cache.encoder, len(known), pooling, relu, 0, prior)
        fit_joint(network, cache, known, unseen, settings)
        facts = {"fold": options.fold, "pooling": pooling, "relu": relu, "detach": detach, "classifier": classifier}
        facts["joint"] = options.joint
        for support in ("own", "other") if prior == "map" else ("constant",):
            counts = episodes.counts(episodes.segmented(network, support), UPSCALE)
            frames.append(frame_of(episodes, counts, **facts, support=support))
    keys = ["fold", "pooling", "relu", "detach", "classifier", "joint", "support"]
    replace_rows(options.out / "cam-classifier-joint.tsv", pd.concat(frames), keys)


def ablation_rows(options: argparse.Namespace) -> None:
    """Train with the map and with its replacements, and score the fold's novel classes."""
    cache = read_cache(options.cache)
    novel, unseen, known = roles(options.fold)
    val = cache.voc.index.validation_images()
    episodes = Episodes(cache, episodes_of(cache, val, novel, options.episodes, "report", options.fold))
    facts: dict[str, Any] = {"fold": options.fold, "seed": options.seed}
    frames = []
    ((pooling, relu, detach, classifier),) = options.settings
    suffix = ", detached" if detach else ""
    for prior in options.priors:
        settings = {"seed": options.seed, "classifier": classifier, "joint": options.joint}
        settings["detach"] = int(detach * options.joint)
        network = network_of(cache.encoder, len(known), pooling, relu, options.seed, prior)
        fit_joint(network, cache, known, unseen, settings)
        own = "other" if prior == "other" else "own"
        counts = episodes.counts(episodes.segmented(network, own), UPSCALE)
        frames.append(frame_of(episodes, counts, **facts, variant=f"cam, {prior}{suffix}"))
        if prior == "map":
            curves_of(episodes, network, {**facts, "detach": detach}, options.out / "cam-classifier-curves.tsv")
            alone = episodes.counts(episodes.priors(network, episodes.maps(network), "own") - 0.5, 1)
            frames.append(frame_of(episodes, alone, **facts, variant=f"cam-map-only{suffix}"))
            for name in ("constant", "shuffled", "other"):
                network.prior = name
                swapped = episodes.segmented(network, "other" if name == "other" else "own")
                counts = episodes.counts(swapped, UPSCALE)
                frames.append(
                    frame_of(episodes, counts, **facts, variant=f"cam, map in training, {name} in tests{suffix}")
                )
    if options.weights:
        frames.append(
            frame_of(episodes, matching_counts(cache, episodes, options.weights), **facts, variant="pretrained")
        )
    # Intervals resample queries, so that episodes of one query and class need no rows of their own.
    sums = pd.concat(frames).groupby([*facts, "variant", "query", "class"], as_index=False)[list(COUNTS)].sum()
    replace_rows(options.out / "cam-classifier-ablation.tsv", sums, [*facts, "variant"])


def curves_of(episodes: Episodes, network: CamNetwork, facts: dict[str, Any], path: Path) -> None:
    """Write the areas under the curve of the maps after the joint training, one row per support."""
    maps = episodes.maps(network)
    curves = {support: episodes.curves(episodes.priors(network, maps, support)) for support in SUPPORTS}
    labels = np.array([case.label for case in episodes.cases])
    rows = []
    for support, values in curves.items():
        low, high = paired_interval(curves["own"] - values, labels)
        row = {**facts, "support": support, "auc": class_mean(values, labels)}
        rows.append({**row, "own_minus": class_mean(curves["own"] - values, labels), "low": low, "high": high})
    replace_rows(path, pd.DataFrame(rows), ["fold", "seed", "detach"])


def matching_counts(cache: Cache, episodes: Episodes, weights: Path) -> NDArray[np.int64]:
    """Count the pixels of prototype matching with the pretrained encoder, at the images' own size."""
    encoder, voc = cache.encoder, cache.voc
    encoder.load_pretrained(weights)
    bank = SupportBank(FeatureExtractor(encoder, "fp32", CPU), voc.index.size, voc.image, voc.mask, budget_mb=2000)
    rows = []
    for case in track(episodes.cases, len(episodes.cases), "matching", "episode"):
        bank.load({case.query, *case.supports})
        prototypes = torch.stack([bank.support(image, case.label).prototypes for image in case.supports]).mean(0)
        logits = match_many(bank[case.query], prototypes[None], 10.0)[0]
        mask = torch.from_numpy(binary(voc.mask(case.query), case.label))
        rows.append(count_many((logits[1] - logits[0])[None], mask[None], encoder.grid)[0].numpy())
    return np.stack(rows)
