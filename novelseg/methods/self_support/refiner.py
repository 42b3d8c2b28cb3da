"""Self-support matching (Fan et al., "Self-Support Few-Shot Semantic Segmentation", ECCV 2022), in closed form.

Parts of an object are more similar within one image than across images. Therefore, for foreground and background each,
the mean of the query's own confident cells is scaled to unit length and averaged with the supports' prototype, and the
query is matched again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from novelseg.methods.confident import confident_cells
from novelseg.methods.contract import RefinedResult, RefinementTask
from novelseg.methods.matching.prototypes import match_many
from novelseg.methods.self_support.settings import SelfSupportSettings


class SelfSupportRefiner:
    """Refiner that matches again with prototypes that include the query's confident cells; nothing is trained."""

    learns_from_cells = False

    def __init__(self, settings: SelfSupportSettings) -> None:
        self._settings = settings

    def refine(self, tasks: Sequence[RefinementTask]) -> list[RefinedResult]:
        """Refine each episode separately, by a few products with its query's features."""
        return [self._refine(task) for task in tasks]

    def _refine(self, task: RefinementTask) -> RefinedResult:
        settings = self._settings
        confident = confident_cells(
            task.rough[None],
            tau_fg=settings.tau_fg,
            tau_bg=settings.tau_bg,
            fallback_cells=settings.fallback_cells,
        )[0]
        supports = torch.stack([support.prototypes for support in task.supports]).mean(0)  # (2, C)
        own = _own_prototypes(task.query, confident, supports)
        joined = (1 - settings.weight) * F.normalize(supports, dim=1) + settings.weight * own
        logits = match_many(task.query, joined[None], task.scale)[0]
        return RefinedResult(logits[1] - logits[0], confident)


def _own_prototypes(query: Tensor, confident: Tensor, supports: Tensor) -> Tensor:
    """Return the mean of each side's confident cells, or the supports' prototype if there are none, (2, C)."""
    cells = query.flatten(1)  # (C, hw)
    sides = torch.stack([confident.flatten() == 1, confident.flatten() == 2]).to(cells)  # (2, hw)
    own = F.normalize(sides @ cells.T, dim=1)
    return torch.where(sides.any(1, keepdim=True), own, F.normalize(supports, dim=1))
