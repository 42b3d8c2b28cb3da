"""Prototype matching: pooled support prototypes, and their cosine similarity with the query."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from novelseg.backbones.grid import Grid
from novelseg.ops.pooling import pool


def sides(mask: Tensor) -> Tensor:
    """Convert a mask of 0, 1 and 255 to pixel weights of background and foreground.

    Parameters
    ----------
    mask : (..., H, W)
        1 foreground, 0 background, 255 void.

    Returns
    -------
    (..., 2, H, W) float
        1 for the pixels of the background, then of the foreground; void pixels belong to neither.
    """
    return torch.stack([mask == 0, mask == 1], dim=-3).float()


def support_prototypes(features: Tensor, masks: Tensor, grid: Grid) -> Tensor:
    """Compute the prototypes of background and foreground: the unweighted mean of the pooled features of each support.

    Parameters
    ----------
    features : (B, K, C, h, w)
        Support features.
    masks : (B, K, H, W) integer
        1 foreground, 0 background, 255 void.
    grid
        Positions of the cells of the features.

    Returns
    -------
    (B, 2, C)
        Background, foreground.
    """
    weights = grid.splat_masks(sides(masks), (features.shape[-2], features.shape[-1]))
    return pool(features, weights).mean(dim=1)


def match(query: Tensor, prototypes: Tensor, scale: float) -> Tensor:
    """Compute the scaled cosine similarity of every query cell with both prototypes.

    Parameters
    ----------
    query : (B, C, h, w)
        Query features.
    prototypes : (B, 2, C)
        Background, foreground.
    scale
        Factor of the cosine (10 in the papers' code).

    Returns
    -------
    (B, 2, h, w)
        Logits.
    """
    cells = F.normalize(query.flatten(2), dim=1)  # (B, C, hw)
    logits: Tensor = scale * (F.normalize(prototypes, dim=2) @ cells)
    shaped: Tensor = logits.unflatten(2, query.shape[-2:])
    return shaped


def match_many(query: Tensor, prototypes: Tensor, scale: float) -> Tensor:
    """Match one query with the prototypes of many episodes, without building a normalised copy of the query.

    Parameters
    ----------
    query : (C, h, w)
        Query features.
    prototypes : (E, 2, C)
        Background, foreground.
    scale
        Factor of the cosine.

    Returns
    -------
    (E, 2, h, w)
        Logits.
    """
    cells = query.flatten(1)  # (C, hw)
    lengths = torch.linalg.vector_norm(cells, dim=0).clamp(min=1e-12)
    logits: Tensor = F.normalize(prototypes, dim=2).flatten(0, 1) @ cells * (scale / lengths)
    return logits.view(len(prototypes), 2, *query.shape[1:])
