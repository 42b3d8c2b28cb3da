"""What an iteration sees of episodes; keyed by (seed, iteration)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from stages.core.labels import VOID
from stages.core.random import numpy_generator
from stages.data.sampling import EpisodeSampler
from stages.ops.geometry import gather, squares, windows
from stages.sections.matching import MatchingParams
from stages.training.bank import Bank

Batch = dict[str, Tensor]


class BatchSource(Protocol):
    """Iteration, rank and number of processes → that process's part of the batch, on the device."""

    bank: Bank

    def __call__(self, iteration: int, rank: int, world: int) -> Batch:
        """Make a batch."""


BatchMaker = Callable[[torch.device], BatchSource]


class EpisodeBatches:
    """Support–query pairs of base classes, flipped at most (A2, A7)."""

    def __init__(self, bank: Bank, sampler: EpisodeSampler, params: MatchingParams, seed: int) -> None:
        self.bank, self._sampler, self._params, self._seed = bank, sampler, params, seed

    def __call__(self, iteration: int, rank: int, world: int) -> Batch:
        """Episodes number rank, rank + world, … of an iteration; supports first, the query last."""
        images: list[int] = []
        labels: list[int] = []
        draws = []
        numbers = range(rank, self._params.episodes, world)
        for number in numbers:
            rng = numpy_generator(self._seed, "episode", iteration, number)
            episode = self._sampler.draw(rng)
            shown = [*episode.supports, episode.query]
            images += shown
            labels += [episode.label] * len(shown)
            draws.append(rng.random((len(shown), 5)))
        pictures, places = self.bank.take(images)
        drawn = torch.from_numpy(np.concatenate(draws)).to(self.bank.device, non_blocking=True)
        mirrored, size = drawn[:, 0] < self._params.flip, self._params.size
        if self._params.geometry == "resize":
            views = squares(pictures, places, mirrored, size)
        else:  # a window without the object teaches nothing
            views = windows(pictures, places, mirrored, drawn[:, 1:], size, around=labels)
        shown_images, maps = gather(pictures, views, size)
        wanted = torch.tensor(labels, dtype=torch.uint8).to(self.bank.device, non_blocking=True)[:, None, None]
        masks = (maps[:, 0] == wanted).to(torch.uint8).masked_fill(maps[:, 0] == VOID, VOID)
        shape = (len(numbers), len(images) // max(len(numbers), 1))
        return {"images": shown_images.unflatten(0, shape), "masks": masks.unflatten(0, shape)}
