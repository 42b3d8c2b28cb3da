"""SROFB as a refinement: one classifier per episode, trained side by side in batches of about equal length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from novelseg.core.random import key_to_seed
from novelseg.methods.confident import confident_cells
from novelseg.methods.contract import Refined, RefinementTask
from novelseg.methods.srofb.classifier import Cells, Task, classify, query_cells, support_cells
from novelseg.methods.srofb.settings import SrofbSettings

BATCH_MB = {"cpu": 8, "cuda": 4096}  # of classifiers' cells side by side; more are no faster on a CPU


@dataclass(frozen=True)
class _Pending:
    """A classifier to be trained on ``count`` cells; what it learns from is gathered when its turn comes."""

    number: int
    task: RefinementTask
    chosen: Tensor | None
    count: int
    steps: int


class SrofbRefiner:
    """Train a classifier on the supports' cells and, if ``with_query``, on the query's confident cells (A, Sec. 3.4).

    Parameters
    ----------
    settings
        Of the classifier.
    with_query
        Whether confident query cells are learned from too.
    half
        Let the classifier multiply in bfloat16.
    batch
        Classifiers that are trained side by side at most; 0: as many as fit the memory set aside. The result does
        not depend on it beyond rounding.
    """

    learns_from_cells = True

    def __init__(self, settings: SrofbSettings, *, with_query: bool, half: bool = False, batch: int = 0) -> None:
        self._settings, self._with_query = settings, with_query
        self._half, self._batch = half, batch

    def refine(self, tasks: Sequence[RefinementTask]) -> list[Refined]:
        """Train and apply the classifier of every episode."""
        pending = [self._pending(number, task) for number, task in enumerate(tasks)]
        refined: dict[int, Refined] = {}
        pending.sort(key=lambda entry: (entry.steps, entry.count))
        for steps, group in groupby(pending, key=lambda entry: entry.steps):
            alike = list(group)
            while alike:
                batch = alike[: self._side_by_side(alike)]
                del alike[: len(batch)]
                logits = classify([self._task(entry) for entry in batch], steps, self._settings, half=self._half)
                for entry, found in zip(batch, logits, strict=True):
                    refined[entry.number] = Refined(found, entry.chosen)
        return [refined[number] for number in range(len(tasks))]

    def _pending(self, number: int, task: RefinementTask) -> _Pending:
        settings, chosen = self._settings, None
        if self._with_query:
            chosen = confident_cells(
                task.rough[None],
                tau_fg=settings.tau_fg,
                tau_bg=settings.tau_bg,
                fallback_cells=settings.fallback_cells,
            )[0]
        count = sum(support.labelled for support in task.supports)
        count += 0 if chosen is None else int((chosen > 0).sum())
        steps = settings.steps_one_shot if len(task.supports) == 1 else settings.steps_many_shots
        return _Pending(number, task, chosen, count, steps)

    def _task(self, pending: _Pending) -> Task:
        task = pending.task
        cells = support_cells(
            [support.features for support in task.supports], [support.labels for support in task.supports]
        )
        if pending.chosen is not None:
            more = query_cells(task.query, pending.chosen)
            cells = Cells(torch.cat([cells.features, more.features]), torch.cat([cells.labels, more.labels]))
        key = key_to_seed(self._settings.seed, "srofb", task.case.seed, task.case.episode)
        return Task(cells, task.query, key)

    def _side_by_side(self, alike: list[_Pending]) -> int:
        """Episodes, shortest first, that fit the memory set aside when filled up to the longest."""
        if self._batch:
            return self._batch
        first = alike[0].task.query
        cell = 4 * 2 * first.shape[0]  # its features twice, as gathered and in the batch
        most = (BATCH_MB[first.device.type] << 20) // cell
        return max(1, sum(entry.count * number <= most for number, entry in enumerate(alike, 1)))
