"""SROFB as a refinement: one classifier per episode, trained in batches of similar numbers of cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from torch import Tensor

from novelseg.core.random import key_to_seed
from novelseg.methods.confident import confident_cells
from novelseg.methods.contract import RefinedResult, RefinementTask
from novelseg.methods.srofb.classifier import Cells, Task, classify, norm_factor, query_cells, support_cells
from novelseg.methods.srofb.settings import SrofbSettings

BATCH_MB = {"cpu": 8, "cuda": 4096}  # memory, MiB, of the cells of one batch; a larger batch is no faster on a CPU


@dataclass(frozen=True)
class _Pending:
    """A classifier to be trained; its cells are gathered when its batch is built.

    Attributes
    ----------
    number, task
        Position of the episode among the results, and the episode.
    confident : (h, w) uint8, optional
        Confident cells of the query.
    count
        Number of training cells.
    steps
        Number of training steps.
    """

    number: int
    task: RefinementTask
    confident: Tensor | None
    count: int
    steps: int


class SrofbRefiner:
    """Refiner that trains a classifier on the supports' cells and on the query's confident cells (A, Sec. 3.4).

    Parameters
    ----------
    settings
        Settings of the classifier.
    with_query
        Whether the classifier learns from confident query cells too.
    half
        Whether the classifier multiplies in bfloat16.
    batch
        Maximum number of classifiers per batch; 0 for as many as fit a fixed amount of memory. It affects results only
        by rounding.
    """

    learns_from_cells = True

    def __init__(self, settings: SrofbSettings, *, with_query: bool, half: bool = False, batch: int = 0) -> None:
        self._settings, self._with_query = settings, with_query
        self._half, self._batch = half, batch

    def refine(self, tasks: Sequence[RefinementTask]) -> list[RefinedResult]:
        """Train and apply the classifier of every episode."""
        pending = [self._pending(number, task) for number, task in enumerate(tasks)]
        refined: dict[int, RefinedResult] = {}
        pending.sort(key=lambda entry: (entry.steps, entry.count))
        for steps, group in groupby(pending, key=lambda entry: entry.steps):
            waiting = list(group)
            while waiting:
                batch = waiting[: self._batch_size(waiting)]
                del waiting[: len(batch)]
                logits = classify(
                    [self._task(entry) for entry in batch],
                    steps,
                    self._settings,
                    support_steps=self._settings.support_steps if self._with_query else 0,
                    half=self._half,
                )
                for entry, episode_logits in zip(batch, logits, strict=True):
                    refined[entry.number] = RefinedResult(episode_logits, entry.confident)
        return [refined[number] for number in range(len(tasks))]

    def _pending(self, number: int, task: RefinementTask) -> _Pending:
        """Choose the confident cells of a query, and count the training cells of its episode."""
        settings, confident = self._settings, None
        if self._with_query:
            confident = confident_cells(
                task.rough[None],
                tau_fg=settings.tau_fg,
                tau_bg=settings.tau_bg,
                fallback_cells=settings.fallback_cells,
            )[0]
        count = sum(support.labelled for support in task.supports)
        count += 0 if confident is None else int((confident > 0).sum())
        steps = settings.steps_one_shot if len(task.supports) == 1 else settings.steps_many_shots
        return _Pending(number, task, confident, count, steps)

    def _task(self, pending: _Pending) -> Task:
        """Gather the training cells of a pending classifier."""
        task = pending.task
        cells = support_cells(
            [support.features for support in task.supports], [support.labels for support in task.supports]
        )
        query = task.query
        if self._settings.feature_norm:
            factor = norm_factor(cells, self._settings.feature_norm)
            cells, query = cells.scaled(factor), query * factor
        if pending.confident is not None:
            cells = Cells.joined([cells, query_cells(query, pending.confident)])
        key = key_to_seed(self._settings.seed, "srofb", task.case.seed, task.case.episode)
        return Task(cells, query, key)

    def _batch_size(self, waiting: list[_Pending]) -> int:
        """Return how many of the episodes, sorted by number of cells, fit the memory of a batch with padding."""
        if self._batch:
            return self._batch
        first = waiting[0].task.query
        bytes_per_cell = 4 * 2 * first.shape[0]  # the features are stored twice: as gathered, and in the batch
        max_cells = (BATCH_MB[first.device.type] << 20) // bytes_per_cell
        return max(1, sum(entry.count * number <= max_cells for number, entry in enumerate(waiting, 1)))
