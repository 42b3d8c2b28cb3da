"""Whether a class is in a picture at all, judged from the closed-form head's mask of it.

Four measures of the mask go into a logistic regression. Where a class has two or more supports, each is left out in
turn, and the same measures of it, which is known to show the class, tell what to expect of a picture with the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from novelseg.methods.closed_form.head import Head, Statistics, combine
from novelseg.methods.closed_form.settings import ClosedFormSettings

MEASURES = ("object_likeness", "background_likeness", "nearest_likeness", "confidence")
MOST_LEFT_OUT = 10  # supports that are left out in turn
LEAST_CELLS = 8  # that are taken for the mask if fewer are marked
# Coefficients of the measures and summand, without supports that were left out and with them, for pictures of which one
# half shows the class (docs/decisions/0017-presence.md).
WITHOUT, WITHOUT_SUMMAND = (4.14, 2.58, -2.31, 7.78), -9.17
WITH, WITH_SUMMAND = (6.20, 13.45, 6.60, 10.27), 0.47


@dataclass(frozen=True)
class Expectation:
    """What pictures with the classes are like.

    Attributes
    ----------
    values : (K, 4)
        Mean of the measures over supports that were left out; 0 where none was.
    left_out : (K,)
        Number of these supports.
    """

    values: Tensor
    left_out: Tensor

    def to(self, device: torch.device) -> Expectation:
        """Return the expectation on a device."""
        return Expectation(self.values.to(device), self.left_out.to(device))

    def measures(self, head: Head, unit: Tensor, logits: Tensor) -> Tensor:
        """Return the measures of a picture minus the expected ones, (K, 4); see :func:`mask_measures`."""
        return mask_measures(head, unit, logits) - self.values

    def logits(self, measures: Tensor) -> Tensor:
        """Return the logits of the classes' presence, (K,), for :meth:`measures` (K, 4)."""
        alone = measures @ measures.new_tensor(WITHOUT) + WITHOUT_SUMMAND
        compared = measures @ measures.new_tensor(WITH) + WITH_SUMMAND
        return torch.where(self.left_out > 0, compared, alone)


def mask_measures(head: Head, unit: Tensor, logits: Tensor) -> Tensor:
    """Measure the mask of each class.

    Parameters
    ----------
    head
        The fitted head.
    unit : (C, h, w)
        Features of the picture, of unit length.
    logits : (K, h, w)
        Its logits.

    Returns
    -------
    (K, 4)
        Cosine between mask and class; between the remaining cells and the background; the largest one between a cell
        and a prototype of the class; and the mean sigmoid of the logits in the mask.
    """
    cells, flat = unit.flatten(1), logits.flatten(1)  # (C, hw), (K, hw)
    inside = (flat > 0) & (flat == flat.amax(0, keepdim=True))
    best = flat.topk(min(LEAST_CELLS, flat.shape[1]), dim=1).indices
    few = inside.sum(1, keepdim=True) < LEAST_CELLS
    inside = torch.where(few, torch.zeros_like(inside).scatter_(1, best, True), inside)
    shares = flat.sigmoid()
    objects = F.normalize((shares * inside) @ cells.T, dim=1)  # (K, C)
    rest = F.normalize(((1 - shares) * ~inside) @ cells.T, dim=1)
    classes = head.means[1:]
    nearest = torch.stack([(part @ cells).amax() for part in head.prototypes.split(head.counts)[1:]])
    confidence = (shares * inside).sum(1) / inside.sum(1)
    return torch.stack([(objects * classes).sum(1), rest @ head.means[0], nearest, confidence], dim=1)


def expect(
    statistics: Sequence[Statistics], units: Sequence[Tensor], classes: int, settings: ClosedFormSettings
) -> Expectation:
    """Leave out each support in turn, fit a head to the others, and measure the support that was left out.

    Parameters
    ----------
    statistics
        Of each support.
    units : (C, h, w) each
        Features of each support, of unit length.
    classes
        Number K of classes.
    settings
        Settings of the head.
    """
    sums = torch.zeros(classes, len(MEASURES), device=units[0].device)
    count = torch.zeros(classes, device=units[0].device)
    for number in range(min(len(statistics), MOST_LEFT_OUT)):
        others = [one for position, one in enumerate(statistics) if position != number]
        shown = statistics[number].counts[1:] > 0
        if not others or not (torch.stack([one.counts for one in others]).sum(0) > 0).all() or not shown.any():
            continue
        head = combine(others, settings)
        values = mask_measures(head, units[number], head.scores_of(units[number]))
        sums += torch.where(shown[:, None], values, 0)
        count += shown
    return Expectation(sums / count.clamp_min(1)[:, None], count)
