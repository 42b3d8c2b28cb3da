"""What an iteration sees: episodes, and strongly augmented images with pseudo labels; keyed by (seed, iteration)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.core.labels import VOID
from stages.core.random import numpy_generator, torch_generator
from stages.data.index import Index
from stages.data.sampling import EpisodeSampler
from stages.data.store import ImageStore, PseudoLabelStore
from stages.ops import augment, geometry
from stages.sections.matching import MatchingParams

Batch = dict[str, Tensor]
# Iteration, rank and number of processes → that process's part of the batch.
BatchSource = Callable[[int, int, int], Batch]


def _stack(images: list[NDArray[np.uint8]]) -> Tensor:
    """(H, W, 3) arrays to (B, 3, H, W) uint8."""
    return torch.from_numpy(np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2)))


def _stack_labels(labels: list[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.stack(labels)))


class EpisodeBatches:
    """Support–query pairs of base classes, flipped at most (A2, A7)."""

    def __init__(
        self, index: Index, store: ImageStore, fold: int, shot: int, params: MatchingParams, seed: int
    ) -> None:
        images = index.training_images(fold)
        self._sampler = EpisodeSampler(index, images, index.base(fold), shot, "training")
        self._index, self._store, self._fold, self._shot = index, store, fold, shot
        self._params, self._seed = params, seed

    def _view(self, rng: np.random.Generator, image: int, label: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """One image at training size with the mask of one class: 1 there, 255 void, 0 elsewhere."""
        size = self._params.size
        pixels, mask = self._store.image(image), self._store.mask(image)
        binary = np.where(mask == VOID, VOID, mask == label).astype(np.uint8)
        pixels, binary = geometry.flip(rng, self._params.flip, pixels, binary)
        if self._params.geometry == "resize":
            return geometry.resize(pixels, binary, size, size)
        return geometry.crop(rng, pixels, binary, size, around=1)  # a window without the object teaches nothing

    def __call__(self, iteration: int, rank: int, world: int) -> Batch:
        """Episodes number rank, rank + world, … of an iteration."""
        images: list[NDArray[np.uint8]] = []
        masks: list[NDArray[np.uint8]] = []
        numbers = range(rank, self._params.episodes, world)
        for number in numbers:
            rng = numpy_generator(self._seed, "episode", iteration, number)
            episode = self._sampler.draw(rng)
            for image in (*episode.supports, episode.query):
                pixels, mask = self._view(rng, image, episode.label)
                images.append(pixels)
                masks.append(mask)
        shape = (len(numbers), self._shot + 1)
        return {
            "images": _stack(images).unflatten(0, shape),
            "masks": _stack_labels(masks).unflatten(0, shape),
        }


class PseudoLabelBatches:
    """Training images with strong augmentation and their pseudo labels (A7)."""

    def __init__(
        self,
        index: Index,
        store: ImageStore,
        labels: PseudoLabelStore,
        fold: int,
        count: int,
        size: int,
        seed: int,
    ) -> None:
        self._images = np.array([i for i in index.training_images(fold).tolist() if index.ids[i] in labels])
        self._index, self._store, self._labels = index, store, labels
        self._count, self._size, self._seed = count, size, seed

    def __call__(self, iteration: int, rank: int, world: int) -> Batch:
        """Images number rank, rank + world, … of an iteration, photometry done."""
        images: list[NDArray[np.uint8]] = []
        maps: list[NDArray[np.uint8]] = []
        for number in range(rank, self._count, world):
            rng = numpy_generator(self._seed, "extra", iteration, number)
            image = int(self._images[rng.integers(len(self._images))])
            pixels, labels = self._store.image(image), self._labels.labels(self._index.ids[image])
            pixels, labels = geometry.flip(rng, 0.5, pixels, labels)
            pixels, labels = geometry.scale_and_crop(rng, pixels, labels, self._size, (0.5, 2.0))
            images.append(pixels)
            maps.append(labels)
        draws = torch.rand((self._count, augment.DRAWS), generator=torch_generator(self._seed, "strong", iteration))
        extra, labels_out = augment.strong(_stack(images).float() / 255, _stack_labels(maps), draws[rank::world])
        return {"extra": extra, "labels": labels_out}
