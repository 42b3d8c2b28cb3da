"""INSID3 (Cuttano et al., arXiv 2603.28480) as a refinement.

The query is divided into clusters of similar cells. Cells that resemble the supports' object, and whose nearest
support cells lie on it, are candidates. The cluster that fits best is the seed, and clusters that resemble both the
supports and the seed join it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from novelseg.core.labels import VOID
from novelseg.methods.clusters import cluster_averages, cluster_directions, query_clusters
from novelseg.methods.contract import RefinedResult, RefinementTask, SupportFeatures, side_inputs_of
from novelseg.methods.insid3.settings import Insid3Settings
from novelseg.methods.positions import remove_positions


class Insid3Refiner:
    """Refiner that chooses whole clusters of the query; nothing is trained.

    Parameters
    ----------
    settings
        Its settings.
    regions
        Whether the clusters are the query's regions instead of those of average linkage.
    """

    learns_from_cells = False

    def __init__(self, settings: Insid3Settings, *, regions: bool) -> None:
        self._settings = settings
        self._tau = settings.region_tau if regions else None

    def refine(self, tasks: Sequence[RefinementTask]) -> list[RefinedResult]:
        """Refine each episode separately; logits are 0.5 inside the object and -0.5 outside."""
        return [self._refine(task) for task in tasks]

    def _refine(self, task: RefinementTask) -> RefinedResult:
        settings = self._settings
        basis = None
        if settings.positions:
            basis = side_inputs_of(task).positions(task.case.query, settings.blank, settings.positions)
        cells = F.normalize(task.query.flatten(1), dim=0).T.contiguous()  # (N, C)
        across = remove_positions(cells, basis)
        prototype, candidates = _candidates(across, task.supports, basis)
        labels = query_clusters(task, settings.distance, self._tau)
        chosen = choose_clusters(cells, across, prototype, candidates, labels, settings.keep)
        return RefinedResult((chosen[labels].to(task.query) - 0.5).unflatten(0, task.query.shape[1:]))


def _candidates(across: Tensor, supports: Sequence[SupportFeatures], basis: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the mean prototype of the object, (C,), and which query cells are candidates, (N,) bool."""
    prototypes, votes = [], across.new_zeros(len(across))
    for support in supports:
        labels = support.labels.flatten()
        cells = remove_positions(F.normalize(support.features.flatten(1)[:, labels != VOID].T, dim=1), basis)
        inside = labels[labels != VOID] == 1
        if inside.any():
            prototypes.append(cells[inside].mean(0))
        else:  # the object is smaller than a cell
            prototypes.append(remove_positions(F.normalize(support.prototypes[1:], dim=1), basis)[0])
        if len(cells):
            votes += inside[(across @ cells.T).argmax(1)]
    prototype = F.normalize(torch.stack(prototypes).mean(0), dim=0)
    return prototype, (across @ prototype > 0) & (votes >= (len(supports) + 1) // 2)


def choose_clusters(
    cells: Tensor, across: Tensor, prototype: Tensor, candidates: Tensor, labels: Tensor, keep: float
) -> Tensor:
    """Choose the clusters that belong to the object.

    Parameters
    ----------
    cells : (N, C)
        Unit-length features of the query, for comparisons within the image.
    across : (N, C)
        The same for comparisons between images.
    prototype : (C,)
        Prototype of the object in the supports.
    candidates : (N,) bool
        Cells that may belong to the object.
    labels : (N,) int64
        Cluster of each cell.
    keep
        Clusters with a product above this are chosen.

    Returns
    -------
    (K,) bool
        The seed and the clusters that join it; none if there is no candidate.
    """
    share = cluster_averages(candidates[:, None].to(cells), labels)[:, 0]  # (K,)
    cross = cluster_directions(across, labels) @ prototype
    means = cluster_directions(cells, labels)
    fit = torch.where(share > 0, cross * share, -torch.inf)
    seed = int(fit.argmax())
    chosen = cross * (means @ means[seed]) * share > keep
    chosen[seed] = True
    return chosen & (share > 0)
