"""The closed-form head as a refinement of the pipeline's episodes, each with one class."""

from __future__ import annotations

from collections.abc import Sequence

from novelseg.methods.closed_form.head import fit, support_cells
from novelseg.methods.closed_form.settings import ClosedFormSettings
from novelseg.methods.contract import RefinedResult, RefinementTask


class ClosedFormRefiner:
    """Refiner that fits the closed-form head to the supports; the rough result is not used."""

    learns_from_cells = True

    def __init__(self, settings: ClosedFormSettings) -> None:
        self._settings = settings

    def refine(self, tasks: Sequence[RefinementTask]) -> list[RefinedResult]:
        """Fit and apply the head of each episode separately."""
        return [self._refine(task) for task in tasks]

    def _refine(self, task: RefinementTask) -> RefinedResult:
        cells = [support_cells(support.features, support.labels) for support in task.supports]
        return RefinedResult(fit(cells, 1, self._settings).scores(task.query)[0])
