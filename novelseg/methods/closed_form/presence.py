"""Whether a class is in a picture at all, judged from the closed-form head's mask of it.

Five measures of the mask go into a logistic regression. What values they have depends on encoder and class; they are
therefore compared with others of the same class, where there are any: with those of supports that are left out in
turn, as they are and without the object, and with those of pictures without masks, some of which show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from novelseg.core.labels import VOID
from novelseg.methods.closed_form.head import Head, Statistics, combine
from novelseg.methods.closed_form.settings import ClosedFormSettings

MEASURES = ("coverage", "object_likeness", "background_likeness", "discriminant", "margin")
MOST_LEFT_OUT = 10  # supports that are left out in turn, shared by the classes
LEAST_CELLS = 8  # that are taken for the mask if fewer are marked
WITHOUT = 0.25  # share that the supports without their object have in what is compared with
MARGIN = 2  # cells around an object that are taken away with it, since their features depend on it
MOST_SPREADS = 5.0  # that a measure is taken to be away from the median of other pictures
# Coefficients of the measures and summand, for pictures of which one half shows the class (docs/results/presence.md):
# alone, compared with supports that were left out, and with other pictures.
ALONE, ALONE_SUMMAND = (-3.14, 7.31, 9.40, -1.10, 13.68), -12.05
LEFT_OUT, LEFT_OUT_SUMMAND = (10.89, 5.17, 11.69, 1.93, 23.60), 0.01
RELATIVE, RELATIVE_SUMMAND = (0.63, 0.60, 0.63, 0.48, 0.58), -0.13


@dataclass(frozen=True)
class Expectation:
    """What the measures of pictures are compared with.

    Attributes
    ----------
    reference : (K, 5)
        Mean of the measures over supports that were left out: three quarters of it with the object, one quarter
        without; 0 where none was left out.
    left_out : (K,)
        Number of these supports.
    median, spread : (K, 5)
        Median and standard deviation over pictures without masks of their measures minus ``reference``; 0 without such
        pictures.
    """

    reference: Tensor
    left_out: Tensor
    median: Tensor
    spread: Tensor

    def to(self, device: torch.device) -> Expectation:
        """Return the expectation on a device."""
        return Expectation(*(getattr(self, field.name).to(device) for field in fields(self)))

    def measures(self, head: Head, unit: Tensor, logits: Tensor) -> Tensor:
        """Return the measures of a picture minus the reference, (K, 5); see :func:`mask_measures`."""
        return mask_measures(head, unit, logits) - self.reference

    def relative_to(self, measures: Tensor) -> Expectation:
        """Return an expectation that compares with pictures without masks, given their :meth:`measures` (N, K, 5)."""
        median = measures.median(0).values
        return replace(self, median=median, spread=measures.std(0, correction=0).clamp_min(1e-6))

    def standardised(self, measures: Tensor) -> Tensor:
        """Return how many spreads :meth:`measures` are away from the median of pictures without masks."""
        return ((measures - self.median) / self.spread).clamp(-MOST_SPREADS, MOST_SPREADS)

    def logits(self, measures: Tensor) -> Tensor:
        """Return the logits of the classes' presence, (K,), for :meth:`measures` (K, 5).

        Where there are both supports that were left out and other pictures, they are the mean of two logits.
        """
        alone = measures @ measures.new_tensor(ALONE) + ALONE_SUMMAND
        compared = measures @ measures.new_tensor(LEFT_OUT) + LEFT_OUT_SUMMAND
        relative = self.standardised(measures) @ measures.new_tensor(RELATIVE) + RELATIVE_SUMMAND
        adapted = torch.where(self.left_out > 0, (compared + relative) / 2, relative)
        return torch.where(self.spread.amax(1) > 0, adapted, torch.where(self.left_out > 0, compared, alone))


def mask_measures(head: Head, unit: Tensor, logits: Tensor, seen: Tensor | None = None) -> Tensor:
    """Measure the mask of each class.

    Parameters
    ----------
    head
        The fitted head.
    unit : (C, h, w)
        Features of the picture, of unit length.
    logits : (K, h, w)
        Its logits.
    seen : (K, hw), optional
        Whether each cell counts for a class, as if the picture had no others; by default all do.

    Returns
    -------
    (K, 5)
        Mean over the prototypes of the class of the largest cosine to a cell: whether all parts are found. Cosine
        between mask and class, and between the remaining cells and the background. Means in the mask of the
        discriminant, and of the similarity to the nearest prototypes of the class minus that of the background.
    """
    cells, flat = unit.flatten(1), logits.flatten(1)  # (C, hw), (K, hw)
    seen = torch.ones_like(flat, dtype=torch.bool) if seen is None else seen
    inside = (flat > 0) & (flat == flat.amax(0, keepdim=True)) & seen
    best = flat.masked_fill(~seen, -torch.inf).topk(min(LEAST_CELLS, flat.shape[1]), dim=1).indices
    few = inside.sum(1, keepdim=True) < LEAST_CELLS
    inside = torch.where(few, torch.zeros_like(inside).scatter_(1, best, True), inside)
    shares = flat.sigmoid()
    objects = F.normalize((shares * inside) @ cells.T, dim=1)  # (K, C)
    rest = F.normalize(((1 - shares) * (~inside & seen)) @ cells.T, dim=1)
    cosines = (head.prototypes @ cells).split(head.counts)[1:]
    coverage = torch.stack([own[:, part].amax(1).mean() for own, part in zip(cosines, seen, strict=True)])
    likeness = (objects * head.means[1:]).sum(1)
    count = inside.sum(1)
    discriminant = (head.discriminant(cells) * inside).sum(1) / count
    margin = (head.nearest(cells) * inside).sum(1) / count
    return torch.stack([coverage, likeness, rest @ head.means[0], discriminant, margin], dim=1)


def expect(
    statistics: Sequence[Statistics],
    units: Sequence[Tensor],
    labels: Sequence[Tensor],
    classes: int,
    settings: ClosedFormSettings,
) -> Expectation:
    """Leave out each support in turn, fit a head to the others, and measure it with and without its object.

    Parameters
    ----------
    statistics
        Of each support.
    units : (C, h, w) each
        Features of each support, of unit length.
    labels : (h, w) each
        Labels of its cells.
    classes
        Number K of classes.
    settings
        Settings of the head.
    """
    sums = torch.zeros(classes, len(MEASURES), device=units[0].device)
    count = torch.zeros(classes, device=units[0].device)
    limit = max(2, MOST_LEFT_OUT // classes)  # of each class
    for number, unit in enumerate(units):
        others = [one for position, one in enumerate(statistics) if position != number]
        elsewhere = _elsewhere(labels[number], classes)
        usable = (statistics[number].counts[1:] > 0) & (elsewhere.sum(1) >= LEAST_CELLS)
        if not others or not (usable & (count < limit)).any():
            continue
        if not (torch.stack([one.counts for one in others]).sum(0) > 0).all():
            continue
        head = combine(others, settings)
        logits = head.scores_of(unit)
        measures = mask_measures(head, unit, logits)
        without = mask_measures(head, unit, logits, elsewhere | ~usable[:, None])
        sums += torch.where(usable[:, None], measures.lerp(without, WITHOUT), 0)
        count += usable
    return Expectation(sums / count.clamp_min(1)[:, None], count, torch.zeros_like(sums), torch.zeros_like(sums))


def _elsewhere(labels: Tensor, classes: int) -> Tensor:
    """Return whether each cell is away from a class, and from void, for each class, (K, hw)."""
    numbers = torch.arange(1, classes + 1, device=labels.device)[:, None, None]
    taken = ((labels == numbers) | (labels == VOID)).float()
    return F.max_pool2d(taken[None], 2 * MARGIN + 1, 1, MARGIN)[0].flatten(1) == 0
