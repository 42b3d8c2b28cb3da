"""Positional bias: what features say about the place of a cell rather than about its content, and how to remove it.

The features of a picture without content can differ from cell to cell only by their position. Their main directions
span a subspace that is projected out of the features of real pictures (INSID3, arXiv 2603.28480).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RANK_TOLERANCE = 1e-6  # directions of which the blank picture's features have a smaller share are rounding


def position_basis(blank: Tensor, count: int) -> Tensor:
    """Return the main directions of the features of a picture without content.

    Parameters
    ----------
    blank : (C, h, w)
        Its features.
    count
        Maximum number of directions.

    Returns
    -------
    (C, P)
        The first left singular vectors of the centred unit-length features; fewer than ``count`` if the features vary
        in fewer directions.
    """
    cells = F.normalize(blank.flatten(1).double(), dim=0)
    cells = cells - cells.mean(1, keepdim=True)
    values, vectors = torch.linalg.eigh(cells @ cells.T)  # ascending
    kept = int((values > RANK_TOLERANCE * max(float(values[-1]), RANK_TOLERANCE)).sum())
    main: Tensor = vectors[:, len(values) - min(count, kept) :].flip(1)
    return main.to(blank.dtype)


def remove_positions(cells: Tensor, basis: Tensor | None) -> Tensor:
    """Project directions out of unit-length cells (N, C), and restore unit length; None leaves them unchanged."""
    if basis is None or not basis.shape[1]:
        return cells
    return F.normalize(cells - cells @ basis @ basis.T, dim=1)
