"""SROFB: a foreground/background classifier trained online for one episode (A8).

It learns from the support's cells, and refines itself with the query's confident cells. The query's mask is no
argument of anything here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.core.labels import VOID
from stages.sections.srofb import SrofbParams


@dataclass(frozen=True)
class Cells:
    """Training cells: features (N, C) and labels (N,), 0 background, 1 foreground."""

    features: Tensor
    labels: Tensor


def support_cells(features: list[Tensor], masks: list[Tensor]) -> Cells:
    """Cells of the supports, labelled by the pixel that lies under each; void ones are left out.

    Parameters
    ----------
    features
        One (C, h, w) map a support.
    masks
        (H, W) binary masks, 255 void, one a support.
    """
    parts, labels = [], []
    for feature, mask in zip(features, masks, strict=True):
        nearest = mask_at_cells(mask, (feature.shape[1], feature.shape[2])).flatten()
        kept = nearest != VOID
        parts.append(feature.flatten(1).T[kept])
        labels.append(nearest[kept].long())
    return Cells(torch.cat(parts), torch.cat(labels))


def mask_at_cells(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels of the pixels nearest to the cells' centres, corners aligned: (H, W) to (h, w)."""
    places = [
        torch.linspace(0, length - 1, cells, dtype=torch.float64).round().long()
        for length, cells in zip(mask.shape, size, strict=True)
    ]
    return mask[places[0].to(mask.device)][:, places[1].to(mask.device)]


def confident_cells(logits: Tensor, params: SrofbParams) -> Tensor:
    """Choose query cells by the confidence of the rough matching.

    Parameters
    ----------
    logits : (2, h, w)
        Rough matching, background and foreground, scale inside.

    Returns
    -------
    (h, w) uint8
        0 unused, 1 background, 2 foreground.
    """
    confidence = logits.softmax(0).flatten(1)
    chosen = torch.zeros(confidence.shape[1], dtype=torch.uint8, device=logits.device)
    # Foreground last: where both fall back to their best cells, a scarce positive is worth more.
    for side, tau, mark in ((0, params.tau_bg, 1), (1, params.tau_fg, 2)):
        passed = confidence[side] > tau
        if not passed.any():
            best = confidence[side].topk(min(params.fallback_cells, passed.numel())).indices
            passed[best] = True
        chosen[passed] = mark
    return chosen.view(logits.shape[1:])


def query_cells(features: Tensor, chosen: Tensor) -> Cells:
    """Chosen cells of the query, (C, h, w) and (h, w)."""
    kept = chosen.flatten() > 0
    return Cells(features.flatten(1).T[kept], chosen.flatten()[kept].long() - 1)


def _loss_weights(labels: Tensor, balance: str) -> Tensor:
    """Weight of each cell; they sum to one."""
    if balance == "none":
        return torch.full(labels.shape, 1 / labels.numel(), device=labels.device)
    counts = labels.bincount(minlength=2)
    sides = int((counts > 0).sum())
    return (1 / (counts.clamp(min=1) * sides))[labels].float()


def _layer(inputs: int, outputs: int, generator: torch.Generator, device: torch.device) -> list[Tensor]:
    """Weight and bias, uniform in ±1/√inputs as torch's linear layers start."""
    bound = inputs**-0.5
    drawn = torch.rand((outputs, inputs + 1), generator=generator) * (2 * bound) - bound
    drawn = drawn.to(device)
    return [drawn[:, 1:].clone().requires_grad_(), drawn[:, 0].clone().requires_grad_()]


def classify(cells: Cells, query: Tensor, steps: int, params: SrofbParams, generator: torch.Generator) -> Tensor:
    """Train the classifier on cells and apply it to the query.

    Parameters
    ----------
    cells
        Training cells.
    query : (C, h, w)
        Features of the query.
    steps
        Full-batch SGD steps.
    generator
        Of the episode, on the CPU: first weights, then one dropout mask a step.

    Returns
    -------
    (2, h, w)
        Logits, background and foreground.
    """
    channels, device = query.shape[0], query.device
    first = _layer(channels, params.hidden, generator, device)
    second = _layer(params.hidden, 2, generator, device)
    weights = _loss_weights(cells.labels, params.class_balance)
    keep = 1 - params.dropout
    for _ in range(steps):
        kept = torch.rand((len(cells.labels), params.hidden), generator=generator) < keep
        hidden = F.linear(cells.features, *first).relu() * (kept / keep).to(device)
        losses = F.cross_entropy(F.linear(hidden, *second), cells.labels, reduction="none")
        gradients = torch.autograd.grad((losses * weights).sum(), [*first, *second])
        with torch.no_grad():
            for value, gradient in zip([*first, *second], gradients, strict=True):
                value -= params.learning_rate * gradient
    with torch.no_grad():
        hidden = F.linear(query.flatten(1).T, *first).relu()
        logits: Tensor = F.linear(hidden, *second).T.unflatten(1, query.shape[1:])
    return logits


def parameter_count(channels: int, hidden: int) -> int:
    """Parameters of the classifier."""
    return (channels + 1) * hidden + (hidden + 1) * 2
