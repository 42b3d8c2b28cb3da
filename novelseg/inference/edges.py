"""Masks whose borders follow those of the picture, without any weights: a guided filter on the probabilities."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from novelseg.backbones.grid import Grid
from novelseg.ops.guided import apply_colours, fit_colours

# Chosen on training images (docs/results/edges.md).
REDUCTION = 4  # pixels that the network sees per pixel of the filter's guide
RADIUS = 5  # of the filter's windows, pixels of the guide
SMOOTHNESS = 1e-4  # variance of colours in [0, 1]
LEAST_SHARE = 1e-4  # of a probability, and of its complement


def snap_to_edges(logits: Tensor, picture: NDArray[np.uint8], side: int, grid: Grid) -> Tensor:
    """Enlarge logits so that their borders follow those of the picture.

    Parameters
    ----------
    logits : (K, h, w)
        Logits of the cells.
    picture : (H, W, 3) uint8
        The picture at its own size.
    side
        Longest side at which the network has seen it, px.
    grid
        Positions of the cells.

    Returns
    -------
    (K, H, W)
        Logits of the pixels.
    """
    height, width = picture.shape[:2]
    factor = REDUCTION * max(1.0, max(height, width) / side)
    small = max(1, round(height / factor)), max(1, round(width / factor))
    guide = np.array(Image.fromarray(picture).resize(small[::-1], Image.Resampling.BOX))
    shares = grid.upsample(logits[None], small)[0].sigmoid()
    coefficients = fit_colours(shares, _colours(guide, logits.device), RADIUS, SMOOTHNESS)
    return apply_colours(coefficients, _colours(picture, logits.device)).logit(LEAST_SHARE)


def _colours(picture: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Return the colours of a picture (H, W, 3) on a device, (3, H, W)."""
    return torch.tensor(picture, device=device).permute(2, 0, 1)
