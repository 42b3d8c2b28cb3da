"""Selection of the query cells for which a rough result is confident."""

from __future__ import annotations

import torch
from torch import Tensor


def confident_cells(logits: Tensor, *, tau_fg: float, tau_bg: float, fallback_cells: int) -> Tensor:
    """Choose query cells by the confidence of a rough result.

    Parameters
    ----------
    logits : (E, 2, h, w)
        Rough results of E episodes, background and foreground, multiplied by the factor of the cosine.
    tau_fg, tau_bg
        Cells above this confidence are chosen, as foreground and as background.
    fallback_cells
        Number of most confident cells that are chosen if none exceeds the threshold.

    Returns
    -------
    (E, h, w) uint8
        0 not chosen, 1 background, 2 foreground.
    """
    confidence = logits.softmax(1).flatten(2)
    marks = torch.zeros_like(confidence[:, 0], dtype=torch.uint8)
    # Foreground cells are scarcer; they are marked last and therefore win if both sides fall back to the same cells.
    for side, tau, mark in ((0, tau_bg, 1), (1, tau_fg, 2)):
        values = confidence[:, side]
        above = values > tau
        best = values.topk(min(fallback_cells, values.shape[1])).indices
        fallback = torch.zeros_like(above).scatter_(1, best, True)
        marks[torch.where(above.any(1, keepdim=True), above, fallback)] = mark
    return marks.view(len(logits), *logits.shape[2:])
