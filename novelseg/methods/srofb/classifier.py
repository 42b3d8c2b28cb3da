"""SROFB: a foreground/background classifier trained online for each episode, many episodes in one batch.

It is trained on the supports' cells and on the query's confident cells; no function here takes the query's mask.
Initial weights and dropout are drawn from the episode's own key, and padding cells have no weight, so that the result
of an episode does not depend on the other episodes of its batch (except for the rounding of larger products).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from novelseg.core.labels import VOID
from novelseg.methods.srofb.settings import SrofbSettings
from novelseg.ops import draws

# Memory, KiB, of the hidden units of all tasks in one part of the cells: fits the cache of a CPU, and occupies a GPU.
PART_KB = {"cpu": 384, "cuda": 256 << 10}
PREFIX = 8  # columns before the features: one for the bias, and seven zeros that align rows to 16 bytes
MIN_ROWS = 256  # minimum number of cells per task and part; smaller matrix products are slow


@dataclass(frozen=True)
class Cells:
    """Training cells.

    Attributes
    ----------
    features : (N, C)
        Features.
    labels : (N,) int64
        0 for background, 1 for foreground.
    images : (N,) int64
        Image of the cell: 0 the query, 1 … K the supports.
    """

    features: Tensor
    labels: Tensor
    images: Tensor

    @staticmethod
    def joined(parts: Sequence[Cells]) -> Cells:
        """Concatenate the cells of several images."""
        return Cells(*(torch.cat([getattr(part, name) for part in parts]) for name in ("features", "labels", "images")))

    def scaled(self, factor: Tensor) -> Cells:
        """Multiply the features by a factor."""
        return replace(self, features=self.features * factor)


def support_cells(features: list[Tensor], labels: list[Tensor]) -> Cells:
    """Collect the cells of the supports that are not void.

    Parameters
    ----------
    features
        One (C, h, w) map per support.
    labels
        One (h, w) map of labels per support (:meth:`novelseg.backbones.grid.Grid.labels_at_cells`).
    """
    parts = []
    for image, (own_features, own_labels) in enumerate(zip(features, labels, strict=True), 1):
        valid = own_labels.flatten() != VOID
        kept = own_labels.flatten()[valid].long()
        parts.append(Cells(own_features.flatten(1).T[valid], kept, torch.full_like(kept, image)))
    return Cells.joined(parts)


def query_cells(features: Tensor, confident: Tensor) -> Cells:
    """Collect the confident cells of the query.

    Parameters
    ----------
    features : (C, h, w)
        Features of the query.
    confident : (h, w) uint8
        0 not confident, 1 background, 2 foreground (:func:`novelseg.methods.confident.confident_cells`).
    """
    cells = confident.flatten() > 0
    labels = confident.flatten()[cells].long() - 1
    return Cells(features.flatten(1).T[cells], labels, torch.zeros_like(labels))


def norm_factor(supports: Cells, norm: float) -> Tensor:
    """Return the factor with which the mean norm of the supports' cells becomes ``norm``, a scalar tensor."""
    mean = torch.linalg.vector_norm(supports.features.float(), dim=1).mean()
    factor: Tensor = norm / mean.clamp(min=1e-12)
    return factor


@dataclass(frozen=True)
class Task:
    """Training and test data of one episode's classifier.

    Attributes
    ----------
    cells
        Training cells.
    query : (C, h, w)
        Features of the query.
    key
        Seed of initial weights and dropout.
    """

    cells: Cells
    query: Tensor
    key: int


def loss_weights(cells: Cells, class_balance: str, query_weight: str) -> Tensor:
    """Compute the weight of each cell in the loss, (N,); the weights sum to one.

    The sides that have cells share the loss equally if they are balanced; within a side, so do the groups of images
    that have cells of it (all images are one group, or each is its own, or the supports and the query are two).
    """
    sides = cells.labels if class_balance == "balanced" else torch.zeros_like(cells.labels)
    groups = {"union": torch.zeros_like(cells.images), "image": cells.images, "half": cells.images.clamp(max=1)}[
        query_weight
    ]
    width = int(groups.max()) + 1
    counts = torch.bincount(sides * width + groups, minlength=2 * width).view(2, width)
    shares = (counts > 0).sum(1, keepdim=True) * (counts > 0).any(1).sum()  # groups of the side × sides
    return (1 / (counts * shares).clamp(min=1))[sides, groups]


