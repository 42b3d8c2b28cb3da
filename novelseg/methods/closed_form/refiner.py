"""The closed-form head as a refinement of the pipeline's episodes, each with one class."""

from __future__ import annotations

from collections.abc import Sequence

from novelseg.methods.closed_form.head import fit, support_cells
from novelseg.methods.closed_form.settings import ClosedFormSettings
from novelseg.methods.contract import RefinedResult, RefinementTask


class ClosedFormRefiner:
    """Refiner that fits the closed-form head to the supports.

    The rough result is used only where no support has the class, or the background, at the centre of a cell.
    """

    learns_from_cells = True

    def __init__(self, settings: ClosedFormSettings) -> None:
        self._settings = settings

    def refine(self, tasks: Sequence[RefinementTask]) -> list[RefinedResult]:
        """Fit and apply the head of each episode separately."""
        return [self._refine(task) for task in tasks]

    def _refine(self, task: RefinementTask) -> RefinedResult:
        cells = [support_cells(support.features, support.labels) for support in task.supports]
        if not all(any((one.labels == label).any() for one in cells) for label in (0, 1)):
            return RefinedResult(task.rough[1] - task.rough[0])
        return RefinedResult(fit(cells, 1, self._settings).scores(task.query)[0])
