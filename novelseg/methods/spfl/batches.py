"""Batches of joint training: episodes, and augmented images with pseudo labels, drawn by seed and iteration."""

from __future__ import annotations

import numpy as np
import torch

from novelseg.core.random import numpy_generator, torch_generator
from novelseg.data.bank import Bank
from novelseg.data.batches import Batch, EpisodeBatches, Sample
from novelseg.methods.spfl import augment
from novelseg.methods.spfl.augment import Augmentation
from novelseg.ops.geometry import gather, windows


class PseudoLabelBatches:
    """Batches of strongly augmented training images and their pseudo labels.

    Parameters
    ----------
    bank
        Decoded images; label maps 1–3 are the pseudo labels of the three levels.
    images
        Numbers of the images to draw from.
    augmentation
        Strengths of the augmentation.
    size
        Side of a view, px.
    count
        Number of images per iteration.
    seed
        Seed of all random choices.
    """

    def __init__(
        self, bank: Bank, images: list[int], augmentation: Augmentation, *, size: int, count: int, seed: int
    ) -> None:
        self.bank, self._images, self._augmentation = bank, images, augmentation
        self._size, self._count, self._seed = size, count, seed

    def draw(self, iteration: int, rank: int, world: int) -> Sample:
        """Draw the images of one process in an iteration: numbers rank, rank + world, … of ``count``."""
        images, draws = [], []
        for number in range(rank, self._count, world):
            rng = numpy_generator(self._seed, "extra", iteration, number)
            images.append(self._images[int(rng.integers(len(self._images)))])
            draws.append(rng.random(5))
        strong = torch.rand((self._count, augment.DRAWS), generator=torch_generator(self._seed, "strong", iteration))
        numbers = np.concatenate([np.stack(draws), strong[rank::world].double().numpy()], axis=1)
        return Sample(*self.bank.take(images), numbers, [])

    def render(self, sample: Sample) -> Batch:
        """Render the augmented images, ``extra`` (B, 3, S, S), and their pseudo labels, ``labels`` (B, 3, S, S)."""
        draws = torch.from_numpy(sample.draws).to(self.bank.device, non_blocking=True)
        mirrored, (low, high) = draws[:, 0] < self._augmentation.flip, self._augmentation.scales
        views = windows(sample.pictures, sample.positions, mirrored, draws[:, 1:5], self._size, scales=(low, high))
        images, maps = gather(sample.pictures, views, self._size)
        extra, labels = augment.strong(images, maps[:, 1:], draws[:, 5:], self._augmentation)
        return {"extra": extra, "labels": labels}


class JointBatches:
    """Batches that contain both episodes and pseudo-labelled images."""

    def __init__(self, episodes: EpisodeBatches, extra: PseudoLabelBatches) -> None:
        self.bank, self._episodes, self._extra = episodes.bank, episodes, extra

    def draw(self, iteration: int, rank: int, world: int) -> tuple[Sample, Sample]:
        """Draw the episodes and the pseudo-labelled images of one process in an iteration."""
        return self._episodes.draw(iteration, rank, world), self._extra.draw(iteration, rank, world)

    def render(self, sample: tuple[Sample, Sample]) -> Batch:
        """Render the episodes and the augmented images as one batch."""
        return {**self._episodes.render(sample[0]), **self._extra.render(sample[1])}
