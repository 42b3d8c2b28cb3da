"""What an iteration sees of episodes; keyed by (seed, iteration)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from novelseg.core.labels import VOID
from novelseg.core.random import Key, numpy_generator
from novelseg.data.bank import Bank
from novelseg.data.sampling import EpisodeSampler
from novelseg.ops.geometry import Pictures, gather, squares, windows

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Drawn:
    """What a batch will show, decoded but not yet seen; made ahead of time where images are not resident.

    Attributes
    ----------
    pictures, places
        Images, and which of them each view is of.
    draws : (B, N) float64
        In [0, 1), for each view.
    labels
        Class that each view is about, where it is about one.
    """

    pictures: Pictures
    places: list[int]
    draws: NDArray[np.float64]
    labels: list[int]


class BatchSource(Protocol):
    """Batches of one process, on the device."""

    bank: Bank

    def draw(self, iteration: int, rank: int, world: int) -> Any:
        """Choose, and decode what is not resident, for number ``rank`` of ``world`` processes."""

    def show(self, drawn: Any) -> Batch:
        """Make the batch of what was drawn."""


BatchMaker = Callable[[torch.device], BatchSource]


@dataclass(frozen=True)
class ViewGeometry:
    """How a training image becomes a square.

    Attributes
    ----------
    geometry
        ``resize``: the whole image; ``crop``: a window of it at its own scale.
    size
        Side of the square, px.
    flip
        Chance of mirroring, in [0, 1].
    """

    geometry: str
    size: int
    flip: float


class EpisodeBatches:
    """Support–query pairs, flipped at most (A2, A7), or objects alone where the sampler gives no supports.

    Parameters
    ----------
    bank
        Decoded images.
    sampler
        Draws an episode.
    geometry
        How an image becomes a square.
    count
        Episodes of an iteration.
    key
        Seed and purpose.
    """

    def __init__(self, bank: Bank, sampler: EpisodeSampler, geometry: ViewGeometry, count: int, *key: Key) -> None:
        self.bank, self._sampler, self._geometry, self.count, self._key = bank, sampler, geometry, count, key

    def draw(self, iteration: int, rank: int, world: int) -> Drawn:
        """Episodes number rank, rank + world, … of an iteration; supports first, the query last."""
        images: list[int] = []
        labels: list[int] = []
        draws = []
        for number in range(rank, self.count, world):
            rng = numpy_generator(*self._key, iteration, number)
            episode = self._sampler.draw(rng)
            shown = [*episode.supports, episode.query]
            images += shown
            labels += [episode.label] * len(shown)
            draws.append(rng.random((len(shown), 5)))
        return Drawn(*self.bank.take(images), np.stack(draws), labels)

    def show(self, drawn: Drawn) -> Batch:
        """Images (E, K + 1, 3, S, S) and masks (E, K + 1, S, S)."""
        device, size = self.bank.device, self._geometry.size
        shape = drawn.draws.shape[:2]
        draws = torch.from_numpy(drawn.draws).flatten(0, 1).to(device, non_blocking=True)
        mirrored = draws[:, 0] < self._geometry.flip
        if self._geometry.geometry == "resize":
            views = squares(drawn.pictures, drawn.places, mirrored, size)
        else:  # a window without the object teaches nothing
            views = windows(drawn.pictures, drawn.places, mirrored, draws[:, 1:], size, around=drawn.labels)
        images, maps = gather(drawn.pictures, views, size)
        wanted = torch.tensor(drawn.labels, dtype=torch.uint8).to(device, non_blocking=True)[:, None, None]
        masks = (maps[:, 0] == wanted).to(torch.uint8).masked_fill(maps[:, 0] == VOID, VOID)
        return {"images": images.unflatten(0, shape), "masks": masks.unflatten(0, shape)}
