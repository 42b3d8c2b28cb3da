"""Exact fast forms against their plain forms, on one CPU thread: seconds, ratio, peak memory.

Run with ``python -m benchmarks.ops``; it prints a table. Each form runs in a process of its own, so that its peak
memory is its own.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.core.labels import VOID
from stages.ops.labels import pseudo_labels
from stages.ops.losses import upsampled_cross_entropy
from stages.ops.matching import upsample
from stages.ops.pooling import pool, splat_labels

SIDE, CELLS, CHANNELS, REGIONS, CLUSTERS = 473, 60, 1024, 30, 50
REPEATS = 3


def _features() -> Tensor:
    return torch.randn((CHANNELS, CELLS, CELLS), generator=torch.Generator().manual_seed(0))


def _regions() -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    rows, columns = np.indices((SIDE, SIDE))
    labels: np.ndarray[tuple[int, int], np.dtype[np.int64]] = (rows * 5 // SIDE) * 6 + columns * 6 // SIDE
    return labels


def map_fast() -> None:
    """Masked average pooling of 30 regions by splatting the label map."""
    weights = torch.from_numpy(splat_labels(_regions(), REGIONS, (CELLS, CELLS)))
    pool(_features(), weights.unflatten(1, (CELLS, CELLS)))


def map_plain() -> None:
    """The same by upsampling the features first."""
    full = upsample(_features()[None], (SIDE, SIDE))[0].flatten(1)
    masks = F.one_hot(torch.from_numpy(_regions()).flatten()).T.float()
    (masks @ full.T) / (masks.sum(1, keepdim=True) + 1e-5)


def _labelling() -> tuple[Tensor, Tensor, Tensor]:
    mask = torch.zeros((SIDE, SIDE), dtype=torch.uint8)
    mask[100:300, 100:300] = 1
    return _features(), mask, torch.randn((2, CLUSTERS, CHANNELS), generator=torch.Generator().manual_seed(1))


def pseudo_fast() -> None:
    """Pseudo labels of one level, K channels upsampled."""
    features, mask, centres = _labelling()
    pseudo_labels(features, mask, centres[0], centres[1])


def pseudo_plain() -> None:
    """The same, C channels upsampled."""
    features, mask, centres = _labelling()
    full = F.normalize(upsample(features[None], (SIDE, SIDE))[0].flatten(1), dim=0)
    best = [(F.normalize(side, dim=1) @ full).argmax(0).view(SIDE, SIDE) for side in centres]
    torch.where(mask == 0, best[1] + CLUSTERS, best[0])


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn((16, 2 * CLUSTERS, 29, 29), generator=generator, requires_grad=True)
    return logits, torch.randint(0, 2 * CLUSTERS, (16, 225, 225), generator=generator).to(torch.uint8)


def loss_fast() -> None:
    """Cross-entropy of 16 images and 100 classes at 225 px, image by image, with its gradient."""
    logits, labels = _batch()
    torch.autograd.grad(upsampled_cross_entropy(logits, labels), logits)


def loss_plain() -> None:
    """The same on the whole batch at once."""
    logits, labels = _batch()
    loss = F.cross_entropy(upsample(logits, (225, 225)), labels.long(), ignore_index=VOID)
    torch.autograd.grad(loss, logits)


PAIRS: tuple[tuple[str, Callable[[], None], Callable[[], None]], ...] = (
    ("masked average pooling, 30 regions, 473 px", map_fast, map_plain),
    ("pseudo labels, one level of 50, 473 px", pseudo_fast, pseudo_plain),
    ("pseudo-label loss, 16 × 225 px, 100 classes", loss_fast, loss_plain),
)


def _measure(work: Callable[[], None], pipe: multiprocessing.connection.Connection) -> None:
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pipe.send((min(times), (peak - before) / 1024))


def measure(work: Callable[[], None]) -> tuple[float, float]:
    """Best seconds of a few runs, and MiB that they added to the peak."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(work, there))
    process.start()
    seconds, memory = here.recv()
    process.join()
    return seconds, memory


def main() -> None:
    """Print the table."""
    print(f"{'':<46} {'fast s':>8} {'plain s':>8} {'ratio':>6} {'fast MiB':>9} {'plain MiB':>9}")
    for name, fast, plain in PAIRS:
        (a, b), (c, d) = measure(fast), measure(plain)
        print(f"{name:<46} {a:>8.3f} {c:>8.3f} {c / a:>6.1f} {b:>9.0f} {d:>9.0f}")


if __name__ == "__main__":
    main()
