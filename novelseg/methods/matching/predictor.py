"""Predictions of one encoder for many episodes by prototype matching, and their refinements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

import torch
from torch import Tensor

from novelseg.methods.bank import SupportBank
from novelseg.methods.contract import Case, Prediction, RefinementTask, Refiner
from novelseg.methods.matching.prototypes import match_many


def _images(cases: list[Case]) -> set[int]:
    """Return the numbers of all queries and supports of some episodes."""
    return {image for case in cases for image in (case.query, *case.supports)}


class MatchingPredictor:
    """Predictor that uses one encoder. It reads the image of a query, but never the mask.

    Parameters
    ----------
    bank
        Cache of the encoder's features.
    scale
        Factor of the cosine.
    refiners
        Refinements by variant; none for matching alone.
    """

    def __init__(self, bank: SupportBank, scale: float, refiners: Mapping[str, Refiner]) -> None:
        self._bank, self._scale, self._refiners = bank, scale, refiners

    @property
    def count(self) -> int:
        """Number of predictions per episode."""
        return 1 + len(self._refiners)

    def blocks(self, cases: list[Case], label: str) -> list[list[Case]]:
        """Split episodes into blocks that are predicted one after another."""
        return self._bank.blocks(cases, lambda case: _images([case]), label)

    def __call__(self, block: list[Case], variant: str) -> Iterator[Prediction]:
        """Predict a block of episodes: yield ``variant``, predicted by matching, then each of its refinements."""
        self._bank.load(_images(block))
        tasks: list[RefinementTask] = []
        for query, group in groupby(block, key=lambda case: case.query):
            cases = list(group)
            for case, rough in zip(cases, self._match(query, cases), strict=True):
                yield Prediction(case, variant, rough[1] - rough[0], self._bank.grid)
                supports = tuple(self._bank.support(image, case.label) for image in case.supports)
                side = self._bank.side_inputs
                tasks.append(RefinementTask(case, supports, self._bank[query], rough, self._scale, side))
        for name, refiner in self._refiners.items():
            for task, refined in zip(tasks, refiner.refine(tasks), strict=True):
                yield Prediction(task.case, name, refined.logits, self._bank.grid, refined.confident)

    def _match(self, query: int, cases: list[Case]) -> Tensor:
        """Compute the logits (E, 2, h, w) of all episodes of one query image."""
        prototypes = torch.stack(
            [
                torch.stack([self._bank.support(image, case.label).prototypes for image in case.supports]).mean(0)
                for case in cases
            ]
        )
        return match_many(self._bank[query], prototypes, self._scale)
