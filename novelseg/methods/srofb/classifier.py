"""SROFB: a foreground/background classifier trained online for an episode (A8), many episodes side by side.

It learns from the support's cells, and refines itself with the query's confident cells. The query's mask is no
argument of anything here. First weights and dropout are drawn from the episode's own key, and cells that only fill a
batch up weigh nothing: what an episode learns depends on no other (but for the rounding of a larger product).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from novelseg.core.labels import VOID
from novelseg.methods.srofb.settings import SrofbSettings
from novelseg.ops import draws

PART_KB = {"cpu": 384, "cuda": 256 << 10}  # of hidden units of all tasks at a time: in the cache; enough for a GPU
AHEAD = 8  # columns before the features: the bias's, and zeros, as tensor cores want rows of whole 16 bytes
MIN_ROWS = 256  # of each task: under it the products are too small to be fast


@dataclass(frozen=True)
class Cells:
    """Training cells: features (N, C) and labels (N,), 0 background, 1 foreground."""

    features: Tensor
    labels: Tensor


def support_cells(features: list[Tensor], labels: list[Tensor]) -> Cells:
    """Cells of the supports; void ones are left out.

    Parameters
    ----------
    features
        One (C, h, w) map a support.
    labels
        Their labels at cells (:meth:`novelseg.backbones.grid.Grid.labels_at_cells`), (h, w), one a support.
    """
    kept = [part.flatten() != VOID for part in labels]
    return Cells(
        torch.cat([part.flatten(1).T[known] for part, known in zip(features, kept, strict=True)]),
        torch.cat([part.flatten()[known].long() for part, known in zip(labels, kept, strict=True)]),
    )


def query_cells(features: Tensor, chosen: Tensor) -> Cells:
    """Chosen cells of the query, (C, h, w) and (h, w)."""
    kept = chosen.flatten() > 0
    return Cells(features.flatten(1).T[kept], chosen.flatten()[kept].long() - 1)


@dataclass(frozen=True)
class Task:
    """What the classifier of one episode learns from, and what it is asked.

    Attributes
    ----------
    cells
        Training cells.
    query : (C, h, w)
        Features of the query.
    key
        Seed of first weights and dropout.
    """

    cells: Cells
    query: Tensor
    key: int


def _loss_weights(labels: Tensor, balance: str) -> Tensor:
    """Weight of each cell; they sum to one."""
    if balance == "none":
        return torch.full(labels.shape, 1 / labels.numel(), device=labels.device)
    counts = F.one_hot(labels, 2).sum(0)
    return (1 / (counts.clamp(min=1) * (counts > 0).sum()))[labels]


def _first_weights(keys: Tensor, inputs: int, outputs: int) -> Tensor:
    """(B, 1 + inputs, outputs), biases first, uniform in ±1/√inputs as torch's linear layers start."""
    counted = draws.counters((inputs + 1) * outputs, keys.device)
    drawn = (2 * draws.uniform(keys, counted) - 1).mul_(inputs**-0.5)
    return drawn.view(-1, inputs + 1, outputs)


@dataclass(frozen=True)
class _Batch:
    """Tasks side by side, filled up to the longest.

    Attributes
    ----------
    cells : (B, N, 8 + C)
        A one, which the bias is multiplied with, seven zeros, and the features.
    is_fg : (B, N, 1) float
        1 for foreground.
    weights : (B, N, 1)
        Of the loss; zero where filled up.
    keys : (B,) int32
    """

    cells: Tensor
    is_fg: Tensor
    weights: Tensor
    keys: Tensor

    @staticmethod
    def of(tasks: list[Task], balance: str, kind: torch.dtype) -> _Batch:
        longest = max(len(task.cells.labels) for task in tasks)
        first = tasks[0].cells.features
        cells = torch.zeros((len(tasks), longest, AHEAD + first.shape[1]), dtype=kind, device=first.device)
        cells[:, :, 0] = 1
        is_fg, weights = (torch.zeros((len(tasks), longest, 1), device=first.device) for _ in range(2))
        for row, task in enumerate(tasks):
            count = len(task.cells.labels)
            cells[row, :count, AHEAD:] = task.cells.features
            is_fg[row, :count, 0] = task.cells.labels.float()
            weights[row, :count, 0] = _loss_weights(task.cells.labels, balance)
        return _Batch(cells, is_fg, weights, draws.to_keys([task.key for task in tasks], first.device))


def _keep_above(values: Tensor, number: Tensor, limit: float, out: Tensor) -> None:
    """To ``out``: ``values`` where a number lies above a limit, else zero, in one pass.

    It is what torch calls the gradient of a threshold; on a CPU a comparison and a choice take ten times as long.
    """
    torch.ops.aten.threshold_backward.grad_input(values, number, limit, grad_input=out)


def _product(cells: Tensor, other: Tensor, out: Tensor) -> None:
    """To ``out``: ``cells @ other``, multiplied as the cells are stored."""
    if cells.dtype == out.dtype:
        torch.bmm(cells, other, out=out)
    else:
        out.copy_(cells @ other.to(cells.dtype))


