"""Evaluation of every variant of a fold and shot on the same episodes, in one pass per network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from novelseg.data.index import Index
from novelseg.data.store import ImageStore
from novelseg.evaluation.networks import EvaluationSettings, Networks, predictors
from novelseg.evaluation.scoring import predict_and_score, rows_of
from novelseg.formats import hdf5
from novelseg.methods.contract import Case, Prediction
from novelseg.methods.variants import CAM, NAMES, PRETRAINED_REFINED, REFINED


@dataclass(frozen=True)
class EvaluationResult:
    """Rows of an evaluation, and the predictions that are kept for inspection.

    Attributes
    ----------
    rows
        One row per episode and variant, ordered by seed, episode and the table of variants.
    examples
        Predictions of some episodes by variant.
    """

    rows: pd.DataFrame
    examples: dict[Case, dict[str, Prediction]]

    @property
    def variants(self) -> list[str]:
        """Names of the variants that were scored, in the order of the tables."""
        return [name for name in NAMES if name in set(self.rows["variant"])]


def evaluate(
    networks: Networks,
    cases: list[Case],
    data: Index,
    store: ImageStore,
    settings: EvaluationSettings,
    *,
    device: torch.device,
    label: str,
    examples: int = 0,
    memory_mb: int = 0,
) -> EvaluationResult:
    """Predict and score all episodes with all variants.

    Parameters
    ----------
    networks, settings
        Networks of the fold and shot, and settings of the evaluation.
    cases
        Episodes of all seeds.
    data, store
        The data set; the store decodes images, and the queries' masks for scoring only.
    device
        Device of the networks.
    label
        Label of progress lines.
    examples
        Number of first episodes of the first seed whose predictions are kept.
    memory_mb
        Memory for features, MiB; 0 for a default. It does not change results.
    """
    first = min(case.seed for case in cases)
    by_example: dict[Case, dict[str, Prediction]] = {
        case: {} for case in sorted(case for case in cases if case.seed == first)[:examples]
    }
    rows: list[pd.DataFrame] = []
    for variant, predictor in predictors(networks, data, store, device, settings, memory_mb):
        for predictions, counts in predict_and_score(predictor, cases, store, f"{label} {variant}", variant):
            rows.append(rows_of(predictions, counts, data))
            for prediction in predictions:
                if prediction.case in by_example:
                    by_example[prediction.case][prediction.variant] = prediction
        del predictor  # frees its memory for the next network
    return EvaluationResult(_in_order(pd.concat(rows)), by_example)


def _in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort rows by seed, episode and variant."""
    rank = frame["variant"].map({name: number for number, name in enumerate(NAMES)})
    return frame.assign(rank=rank).sort_values(["seed", "episode", "rank"]).drop(columns="rank")


def example_arrays(result: EvaluationResult, data: Index) -> dict[str, NDArray[Any]]:
    """Assemble the datasets of the artifact ``examples``."""
    cases, examples = list(result.examples), list(result.examples.values())
    refined = REFINED if REFINED in result.variants else PRETRAINED_REFINED
    cells = [_map(example, refined, lambda prediction: prediction.confident) for example in examples]
    priors = [_map(example, CAM, lambda prediction: prediction.prior) for example in examples]
    priors = [np.rint(255.0 * prior).astype(np.uint8) for prior in priors]
    masks = [np.stack([_mask(example[variant], data) for variant in result.variants]) for example in examples]
    return {
        "query": np.array([data.ids[case.query] for case in cases], object),
        "supports": np.array([" ".join(data.ids[i] for i in case.supports) for case in cases], object),
        "class": np.array([case.label for case in cases], np.int32),
        "height": np.array([data.height[case.query] for case in cases], np.int32),
        "width": np.array([data.width[case.query] for case in cases], np.int32),
        "cells": np.array([part.shape for part in cells], np.int32).reshape(-1, 2),
        **hdf5.Ragged.pack("predictions", masks, "uint8"),
        **hdf5.Ragged.pack("confident", cells, "uint8"),
        "prior_cells": np.array([prior.shape for prior in priors], np.int32).reshape(-1, 2),
        **hdf5.Ragged.pack("prior", priors, "uint8"),
    }


def _mask(prediction: Prediction, data: Index) -> NDArray[np.uint8]:
    """Upsample a prediction to the query's size: (H, W), 1 for foreground."""
    full = prediction.grid.upsample(prediction.logits[None, None], data.size(prediction.case.query))[0, 0]
    return (full > 0).to(torch.uint8).cpu().numpy()


def _map(example: dict[str, Prediction], variant: str, of: Callable[[Prediction], Tensor | None]) -> NDArray[Any]:
    """Return a map that a variant stored with its prediction; empty if there is none."""
    stored = of(example[variant]) if variant in example else None
    return np.zeros((0, 0), np.uint8) if stored is None else stored.cpu().numpy()
