"""Batches of episodes for training, drawn from keys (seed, iteration)."""

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
from novelseg.ops.geometry import PackedImages, gather, squares, windows

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Sample:
    """Decoded images of a batch and the random numbers that its views are rendered with.

    Samples are drawn ahead of time in threads where the images are not resident.

    Attributes
    ----------
    pictures, positions
        Images of the batch, and the position of each view's image among them.
    draws : (..., N) float64
        Random numbers of each view, in [0, 1).
    labels
        Class of the object in each view; empty where views are drawn without regard to classes.
    """

    pictures: PackedImages
    positions: list[int]
    draws: NDArray[np.float64]
    labels: list[int]


class BatchSource(Protocol):
    """Source of the batches of one process."""

    bank: Bank

    def draw(self, iteration: int, rank: int, world: int) -> Any:
        """Draw the sample of one of ``world`` processes, number ``rank``; decode the images that are not resident."""

    def render(self, sample: Any) -> Batch:
        """Render the views of a sample on the device."""


BatchMaker = Callable[[torch.device], BatchSource]


@dataclass(frozen=True)
class ViewGeometry:
    """Settings that turn a training image into a square view.

    Attributes
    ----------
    geometry
        ``resize`` for the whole image, ``crop`` for a window of it at its own scale.
    size
        Side of the square, px.
    flip
        Probability of mirroring, in [0, 1].
    """

    geometry: str
    size: int
    flip: float


class EpisodeBatches:
    """Batches of support–query episodes, augmented by mirroring only.

    With a sampler of 0 shots, a batch holds single images of objects.

    Parameters
    ----------
    bank
        Decoded images.
    sampler
        Sampler of the episodes.
    geometry
        Settings of the views.
    count
        Episodes per iteration.
    key
        Seed and purpose of the random numbers.
    """

    def __init__(self, bank: Bank, sampler: EpisodeSampler, geometry: ViewGeometry, count: int, *key: Key) -> None:
        self.bank, self._sampler, self._geometry, self.count, self._key = bank, sampler, geometry, count, key

    def draw(self, iteration: int, rank: int, world: int) -> Sample:
        """Draw the episodes number rank, rank + world, … of an iteration; the query follows the supports of each."""
        images, labels, draws = self.choose(iteration, rank, world)
        return Sample(*self.bank.take(images), draws, labels)

    def choose(self, iteration: int, rank: int, world: int) -> tuple[list[int], list[int], NDArray[np.float64]]:
        """Choose images, labels and random numbers (E, K + 1, 5) of these episodes, without decoding an image."""
        images: list[int] = []
        labels: list[int] = []
        draws = []
        for number in range(rank, self.count, world):
            rng = numpy_generator(*self._key, iteration, number)
            episode = self._sampler.draw(rng)
            members = [*episode.supports, episode.query]
            images += members
            labels += [episode.label] * len(members)
            draws.append(rng.random((len(members), 5)))
        return images, labels, np.stack(draws)

    def mirrored(self, draws: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which views (...) are mirrored, from their random numbers (..., 5)."""
        flipped: NDArray[np.bool_] = draws[..., 0] < self._geometry.flip
        return flipped

    def render(self, sample: Sample) -> Batch:
        """Render the images (E, K + 1, 3, S, S) and masks (E, K + 1, S, S) of a sample."""
        device, size = self.bank.device, self._geometry.size
        shape = sample.draws.shape[:2]
        draws = torch.from_numpy(sample.draws).flatten(0, 1).to(device, non_blocking=True)
        mirrored = torch.from_numpy(self.mirrored(sample.draws)).flatten().to(device, non_blocking=True)
        if self._geometry.geometry == "resize":
            views = squares(sample.pictures, sample.positions, mirrored, size)
        else:  # each window holds at least one pixel of the object
            views = windows(sample.pictures, sample.positions, mirrored, draws[:, 1:], size, around=sample.labels)
        images, maps = gather(sample.pictures, views, size)
        labels = torch.tensor(sample.labels, dtype=torch.uint8).to(device, non_blocking=True)[:, None, None]
        masks = (maps[:, 0] == labels).to(torch.uint8).masked_fill(maps[:, 0] == VOID, VOID)
        return {"images": images.unflatten(0, shape), "masks": masks.unflatten(0, shape)}