def _initial_weights(keys: Tensor, inputs: int, outputs: int) -> Tensor:
    """Draw weights (B, 1 + inputs, outputs), biases first, uniformly in ±1/√inputs like torch's linear layers."""
    counters = draws.counters((inputs + 1) * outputs, keys.device)
    weights = (2 * draws.uniform(keys, counters) - 1).mul_(inputs**-0.5)
    return weights.view(-1, inputs + 1, outputs)


def _support_weights(cells: Cells, class_balance: str) -> Tensor:
    """Compute the weights of the cells when the classifier learns from the supports alone, (N,)."""
    weights, supports = torch.zeros(len(cells.labels), device=cells.labels.device), cells.images > 0
    if supports.any():
        own = Cells(cells.features[:0], cells.labels[supports], cells.images[supports])
        weights[supports] = loss_weights(own, class_balance, "union")
    return weights


@dataclass(frozen=True)
class _Batch:
    """Training cells of a batch of tasks, padded to the task with the most cells.

    Attributes
    ----------
    cells : (B, N, 8 + C)
        For each cell: 1 for the bias, seven zeros for alignment, and the features.
    is_fg : (B, N, 1) float
        1 for foreground.
    weights : (B, N, 1)
        Weights of the cells in the loss; zero for padding.
    first_weights : (B, N, 1)
        The same in the first steps, on the supports alone: zero for the query too.
    keys : (B,) int32
        Random keys of the tasks.
    """

    cells: Tensor
    is_fg: Tensor
    weights: Tensor
    first_weights: Tensor
    keys: Tensor

    @staticmethod
    def of(tasks: list[Task], params: SrofbSettings, dtype: torch.dtype) -> _Batch:
        """Pad and stack the cells of tasks; ``dtype`` is that of the result's cells."""
        longest = max(len(task.cells.labels) for task in tasks)
        first = tasks[0].cells.features
        cells = torch.zeros((len(tasks), longest, PREFIX + first.shape[1]), dtype=dtype, device=first.device)
        cells[:, :, 0] = 1
        is_fg, weights, early = (torch.zeros((len(tasks), longest, 1), device=first.device) for _ in range(3))
        for row, task in enumerate(tasks):
            count = len(task.cells.labels)
            cells[row, :count, PREFIX:] = task.cells.features
            is_fg[row, :count, 0] = task.cells.labels.float()
            weights[row, :count, 0] = loss_weights(task.cells, params.class_balance, params.query_weight)
            early[row, :count, 0] = _support_weights(task.cells, params.class_balance)
        return _Batch(cells, is_fg, weights, early, draws.to_keys([task.key for task in tasks], first.device))


def _keep_above(values: Tensor, selector: Tensor, limit: float, out: Tensor) -> None:
    """Write ``values`` to ``out`` where ``selector`` exceeds a limit, and zero elsewhere.

    This is torch's gradient of a threshold. On a CPU it is ten times faster than a comparison followed by a selection.
    """
    torch.ops.aten.threshold_backward.grad_input(values, selector, limit, grad_input=out)


def _product(cells: Tensor, other: Tensor, out: Tensor) -> None:
    """Write ``cells @ other`` to ``out``, computed in the data type of the cells."""
    if cells.dtype == out.dtype:
        torch.bmm(cells, other, out=out)
    else:
        out.copy_(cells @ other.to(cells.dtype))


def _initial_layers(keys: Tensor, inputs: int, hidden: int) -> tuple[Tensor, Tensor]:
    """Draw the weights of the first layer, (B, 8 + C, H), and of the second, (B, 1 + H, 1).

    The second layer has one output, foreground minus background, because a softmax over two classes depends only on the
    difference of their logits.
    """
    w1 = _initial_weights(draws.branch(keys, 0), inputs, hidden)
    w2 = _initial_weights(draws.branch(keys, 1), hidden, 2)
    return torch.cat([w1[:, :1], torch.zeros_like(w1[:, : PREFIX - 1]), w1[:, 1:]], 1), w2[:, :, 1:] - w2[:, :, :1]


