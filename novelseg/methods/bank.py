"""Features of images and prototypes of supports, each computed once while a memory budget lasts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from novelseg.backbones.extraction import FeatureExtractor
from novelseg.backbones.grid import Grid
from novelseg.core.compute import memory_budget
from novelseg.core.labels import VOID, binary
from novelseg.methods.contract import Case, SupportFeatures, by_query
from novelseg.methods.matching.prototypes import support_prototypes

BLOCK = 64  # episodes whose predictions are held at a time


class FeatureBank:
    """Features of one encoder.

    Parameters
    ----------
    extract
        The encoder.
    size
        Height and width of an image of the index as it is shown, px.
    image
        Decodes it, (H, W, 3).
    budget_mb
        Memory that features may take; 0 for a default (:func:`novelseg.core.compute.memory_budget`). The images of one
        episode are always held.
    """

    def __init__(
        self,
        extract: FeatureExtractor,
        size: Callable[[int], tuple[int, int]],
        image: Callable[[int], NDArray[Any]],
        budget_mb: int,
    ) -> None:
        self._extract, self._size, self._image = extract, size, image
        self._budget = memory_budget(extract.device, budget_mb)
        self._kept: OrderedDict[int, Tensor] = OrderedDict()

    @property
    def grid(self) -> Grid:
        """Where the cells of the features lie."""
        return self._extract.grid

    def _bytes(self, image: int) -> int:
        rows, columns = self._extract.grid.cells(self._size(image))
        return rows * columns * self._extract.channels * 4

    def fits(self, images: set[int]) -> bool:
        """Whether the budget holds the features of all these images."""
        return sum(map(self._bytes, images)) <= self._budget

    def load(self, images: set[int], label: str = "") -> None:
        """Hold the features of these images; older ones go where they would take too much."""
        missing = sorted(images - self._kept.keys())
        over = sum(map(self._bytes, [*self._kept, *missing])) - self._budget
        for old in [image for image in self._kept if image not in images]:
            if over <= 0:
                break
            over -= self._bytes(old)
            del self._kept[old]
        sizes = [self._size(image) for image in missing]
        found = self._extract.each(sizes, lambda number: (self._image(missing[number]), None), label)
        for number, _, features in found:
            self._kept[missing[number]] = features.clone()  # alone: a view would keep its whole batch alive
        for image in images:
            self._kept.move_to_end(image)

    def forget(self, images: set[int]) -> None:
        """Let go of images that are not asked for again."""
        for image in images & self._kept.keys():
            del self._kept[image]

    def __getitem__(self, image: int) -> Tensor:
        """(C, h, w) of an image that is held."""
        return self._kept[image]

    def blocks(self, cases: list[Case], asked: Callable[[Case], set[int]], label: str) -> list[list[Case]]:
        """Episodes in blocks to be predicted one after another, each of which the budget holds.

        ``asked`` names the images of an episode; where all features fit, they are computed now.
        """
        images = {image for case in cases for image in asked(case)}
        if self.fits(images):
            self.load(images, f"{label}: features")
        blocks: list[list[Case]] = [[]]
        held: set[int] = set()
        for case in by_query(cases):
            held |= asked(case)
            if blocks[-1] and (len(blocks[-1]) == BLOCK or not self.fits(held)):
                blocks.append([])
                held = asked(case)
            blocks[-1].append(case)
        return blocks


class SupportBank(FeatureBank):
    """Features of images at their own size, and what follows from them for supports.

    Parameters
    ----------
    extract, size, image, budget_mb
        See :class:`FeatureBank`; images are shown as they are.
    support_mask
        Decodes the mask of an image; it is asked for supports alone.
    """

    def __init__(
        self,
        extract: FeatureExtractor,
        size: Callable[[int], tuple[int, int]],
        image: Callable[[int], NDArray[np.uint8]],
        support_mask: Callable[[int], NDArray[np.uint8]],
        budget_mb: int,
    ) -> None:
        super().__init__(extract, size, image, budget_mb)
        self._mask = support_mask
        self._supports: dict[int, dict[int, SupportFeatures]] = {}

    def load(self, images: set[int], label: str = "") -> None:
        """Hold the features of these images; what followed from those that went goes too."""
        super().load(images, label)
        for gone in self._supports.keys() - self._kept.keys():
            del self._supports[gone]

    def support(self, image: int, label: int) -> SupportFeatures:
        """Features, cell labels and prototypes of a class in a support that is held."""
        known = self._supports.setdefault(image, {})
        if label not in known:
            features = self[image]
            mask = torch.from_numpy(binary(self._mask(image), label)).to(features.device)
            cells = self.grid.labels_at_cells(mask, (features.shape[1], features.shape[2]))
            prototypes = support_prototypes(features[None, None], mask[None, None], self.grid)[0]
            known[label] = SupportFeatures(features, cells, prototypes, int((cells != VOID).sum()))
        return known[label]
