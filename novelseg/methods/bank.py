"""Caches of image features and support prototypes within a memory budget."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from novelseg.backbones.extraction import FeatureExtractor
from novelseg.backbones.grid import Grid
from novelseg.core.compute import memory_budget
from novelseg.core.extras import needs_extras
from novelseg.core.labels import VOID, binary
from novelseg.core.random import numpy_generator
from novelseg.methods.contract import Case, SideInputs, SupportFeatures, by_query
from novelseg.methods.matching.prototypes import support_prototypes
from novelseg.methods.positions import position_basis
from novelseg.regions.hierarchy import Hierarchy, cut, regions_at

BLOCK = 64  # maximum number of episodes per block, whose predictions are in memory at the same time


class FeatureBank:
    """Cache of one encoder's features of images.

    Parameters
    ----------
    extract
        The encoder.
    size
        Returns the height and width, px, at which an image enters the encoder.
    image
        Decodes an image at this size, (H, W, 3).
    budget_mb
        Memory for features, MiB; 0 for a default (:func:`novelseg.core.compute.memory_budget`). The images of one
        episode may exceed it.
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
        self._features: OrderedDict[int, Tensor] = OrderedDict()

    @property
    def grid(self) -> Grid:
        """Positions of the cells of the features."""
        return self._extract.grid

    def _bytes(self, image: int) -> int:
        """Return the memory that the features of an image take, bytes."""
        rows, columns = self._extract.grid.cells(self._size(image))
        return rows * columns * self._extract.channels * 4

    def fits(self, images: set[int]) -> bool:
        """Return whether the features of all these images together fit the budget."""
        return sum(map(self._bytes, images)) <= self._budget

    def load(self, images: set[int], label: str = "") -> None:
        """Load the features of these images; beyond the budget, evict others, the least recently used first.

        ``label`` is the label of the progress line; empty for no progress line.
        """
        missing = sorted(images - self._features.keys())
        excess = sum(map(self._bytes, [*self._features, *missing])) - self._budget
        for other in [image for image in self._features if image not in images]:
            if excess <= 0:
                break
            excess -= self._bytes(other)
            del self._features[other]
        sizes = [self._size(image) for image in missing]
        extracted = self._extract.each(sizes, lambda number: (self._image(missing[number]), None), label)
        for number, _, features in extracted:
            self._features[missing[number]] = features.clone()  # a view would keep its whole batch in memory
        for image in images:
            self._features.move_to_end(image)

    def forget(self, images: set[int]) -> None:
        """Drop the features of images that are no longer needed."""
        for image in images & self._features.keys():
            del self._features[image]

    def __getitem__(self, image: int) -> Tensor:
        """Return the features (C, h, w) of a loaded image."""
        return self._features[image]

    def blocks(self, cases: list[Case], images_of: Callable[[Case], set[int]], label: str) -> list[list[Case]]:
        """Split episodes into blocks that are predicted one after another and whose features fit the budget.

        If the features of all episodes fit the budget, they are loaded at once.

        Parameters
        ----------
        cases
            The episodes, in any order.
        images_of
            Returns the numbers of the images of an episode whose features are needed.
        label
            Label of the progress line.
        """
        images = {image for case in cases for image in images_of(case)}
        if self.fits(images):
            self.load(images, f"{label}: features")
        blocks: list[list[Case]] = [[]]
        block_images: set[int] = set()
        for case in by_query(cases):
            block_images |= images_of(case)
            if blocks[-1] and (len(blocks[-1]) == BLOCK or not self.fits(block_images)):
                blocks.append([])
                block_images = images_of(case)
            blocks[-1].append(case)
        return blocks


class SupportBank(FeatureBank):
    """Cache of one encoder's features of images, and of the cell labels and prototypes of supports.

    Parameters
    ----------
    extract, size, image, budget_mb
        See :class:`FeatureBank`; images keep their own size.
    support_mask
        Decodes the mask of an image; it is called for supports only.
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
        self._hierarchies: dict[int, Hierarchy] = {}
        self._positions: dict[tuple[Any, ...], Tensor] = {}

    def load(self, images: set[int], label: str = "") -> None:
        """Load the features of these images, and drop labels, prototypes and regions of evicted ones."""
        super().load(images, label)
        self._drop_evicted()

    def forget(self, images: set[int]) -> None:
        """Drop all that is known of images that are no longer needed."""
        super().forget(images)
        self._drop_evicted()

    def _drop_evicted(self) -> None:
        by_image: tuple[dict[int, Any], ...] = (self._supports, self._hierarchies)
        for known in by_image:
            for evicted in known.keys() - self._features.keys():
                del known[evicted]

    def support(self, image: int, label: int) -> SupportFeatures:
        """Return the features, cell labels and prototypes of the class ``label`` in a loaded image."""
        by_label = self._supports.setdefault(image, {})
        if label not in by_label:
            features = self[image]
            mask = torch.from_numpy(binary(self._mask(image), label)).to(features.device)
            cells = self.grid.labels_at_cells(mask, (features.shape[1], features.shape[2]))
            prototypes = support_prototypes(features[None, None], mask[None, None], self.grid)[0]
            by_label[label] = SupportFeatures(features, cells, prototypes, int((cells != VOID).sum()))
        return by_label[label]

    @property
    def side_inputs(self) -> SideInputs:
        """What refinements may ask of loaded images besides features."""
        return SideInputs(self.regions, self.positions)

    def regions(self, image: int, tau: float) -> Tensor:
        """Return the region of each cell of a loaded image, (h, w) int64.

        Parameters
        ----------
        image
            Number of the image.
        tau
            Contour strength at which its hierarchy is cut; the hierarchy is built at the first call.

        Raises
        ------
        MissingPackageError
            If the packages that build hierarchies are not installed.
        """
        if image not in self._hierarchies:
            with needs_extras("a refinement with regions"):
                from novelseg.regions.learned import build_hierarchy
            tree = build_hierarchy(self._image(image))
            basins = torch.from_numpy(cut(tree, 0, self._size(image)).astype(np.int64))
            # Only the basins at the cells are cached, a hundredth of the picture.
            cells = self.grid.labels_at_cells(basins, (self[image].shape[1], self[image].shape[2]))
            self._hierarchies[image] = replace(tree, basins=cells.numpy().astype(np.uint16))
        tree = self._hierarchies[image]
        return torch.from_numpy(regions_at(tree, tau)[tree.basins].astype(np.int64)).to(self[image].device)

    def positions(self, image: int, content: str, count: int) -> Tensor:
        """Return the main directions of the features of a picture without content, (C, P).

        Parameters
        ----------
        image
            Number of an image, whose size the picture has.
        content
            ``black``, or ``noise`` of independent pixels.
        count
            Maximum number P of directions.
        """
        size = self._size(image)
        key = (*size, content, count)
        if key not in self._positions:
            blank = np.zeros((*size, 3), np.uint8)
            if content == "noise":
                blank = numpy_generator(0, "blank", *size).integers(0, 256, (*size, 3), np.uint8)
            self._positions[key] = position_basis(self._extract([blank])[0], count)
        return self._positions[key]
