"""Decoded training images on the device: all of them while they fit a budget, else those of one batch."""

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

# Number of the index → (H, W, 3) colours and (L, H, W) label maps, uint8.
Reader = Callable[[int], tuple[NDArray[np.uint8], NDArray[np.uint8]]]


class Bank:
    """Images with label maps; the same numbers come out whether they are resident or streamed.

    Parameters
    ----------
    index, images
        The data set, and those of it that training may ask for.
    read
        Decodes one image.
    device
        Where the images shall lie.
    budget_mb
        Memory that they may take there; 0 for a default (:func:`novelseg.core.compute.memory_budget`).
    """

    def __init__(
        self, index: Index, images: NDArray[np.int64], read: Reader, device: torch.device, budget_mb: int
    ) -> None:
        self._index, self._read, self.device = index, read, device
        size = PackedImages.bytes_of(int((index.height[images].astype(np.int64) * index.width[images]).sum()))
        self.resident = size <= memory_budget(device, budget_mb)
        where = "decoded once" if self.resident else "decoded batch by batch"
        say(f"{len(images)} training images of {size >> 20} MiB: {where}")
        self._places = {int(image): place for place, image in enumerate(images)} if self.resident else {}
        if self.resident:
            self._all = self._pack(images.tolist(), "decode")

    def _pack(self, images: list[int], label: str = "") -> PackedImages:
        sizes = [self._index.size(int(image)) for image in images]
        items = map(self._decoded, images)
        return pack(sizes, track(items, len(images), label, "image") if label else items, self.device)

    def _decoded(self, image: int) -> tuple[Tensor, Tensor]:
        colours, labels = self._read(image)
        return torch.from_numpy(colours), torch.from_numpy(labels)

    def take(self, images: list[int]) -> tuple[PackedImages, list[int]]:
        """PackedImages, and the place of each asked one among them."""
        if self.resident:
            return self._all, [self._places[image] for image in images]
        return self._pack(images), list(range(len(images)))
