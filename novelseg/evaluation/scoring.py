"""Pixel counts of predictions; no other module of an evaluation reads a query's mask."""

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
from novelseg.methods.contract import Case, Prediction, require_finite
from novelseg.ops.counts import COUNTS

CHUNK = 32  # predictions of one image that are upsampled at once


class Predictor(Protocol):
    """A predictor of episodes, block by block."""

    @property
    def count(self) -> int:
        """Number of predictions per episode."""

    def blocks(self, cases: list[Case], label: str) -> list[list[Case]]:
        """Split episodes into blocks that are predicted one after another."""

    def __call__(self, block: list[Case], variant: str) -> Iterator[Prediction]:
        """Predict a block of episodes: the variant itself, and the variants that are computed from it."""


def truth_of(store: ImageStore, query: int) -> NDArray[np.uint8]:
    """Read the mask of a query, for scoring only."""
    return store.mask(query)


def count_many(logits: Tensor, masks: Tensor, grid: Grid) -> Tensor:
    """Count the pixels of many predictions for images of one size.

    Parameters
    ----------
    logits : (E, h, w)
        Foreground minus background at feature resolution; values above zero after upsampling are foreground.
    masks : (E, H, W) uint8
        1 foreground, 0 background, 255 left out.
    grid
        Positions of the cells of the logits.

    Returns
    -------
    (E, 4) int64
        In the order of :data:`novelseg.ops.counts.COUNTS`.

    Raises
    ------
    InputError
        If a logit is not finite, which is neither foreground nor background.
    """
    require_finite(logits)
    foreground = grid.upsample(logits[:, None], (masks.shape[-2], masks.shape[-1]))[:, 0] > 0
    valid, truth = masks != VOID, masks == 1
    hit = (foreground & truth).sum((1, 2))
    union = (foreground & valid).sum((1, 2)) + truth.sum((1, 2)) - hit
    valid_pixels = valid.sum((1, 2))
    return torch.stack([hit, union, valid_pixels - union, valid_pixels - hit], 1)


def score(predictions: list[Prediction], truth: NDArray[np.uint8]) -> Tensor:
    """Count the pixels (E, 4) of predictions of one resolution for one query image."""
    device, labels = predictions[0].logits.device, {prediction.case.label for prediction in predictions}
    masks = {label: torch.from_numpy(binary(truth, label)).to(device) for label in labels}
    parts = [predictions[first : first + CHUNK] for first in range(0, len(predictions), CHUNK)]
    counts = []
    for part in parts:
        logits = torch.stack([prediction.logits for prediction in part])
        require_finite(logits, [f"'{one.variant}' in episode {one.case.episode}" for one in part])
        counts.append(count_many(logits, torch.stack([masks[one.case.label] for one in part]), part[0].grid))
    return torch.cat(counts)


def _group_key(prediction: Prediction) -> tuple[int, tuple[int, ...], str]:
    """Return the key of predictions that are scored together: query image, resolution and grid."""
    return prediction.case.query, tuple(prediction.logits.shape), repr(prediction.grid)


def predict_and_score(
    predictor: Predictor, cases: list[Case], store: ImageStore, label: str, variant: str
) -> Iterator[tuple[list[Prediction], Tensor]]:
    """Yield predictions for all episodes and their counts (E, 4), in groups of one query image and resolution.

    ``label`` names the progress line, ``variant`` the predictor's own variant.
    """
    blocks = enumerate(predictor.blocks(cases, label))
    numbered = ((number, prediction) for number, block in blocks for prediction in predictor(block, variant))
    total = len(cases) * predictor.count
    for _, block_items in groupby(track(numbered, total, label, "prediction"), key=itemgetter(0)):
        in_order = sorted((prediction for _, prediction in block_items), key=_group_key)
        for (query, *_), group in groupby(in_order, key=_group_key):
            predictions = list(group)
            yield predictions, score(predictions, truth_of(store, query))


def rows_of(predictions: list[Prediction], counts: Tensor, index: Index) -> pd.DataFrame:
    """Build a table with one row per prediction: seed, episode, variant, query, class and pixel counts."""
    names = [
        ((case := prediction.case).seed, case.episode, prediction.variant, index.ids[case.query], case.label)
        for prediction in predictions
    ]
    frame = pd.DataFrame(names, columns=["seed", "episode", "variant", "query", "class"])
    return frame.join(pd.DataFrame(counts.cpu().numpy(), columns=list(COUNTS)))
