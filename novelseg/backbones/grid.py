"""Positions of a backbone's feature cells in an image; only this module computes them.

All operations derive from one function per axis, which maps pixels to positions in units of cells. Upsampling is linear
in the features: Σ_uv Up(F)_uv·m_uv = Σ_ij F_ij·(Upᵀm)_ij. Therefore the upsampled features (C×H×W) are not built;
instead, a mask is splatted onto the cells with the transposed operator (A, Eq. 1).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Size = tuple[int, int]  # height, width


class Grid(ABC):
    """The feature cells of an image of any size; immutable and hashable."""

    @abstractmethod
    def cells(self, size: Size) -> Size:
        """Return the height and width, in cells, of the features of an image of ``size``, px."""

    @abstractmethod
    def positions(self, cells: int, pixels: int) -> NDArray[np.float64]:
        """Return the position of each pixel of one axis in units of cells, from 0 to ``cells`` − 1; (pixels,)."""

    @abstractmethod
    def centres(self, cells: int, pixels: int) -> NDArray[np.int64]:
        """Return the pixel nearest to the centre of each cell of one axis; (cells,)."""

    @abstractmethod
    def finer(self, factor: int) -> Grid:
        """Return the grid of a map that is ``factor`` times finer: n cells become ``factor``·(n − 1) + 1."""

    def up_matrix(self, cells: int, pixels: int) -> Tensor:
        """Return the matrix of ``Up`` for one axis, (pixels, cells) float32; row u contains the weights at pixel u."""
        return _up_matrix(self, cells, pixels)

    def upsample(self, maps: Tensor, size: Size) -> Tensor:
        """Upsample bilinearly, the operator ``Up``: (B, K, h, w) to (B, K, H, W)."""
        rows, columns = (
            self.up_matrix(cells, pixels).to(maps) for cells, pixels in zip(maps.shape[-2:], size, strict=True)
        )
        return rows @ maps @ columns.T

    def splat_masks(self, masks: Tensor, cells: Size) -> Tensor:
        """Apply the transposed ``Up`` to a few masks.

        Parameters
        ----------
        masks : (..., H, W) float
            Weights of the pixels.
        cells
            Height h and width w of the features.

        Returns
        -------
        (..., h, w) float
            Weights of the cells; their sum equals the sum over the pixels.
        """
        rows = self.up_matrix(cells[0], masks.shape[-2]).to(masks)
        columns = self.up_matrix(cells[1], masks.shape[-1]).to(masks)
        return rows.T @ masks @ columns

    def splat_labels(self, labels: NDArray[np.integer], count: int, cells: Size) -> NDArray[np.float32]:
        """Apply the transposed ``Up`` to all regions of a label map at once, at a cost independent of their number.

        Parameters
        ----------
        labels : (H, W) integer
            Region of each pixel, 0…count−1; other values belong to no region.
        count
            Number of regions R.
        cells
            Height h and width w of the features.

        Returns
        -------
        (R, h·w) float32
            Weights of the cells for each region.
        """
        (h, w), (height, width) = cells, labels.shape
        i, b = _taps(self.positions(h, height), h)
        j, a = _taps(self.positions(w, width), w)
        u, v = np.nonzero((labels >= 0) & (labels < count))
        region = labels[u, v].astype(np.int64) * (h * w)
        i1, j1 = np.minimum(i + 1, h - 1), np.minimum(j + 1, w - 1)
        total = np.zeros(count * h * w)
        for row, row_weight in ((i, 1 - b), (i1, b)):
            for column, column_weight in ((j, 1 - a), (j1, a)):
                cell = region + row[u] * w + column[v]
                total += np.bincount(cell, row_weight[u] * column_weight[v], minlength=total.size)
        return total.reshape(count, h * w).astype(np.float32)

    def region_weights(self, labels: NDArray[np.integer], count: int, features: Tensor) -> Tensor:
        """Splat the regions of a label map by the method that is faster on the device of the features.

        On a CPU, the weights are accumulated pixel by pixel; on a GPU, one mask per region is multiplied, which is
        deterministic.

        Parameters
        ----------
        labels, count
            See :meth:`splat_labels`.
        features : (C, h, w)
            Features; only their size and device are used.

        Returns
        -------
        (R, h, w) float32
            Weights of the cells for each region, on the device of the features.
        """
        cells = (features.shape[-2], features.shape[-1])
        if features.device.type == "cpu":
            splatted: Tensor = torch.from_numpy(self.splat_labels(labels, count, cells)).unflatten(1, cells)
            return splatted
        on_device = torch.from_numpy(labels.astype(np.int64)).to(features.device)
        masks = on_device[None] == torch.arange(count, device=features.device)[:, None, None]
        return self.splat_masks(masks.float(), cells)

    def labels_at_cells(self, mask: Tensor, cells: Size) -> Tensor:
        """Return the label of the pixel nearest to the centre of each cell: (H, W) to (h, w)."""
        rows, columns = (
            torch.from_numpy(self.centres(count, length)).to(mask.device)
            for length, count in zip(mask.shape, cells, strict=True)
        )
        return mask[rows][:, columns]


def _taps(positions: NDArray[np.float64], cells: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the first of the two cells around each pixel and the weight of the second; (pixels,) each."""
    first = np.minimum(positions.astype(np.int64), max(cells - 2, 0))
    return first, np.asarray(positions - first, np.float64)


