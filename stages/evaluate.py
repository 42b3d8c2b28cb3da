"""Encoders + episode lists → one row per episode and variant, for a fold and shot (A8, A9).

Reads
    ``index``, ``images`` (all shards), ``episodes`` (all seeds), the pretrained weights, the Baseline, the jointly
    trained encoder and, where it was trained, the single-level one.
Writes
    a folder: ``rows.parquet`` (pixel counts), ``examples.h5`` (pictures for the report), ``about.json`` (classes,
    parameters, where everything came from).
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.artifacts import hdf5, tables
from stages.artifacts.formats.episode_results import RESULTS
from stages.artifacts.formats.episodes import EPISODES
from stages.artifacts.formats.examples import EXAMPLES
from stages.artifacts.formats.files import ABOUT, EXAMPLES_FILE, ROWS
from stages.core.compute import pick_device, use_threads
from stages.core.digests import digest_once
from stages.core.errors import InputError
from stages.core.files import whole_folder
from stages.core.progress import track
from stages.core.random import torch_generator
from stages.data.index import ATTRIBUTES, Index, read_index
from stages.data.store import ImageStore
from stages.models.encoder import Encoder, FeatureExtractor, load_encoder, new_encoder
from stages.models.srofb import (
    Cells,
    classify,
    confident_cells,
    parameter_count,
    query_cells,
    support_cells,
)
from stages.ops.labels import binary
from stages.ops.matching import match, support_prototypes, upsample
from stages.ops.metrics import COUNTS, pixel_counts
from stages.sections.encoder import EncoderParams
from stages.sections.evaluate import Params
from stages.sections.srofb import SrofbParams

SUPPORT_ONLY, REFINED = "spfl+srofb-support-only", "spfl+srofb"
VARIANTS = ("pretrained", "baseline", "spfl-single-level", "spfl", SUPPORT_ONLY, REFINED)


@dataclass(frozen=True)
class Case:
    """An episode as read from a list; images are numbers of the index."""

    seed: int
    episode: int
    query: int
    label: int
    supports: tuple[int, ...]


@dataclass(frozen=True)
class Prediction:
    """What a variant says of a query: (H, W) 1 foreground; and the confident cells that refined it, if any."""

    mask: NDArray[np.uint8]
    confident: NDArray[np.uint8] | None = None


def read_cases(paths: list[Path], index: Index) -> list[Case]:
    """Episodes of all lists; the seed is the list's name, ``seed<n>.tsv``."""
    numbers = {name: number for number, name in enumerate(index.ids)}
    cases = []
    for path in paths:
        seed = int(path.stem.removeprefix("seed"))
        frame = tables.read(path, EPISODES)
        for row in frame.itertuples(index=False):
            episode, query, label, supports = row
            names = [str(query), *str(supports).split()]
            unknown = [name for name in names if name not in numbers]
            if unknown:
                raise InputError(f"{path}: image '{unknown[0]}' is not in the index; rerun `episodes`")
            found = [numbers[name] for name in names]
            cases.append(Case(seed, int(episode), found[0], int(label), tuple(found[1:])))
    return cases


class FeatureCache:
    """Features of images, each computed once while the memory budget lasts; the oldest are forgotten first."""

    def __init__(self, extract: FeatureExtractor, store: ImageStore, budget_mb: int) -> None:
        self._extract, self._store = extract, store
        self._budget, self._used = budget_mb << 20, 0
        self._kept: OrderedDict[int, Tensor] = OrderedDict()

    def __getitem__(self, image: int) -> Tensor:
        """(C, h, w) of an image."""
        if image in self._kept:
            self._kept.move_to_end(image)
            return self._kept[image]
        features = self._extract(self._store.image(image))
        self._kept[image] = features
        self._used += features.nbytes
        while self._used > self._budget and len(self._kept) > 1:
            self._used -= self._kept.popitem(last=False)[1].nbytes
        return features


