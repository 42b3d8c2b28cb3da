"""What methods share: episodes by number, predictions, and the contract of a refinement at test time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from novelseg.backbones.grid import Grid


@dataclass(frozen=True, order=True)
class Case:
    """An episode; images are numbers, of the index or of whoever decodes them."""

    seed: int
    episode: int
    query: int
    label: int
    supports: tuple[int, ...]


def by_query(cases: Sequence[Case]) -> list[Case]:
    """Sort episodes so that those of one query image follow each other."""
    return sorted(cases, key=lambda case: (case.query, case.seed, case.episode))


@dataclass(frozen=True)
class Prediction:
    """What a variant predicts for a query.

    Attributes
    ----------
    case, variant
        The episode, and who predicts.
    logits : (h, w)
        Foreground minus background, or a map minus its threshold; upsampled, above zero is foreground.
    grid
        Where the cells of the logits lie.
    confident : (h, w) uint8, optional
        Query cells that refined the prediction: 1 background, 2 foreground.
    prior : (h, w), optional
        Map of the class that the prediction started from, in [0, 1].
    """

    case: Case
    variant: str
    logits: Tensor
    grid: Grid
    confident: Tensor | None = None
    prior: Tensor | None = None


@dataclass(frozen=True)
class SupportFeatures:
    """What is known of one support.

    Attributes
    ----------
    features : (C, h, w)
        Of the image.
    labels : (h, w) uint8
        Of the cells: 1 the class, 0 the rest, 255 void.
    prototypes : (2, C)
        Pooled background and foreground (A, Eq. 1).
    labelled
        Number of cells that are not void.
    """

    features: Tensor
    labels: Tensor
    prototypes: Tensor
    labelled: int


@dataclass(frozen=True)
class RefinementTask:
    """All that a refinement may know of an episode: the query's mask is not among it.

    Attributes
    ----------
    case
        The episode; its seed and number key random draws.
    supports
        At least one.
    query : (C, h, w)
        Features of the query.
    rough : (2, h, w)
        Rough result that is refined: logits of background and foreground.
    scale
        Factor of the cosine that is inside the rough logits.
    """

    case: Case
    supports: tuple[SupportFeatures, ...]
    query: Tensor
    rough: Tensor
    scale: float


@dataclass(frozen=True)
class Refined:
    """A refined result.

    Attributes
    ----------
    logits : (h, w)
        Foreground minus background.
    confident : (h, w) uint8, optional
        Query cells that it learned from: 1 background, 2 foreground.
    """

    logits: Tensor
    confident: Tensor | None = None


class Refiner(Protocol):
    """A refinement at test time; an instance holds its settings.

    Attributes
    ----------
    learns_from_cells
        Whether the supports must show both sides at the centres of cells.
    """

    learns_from_cells: bool

    def refine(self, tasks: Sequence[RefinementTask]) -> list[Refined]:
        """Refine many episodes, in their order; what one gives does not depend on the others beyond rounding."""