def _train(batch: _Batch, steps: int, support_steps: int, params: SrofbSettings) -> tuple[Tensor, Tensor]:
    """Train the classifiers by full-batch SGD and return the weights of both layers.

    The first ``support_steps`` steps are in addition to the others.

    The gradients are computed without autograd, over parts of the cells and in reused buffers. Factors that all cells
    share (the scale of dropout, and in the backward pass the weights of the second layer) are applied to the sums. The
    output of an active unit is the product of its cell with its weights. Therefore the gradient of the second layer is
    Σ w1·G over the inputs, where G is the gradient of the first layer without the factor of the second layer's weights.
    """
    device, (tasks, count, inputs) = batch.cells.device, batch.cells.shape
    w1, w2 = _initial_layers(batch.keys, inputs - PREFIX, params.hidden)
    keep = max(1, round(256 * (1 - params.dropout)))
    dropout_scale, words = 256 / keep, -(-params.hidden // 4)
    rows = min(max(1, count), max(MIN_ROWS, (PART_KB[device.type] << 10) // (4 * params.hidden * tasks)))
    counters = draws.counters(count * words, device).split(rows * words)
    columns = (batch.cells, batch.is_fg, batch.first_weights, batch.weights)
    parts = [*zip(*(column.split(rows, 1) for column in columns), counters, strict=True)]
    octets_buffer = torch.empty((2, tasks, rows * words), dtype=torch.int32, device=device)
    dropout_buffer = torch.empty((tasks, rows, 4 * words), device=device)
    hidden_buffer = torch.empty((tasks, rows, params.hidden), device=device)
    part_gradient = torch.empty_like(w1)
    for step in range(support_steps + steps):
        keys = draws.branch(batch.keys, 2 + step)
        scaled_w2 = dropout_scale * w2[:, 1:]
        unscaled_gradient, bias_gradient = torch.zeros_like(w1), torch.zeros_like(w2[:, :1])
        for cells, is_fg, first_weights, later_weights, part_counters in parts:
            weights = first_weights if step < support_steps else later_weights
            length = cells.shape[1]
            octets = draws.octets(keys, part_counters, octets_buffer[:, :, : length * words]).bitwise_not_()
            dropout = dropout_buffer[:, :length].copy_(octets.view(tasks, length, 4 * words))[:, :, : params.hidden]
            hidden = hidden_buffer[:, :length]  # (B, n, H)
            _product(cells, w1, hidden)
            hidden.relu_()
            _keep_above(hidden, dropout, 255 - keep, hidden)  # keeps a unit where its octet is below ``keep``
            logits = hidden @ scaled_w2 + w2[:, :1]  # (B, n, 1)
            error = (logits.sigmoid_() - is_fg) * weights  # gradient of the loss with respect to the foreground's logit
            bias_gradient += error.sum(1, keepdim=True)
            # Backward pass: units that were dropped or are not above zero have no gradient.
            _keep_above(error.expand_as(hidden), hidden, 0, hidden)
            _product(cells.mT, hidden, part_gradient)
            unscaled_gradient += part_gradient
        # The gradients of foreground and background are opposite: their difference changes by twice the learning rate.
        w2_gradient = torch.cat([bias_gradient, dropout_scale * (w1 * unscaled_gradient).sum(1).unsqueeze(2)], 1)
        w1 -= params.learning_rate * scaled_w2.mT * unscaled_gradient
        w2 = w2 - 2 * params.learning_rate * w2_gradient
    return w1, w2


def classify(
    tasks: list[Task], steps: int, params: SrofbSettings, *, support_steps: int = 0, half: bool = False
) -> list[Tensor]:
    """Train the classifiers of many episodes in one batch and apply each to its query.

    Parameters
    ----------
    tasks
        Episodes, ideally with similar numbers of cells, since all are padded to the largest.
    steps
        Number of full-batch SGD steps.
    params
        Settings; dropout is rounded to a multiple of 1/256.
    support_steps
        Number of steps on the supports' cells alone that come before.
    half
        Whether products with the features are computed in bfloat16 (accumulated in float32, then rounded). The logits
        of an episode then depend, in the third digit, on the other episodes of the batch.

    Returns
    -------
    list of (h, w)
        For each episode, the foreground logit minus the background logit of the query's cells.
    """
    batch = _Batch.of(tasks, params, torch.bfloat16 if half else torch.float32)
    logits = []
    for task, w1, w2 in zip(tasks, *_train(batch, steps, support_steps, params), strict=True):
        cells = task.query.flatten(1).T.to(batch.cells.dtype)
        hidden = (cells @ w1[PREFIX:].to(cells.dtype)).float() + w1[0]
        logits.append((hidden.relu_() @ w2[1:] + w2[0]).view(task.query.shape[1:]))
    return logits


def parameter_count(channels: int, hidden: int) -> int:
    """Return the number of parameters of the classifier."""
    return (channels + 1) * hidden + (hidden + 1) * 2
