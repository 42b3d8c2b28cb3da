"""Score every variant of a fold and shot on the same episodes, one pass per network (A8, A9)."""

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
from novelseg.methods.variants import CAM, NAMES, REFINED


@dataclass(frozen=True)
class Scored:
    """Rows of an evaluation, and the predictions that are kept to be looked at.

    Attributes
    ----------
    rows
        One per episode and variant, in the order of seeds, episodes and the table of variants.
    examples
        Predictions of some episodes by variant.
    """

    rows: pd.DataFrame
    examples: dict[Case, dict[str, Prediction]]

    @property
    def variants(self) -> list[str]:
        """Variants that were scored, in the order of tables."""
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
) -> Scored:
    """Predict and score all episodes with all variants.

    Parameters
    ----------
    networks, settings
        What predicts, and how.
    cases
        Episodes of all seeds.
    data, store
        The data set; the store decodes images, and the queries' masks for scoring alone.
    device
        Where the networks compute.
    label
        For progress lines.
    examples
        First episodes of the first seed whose predictions are kept.
    memory_mb
        Memory that features may take, MiB; 0 for a default. It does not change a result.
    """
    first = min(case.seed for case in cases)
    kept: dict[Case, dict[str, Prediction]] = {
        case: {} for case in sorted(case for case in cases if case.seed == first)[:examples]
    }
    rows: list[pd.DataFrame] = []
    for variant, predictor in predictors(networks, data, store, device, settings, memory_mb):
        for predictions, counts in predict_and_score(predictor, cases, store, f"{label} {variant}", variant):
            rows.append(rows_of(predictions, counts, data))
            for prediction in predictions:
                if prediction.case in kept:
                    kept[prediction.case][prediction.variant] = prediction
        del predictor  # its memory is the next network's
    return Scored(_in_order(pd.concat(rows)), kept)


def _in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort rows by seed, episode and variant."""
    rank = frame["variant"].map({name: number for number, name in enumerate(NAMES)})
    return frame.assign(rank=rank).sort_values(["seed", "episode", "rank"]).drop(columns="rank")


def example_arrays(scored: Scored, data: Index) -> dict[str, NDArray[Any]]:
    """Datasets of the artifact ``examples``."""
    cases, kept = list(scored.examples), list(scored.examples.values())
    cells = [_map(found, REFINED, lambda made: made.confident) for found in kept]
    priors = [np.rint(255.0 * _map(found, CAM, lambda made: made.prior)).astype(np.uint8) for found in kept]
    masks = [np.stack([_mask(found[variant], data) for variant in scored.variants]) for found in kept]
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
    """(H, W) prediction at the query's size, 1 foreground."""
    full = prediction.grid.upsample(prediction.logits[None, None], data.size(prediction.case.query))[0, 0]
    return (full > 0).to(torch.uint8).cpu().numpy()


def _map(found: dict[str, Prediction], variant: str, of: Callable[[Prediction], Tensor | None]) -> NDArray[Any]:
    """A map that a variant noted on the way to its prediction; empty where there is none."""
    noted = of(found[variant]) if variant in found else None
    return np.zeros((0, 0), np.uint8) if noted is None else noted.cpu().numpy()
