"""Pixel-wise pseudo labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from novelseg.backbones.grid import Grid
from novelseg.core.labels import VOID


def pseudo_labels(features: Tensor, mask: Tensor, foreground: Tensor, background: Tensor, grid: Grid) -> Tensor:
    """Label every pixel with its nearest prototype by cosine similarity (A, Eq. 3).

    The norm of Up(F) is common to all k, and Up commutes with the product, so that argmax_k cos(Up(F), P_k) =
    argmax_k Up(F·P̂_k). Therefore the product is computed first, and K channels are upsampled instead of C.

    Parameters
    ----------
    features : (C, h, w) float
        Features of the image.
    mask : (H, W) uint8
        Known labels of the fold: 0 background, 255 void, any other value foreground.
    foreground, background : (K, C) float
        Prototypes of one level.
    grid
        Positions of the cells of the features.

    Returns
    -------
    (H, W) uint8
        Foreground pixels 0…K−1, background pixels K…2K−1, void 255.
    """
    size = (mask.shape[0], mask.shape[1])
    nearest = [_argmax_up(features, centres, size, grid) for centres in (foreground, background)]
    labels = torch.where(mask == 0, nearest[1] + len(foreground), nearest[0])
    return torch.where(mask == VOID, torch.full_like(labels, VOID), labels).to(torch.uint8)


def _argmax_up(features: Tensor, centres: Tensor, size: tuple[int, int], grid: Grid) -> Tensor:
    """Return the number of the nearest centre (K, C) of each pixel, (H, W)."""
    scores = torch.einsum("chw,kc->khw", features, F.normalize(centres, dim=1))
    # Classes last in memory, and max, which is vectorised (argmax is not): 2.5 times as fast on a CPU.
    channels_last = scores[None].contiguous(memory_format=torch.channels_last)
    upsampled = grid.upsample(channels_last, size)[0]
    return upsampled.permute(1, 2, 0).max(-1).indices
