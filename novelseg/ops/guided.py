"""Guided filter: the borders of scores follow those of a picture (He, Sun & Tang, 2013, doi:10.1109/TPAMI.2012.213).

In each window of the picture, the scores are explained as a linear function of the three colours. The coefficients are
computed on a reduced picture and enlarged, and only then applied to the picture's own colours ("fast guided filter",
arXiv 1505.00996), so that the cost hardly depends on the size of the picture.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Coefficients(NamedTuple):
    """Linear functions of the colours around each pixel of a reduced picture.

    Attributes
    ----------
    slopes : (K, 3, h, w)
        Factors of red, green and blue.
    offsets : (K, h, w)
        Summands.
    """

    slopes: Tensor
    offsets: Tensor


def fit_colours(scores: Tensor, guide: Tensor, radius: int, smoothness: float) -> Coefficients:
    """Explain scores by the colours around each pixel.

    Parameters
    ----------
    scores : (K, h, w)
        Scores, for example logits.
    guide : (3, h, w) uint8
        The picture at the same size.
    radius
        Pixels on each side of the middle of a window.
    smoothness
        Variance of colours in [0, 1] below which the scores are averaged rather than explained (ε in the paper).

    Returns
    -------
    Coefficients
        Each is the mean over all windows that contain the pixel.
    """
    colours = guide.to(scores) / 255
    means = _box(colours, radius)  # (3, h, w)
    average = _box(scores, radius)  # (K, h, w)
    covariance = _box(colours[:, None] * colours, radius) - means[:, None] * means  # (3, 3, h, w)
    covariance = covariance + smoothness * torch.eye(3).to(scores)[:, :, None, None]
    shared = _box(scores[:, None] * colours, radius) - average[:, None] * means  # (K, 3, h, w)
    slopes = torch.einsum("ijhw,kjhw->kihw", _inverse(covariance), shared)
    offsets = average - (slopes * means).sum(1)
    return Coefficients(_box(slopes, radius), _box(offsets, radius))


def apply_colours(coefficients: Coefficients, picture: Tensor) -> Tensor:
    """Evaluate linear functions, enlarged to the size of a picture, at its colours.

    Parameters
    ----------
    coefficients
        Of a reduced picture.
    picture : (3, H, W) uint8
        The picture.

    Returns
    -------
    (K, H, W)
        Scores.
    """
    size = picture.shape[1:]
    scores = _enlarge(coefficients.offsets, size)
    for number, colour in enumerate(picture):
        scores.addcmul_(_enlarge(coefficients.slopes[:, number], size), colour.to(scores), value=1 / 255)
    return scores


def _enlarge(values: Tensor, size: torch.Size) -> Tensor:
    """Resize (K, h, w) to (K, H, W) bilinearly."""
    enlarged: Tensor = F.interpolate(values[None], size=size, mode="bilinear", align_corners=False)[0]
    return enlarged if enlarged is not values else values.clone()


def _box(values: Tensor, radius: int) -> Tensor:
    """Average (..., h, w) over windows, which are cut off at the borders."""
    flat, side = values.flatten(0, -3)[None], 2 * radius + 1
    rows = F.avg_pool2d(flat, (side, 1), 1, (radius, 0), count_include_pad=False)
    means = F.avg_pool2d(rows, (1, side), 1, (0, radius), count_include_pad=False)[0]
    shaped: Tensor = means.unflatten(0, values.shape[:-2])
    return shaped


def _inverse(matrices: Tensor) -> Tensor:
    """Invert symmetric matrices, (3, 3, h, w), by their cofactors."""
    a, b, c, d, e, f = (matrices[i, j] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)))
    cofactors = torch.stack(
        [d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b]
    )  # (6, h, w): rows of the upper triangle
    determinant = a * cofactors[0] + b * cofactors[1] + c * cofactors[2]
    upper = cofactors / determinant
    return torch.stack([upper[[0, 1, 2]], upper[[1, 3, 4]], upper[[2, 4, 5]]])
