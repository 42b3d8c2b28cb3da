"""Masked average pooling at feature resolution (A, Eq. 1), with masks that a grid has splatted onto its cells."""

from __future__ import annotations

from torch import Tensor

EPSILON = 1e-5  # avoids a division by zero for empty masks


def pool(features: Tensor, weights: Tensor) -> Tensor:
    """Pool features over regions by masked average pooling (A, Eq. 1).

    Parameters
    ----------
    features : (..., C, h, w)
        Feature maps.
    weights : (..., R, h, w)
        Splatted masks of R regions.

    Returns
    -------
    (..., R, C)
        Mean features of the regions; zero for an empty mask.
    """
    weights = weights.flatten(-2).to(features)  # (..., R, hw)
    sums = weights @ features.flatten(-2).transpose(-1, -2)  # (..., R, C)
    return sums / (weights.sum(-1, keepdim=True) + EPSILON)
