"""The prior of an unseen class from activation maps of known ones (B, Eq. 1–3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from novelseg.ops import draws

EPSILON = 1e-6  # a constant map has no range to divide by: it becomes zero everywhere


def masked(images: Tensor, masks: Tensor) -> Tensor:
    """Images whose pixels are zero (black) wherever the mask is not 1.

    Parameters
    ----------
    images : (B, 3, H, W)
        RGB in [0, 1].
    masks : (B, H, W) uint8
        1 the object; what is void may be anything and is not shown.
    """
    return images * (masks == 1)[:, None]


def classification_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over objects and classes of log(1 + exp(−Ŝ·S)) (B, Eq. 1).

    Parameters
    ----------
    scores : (B, n)
        S.
    labels : (B,) int64
        Which of the n classes each object is; Ŝ is 1 there, −1 elsewhere.
    """
    signs = 2 * F.one_hot(labels, scores.shape[1]).to(scores.dtype) - 1
    return F.softplus(-signs * scores).mean()


def weights_of(scores: Tensor, weighting: str) -> Tensor:
    """What weighs the maps of the known classes, (E, n): the scores (B, Eq. 2), or how alike they say the classes are.

    A score is a logit, and negative for nearly every class: two negative ones multiply to a large positive. ``sigmoid``
    is each class's own probability under Eq. 1, divided by their sum, so that Eq. 3, which takes any factor out, is not
    left with rounding; ``softmax`` shares one among the classes.
    """
    if weighting == "scores":
        return scores
    return (F.logsigmoid(scores) if weighting == "sigmoid" else scores).softmax(1)


def prior_map(maps: Tensor, weights: Tensor) -> Tensor:
    """Sum of the known classes' maps, each with its weight (B, Eq. 2).

    Parameters
    ----------
    maps : (n, h, w) or (E, n, h, w)
        D′ of the query.
    weights : (E, n)
        Of each class (:func:`weights_of`).

    Returns
    -------
    (E, h, w)
        M, in no particular range.
    """
    return torch.einsum("nhw,en->ehw" if maps.dim() == 3 else "enhw,en->ehw", maps, weights)


def normalised(maps: Tensor) -> Tensor:
    """Each map brought to [0, 1] by its least and greatest value (B, Eq. 3); (..., h, w)."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low + EPSILON)


def shuffled(maps: Tensor, keys: Tensor) -> Tensor:
    """Each map with its cells in another order, which its key draws: the values stay, the places go.

    Parameters
    ----------
    maps : (E, h, w)
    keys : (E,) int32
    """
    cells = maps.flatten(1)
    order = draws.words(keys, draws.counters(cells.shape[1], cells.device)).argsort(stable=True, dim=1)
    return cells.gather(1, order).view_as(maps)
