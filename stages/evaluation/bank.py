"""Features of images and prototypes of supports, each computed once while a memory budget lasts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.core.compute import memory_budget
from stages.core.labels import VOID, binary
from stages.evaluation.cases import Case, by_query
from stages.models.extraction import FeatureExtractor
from stages.models.srofb import mask_at_cells
from stages.ops.matching import support_prototypes

STRIDE = 8
BLOCK = 64  # episodes whose predictions are held at a time


@dataclass(frozen=True)
class _Support:
    """What is kept of a class in a support, as long as its features are."""

    prototypes: Tensor
    cells: Tensor
    labelled: int


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
        Memory that features may take; 0 for a default (:func:`stages.core.compute.memory_budget`). The images of one
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

    def _bytes(self, image: int) -> int:
        height, width = self._size(image)
        return (height // STRIDE + 1) * (width // STRIDE + 1) * self._extract.channels * 4

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
        Decodes its mask; asked for supports alone.
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
        self._supports: dict[int, dict[int, _Support]] = {}

    def load(self, images: set[int], label: str = "") -> None:
        """Hold the features of these images; what followed from those that went goes too."""
        super().load(images, label)
        for gone in self._supports.keys() - self._kept.keys():
            del self._supports[gone]

    def _support(self, image: int, label: int) -> _Support:
        found = self._supports.setdefault(image, {})
        if label not in found:
            features = self[image]
            mask = torch.from_numpy(binary(self._mask(image), label)).to(features.device)
            cells = mask_at_cells(mask, (features.shape[1], features.shape[2]))
            prototypes = support_prototypes(features[None, None], mask[None, None])[0]
            found[label] = _Support(prototypes, cells, int((cells != VOID).sum()))
        return found[label]

    def prototypes(self, image: int, label: int) -> Tensor:
        """(2, C) prototypes of a class in a support, background and foreground."""
        return self._support(image, label).prototypes

    def cell_labels(self, image: int, label: int) -> Tensor:
        """(h, w) labels of a support's cells: 1 the class, 255 void, 0 elsewhere."""
        return self._support(image, label).cells

    def labelled(self, image: int, label: int) -> int:
        """Cells of a support that are not void."""
        return self._support(image, label).labelled