@cache
def _up_matrix(grid: Grid, cells: int, pixels: int) -> Tensor:
    first, weight = _taps(grid.positions(cells, pixels), cells)
    matrix = np.zeros((pixels, cells))
    rows = np.arange(pixels)
    matrix[rows, first] = 1 - weight
    matrix[rows, np.minimum(first + 1, cells - 1)] += weight
    return torch.from_numpy(matrix.astype(np.float32))


@dataclass(frozen=True)
class AlignedGrid(Grid):
    """A grid whose outer cells lie on the outer pixels, as in the papers' treatment of a ResNet at stride 8.

    Attributes
    ----------
    stride
        Pixels per cell; an axis of an image has ⌈pixels / stride⌉ cells.
    """

    stride: int

    def cells(self, size: Size) -> Size:
        """Return ⌈H / stride⌉ and ⌈W / stride⌉; a stem that pools without padding may give one cell less."""
        return -(-size[0] // self.stride), -(-size[1] // self.stride)

    def positions(self, cells: int, pixels: int) -> NDArray[np.float64]:
        """Return positions spaced evenly from the first cell to the last."""
        return np.arange(pixels, dtype=np.float64) * ((cells - 1) / (pixels - 1) if pixels > 1 else 0.0)

    def centres(self, cells: int, pixels: int) -> NDArray[np.int64]:
        """Return pixels spaced evenly from the first to the last; halves are rounded to even."""
        centres: NDArray[np.int64] = torch.linspace(0, pixels - 1, cells, dtype=torch.float64).round().long().numpy()
        return centres

    def finer(self, factor: int) -> AlignedGrid:  # noqa: ARG002 - the same grid for every factor
        """Return the same grid, because the outer cells of a finer map lie on the outer pixels too."""
        return self

    def upsample(self, maps: Tensor, size: Size) -> Tensor:
        """Upsample bilinearly with aligned corners: (B, K, h, w) to (B, K, H, W)."""
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)


