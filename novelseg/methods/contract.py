"""Types that methods share: episodes, predictions, and the contract of a refinement at test time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from novelseg.backbones.grid import Grid
from novelseg.core.errors import InputError


@dataclass(frozen=True, order=True)
class Case:
    """An episode to predict.

    Attributes
    ----------
    seed, episode
        Seed and number of the episode, from which random draws are keyed.
    query, supports
        Numbers of the images, in the index or in the caller's own list.
    label
        Label of the class.
    """

    seed: int
    episode: int
    query: int
    label: int
    supports: tuple[int, ...]


def by_query(cases: Sequence[Case]) -> list[Case]:
    """Sort episodes so that those of one query image are consecutive."""
    return sorted(cases, key=lambda case: (case.query, case.seed, case.episode))


@dataclass(frozen=True)
class Prediction:
    """The prediction of a variant for a query.

    Attributes
    ----------
    case, variant
        The episode, and the name of the variant.
    logits : (h, w)
        Foreground minus background, or a map minus its threshold; upsampled, above zero is foreground.
    grid
        Positions of the cells of the logits.
    confident : (h, w) uint8, optional
        Query cells that refined the prediction: 1 background, 2 foreground.
    prior : (h, w), optional
        Activation map of the class, in [0, 1], from which the prediction was computed.
    """

    case: Case
    variant: str
    logits: Tensor
    grid: Grid
    confident: Tensor | None = None
    prior: Tensor | None = None


@dataclass(frozen=True)
class SupportFeatures:
    """Features, labels and prototypes of one support.

    Attributes
    ----------
    features : (C, h, w)
        Features of the image.
    labels : (h, w) uint8
        Labels of the cells: 1 the class, 0 the rest, 255 void.
    prototypes : (2, C)
        Pooled features of background and foreground (A, Eq. 1).
    labelled
        Number of cells that are not void.
    """

    features: Tensor
    labels: Tensor
    prototypes: Tensor
    labelled: int


@dataclass(frozen=True)
class SideInputs:
    """What some refinements need besides features; it is computed on demand and cached.

    Attributes
    ----------
    regions
        Function of the number of an image, and the contour strength at which its hierarchy is cut. Returns the region
        of each cell, (h, w) int64.
    positions
        Function of the number of an image, ``black`` or ``noise``, and the maximum number P of directions. Returns the
        main directions (C, P) of the features of a picture without content, black or noise of the image's size.
    """

    regions: Callable[[int, float], Tensor]
    positions: Callable[[int, str, int], Tensor]


@dataclass(frozen=True)
class RefinementTask:
    """Input of a refinement: all data of an episode except the mask of the query.

    Attributes
    ----------
    case
        The episode; its seed and number key random draws.
    supports
        One or more supports.
    query : (C, h, w)
        Features of the query.
    rough : (2, h, w)
        Rough result to be refined: logits of background and foreground.
    scale
        Factor of the cosine in the rough logits.
    side_inputs
        What can be computed from the images of the case besides features; None if only features are known.
    """

    case: Case
    supports: tuple[SupportFeatures, ...]
    query: Tensor
    rough: Tensor
    scale: float
    side_inputs: SideInputs | None = None


def side_inputs_of(task: RefinementTask) -> SideInputs:
    """Return the side inputs of an episode.

    Raises
    ------
    ValueError
        If the caller gave none.
    """
    if task.side_inputs is None:
        raise ValueError("this refinement needs regions or positions of the images, but the task has only features")
    return task.side_inputs


@dataclass(frozen=True)
class RefinedResult:
    """The refined result of an episode.

    Attributes
    ----------
    logits : (h, w)
        Foreground minus background.
    confident : (h, w) uint8, optional
        Query cells that the refinement learned from: 1 background, 2 foreground.
    """

    logits: Tensor
    confident: Tensor | None = None


class Refiner(Protocol):
    """A refinement of rough results at test time.

    Attributes
    ----------
    learns_from_cells
        Whether the supports must have both foreground and background at the centres of cells.
    """

    learns_from_cells: bool

    def refine(self, tasks: Sequence[RefinementTask]) -> list[RefinedResult]:
        """Refine episodes and return the results in the same order.

        Up to rounding, the result of an episode is independent of the others.
        """


def require_finite(logits: Tensor, names: Sequence[str] = ()) -> None:
    """Check that all logits of predictions are finite: NaN is neither foreground nor background.

    Parameters
    ----------
    logits : (E, …)
        Logits of E predictions.
    names
        Names of the predictions, for the message; their numbers if not given.

    Raises
    ------
    InputError
        If a logit is not finite; the message names the first such prediction.
    """
    faulty = (~torch.isfinite(logits)).flatten(1).any(1)
    if faulty.any():
        first = int(faulty.nonzero()[0])
        raise InputError(
            f"the prediction of {names[first] if names else f'number {first}'} is NaN or infinite, which is neither "
            "object nor background; nothing was written: check the network's weights and the settings of the "
            "refinement (srofb.learning_rate)"
        )
