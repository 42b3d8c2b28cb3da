"""FoRIS (arXiv 2609.03384) as a refinement.

A cell's score is its similarity to the nearest prototypes of the object minus its similarity to the hard background:
the mean of the background cells that resemble the object most, without its component along the object's mean. A sigmoid
turns the score into a gate in [0, 1], which is raised in the query's cluster with the highest mean gate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from novelseg.methods.clusters import cluster_averages, query_clusters, side_cells, side_prototypes
from novelseg.methods.contract import RefinedResult, RefinementTask, side_inputs_of
from novelseg.methods.foris.settings import ForisSettings
from novelseg.methods.positions import remove_positions

LEAST_CONTRAST = 1e-3  # of the supports' own scores; below, their object and background look the same


class ForisRefiner:
    """Refiner that gates cells by foreground and hard background; nothing is trained.

    Parameters
    ----------
    settings
        Its settings.
    regions
        Whether regions replace clusters: those of the supports give the prototypes of the object, and one of the
        query is the seed.
    """

    learns_from_cells = False

    def __init__(self, settings: ForisSettings, *, regions: bool) -> None:
        self._settings = settings
        self._tau = settings.region_tau if regions else None

    def refine(self, tasks: Sequence[RefinementTask]) -> list[RefinedResult]:
        """Refine each episode separately; logits are the gate minus one half."""
        return [self._refine(task) for task in tasks]

    def _refine(self, task: RefinementTask) -> RefinedResult:
        settings = self._settings
        cells = F.normalize(task.query.flatten(1), dim=0).T  # (N, C)
        background, inside = (side_cells(task.supports, side) for side in (0, 1))
        prototypes = side_prototypes(task, 1, settings.prototypes, settings.seed, self._tau)
        if settings.positions and _likeness(inside, cells) < settings.bias_below:
            basis = side_inputs_of(task).positions(task.case.query, settings.blank, settings.positions)
            cells, background, inside, prototypes = (
                remove_positions(part, basis) for part in (cells, background, inside, prototypes)
            )
        hard = _hard_background(background, F.normalize(inside.mean(0), dim=0), settings.hard_share)

        def score(part: Tensor) -> Tensor:
            near = soft_maximum(part @ prototypes.T, settings.temperature)
            return near - settings.background_weight * (part @ hard)

        low, high = score(background).mean(), score(inside).mean()
        contrast = (high - low).clamp(min=LEAST_CONTRAST)
        gate = ((score(cells) - low - settings.threshold * contrast) / (settings.gate * contrast)).sigmoid()
        labels = query_clusters(task, settings.distance, self._tau)
        seed = cluster_averages(gate[:, None], labels)[:, 0].argmax()
        gate = torch.where(labels == seed, gate * (1 + settings.boost), gate)
        return RefinedResult((gate - 0.5).unflatten(0, task.query.shape[1:]))


def soft_maximum(similarities: Tensor, temperature: float) -> Tensor:
    """Return T · log of the mean of exp(s / T) over the prototypes: (N, P) to (N,)."""
    count = similarities.shape[1]
    return temperature * ((similarities / temperature).logsumexp(1) - math.log(count))


def _likeness(inside: Tensor, cells: Tensor) -> float:
    """Return the cosine between the means of two sets of cells."""
    return float(F.cosine_similarity(inside.mean(0), cells.mean(0), dim=0))


def _hard_background(background: Tensor, direction: Tensor, share: float) -> Tensor:
    """Return the mean of the background cells most similar to the object, made orthogonal to it, (C,)."""
    count = max(1, round(share * len(background)))
    nearest = (background @ direction).topk(count).indices
    mean = background[nearest].mean(0)
    return F.normalize(mean - (mean @ direction) * direction, dim=0)
