"""Cross-entropy of upsampled logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.core.labels import VOID
from stages.ops.matching import upsample


def upsampled_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over all pixels that are not 255, of logits brought to the labels' size.

    The same number as ``F.cross_entropy(upsample(logits), labels, ignore_index=255)``. On a CPU, one image at a time,
    classes last in memory, keeps the upsampled logits in the processor's cache: 3.8 times faster at 100 classes and
    225 px. A GPU takes the batch at once.

    Parameters
    ----------
    logits : (B, K, h, w) float
        At feature resolution.
    labels : (B, H, W) uint8
        0…K−1, or 255; where all are 255 the loss is 0.

    Returns
    -------
    scalar
        (A, Eq. 4 and 6.)
    """
    size = (labels.shape[-2], labels.shape[-1])
    total = logits.new_zeros(())
    together = 1 if logits.device.type == "cpu" else len(logits)
    for images, target in zip(logits.split(together), labels.split(together), strict=True):
        full = upsample(images.contiguous(memory_format=torch.channels_last), size)
        rows = full.permute(0, 2, 3, 1).flatten(0, 2)  # (B·H·W, K)
        total = total + F.cross_entropy(rows, target.flatten().long(), ignore_index=VOID, reduction="sum")
    return total / (labels != VOID).sum().clamp(min=1)
