"""Feature extraction at the images' own sizes, in batches without padding and with images decoded ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from novelseg.backbones.contract import Backbone
from novelseg.core.ahead import AHEAD, ahead
from novelseg.core.progress import track

T = TypeVar("T")
PIXELS = 640 * 640  # batches of larger images contain fewer images


def groups_by_size(sizes: list[tuple[int, int]], most: int, pixels: int) -> list[list[int]]:
    """Group the numbers of images by size, so that each group is a batch without padding.

    A group has at most ``most`` images and, unless it is a single image, at most ``pixels`` pixels.
    """
    by_size: dict[tuple[int, int], list[int]] = {}
    for number, size in enumerate(sizes):
        by_size.setdefault(size, []).append(number)
    groups = []
    for (height, width), numbers in by_size.items():
        count = max(1, min(most, pixels // (height * width)))
        groups += [numbers[first : first + count] for first in range(0, len(numbers), count)]
    return groups


class FeatureExtractor:
    """A trained encoder that computes features of images at their own size.

    Parameters
    ----------
    encoder
        The encoder, which is moved to the device.
    precision
        ``fp32`` or ``bf16``.
    device
        Device of the encoder and the features.
    """

    def __init__(self, encoder: Backbone, precision: str, device: torch.device) -> None:
        self._encoder = encoder.to(device)
        self.device, self.channels, self.grid = device, encoder.channels, encoder.grid
        self._autocast = precision == "bf16"

    @property
    def batch(self) -> int:
        """Number of images per batch; large batches overflow the caches of a CPU and gain nothing."""
        return 4 if self.device.type == "cpu" else 16

    @property
    def half(self) -> bool:
        """Whether products with the features may use bfloat16 too: on a GPU only, since it is no faster on a CPU."""
        return self._autocast and self.device.type == "cuda"

    @torch.inference_mode()
    def __call__(self, images: list[NDArray[Any]]) -> Tensor:
        """Compute the features, (B, C, h, w) float32 on the device, of RGB images (H, W, 3) of one size, 0–255."""
        batch = torch.from_numpy(np.stack(images)).to(self.device).permute(0, 3, 1, 2).float() / 255
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast):
            features: Tensor = self._encoder(batch)
        return features.float()

    def each(
        self, sizes: list[tuple[int, int]], read: Callable[[int], tuple[NDArray[Any], T]], label: str
    ) -> Iterator[tuple[int, T, Tensor]]:
        """Extract the features of many images in batches of one size, while later images are decoded in threads.

        Parameters
        ----------
        sizes
            Height and width of images 0…N−1, px.
        read
            Decodes an image, given its number, and returns it, (H, W, 3) RGB, together with any data that the caller
            needs.
        label
            Label of the progress line; empty for no progress line.

        Yields
        ------
        number, data, features
            Number of an image, the data that ``read`` returned with it, and its features (C, h, w). Images of one size
            are consecutive.
        """
        groups = groups_by_size(sizes, self.batch, self.batch * PIXELS)
        order = [number for group in groups for number in group]
        read_ahead = ahead(read, order, AHEAD)
        items = track(read_ahead, len(order), label, "image") if label else read_ahead
        for group in groups:
            batch = list(islice(items, len(group)))
            features = self([image for image, _ in batch])
            yield from zip(group, (data for _, data in batch), features, strict=True)
        for _ in items:  # the progress line ends when its iterator is exhausted
            pass