def _start(keys: Tensor, inputs: int, hidden: int) -> tuple[Tensor, Tensor]:
    """Weights of the first layer, (B, 8 + C, H), and of the second, (B, 1 + H, 1).

    The second layer is one row: with two classes only the difference of their logits matters.
    """
    w1 = _first_weights(draws.branch(keys, 0), inputs, hidden)
    both = _first_weights(draws.branch(keys, 1), hidden, 2)
    return torch.cat([w1[:, :1], torch.zeros_like(w1[:, : AHEAD - 1]), w1[:, 1:]], 1), both[:, :, 1:] - both[:, :, :1]


def _train(batch: _Batch, steps: int, params: SrofbSettings) -> tuple[Tensor, Tensor]:
    """Full-batch SGD by hand: the same sums as autograd's, a few cells at a time, in room that is made once.

    Factors that all cells share (what dropout divides by, the second layer's weights on the way back) are left to
    the sums. A unit that is awake passes on its cell's product with its weights: the gradient of the second layer is
    Σ w1·G over the inputs, G being that of the first before its factor, the second layer's weights.
    """
    device, (tasks, count, inputs) = batch.cells.device, batch.cells.shape
    w1, w2 = _start(batch.keys, inputs - AHEAD, params.hidden)
    keep = max(1, round(256 * (1 - params.dropout)))
    grow, words = 256 / keep, -(-params.hidden // 4)
    rows = min(max(1, count), max(MIN_ROWS, (PART_KB[device.type] << 10) // (4 * params.hidden * tasks)))
    counted = draws.counters(count * words, device).split(rows * words)
    parts = [*zip(*(part.split(rows, 1) for part in (batch.cells, batch.is_fg, batch.weights)), counted, strict=True)]
    numbers_room = torch.empty((2, tasks, rows * words), dtype=torch.int32, device=device)
    drawn_room = torch.empty((tasks, rows, 4 * words), device=device)
    hidden_room = torch.empty((tasks, rows, params.hidden), device=device)
    part_gradient = torch.empty_like(w1)
    for step in range(steps):
        keys = draws.branch(batch.keys, 2 + step)
        up = grow * w2[:, 1:]
        unscaled, surplus = torch.zeros_like(w1), torch.zeros_like(w2[:, :1])
        for cells, is_fg, weights, numbers in parts:
            here = cells.shape[1]
            octets = draws.octets(keys, numbers, numbers_room[:, :, : here * words]).bitwise_not_()
            drawn = drawn_room[:, :here].copy_(octets.view(tasks, here, 4 * words))[:, :, : params.hidden]
            hidden = hidden_room[:, :here]  # (B, n, H)
            _product(cells, w1, hidden)
            hidden.relu_()
            _keep_above(hidden, drawn, 255 - keep, hidden)  # dropout: where what was drawn is under keep
            difference = hidden @ up + w2[:, :1]  # (B, n, 1)
            error = (difference.sigmoid_() - is_fg) * weights  # for foreground; for background, minus it
            surplus += error.sum(1, keepdim=True)
            # On the way back: what was dropped or not above zero has no gradient.
            _keep_above(error.expand_as(hidden), hidden, 0, hidden)
            _product(cells.mT, hidden, part_gradient)
            unscaled += part_gradient
        # Each of two opposite rows of the second layer moves by the rate: their difference by twice that.
        second = torch.cat([surplus, grow * (w1 * unscaled).sum(1).unsqueeze(2)], 1)
        w1 -= params.learning_rate * up.mT * unscaled
        w2 = w2 - 2 * params.learning_rate * second
    return w1, w2


def classify(tasks: list[Task], steps: int, params: SrofbSettings, *, half: bool = False) -> list[Tensor]:
    """Train the classifiers of many episodes in one batch and apply each to its query.

    Parameters
    ----------
    tasks
        Episodes, best of about as many cells each: shorter ones are filled up.
    steps
        Full-batch SGD steps.
    params
        Dropout acts in steps of 1/256.
    half
        Products with the features in bfloat16, added up in float32 and rounded: here the company of an episode shows
        in the third digit of its logits.

    Returns
    -------
    list of (h, w)
        Logit of the foreground minus that of the background, on each query's grid.
    """
    batch = _Batch.of(tasks, params.class_balance, torch.bfloat16 if half else torch.float32)
    found = []
    for task, w1, w2 in zip(tasks, *_train(batch, steps, params), strict=True):
        cells = task.query.flatten(1).T.to(batch.cells.dtype)
        hidden = (cells @ w1[AHEAD:].to(cells.dtype)).float() + w1[0]
        found.append((hidden.relu_() @ w2[1:] + w2[0]).view(task.query.shape[1:]))
    return found


def parameter_count(channels: int, hidden: int) -> int:
    """Parameters of the classifier."""
    return (channels + 1) * hidden + (hidden + 1) * 2
