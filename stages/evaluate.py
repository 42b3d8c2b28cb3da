"""Networks + episode lists → one row per episode and variant, for a fold and shot (A8, A9).

Reads
    ``index``, ``images`` (all shards), ``episodes`` (all seeds), the pretrained weights, the Baseline, the jointly
    trained encoder and, where they were trained, the single-level one and the network of the CAM prior.
Writes
    a folder: ``rows.parquet`` (pixel counts), ``examples.h5`` (pictures for the report), ``about.json`` (classes,
    parameters, where everything came from).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.artifacts import hdf5, tables
from stages.artifacts.formats.episode_results import RESULTS
from stages.artifacts.formats.examples import EXAMPLES
from stages.artifacts.formats.files import ABOUT, EXAMPLES_FILE, ROWS
from stages.core.compute import pick_device, use_threads
from stages.core.digests import digest_once
from stages.core.errors import InputError
from stages.core.files import whole_folder
from stages.data.index import ATTRIBUTES, Index, read_index
from stages.data.store import ImageStore
from stages.evaluation.bank import SupportBank
from stages.evaluation.cam import CamPredictor
from stages.evaluation.cases import Case
from stages.evaluation.lists import read_cases
from stages.evaluation.predictor import Prediction, Predictor, Refinement
from stages.evaluation.scoring import Predicts, predict_and_score, rows_of
from stages.evaluation.variants import CAM, MAP, REFINED, REFINEMENTS, SPFL, SUPPORT_ONLY, VARIANTS
from stages.models.cam import CamNetwork, load_cam
from stages.models.encoder import Encoder, load_encoder, new_encoder
from stages.models.extraction import FeatureExtractor
from stages.models.srofb import parameter_count
from stages.ops.matching import upsample
from stages.sections.encoder import EncoderParams
from stages.sections.evaluate import Params
from stages.sections.srofb import SrofbParams

Encoders = dict[str, tuple[Encoder, dict[str, Any]]]


def _encoders(weights: Path, encoder: EncoderParams, trained: dict[str, Path], fold: int, base: list[str]) -> Encoders:
    """Encoders by variant; the pretrained one takes scale and precision from the Baseline."""
    loaded = {name: load_encoder(path, fold, base) for name, path in trained.items()}
    pretrained = new_encoder(encoder, weights).eval().requires_grad_(False)
    return {"pretrained": (pretrained, loaded["baseline"][1]), **loaded}


def _predictors(
    encoders: Encoders,
    cam: tuple[CamNetwork, dict[str, Any]] | None,
    data: Index,
    store: ImageStore,
    place: torch.device,
    srofb: SrofbParams,
    memory_mb: int,
    batch: int,
    params: Params,
) -> Iterator[tuple[str, Predicts]]:
    """What predicts, one after another; none is kept here, since the next wants its memory."""
    refinements = [
        Refinement(name, with_query, srofb) for name, with_query in REFINEMENTS.items() if name in params.refinements
    ]
    for variant in (name for name in VARIANTS if name in encoders):
        net, about = encoders[variant]
        ways = refinements if variant == SPFL else []
        extract = FeatureExtractor(net, about["precision"], place)
        yield (
            variant,
            Predictor(
                SupportBank(extract, data.size, store.image, store.mask, memory_mb),
                about["scale"],
                ways,
                half=extract.half,
                batch=batch,
            ),
        )
    if cam:
        yield CAM, CamPredictor(*cam, params, data, store.image, store.mask, place, memory_mb)


def _mask(prediction: Prediction, index: Index) -> NDArray[np.uint8]:
    """(H, W) prediction at the query's size, 1 foreground."""
    size = index.size(prediction.case.query)
    foreground = upsample(prediction.logits[None, None], size)[0, 0] > 0
    return foreground.to(torch.uint8).cpu().numpy()


def _grid(found: dict[str, Prediction], variant: str, of: Callable[[Prediction], Tensor | None]) -> NDArray[Any]:
    """What a variant noted on the way to an episode's prediction; empty where it was not asked, or notes none."""
    grid = of(found[variant]) if variant in found else None
    return np.zeros((0, 0), np.uint8) if grid is None else grid.cpu().numpy()