@dataclass(frozen=True)
class PatchGrid(Grid):
    """A grid with one cell at the centre of each patch, as in a ViT.

    An image is padded to whole patches on the right and at the bottom. The backbone drops cells whose centre is in the
    padding, so that an axis of ``pixels`` has ⌊pixels / patch + ½⌋ cells, but at least one. Upsampled maps are constant
    beyond the outer cells.

    Attributes
    ----------
    patch
        Side of a patch, px.
    steps
        Number of cell spacings between the centres of neighbouring patches; more than one for finer maps.
    """

    patch: int
    steps: int = 1

    def cells(self, size: Size) -> Size:
        """Return the number of cells along each axis: one per patch whose centre is in the image if ``steps`` is 1."""
        height, width = (self.steps * (max(1, (2 * s + self.patch) // (2 * self.patch)) - 1) + 1 for s in size)
        return height, width

    def positions(self, cells: int, pixels: int) -> NDArray[np.float64]:
        """Return the position of each pixel of one axis in units of cells, from 0 to ``cells`` − 1; (pixels,).

        Whole numbers are the centres of cells; pixels beyond the first or last centre are clipped to it.
        """
        positions = self.steps * ((np.arange(pixels, dtype=np.float64) + 0.5) / self.patch - 0.5)
        return np.clip(positions, 0, cells - 1)

    def centres(self, cells: int, pixels: int) -> NDArray[np.int64]:
        """Return the pixel at the centre of each cell; of two equally near pixels, the second."""
        centres = (2 * np.arange(cells, dtype=np.int64) + self.steps) * self.patch // (2 * self.steps)
        return np.minimum(centres, pixels - 1)

    def finer(self, factor: int) -> PatchGrid:
        """Return the grid with ``factor`` times as many cell spacings between the centres of patches."""
        return PatchGrid(self.patch, factor * self.steps)


@dataclass(frozen=True)
class ReducedPatchGrid(PatchGrid):
    """A grid of patches of images whose longest side is reduced to a limit.

    An image within the limit has the cells of :class:`PatchGrid`. A larger one has the cells of the reduced image: an
    axis that thereby loses cells is resampled to exactly that many patches, so that their centres divide it evenly; an
    axis that keeps its number of cells keeps its pixels.

    Attributes
    ----------
    side
        Longest side, px.
    """

    side: int = 512

    def network_size(self, size: Size) -> tuple[Size, Size]:
        """Return the size to which an image is resampled, and the size of its whole patches, px."""
        counts = [self._patches(pixels, max(self.side, *size)) for pixels in size]
        height, width = (
            pixels if count == self._patches(pixels, self.side) else count * self.patch
            for pixels, count in zip(size, counts, strict=True)
        )
        return (height, width), (counts[0] * self.patch, counts[1] * self.patch)

    def cells(self, size: Size) -> Size:
        """Return the number of cells along each axis of the reduced image."""
        height, width = (self.steps * (self._patches(pixels, max(self.side, *size)) - 1) + 1 for pixels in size)
        return height, width

    def positions(self, cells: int, pixels: int) -> NDArray[np.float64]:
        """Return the position of each pixel; see :meth:`PatchGrid.positions`."""
        count = (cells - 1) // self.steps + 1
        if count == self._patches(pixels, self.side):
            return super().positions(cells, pixels)
        positions = self.steps * ((np.arange(pixels, dtype=np.float64) + 0.5) * count / pixels - 0.5)
        return np.clip(positions, 0, cells - 1)

    def centres(self, cells: int, pixels: int) -> NDArray[np.int64]:
        """Return the pixel at the centre of each cell; of two equally near pixels, the second."""
        count = (cells - 1) // self.steps + 1
        if count == self._patches(pixels, self.side):
            return super().centres(cells, pixels)
        return (2 * np.arange(cells, dtype=np.int64) + self.steps) * pixels // (2 * self.steps * count)

    def finer(self, factor: int) -> ReducedPatchGrid:
        """Return the grid with ``factor`` times as many cell spacings between the centres of patches."""
        return ReducedPatchGrid(self.patch, factor * self.steps, self.side)

    def _patches(self, pixels: int, longest: int) -> int:
        """Return the number of patches of an axis if ``longest`` px are reduced to ``side`` px, rounded; at least 1."""
        return max(1, (2 * pixels * self.side + self.patch * longest) // (2 * self.patch * longest))
