"""What the CAM prior's classifier (method B) has learned, and whether its map depends on the support.

    python -m benchmarks.cam_classifier features   --voc $NOVELSEG_DATA/voc-subset --weights PATH --cache FOLDER
    python -m benchmarks.cam_classifier classifier --cache FOLDER --out docs/results
    python -m benchmarks.cam_classifier joint      --cache FOLDER --out docs/results --fold 0      (and 1, 2, 3)
    python -m benchmarks.cam_classifier ablation   --cache FOLDER --out docs/results --fold 0      (and 1, 2, 3)
    python -m benchmarks.cam_classifier table      --out docs/results
    python -m benchmarks.cam_classifier sheet      --cache FOLDER --picture FILE.png

The encoder is frozen, so that ``features`` computes everything that is read of the images once: the features of all
images at one side (float16), and the pooled features of all masked objects. ``classifier`` trains classification
branches for every fold f on the base classes of the folds f + 2 and f + 3. Their maps are measured on training images
with classes of the fold f + 1 (pseudo-novel, for choosing) and on validation images with classes of the fold f (novel,
for the report). ``joint`` chooses settings of the joint training with the classes of fold f held out; ``ablation``
trains with the map and with its replacements, and scores the novel classes of fold f. Every part writes rows;
``table`` computes the document from them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from novelseg.backbones.contract import Backbone
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.backbones.registry import new_backbone
from novelseg.core.labels import VOID, binary
from novelseg.core.progress import track
from novelseg.core.random import key_to_seed, new_layers, numpy_generator
from novelseg.data.index import Index
from novelseg.data.sampling import EpisodeSampler
from novelseg.evaluation.metrics import class_iou, fb_iou
from novelseg.evaluation.scoring import count_many
from novelseg.formats.record import BackboneSpec
from novelseg.inference.photos import read_class_mask, read_photo
from novelseg.methods.bank import SupportBank
from novelseg.methods.cam.equations import (
    classification_loss,
    map_weights,
    next_of_another_class,
    normalise,
    prior_map,
    shuffle,
)
from novelseg.methods.cam.network import UPSCALE, CamNetwork
from novelseg.methods.cam.objects import TAPS, masked_object
from novelseg.methods.contract import Case
from novelseg.methods.losses import upsampled_cross_entropy
from novelseg.methods.matching.prototypes import match_many
from novelseg.ops.counts import COUNTS
from novelseg.ops.draws import to_keys
from novelseg.ops.geometry import square

CLASSES, FOLDS, MIN_PIXELS = 20, 4, 1152
SETTINGS = tuple(product(("image", "object"), (False, True)))  # pooling, relu
LENGTHS = (100, 500, 1500, 5000, 15000)  # iterations of the classifier
OBJECTS, PAIRS, RATE, WIDTH = 16, 4, 0.0005, 64
SUPPORTS = ("own", "other", "uniform", "shuffled")
PRIORS = ("map", "constant", "shuffled", "other")
DRAWS = 2000
CPU = torch.device("cpu")


class Voc:
    """Images and masks of both lists of a folder in VOC's layout, and their index."""

    def __init__(self, voc: Path) -> None:
        lists = [
            (voc / f"ImageSets/Segmentation/{name}.txt").read_text(encoding="utf8").split() for name in ("train", "val")
        ]
        self._voc, self.ids = voc, [*lists[0], *lists[1]]
        masks = [self.mask(number) for number in range(len(self.ids))]
        count = len(self.ids)
        self.index = Index(
            ids=self.ids,
            split=np.repeat(np.arange(2, dtype=np.uint8), [len(part) for part in lists]),
            shard=np.zeros(count, np.int32),
            row=np.arange(count, dtype=np.int32),
            height=np.array([mask.shape[0] for mask in masks], np.int32),
            width=np.array([mask.shape[1] for mask in masks], np.int32),
            pixels=np.stack([np.bincount(mask.reshape(-1), minlength=256)[: CLASSES + 1] for mask in masks]),
            class_fold=np.repeat(np.arange(FOLDS, dtype=np.int32), CLASSES // FOLDS),
            classes=[f"class{label}" for label in range(1, CLASSES + 1)],
            source="voc",
            lists=["train", "val"],
            list_digests=["", ""],
            folds=FOLDS,
            layout="contiguous",
            min_object_pixels=MIN_PIXELS,
            novel_images="keep",
            held_out=-1,
        )

    def image(self, number: int) -> NDArray[np.uint8]:
        return read_photo(self._voc / "JPEGImages" / f"{self.ids[number]}.jpg")

    def mask(self, number: int) -> NDArray[np.uint8]:
        return read_class_mask(self._voc / "SegmentationClass" / f"{self.ids[number]}.png", CLASSES)

    def objects(self) -> list[tuple[int, int]]:
        """Return every image and class of which it holds enough pixels."""
        large = self.index.pixels[:, 1:] >= MIN_PIXELS
        return [(int(image), int(label) + 1) for image, label in np.argwhere(large)]


@dataclass(frozen=True)
class Cache:
    """What ``features`` computed."""

    voc: Voc
    features: NDArray[np.float16]  # (N, C, h, w) of all images, as squares
    members: list[tuple[int, int]]
    taps: dict[tuple[str, bool], Tensor]  # (pooling, relu) → (M, 9, C + 1)
    encoder: Backbone
    side: int

    def rows(self, images: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the objects of some classes in some images."""
        inside, wanted = set(images.tolist()), set(labels.tolist())
        return np.array([n for n, (image, label) in enumerate(self.members) if image in inside and label in wanted])

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.array([self.members[row][1] for row in rows])

    def query(self, images: Iterable[int]) -> Tensor:
        """Return the features of some images, (B, C, h, w) float32."""
        return torch.from_numpy(self.features[list(images)].astype(np.float32))

    def mask(self, image: int) -> Tensor:
        """Return the labels of an image as a square, (S, S)."""
        colours = np.zeros((*self.voc.index.size(image), 3), np.uint8)
        return torch.from_numpy(square(colours, self.voc.mask(image), self.side)[1])


def network_of(encoder: Backbone, classes: int, pooling: str, relu: bool, seed: int, prior: str = "map") -> CamNetwork:
    """Build a network with new branches; the encoder's weights are not used."""
    with new_layers(seed, "branches"):
        shape: dict[str, Any] = {"wiring": "sum", "weighting": "scores", "width": WIDTH}
        return CamNetwork(encoder, classes=classes, prior=prior, pooling=pooling, relu=relu, **shape)


def compute_features(options: argparse.Namespace) -> None:
    """Compute the cache; a run that was interrupted goes on in the next."""
    voc, folder = Voc(options.voc), options.cache
    folder.mkdir(parents=True, exist_ok=True)
    encoder = new_backbone(BackboneSpec(options.arch, options.stem)).eval().requires_grad_(False)
    encoder.load_pretrained(options.weights)
    extract = FeatureExtractor(encoder, "fp32", CPU)
    cells = encoder.grid.cells((options.side, options.side))
    members = voc.objects()
    about = {"voc": str(options.voc), "side": options.side, "weights": str(options.weights)}
    about |= {"arch": options.arch, "stem": options.stem}
    (folder / "about.json").write_text(json.dumps(about), encoding="utf8")
    networks = {name: network_of(encoder, 2, *name, 0) for name in SETTINGS}
    shapes = {"features": ((len(voc.ids), encoder.channels, *cells), np.float16)}
    shapes["taps"] = ((len(SETTINGS), len(members), TAPS, encoder.channels + 1), np.float32)
    arrays = {}
    for name, (shape, kind) in shapes.items():
        path = folder / f"{name}.npy"
        mode = "r+" if path.exists() else "w+"
        arrays[name] = np.lib.format.open_memmap(path, mode=mode, dtype=kind, shape=shape)
    done = folder / "done.txt"
    start = int(done.read_text(encoding="utf8")) if done.exists() else 0
    jobs: list[tuple[int, int]] = [*((image, 0) for image in range(len(voc.ids))), *members]
    chunk = 64
    for first in track(range(start, len(jobs), chunk), -(-(len(jobs) - start) // chunk), "features", "chunk"):
        part = jobs[first : first + chunk]

        def read(number: int, part: list[tuple[int, int]] = part) -> tuple[NDArray[Any], NDArray[np.uint8]]:
            image, label = part[number]
            if label:
                return masked_object(voc.image(image), voc.mask(image), label, options.side)
            return square(voc.image(image), voc.mask(image), options.side)

        for number, mask, features in extract.each([(options.side, options.side)] * len(part), read, ""):
            if part[number][1]:
                row = first + number - len(voc.ids)
                for place, network in enumerate(networks.values()):
                    arrays["taps"][place, row] = network.pooled(features, torch.from_numpy(mask)).numpy()
            else:
                arrays["features"][part[number][0]] = features.numpy()
        for array in arrays.values():
            array.flush()
        done.write_text(str(first + len(part)), encoding="utf8")


def read_cache(folder: Path) -> Cache:
    """Open the cache."""
    about = json.loads((folder / "about.json").read_text(encoding="utf8"))
    voc = Voc(Path(about["voc"]))
    encoder = new_backbone(BackboneSpec(about["arch"], about["stem"])).eval().requires_grad_(False)
    taps = np.load(folder / "taps.npy", mmap_mode="r")
    return Cache(
        voc,
        np.load(folder / "features.npy", mmap_mode="r"),
        voc.objects(),
        {name: torch.from_numpy(np.array(taps[place])) for place, name in enumerate(SETTINGS)},
        encoder,
        about["side"],
    )


def fit_classifier(network: CamNetwork, taps: Tensor, channels: Tensor, iterations: range, seed: int) -> None:
    """Train the classification branch on pooled features, (N, 9, C + 1)."""
    weights = [*network.classify.parameters(), *network.refine.parameters()]
    optimiser = torch.optim.Adam(weights, RATE)
    for iteration in iterations:
        picks = torch.from_numpy(numpy_generator(seed, "object", iteration).integers(len(taps), size=OBJECTS))
        optimiser.zero_grad()
        classification_loss(network.scores_of_pooled(taps[picks]), channels[picks]).backward()
        optimiser.step()


def roles(fold: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the novel classes of a fold, those that act as unseen, and the known ones."""
    labels = np.arange(1, CLASSES + 1).reshape(FOLDS, -1)
    return labels[fold], labels[(fold + 1) % FOLDS], np.concatenate([labels[(fold + 2) % 4], labels[(fold + 3) % 4]])


def episodes_of(
    cache: Cache, images: NDArray[np.int64], labels: NDArray[np.int64], count: int, *key: int | str
) -> list[Case]:
    """Draw 1-shot episodes."""
    sampler, rng = EpisodeSampler(cache.voc.index, images, labels, 1, "list"), numpy_generator(*key)
    drawn = [sampler.draw(rng) for _ in range(count)]
    return [Case(0, number, one.query, one.label, one.supports) for number, one in enumerate(drawn)]


def area_under_curve(values: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Return the probability that a cell of the object is brighter than another one; ties count one half."""
    ranks = pd.Series(values).rank().to_numpy()
    inside = int(truth.sum())
    return float((ranks[truth].sum() - inside * (inside + 1) / 2) / (inside * (len(truth) - inside)))


class Episodes:
    """Episodes with everything that the maps are measured with."""

    def __init__(self, cache: Cache, cases: list[Case]) -> None:
        self.cache, self.cases = cache, cases
        row = {member: number for number, member in enumerate(cache.members)}
        self.supports = torch.tensor([row[case.supports[0], case.label] for case in cases])
        self.others = torch.tensor(next_of_another_class([case.label for case in cases]))
        self.keys = to_keys([key_to_seed("cam", case.seed, case.episode) for case in cases], CPU)
        self.masks = {case.query: torch.from_numpy(cache.voc.mask(case.query)) for case in cases}
        self.squares = {case.query: cache.mask(case.query) for case in cases}

    def cell_truth(self, case: Case) -> NDArray[np.uint8]:
        """Return the labels of the query's cells: 1 the class, 0 the rest, 255 void."""
        mask = torch.from_numpy(binary(self.squares[case.query].numpy(), case.label))
        cells = (self.cache.features.shape[2], self.cache.features.shape[3])
        labels: NDArray[np.uint8] = self.cache.encoder.grid.labels_at_cells(mask, cells).numpy()
        return labels

    @torch.inference_mode()
    def priors(self, network: CamNetwork, support: str, weighting: str = "scores") -> Tensor:
        """Compute the map of every episode, (E, h, w), in [0, 1]."""
        taps = self.cache.taps[network.pooling, network.relu]
        scores = network.scores_of_pooled(taps[self.supports])
        if support == "other":
            scores = scores[self.others]
        elif support == "uniform":
            scores = torch.ones_like(scores)
        weights = map_weights(scores, weighting)
        maps = []
        for number, case in enumerate(self.cases):
            one = network.maps(self.cache.query([case.query]))
            maps.append(normalise(prior_map(one, weights[number : number + 1]))[0])
        priors = torch.stack(maps)
        if support == "shuffled":
            priors = shuffle(priors, self.keys)
        return priors

    def curves(self, priors: Tensor) -> NDArray[np.float64]:
        """Return the area under the curve of each map; NaN where a query has no cell of one side."""
        values = []
        for case, prior in zip(self.cases, priors, strict=True):
            truth = self.cell_truth(case)
            known, inside = truth != VOID, truth == 1
            both = inside.any() and (known & ~inside).any()
            values.append(area_under_curve(prior.numpy()[known], inside[known]) if both else np.nan)
        return np.array(values)

    def counts(self, logits: Iterable[Tensor], factor: int) -> NDArray[np.int64]:
        """Count the pixels (E, 4) of predictions that are ``factor`` times finer than the features."""
        grid = self.cache.encoder.grid.finer(factor) if factor > 1 else self.cache.encoder.grid
        rows = []
        for case, one in zip(self.cases, logits, strict=True):
            mask = torch.from_numpy(binary(self.masks[case.query].numpy(), case.label))
            rows.append(count_many(one[None], mask[None], grid)[0].numpy())
        return np.stack(rows)

    @torch.inference_mode()
    def segmented(self, network: CamNetwork, support: str) -> Iterator[Tensor]:
        """Yield what the segmentation branch makes of the maps: foreground minus background."""
        priors = self.priors(network, support)
        for number, case in enumerate(self.cases):
            part = slice(number, number + 1)
            logits = network.segment(self.cache.query([case.query]), priors[part], self.keys[part])[0]
            yield logits[1] - logits[0]


def frame_of(episodes: Episodes, counts: NDArray[np.int64], **columns: Any) -> pd.DataFrame:
    """Build rows of pixel counts, one per episode."""
    cases = episodes.cases
    frame = pd.DataFrame(
        {
            "episode": [case.episode for case in cases],
            "query": [episodes.cache.voc.ids[case.query] for case in cases],
            "class": [case.label for case in cases],
        }
    )
    for place, name in enumerate(COUNTS):
        frame[name] = counts[:, place]
    for place, (name, value) in enumerate(columns.items()):
        frame.insert(place, name, value)
    return frame


def classifier_rows(options: argparse.Namespace) -> None:
    """Train classifiers of several lengths; write accuracies, areas under the curve, and mIoU of the map alone."""
    cache = read_cache(options.cache)
    train = np.flatnonzero(cache.voc.index.split == 0)
    val = cache.voc.index.validation_images()
    rows = []
    for fold in range(FOLDS):
        novel, unseen, known = roles(fold)
        lists = {
            "pseudo-novel": Episodes(cache, episodes_of(cache, train, unseen, options.episodes, "choose", fold)),
            "novel": Episodes(cache, episodes_of(cache, val, novel, options.episodes, "report", fold)),
        }
        objects = {"train": cache.rows(train, known)}
        free = val[~cache.voc.index.pixels[val][:, novel].any(axis=1)]
        objects["val"] = cache.rows(free, known)
        for pooling, relu in SETTINGS:
            network, done = network_of(cache.encoder, len(known), pooling, relu, 0), 0
            taps = cache.taps[pooling, relu]
            place = {int(label): number for number, label in enumerate(known)}
            channels = {
                name: torch.tensor([place[label] for label in cache.labels(part).tolist()])
                for name, part in objects.items()
            }
            for length in LENGTHS:
                fit_classifier(network, taps[objects["train"]], channels["train"], range(done, length), 0)
                done = length
                row: dict[str, Any] = {"fold": fold, "pooling": pooling, "relu": relu, "iterations": length}
                with torch.inference_mode():
                    for name, part in objects.items():
                        scores = network.scores_of_pooled(taps[part])
                        row[f"{name}_objects"] = len(part)
                        row[f"{name}_accuracy"] = float((scores.argmax(1) == channels[name]).float().mean())
                        row[f"{name}_loss"] = float(classification_loss(scores, channels[name]))
                        row[f"{name}_commonest"] = float(torch.bincount(channels[name]).max() / len(part))
                for name, episodes in lists.items():
                    rows += map_rows(episodes, network, {**row, "list": name})
                print(f"fold {fold}, {pooling}, relu {relu}, {length}: {row['val_accuracy']:.2f}", flush=True)
    pd.DataFrame(rows).to_csv(options.out / "cam-classifier-maps.tsv", sep="\t", index=False, float_format="%.5g")


def map_rows(episodes: Episodes, network: CamNetwork, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Measure the maps of one classifier: by the support, and by the weighting of the known classes' maps."""
    rows = []
    own = np.zeros(0)
    labels = np.array([case.label for case in episodes.cases])
    for support, weighting in [*((support, "scores") for support in SUPPORTS), ("own", "softmax"), ("own", "sigmoid")]:
        priors = episodes.priors(network, support, weighting)
        curves = episodes.curves(priors)
        frame = frame_of(episodes, episodes.counts(priors - 0.5, 1))
        if support == "own" and weighting == "scores":
            own = curves
        low, high = paired_interval(own - curves, labels)
        rows.append(
            {
                **row,
                **{"support": support, "weighting": weighting, "auc": class_mean(curves, labels)},
                **{"own_minus": class_mean(own - curves, labels), "low": low, "high": high},
                **{"miou": 100 * float(class_iou(frame).mean()), "fb_iou": 100 * fb_iou(frame)},
            }
        )
    return rows


def class_mean(values: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the mean over classes of the mean over episodes."""
    return float(np.mean([np.nanmean(values[labels == label]) for label in np.unique(labels)]))


def paired_interval(values: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval over episodes of :func:`class_mean`."""
    rng = np.random.default_rng(0)
    means = []
    for label in np.unique(labels):
        own = values[labels == label]
        own = own[~np.isnan(own)]
        means.append(own[rng.integers(len(own), size=(DRAWS, len(own)))].mean(1))
    low, high = np.percentile(np.mean(means, axis=0), [2.5, 97.5])
    return float(low), float(high)


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


def write_rows(path: Path, frames: list[pd.DataFrame]) -> None:
    """Write rows, in place of those of the same fold and settings that are there."""
    new = pd.concat(frames)
    keys = [name for name in new.columns if name not in ("episode", "query", "class", *COUNTS)]
    if path.exists():
        old = pd.read_csv(path, sep="\t", dtype={"query": str})
        known = set(map(tuple, new[keys].drop_duplicates().astype(str).to_numpy().tolist()))
        kept = [tuple(row) not in known for row in old[keys].astype(str).to_numpy().tolist()]
        new = pd.concat([old[kept], new])
    new.sort_values([*keys, "episode"], kind="stable").to_csv(path, sep="\t", index=False, lineterminator="\n")


def joint_rows(options: argparse.Namespace) -> None:
    """Choose settings of the joint training: the fold's classes are held out, those of the next fold pseudo-novel."""
    cache = read_cache(options.cache)
    labels = np.arange(1, CLASSES + 1).reshape(FOLDS, -1)
    pseudo, unseen, known = (labels[(options.fold + step) % FOLDS] for step in (1, 2, 3))
    train = np.flatnonzero(cache.voc.index.split == 0)
    episodes = Episodes(cache, episodes_of(cache, train, pseudo, options.episodes, "joint", options.fold))
    frames = []
    for pooling, relu, detach, classifier in options.settings:
        settings = {"seed": 0, "classifier": classifier, "joint": options.joint, "detach": int(detach * options.joint)}
        network = network_of(cache.encoder, len(known), pooling, relu, 0)
        fit_joint(network, cache, known, unseen, settings)
        facts = {"fold": options.fold, "pooling": pooling, "relu": relu, "detach": detach, "classifier": classifier}
        facts["joint"] = options.joint
        for support in ("own", "other"):
            counts = episodes.counts(episodes.segmented(network, support), UPSCALE)
            frames.append(frame_of(episodes, counts, **facts, support=support))
    write_rows(options.out / "cam-classifier-joint.tsv", frames)


def ablation_rows(options: argparse.Namespace) -> None:
    """Train with the map and with its replacements, and score the fold's novel classes."""
    cache = read_cache(options.cache)
    novel, unseen, known = roles(options.fold)
    val = cache.voc.index.validation_images()
    episodes = Episodes(cache, episodes_of(cache, val, novel, options.episodes, "report", options.fold))
    facts: dict[str, Any] = {"fold": options.fold, "seed": options.seed}
    frames = []
    ((pooling, relu, detach, classifier),) = options.settings
    for prior in options.priors:
        settings = {"seed": options.seed, "classifier": classifier, "joint": options.joint}
        settings["detach"] = int(detach * options.joint)
        network = network_of(cache.encoder, len(known), pooling, relu, options.seed, prior)
        fit_joint(network, cache, known, unseen, settings)
        own = "other" if prior == "other" else "own"
        counts = episodes.counts(episodes.segmented(network, own), UPSCALE)
        frames.append(frame_of(episodes, counts, **facts, variant=f"cam, {prior}"))
        if prior == "map":
            alone = episodes.counts(episodes.priors(network, "own") - 0.5, 1)
            frames.append(frame_of(episodes, alone, **facts, variant="cam-map-only"))
            for name in ("constant", "shuffled", "other"):
                network.prior = name
                swapped = episodes.segmented(network, "other" if name == "other" else "own")
                counts = episodes.counts(swapped, UPSCALE)
                frames.append(frame_of(episodes, counts, **facts, variant=f"cam, map in training, {name} in tests"))
    if options.seed == 0:
        frames.append(
            frame_of(episodes, matching_counts(cache, episodes, options.weights), **facts, variant="pretrained")
        )
    write_rows(options.out / "cam-classifier-ablation.tsv", frames)


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


def setting(text: str) -> tuple[str, bool, float, int]:
    """Parse settings such as ``object,relu,0.5,5000``: pooling, relu or raw, share of detached iterations, classifier."""
    pooling, activation, detach, classifier = text.split(",")
    return pooling, activation == "relu", float(detach), int(classifier)


def main() -> None:
    """Run one part."""
    parts = {
        "features": compute_features,
        "classifier": classifier_rows,
        "joint": joint_rows,
        "ablation": ablation_rows,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=parts)
    parser.add_argument("--voc", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--stem", default="torchvision")
    parser.add_argument("--side", type=int, default=225)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--joint", type=int, default=400)
    parser.add_argument("--settings", type=setting, nargs="+", default=[("object", True, 0.0, 5000)])
    parser.add_argument("--priors", nargs="+", choices=PRIORS, default=list(PRIORS))
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts[options.part](options)


if __name__ == "__main__":
    main()