class Predictor:
    """Predictions of one encoder; of a query it reads the image and never the mask."""

    def __init__(
        self,
        features: FeatureCache,
        index: Index,
        support_mask: Callable[[int], NDArray[np.uint8]],
        scale: float,
    ) -> None:
        self._features, self._index, self._support_mask, self._scale = features, index, support_mask, scale

    def _supports(self, case: Case, device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
        features = [self._features[image] for image in case.supports]
        masks = [binary(torch.from_numpy(self._support_mask(image)).to(device), case.label) for image in case.supports]
        return features, masks

    def _mask(self, logits: Tensor, case: Case) -> NDArray[np.uint8]:
        size = int(self._index.height[case.query]), int(self._index.width[case.query])
        foreground = upsample(logits[None], size)[0].argmax(0)
        return foreground.to(torch.uint8).cpu().numpy()

    def __call__(self, case: Case, srofb: SrofbParams | None) -> Iterator[tuple[str, Prediction]]:
        """Matching, then, with ``srofb``, both classifiers: support only and refined."""
        query = self._features[case.query]
        supports, masks = self._supports(case, query.device)
        pooled = [
            support_prototypes(feature[None, None], mask[None, None])
            for feature, mask in zip(supports, masks, strict=True)
        ]
        prototypes = torch.stack(pooled).mean(0)
        rough = match(query[None], prototypes, self._scale)[0]
        yield "matching", Prediction(self._mask(rough, case))
        if srofb is None:
            return
        cells = support_cells(supports, masks)
        steps = srofb.steps_one_shot if len(case.supports) == 1 else srofb.steps_many_shots
        chosen = confident_cells(rough, srofb)
        refining = query_cells(query, chosen)
        both = Cells(torch.cat([cells.features, refining.features]), torch.cat([cells.labels, refining.labels]))
        for name, training, confident in ((SUPPORT_ONLY, cells, None), (REFINED, both, chosen)):
            generator = torch_generator(srofb.seed, "srofb", case.seed, case.episode)
            logits = classify(training, query, steps, srofb, generator)
            yield (
                name,
                Prediction(self._mask(logits, case), None if confident is None else confident.cpu().numpy()),
            )


Encoders = dict[str, tuple[Encoder, dict[str, Any]]]


def _encoders(weights: Path, encoder: EncoderParams, trained: dict[str, Path], fold: int) -> Encoders:
    """Encoders by variant; the pretrained one takes scale and precision from the Baseline."""
    loaded = {name: load_encoder(path, fold) for name, path in trained.items()}
    pretrained = new_encoder(encoder, weights).eval().requires_grad_(False)
    return {"pretrained": (pretrained, loaded["baseline"][1]), **loaded}


def truth_of(store: ImageStore, case: Case) -> NDArray[np.uint8]:
    """Mask of a query, for scoring alone."""
    return store.mask(case.query)


def score(prediction: Prediction, case: Case, mask: NDArray[np.uint8]) -> dict[str, int]:
    """Pixel counts of a prediction; the only place that a query's mask reaches."""
    truth = binary(torch.from_numpy(mask), case.label).numpy()
    return dict(zip(COUNTS, pixel_counts(prediction.mask, truth), strict=True))


def predict_all(
    cases: list[Case], variant: str, predictor: Predictor, srofb: SrofbParams | None, label: str
) -> Iterator[tuple[Case, str, Prediction]]:
    """Predictions of one encoder for all episodes, each with its variant's name."""
    for case in track(cases, len(cases), label, "episode"):
        for name, prediction in predictor(case, srofb):
            yield case, variant if name == "matching" else name, prediction


def _examples(kept: dict[Case, dict[str, Prediction]], index: Index, variants: list[str]) -> dict[str, NDArray[Any]]:
    """Datasets of the example file."""
    cases = list(kept)
    cells = [found[REFINED].confident for found in kept.values()]
    grids = [cell for cell in cells if cell is not None]
    maps = [np.stack([found[variant].mask for variant in variants]) for found in kept.values()]
    return {
        "query": np.array([index.ids[case.query] for case in cases], object),
        "supports": np.array([" ".join(index.ids[i] for i in case.supports) for case in cases], object),
        "class": np.array([case.label for case in cases], np.int32),
        "height": np.array([index.height[case.query] for case in cases], np.int32),
        "width": np.array([index.width[case.query] for case in cases], np.int32),
        "cells": np.array([cell.shape for cell in grids], np.int32).reshape(-1, 2),
        **hdf5.Ragged.pack("predictions", maps, "uint8"),
        **hdf5.Ragged.pack("confident", grids, "uint8"),
    }


def run(
    *,
    index: Path,
    images: list[Path],
    episodes: list[Path],
    weights: Path,
    baseline: Path,
    spfl: Path,
    single_level: Path | None = None,
    out: Path,
    fold: int,
    shot: int,
    params: Params,
    encoder: EncoderParams,
    srofb: SrofbParams,
    device: str = "auto",
    threads: int = 0,
    cache_mb: int = 4096,
) -> None:
    """Evaluate all variants on the same episodes, in one pass per encoder."""
    use_threads(threads)
    data, place = read_index(index), pick_device(device)
    cases = read_cases(episodes, data)
    trained = {"baseline": baseline, "spfl": spfl, **({"spfl-single-level": single_level} if single_level else {})}
    encoders = _encoders(weights, encoder, trained, fold)
    resolution = _resolution(encoders)
    shown = [case for case in cases if case.seed == cases[0].seed][: params.examples]
    kept: dict[Case, dict[str, Prediction]] = {case: {} for case in shown}
    rows: list[dict[str, Any]] = []
    with ImageStore(images, data) as store:
        for variant in (name for name in VARIANTS if name in encoders):
            net, about = encoders[variant]
            cache = FeatureCache(FeatureExtractor(net, about["precision"], place), store, cache_mb)
            predictor = Predictor(cache, data, store.mask, about["scale"])
            classifier = srofb if variant == "spfl" else None
            label = f"evaluate fold {fold} {shot}-shot {variant}"
            for case, name, prediction in predict_all(cases, variant, predictor, classifier, label):
                counts = score(prediction, case, truth_of(store, case))
                rows.append({**_names(case, name, data), **counts})
                if case in kept:
                    kept[case][name] = prediction
    variants = [name for name in VARIANTS if name in {row["variant"] for row in rows}]
    attrs = {"fold": fold, "shot": shot, "variants": variants}
    digests = {name: digest_once(path) for name, path in {"pretrained": weights, **trained}.items()}
    about = {
        **_about(data, fold, cases, encoders, variants, srofb),
        **{"fold": fold, "shot": shot, "weights": digests},
        "protocol": {
            **{name: getattr(data, name) for name in ATTRIBUTES},
            "resolution": resolution,
            "weights": digests["pretrained"],
        },
    }
    with whole_folder(out) as scratch:
        tables.write(scratch / ROWS, RESULTS, _in_order(rows))
        hdf5.write(scratch / EXAMPLES_FILE, EXAMPLES, _examples(kept, data, variants), attrs)
        (scratch / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf8")


def _about(
    index: Index, fold: int, cases: list[Case], encoders: Encoders, variants: list[str], srofb: SrofbParams
) -> dict[str, Any]:
    """What lies beside the rows: protocol, classes, parameters, how the encoders were trained."""
    net, scored = encoders["spfl"][0], {case.label for case in cases}
    size = sum(weight.numel() for weight in net.parameters())
    extra = parameter_count(net.channels, srofb.hidden)
    return {
        "classes": {str(label): index.classes[label - 1] for label in sorted(scored)},
        "unscored": [index.classes[label - 1] for label in index.novel(fold).tolist() if label not in scored],
        "parameters": {name: size + (extra if "srofb" in name else 0) for name in variants},
        "training": {name: details for name, (_, details) in encoders.items() if name != "pretrained"},
        "srofb": srofb.model_dump(),
    }


def _resolution(encoders: Encoders) -> str:
    """Side and geometry of the training images of all encoders.

    Raises
    ------
    InputError
        If they differ.
    """
    found = sorted({str(about["resolution"]) for _, about in encoders.values()})
    if len(found) > 1:
        raise InputError(f"the encoders were trained at {' and '.join(found)}; give those of one experiment")
    return found[0]


def _in_order(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows by seed, episode and variant."""
    frame = pd.DataFrame(rows)
    rank = frame["variant"].map({name: number for number, name in enumerate(VARIANTS)})
    return frame.assign(rank=rank).sort_values(["seed", "episode", "rank"]).drop(columns="rank")


def _names(case: Case, variant: str, index: Index) -> dict[str, Any]:
    return {
        "seed": case.seed,
        "episode": case.episode,
        "variant": variant,
        "query": index.ids[case.query],
        "class": case.label,
    }
