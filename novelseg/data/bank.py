"""Decoded training images on the device: all of them if they fit a memory budget, else those of one batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from novelseg.core.compute import memory_budget
from novelseg.core.progress import say, track
from novelseg.data.index import Index
from novelseg.ops.geometry import PackedImages, pack

# Function from the number of an image in the index to its (H, W, 3) colours and (L, H, W) label maps, uint8.
Reader = Callable[[int], tuple[NDArray[np.uint8], NDArray[np.uint8]]]


class Bank:
    """Decoded images with their label maps; batches are the same whether the images are resident or streamed.

    Parameters
    ----------
    index, images
        The data set, and the images of it that training uses.
    read
        Function that decodes one image.
    device
        Device of the images.
    budget_mb
        Memory that they may take there, MiB; 0 for the default (:func:`novelseg.core.compute.memory_budget`).
    """

    def __init__(
        self, index: Index, images: NDArray[np.int64], read: Reader, device: torch.device, budget_mb: int
    ) -> None:
        self._index, self._read, self.device = index, read, device
        size = PackedImages.bytes_of(int((index.height[images].astype(np.int64) * index.width[images]).sum()))
        self.resident = size <= memory_budget(device, budget_mb)
        decoding = "decoded once" if self.resident else "decoded batch by batch"
        say(f"{len(images)} training images of {size >> 20} MiB, {decoding}")
        self._positions = {int(image): position for position, image in enumerate(images)} if self.resident else {}
        if self.resident:
            self._all = self._pack(images.tolist(), "decode")

    def _pack(self, images: list[int], label: str = "") -> PackedImages:
        sizes = [self._index.size(int(image)) for image in images]
        items = map(self._decode, images)
        return pack(sizes, track(items, len(images), label, "image") if label else items, self.device)

    def _decode(self, image: int) -> tuple[Tensor, Tensor]:
        colours, labels = self._read(image)
        return torch.from_numpy(colours), torch.from_numpy(labels)

    def take(self, images: list[int]) -> tuple[PackedImages, list[int]]:
        """Return packed images, and the position of each requested image among them."""
        if self.resident:
            return self._all, [self._positions[image] for image in images]
        return self._pack(images), list(range(len(images)))
