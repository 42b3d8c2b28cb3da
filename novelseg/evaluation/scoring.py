"""Predictions → pixel counts; the only place that a query's mask reaches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from novelseg.backbones.grid import Grid
from novelseg.core.labels import VOID, binary
from novelseg.core.progress import track
from novelseg.data.index import Index
from novelseg.data.store import ImageStore
from novelseg.methods.contract import Case, Prediction
from novelseg.ops.counts import COUNTS

TOGETHER = 32  # predictions of one image that are brought to its size at a time


class Predicts(Protocol):
    """Whatever predicts episodes block by block."""

    @property
    def count(self) -> int:
        """Predictions that an episode gets."""

    def blocks(self, cases: list[Case], label: str) -> list[list[Case]]:
        """Episodes in blocks."""

    def __call__(self, block: list[Case], variant: str) -> Iterator[Prediction]:
        """Predictions of a block: the variant itself and what follows from it."""


def truth_of(store: ImageStore, query: int) -> NDArray[np.uint8]:
    """Mask of a query, for scoring alone."""
    return store.mask(query)


def count_many(logits: Tensor, masks: Tensor, grid: Grid) -> Tensor:
    """Pixel counts of many predictions for images of one size.

    Parameters
    ----------
    logits : (E, h, w)
        Foreground minus background at feature resolution; upsampled to the masks' size, above zero is foreground.
    masks : (E, H, W) uint8
        1 foreground, 0 background, 255 left out.
    grid
        Where the cells of the logits lie.

    Returns
    -------
    (E, 4) int64
        In the order of :data:`novelseg.ops.counts.COUNTS`.
    """
    foreground = grid.upsample(logits[:, None], (masks.shape[-2], masks.shape[-1]))[:, 0] > 0
    valid, truth = masks != VOID, masks == 1
    hit = (foreground & truth).sum((1, 2))
    union = (foreground & valid).sum((1, 2)) + truth.sum((1, 2)) - hit
    valid_pixels = valid.sum((1, 2))
    return torch.stack([hit, union, valid_pixels - union, valid_pixels - hit], 1)


def score(predictions: list[Prediction], truth: NDArray[np.uint8]) -> Tensor:
    """Pixel counts (E, 4) of predictions of one resolution for one query image."""
    place, labels = predictions[0].logits.device, {found.case.label for found in predictions}
    masks = {label: torch.from_numpy(binary(truth, label)).to(place) for label in labels}
    parts = [predictions[first : first + TOGETHER] for first in range(0, len(predictions), TOGETHER)]
    counts = [
        count_many(
            torch.stack([found.logits for found in part]),
            torch.stack([masks[found.case.label] for found in part]),
            part[0].grid,
        )
        for part in parts
    ]
    return torch.cat(counts)


def _alike(prediction: Prediction) -> tuple[int, ...]:
    """Key of the predictions that are scored together: of one query, at one resolution."""
    return prediction.case.query, *prediction.logits.shape


def predict_and_score(
    predictor: Predicts, cases: list[Case], store: ImageStore, label: str, variant: str
) -> Iterator[tuple[list[Prediction], Tensor]]:
    """Predictions for all episodes and their counts (E, 4), in groups of one query image and resolution.

    ``label`` is for the progress line, ``variant`` the name of what the predictor starts from.
    """
    blocks = enumerate(predictor.blocks(cases, label))
    made = ((number, prediction) for number, block in blocks for prediction in predictor(block, variant))
    total = len(cases) * predictor.count
    for _, ofblock in groupby(track(made, total, label, "prediction"), key=itemgetter(0)):
        found = sorted((prediction for _, prediction in ofblock), key=_alike)
        for (query, *_), group in groupby(found, key=_alike):
            predictions = list(group)
            yield predictions, score(predictions, truth_of(store, query))


def rows_of(predictions: list[Prediction], counts: Tensor, index: Index) -> pd.DataFrame:
    """One row per prediction: seed, episode, variant, query, class, counts."""
    names = [
        (found.case.seed, found.case.episode, found.variant, index.ids[found.case.query], found.case.label)
        for found in predictions
    ]
    frame = pd.DataFrame(names, columns=["seed", "episode", "variant", "query", "class"])
    return frame.join(pd.DataFrame(counts.cpu().numpy(), columns=list(COUNTS)))
