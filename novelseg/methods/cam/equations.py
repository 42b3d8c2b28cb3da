"""The prior of an unseen class from activation maps of known ones (B, Eq. 1–3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from novelseg.ops import draws

EPSILON = 1e-6  # avoids a division by zero for constant maps, which become zero everywhere


def black_out(images: Tensor, masks: Tensor) -> Tensor:
    """Set pixels to zero (black) wherever the mask is not 1.

    Parameters
    ----------
    images : (B, 3, H, W)
        RGB in [0, 1].
    masks : (B, H, W) uint8
        1 for the object; void pixels, whose class is unknown, also become black.
    """
    return images * (masks == 1)[:, None]


def classification_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Compute the mean of log(1 + exp(−Ŝ·S)) over objects and classes (B, Eq. 1).

    Parameters
    ----------
    scores : (B, n)
        Scores S.
    labels : (B,) int64
        Class of each object, 0…n−1; Ŝ is 1 for this class and −1 for the others.
    """
    signs = 2 * F.one_hot(labels, scores.shape[1]).to(scores.dtype) - 1
    return F.softplus(-signs * scores).mean()


def map_weights(scores: Tensor, weighting: str) -> Tensor:
    """Convert scores to weights of the known classes' maps.

    Scores are logits, negative for nearly every class, and so are most map values: if scores are the weights, a class
    that is absent from both support and query adds a large positive product. Probabilities avoid this.

    Parameters
    ----------
    scores : (E, n)
        Scores of the supports.
    weighting
        ``scores``: the scores themselves (B, Eq. 2). ``sigmoid``: the probability of each class under Eq. 1, divided by
        the sum over classes, since tiny weights would cause rounding errors in Eq. 3, which removes common factors.
        ``softmax``: probabilities of mutually exclusive classes.

    Returns
    -------
    (E, n)
    """
    if weighting == "scores":
        return scores
    return (F.logsigmoid(scores) if weighting == "sigmoid" else scores).softmax(1)


def prior_map(maps: Tensor, weights: Tensor) -> Tensor:
    """Sum the known classes' maps, each with its weight (B, Eq. 2).

    Parameters
    ----------
    maps : (n, h, w) or (E, n, h, w)
        Activation maps D′ of the query.
    weights : (E, n)
        Weights of the maps (:func:`map_weights`).

    Returns
    -------
    (E, h, w)
        Map M, not normalised.
    """
    return torch.einsum("nhw,en->ehw" if maps.dim() == 3 else "enhw,en->ehw", maps, weights)


def normalise(maps: Tensor) -> Tensor:
    """Scale each map to [0, 1] by its minimum and maximum (B, Eq. 3); (..., h, w)."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low + EPSILON)


def shuffle(maps: Tensor, keys: Tensor) -> Tensor:
    """Permute the cells of each map at random, which preserves the values but not their positions.

    Parameters
    ----------
    maps : (E, h, w)
        One map per episode.
    keys : (E,) int32
        Random key of each map.
    """
    cells = maps.flatten(1)
    order = draws.words(keys, draws.counters(cells.shape[1], cells.device)).argsort(stable=True, dim=1)
    return cells.gather(1, order).view_as(maps)


def next_of_another_class(labels: list[int]) -> list[int]:
    """Return for each position the next one, cyclically, with another label; itself if all labels are equal."""
    count = len(labels)
    return [
        next((n % count for n in range(own + 1, own + count) if labels[n % count] != labels[own]), own)
        for own in range(count)
    ]
