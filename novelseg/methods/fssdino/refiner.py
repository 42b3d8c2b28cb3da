"""FSSDINO (Mohd Zakir and Ho, arXiv 2602.07550) as a refinement.

The class and the background have several prototypes each. A cell's score for one of them is its largest similarity to
the prototypes times the mean one; the scores are averaged over similar cells of the query, and the larger one wins.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from novelseg.methods.closed_form.head import average_over_similar
from novelseg.methods.clusters import side_prototypes
from novelseg.methods.contract import RefinedResult, RefinementTask
from novelseg.methods.fssdino.settings import FssdinoSettings


class FssdinoRefiner:
    """Refiner that scores cells by several prototypes per side; nothing is trained.

    Parameters
    ----------
    settings
        Its settings.
    regions
        Whether the prototypes are those of the supports' regions instead of k-means.
    """

    learns_from_cells = False

    def __init__(self, settings: FssdinoSettings, *, regions: bool) -> None:
        self._settings = settings
        self._tau = settings.region_tau if regions else None

    def refine(self, tasks: Sequence[RefinementTask]) -> list[RefinedResult]:
        """Refine each episode separately."""
        return [self._refine(task) for task in tasks]

    def _refine(self, task: RefinementTask) -> RefinedResult:
        settings = self._settings
        unit = F.normalize(task.query, dim=0)
        counts = (settings.background_prototypes, settings.object_prototypes)
        prototypes = [side_prototypes(task, side, counts[side], settings.seed, self._tau) for side in (0, 1)]
        scores = torch.stack([_score(part @ unit.flatten(1)) for part in prototypes]).unflatten(1, unit.shape[1:])
        logits = task.scale * (scores[1:] - scores[:1])  # (1, h, w)
        if settings.gram_temperature:
            logits = average_over_similar(unit, logits, settings.gram_temperature, settings.reduction)
        return RefinedResult(logits[0])


def _score(similarities: Tensor) -> Tensor:
    """Return the largest similarity, at least 0, times the mean one: (P, N) to (N,)."""
    return similarities.amax(0).clamp(min=0) * similarities.mean(0)
