"""Chains of refinements: each starts from the result of the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from novelseg.methods.contract import RefinedResult, RefinementTask, Refiner


class Chain:
    """Refiner that applies several refiners one after another.

    The result of a refiner, as logits of background and foreground, is the rough result of the next one, which thus
    takes its confident cells from it.

    Parameters
    ----------
    refiners
        One or more refiners, in the order of their use.
    """

    def __init__(self, refiners: Sequence[Refiner]) -> None:
        self._refiners = refiners
        self.learns_from_cells = any(refiner.learns_from_cells for refiner in refiners)

    def refine(self, tasks: Sequence[RefinementTask]) -> list[RefinedResult]:
        """Refine episodes; the confident cells are those of the last refiner."""
        results: list[RefinedResult] = []
        for refiner in self._refiners:
            results = refiner.refine(tasks)
            tasks = [
                replace(task, rough=torch.stack([-result.logits / 2, result.logits / 2]))
                for task, result in zip(tasks, results, strict=True)
            ]
        return results
