"""Predictions of one encoder for many episodes: matching, then the online classifier; the query's mask is unknown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from stages.core.errors import InputError
from stages.core.random import key_to_seed
from stages.evaluation.bank import SupportBank
from stages.evaluation.cases import Case
from stages.models.srofb import Cells, Task, classify, confident_cells, query_cells, support_cells
from stages.ops.matching import match_many
from stages.sections.srofb import SrofbParams

BATCH_MB = {"cpu": 8, "cuda": 4096}  # of classifiers' cells side by side; more are no faster on a CPU


@dataclass(frozen=True)
class Refinement:
    """A way to train the online classifier.

    Attributes
    ----------
    name
        Of the variant.
    with_query
        Whether confident query cells are learned from too.
    params
        Its parameters.
    """

    name: str
    with_query: bool
    params: SrofbParams


@dataclass(frozen=True)
class _Pending:
    """A classifier to be trained on ``count`` cells; what it learns from is gathered when its turn comes."""

    refinement: Refinement
    case: Case
    chosen: Tensor | None
    count: int
    steps: int


@dataclass(frozen=True)
class Prediction:
    """What a variant says of a query.

    Attributes
    ----------
    case, variant
        Of what.
    logits : (h, w)
        Foreground minus background, or a map minus its threshold; upsampled, above zero is foreground.
    confident : (h, w) uint8, optional
        Query cells that refined it: 1 background, 2 foreground.
    prior : (h, w), optional
        Map of the class that it started from, in [0, 1].
    """

    case: Case
    variant: str
    logits: Tensor
    confident: Tensor | None = None
    prior: Tensor | None = None


def _images(cases: list[Case]) -> set[int]:
    return {image for case in cases for image in (case.query, *case.supports)}


class Predictor:
    """Predictions of one encoder; of a query it reads the image and never the mask.

    Parameters
    ----------
    bank
        Features of the encoder.
    scale
        Factor of the cosine.
    refinements
        Ways to train the online classifier; none for matching alone.
    half
        Let the classifier multiply in bfloat16, as the encoder does.
    batch
        Classifiers that are trained side by side at most; 0: as many as fit the memory set aside. The result does
        not depend on it, but for rounding.

    Raises
    ------
    InputError
        If ``batch`` is negative.
    """

    def __init__(
        self, bank: SupportBank, scale: float, refinements: list[Refinement], *, half: bool = False, batch: int = 0
    ) -> None:
        self._bank, self._scale, self._refinements = bank, scale, refinements
        self._half, self._batch = half, batch
        if batch < 0:
            raise InputError(f"--batch is {batch}; expected a number of episodes, or 0 for a default")

    @property
    def ways(self) -> int:
        """Predictions that an episode gets."""
        return 1 + len(self._refinements)

    def blocks(self, cases: list[Case], label: str) -> list[list[Case]]:
        """Episodes in blocks to be predicted one after another."""
        return self._bank.blocks(cases, lambda case: _images([case]), label)

    def __call__(self, block: list[Case], variant: str) -> Iterator[Prediction]:
        """Predictions of a block of episodes: ``variant`` by matching, and every refinement of it."""
        self._bank.load(_images(block))
        pending: list[_Pending] = []
        for query, group in groupby(block, key=lambda case: case.query):
            cases = list(group)
            rough = self._match(query, cases)
            for case, logits in zip(cases, rough, strict=True):
                yield Prediction(case, variant, logits[1] - logits[0])
            for refinement in self._refinements:
                chosen = confident_cells(rough, refinement.params) if refinement.with_query else [None] * len(cases)
                pending += [self._pending(refinement, *pair) for pair in zip(cases, chosen, strict=True)]
        yield from self._refine(pending)

    def _match(self, query: int, cases: list[Case]) -> Tensor:
        """(E, 2, h, w) logits of all episodes of one query image."""
        prototypes = torch.stack(
            [
                torch.stack([self._bank.prototypes(image, case.label) for image in case.supports]).mean(0)
                for case in cases
            ]
        )
        return match_many(self._bank[query], prototypes, self._scale)

    def _pending(self, refinement: Refinement, case: Case, chosen: Tensor | None) -> _Pending:
        count = sum(self._bank.labelled(image, case.label) for image in case.supports)
        count += 0 if chosen is None else int((chosen > 0).sum())
        steps = refinement.params.steps_one_shot if len(case.supports) == 1 else refinement.params.steps_many_shots
        return _Pending(refinement, case, chosen, count, steps)

    def _task(self, pending: _Pending) -> Task:
        case, query = pending.case, self._bank[pending.case.query]
        cells = support_cells(
            [self._bank[image] for image in case.supports],
            [self._bank.cell_labels(image, case.label) for image in case.supports],
        )
        if pending.chosen is not None:
            more = query_cells(query, pending.chosen)
            cells = Cells(torch.cat([cells.features, more.features]), torch.cat([cells.labels, more.labels]))
        return Task(cells, query, key_to_seed(pending.refinement.params.seed, "srofb", case.seed, case.episode))

    def _refine(self, pending: list[_Pending]) -> Iterator[Prediction]:
        """Train classifiers side by side: those of one way and number of steps, about as long as each other."""
        pending = sorted(pending, key=lambda entry: (entry.refinement.name, entry.steps, entry.count))
        for (_, steps), group in groupby(pending, key=lambda entry: (entry.refinement.name, entry.steps)):
            alike = list(group)
            while alike:
                batch = alike[: self._side_by_side(alike)]
                del alike[: len(batch)]
                tasks = [self._task(entry) for entry in batch]
                logits = classify(tasks, steps, batch[0].refinement.params, half=self._half)
                for entry, found in zip(batch, logits, strict=True):
                    yield Prediction(entry.case, entry.refinement.name, found, entry.chosen)

    def _side_by_side(self, alike: list[_Pending]) -> int:
        """Tasks, shortest first, that fit the memory set aside when filled up to the longest."""
        if self._batch:
            return self._batch
        first = self._bank[alike[0].case.query]
        cell = 4 * 2 * first.shape[0]  # its features twice, as gathered and in the batch
        most = (BATCH_MB[first.device.type] << 20) // cell
        return max(1, sum(entry.count * number <= most for number, entry in enumerate(alike, 1)))