def _examples(kept: dict[Case, dict[str, Prediction]], index: Index, variants: list[str]) -> dict[str, NDArray[Any]]:
    """Datasets of the example file."""
    cases = list(kept)
    grids = [_grid(found, REFINED, lambda made: made.confident) for found in kept.values()]
    priors = [np.rint(255.0 * _grid(found, CAM, lambda made: made.prior)).astype(np.uint8) for found in kept.values()]
    maps = [np.stack([_mask(found[variant], index) for variant in variants]) for found in kept.values()]
    return {
        "query": np.array([index.ids[case.query] for case in cases], object),
        "supports": np.array([" ".join(index.ids[i] for i in case.supports) for case in cases], object),
        "class": np.array([case.label for case in cases], np.int32),
        "height": np.array([index.height[case.query] for case in cases], np.int32),
        "width": np.array([index.width[case.query] for case in cases], np.int32),
        "cells": np.array([cell.shape for cell in grids], np.int32).reshape(-1, 2),
        **hdf5.Ragged.pack("predictions", maps, "uint8"),
        **hdf5.Ragged.pack("confident", grids, "uint8"),
        "prior_cells": np.array([prior.shape for prior in priors], np.int32).reshape(-1, 2),
        **hdf5.Ragged.pack("prior", priors, "uint8"),
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
    cam: Path | None = None,
    out: Path,
    fold: int,
    shot: int,
    params: Params,
    encoder: EncoderParams,
    srofb: SrofbParams,
    device: str = "auto",
    threads: int = 0,
    memory_mb: int = 0,
    batch: int = 0,
) -> None:
    """Evaluate all variants on the same episodes, in one pass per network.

    ``memory_mb`` bounds the features that are held, ``batch`` the episodes that are predicted together; 0 for
    defaults. Neither changes a result beyond rounding.
    """
    use_threads(threads)
    data, place = read_index(index), pick_device(device)
    cases = read_cases(episodes, data, fold, shot)
    trained = {"baseline": baseline, SPFL: spfl, **({"spfl-single-level": single_level} if single_level else {})}
    base = data.base_names(fold)
    encoders, branches = _encoders(weights, encoder, trained, fold, base), load_cam(cam, fold, base) if cam else None
    resolution = _resolution(encoders)
    first = min(case.seed for case in cases)
    shown = sorted(case for case in cases if case.seed == first)[: params.examples]
    kept: dict[Case, dict[str, Prediction]] = {case: {} for case in shown}
    rows: list[pd.DataFrame] = []
    with ImageStore(images, data) as store:
        for variant, predictor in _predictors(encoders, branches, data, store, place, srofb, memory_mb, batch, params):
            label = f"evaluate fold {fold} {shot}-shot {variant}"
            for predictions, counts in predict_and_score(predictor, cases, store, label, variant):
                rows.append(rows_of(predictions, counts, data))
                for found in predictions:
                    if found.case in kept:
                        kept[found.case][found.variant] = found
            del predictor  # its memory is the next network's
    frame = _in_order(pd.concat(rows))
    variants = [name for name in VARIANTS if name in set(frame["variant"])]
    attrs = {"fold": fold, "shot": shot, "variants": variants}
    given = {"pretrained": weights, **trained, **({CAM: cam} if cam else {})}
    digests = {name: digest_once(path) for name, path in given.items()}
    about = {
        **_about(data, fold, cases, encoders, branches, variants, srofb),
        **{"fold": fold, "shot": shot, "weights": digests},
        "protocol": {
            **{name: getattr(data, name) for name in ATTRIBUTES},
            "resolution": resolution,
            "cam": _cam_protocol(branches[1], params) if branches else "",
            "weights": digests["pretrained"],
        },
    }
    with whole_folder(out) as scratch:
        tables.write(scratch / ROWS, RESULTS, frame)
        hdf5.write(scratch / EXAMPLES_FILE, EXAMPLES, _examples(kept, data, variants), attrs)
        (scratch / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf8")


def _about(
    index: Index,
    fold: int,
    cases: list[Case],
    encoders: Encoders,
    cam: tuple[CamNetwork, dict[str, Any]] | None,
    variants: list[str],
    srofb: SrofbParams,
) -> dict[str, Any]:
    """What lies beside the rows: protocol, classes, parameters, how the networks were trained."""
    net, scored = encoders[SPFL][0], {case.label for case in cases}
    refined = _size(net) + parameter_count(net.channels, srofb.hidden)
    sizes = {SUPPORT_ONLY: refined, REFINED: refined}
    training = {name: details for name, (_, details) in encoders.items() if name != "pretrained"}
    if cam:
        network, training[CAM] = cam
        sizes |= {CAM: _size(network), MAP: _size(network) - _size(network.decode)}
    return {
        "classes": {str(label): index.classes[label - 1] for label in sorted(scored)},
        "unscored": [index.classes[label - 1] for label in index.novel(fold).tolist() if label not in scored],
        "parameters": {name: sizes.get(name, _size(net)) for name in variants},
        "training": training,
        "srofb": srofb.model_dump(),
    }


def _cam_protocol(about: dict[str, Any], params: Params) -> str:
    """What the rows of the CAM prior depend on beside the others' protocol."""
    words = [about["resolution"], "tests too" if about["geometry"] == "resize" else "tests at own size", "layer3"]
    words += [
        *(f"{name} {about[name]}" for name in ("frozen", "unseen", "wiring")),
        f"prior {about['prior']} by {about['weighting']}",
        f"mean of {params.cam_fusion}",
        f"map cut at {params.cam_threshold:g}",
    ]
    return ", ".join(words)


def _size(network: nn.Module) -> int:
    """Parameters of a network."""
    return sum(weight.numel() for weight in network.parameters())


def _resolution(encoders: Encoders) -> str:
    """Side and geometry of the training images of method A's encoders.

    Raises
    ------
    InputError
        If they differ.
    """
    found = sorted({str(about["resolution"]) for _, about in encoders.values()})
    if len(found) > 1:
        raise InputError(f"the encoders were trained at {' and '.join(found)}; give those of one experiment")
    return found[0]


def _in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows by seed, episode and variant."""
    rank = frame["variant"].map({name: number for number, name in enumerate(VARIANTS)})
    return frame.assign(rank=rank).sort_values(["seed", "episode", "rank"]).drop(columns="rank")
