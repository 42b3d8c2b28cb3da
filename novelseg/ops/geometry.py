"""Training views of images of any size: mirrored, scaled and cropped in one gather on the device that holds the images.

The module draws no random numbers: its callers pass them as ``draw`` or ``draws``, in [0, 1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from novelseg.core.labels import VOID

GREY = 124 / 255  # value of R, G and B outside an image


@dataclass(frozen=True)
class PackedImages:
    """N images of any size with up to four label maps each, packed into one int32 per pixel for each of the two.

    Attributes
    ----------
    colours : (P,) int32
        Red, green, blue and a zero byte of each pixel.
    labels : (P,) int32
        Labels of each pixel, one byte per map.
    heights, widths
        Sizes of the images, px.
    """

    colours: Tensor
    labels: Tensor
    heights: list[int]
    widths: list[int]

    @staticmethod
    def bytes_of(pixels: int) -> int:
        """Return the memory that a number of packed pixels takes, bytes."""
        return 8 * pixels

    @cached_property
    def starts(self) -> list[int]:
        """Number of the first pixel of each image, followed by the number of all pixels."""
        starts = [0]
        for height, width in zip(self.heights, self.widths, strict=True):
            starts.append(starts[-1] + height * width)
        return starts


def pack(sizes: list[tuple[int, int]], items: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> PackedImages:
    """Pack images one after another, with only one unpacked image in memory at a time.

    Parameters
    ----------
    sizes
        Height and width of each image, px.
    items
        (H, W, 3) uint8 colours and (L, H, W) uint8 label maps of each image, L at most 4.
    device
        Device of the result.
    """
    total = sum(height * width for height, width in sizes)
    colours, labels = (torch.empty(total, dtype=torch.int32, device=device) for _ in range(2))
    start = 0
    for (height, width), (image, maps) in zip(sizes, items, strict=True):
        end = start + height * width
        colours[start:end] = _as_int32(image.flatten(0, 1)).to(device)
        labels[start:end] = _as_int32(maps.flatten(1).T).to(device)
        start = end
    return PackedImages(colours, labels, [height for height, _ in sizes], [width for _, width in sizes])


def _as_int32(values: Tensor) -> Tensor:
    """Pack (P, up to 4) uint8 into (P,) int32, which can be gathered three times as fast as bytes."""
    padded = torch.zeros((len(values), 4), dtype=torch.uint8)
    padded[:, : values.shape[1]] = values
    return padded.view(torch.int32)[:, 0]


def _as_bytes(numbers: Tensor) -> Tensor:
    """Unpack (...,) int32 into (..., 4) uint8."""
    return numbers[..., None].view(torch.uint8)


@dataclass(frozen=True)
class Views:
    """Geometry of a batch of B views, as tensors of shape (B,), int64 unless noted.

    Attributes
    ----------
    start, height, width
        Number of the first pixel of the image, and its size, px.
    mirrored : bool
        Whether left and right are exchanged.
    scaled_height, scaled_width
        Size that the image is scaled to, px.
    top, left
        Corner of the window in the scaled image, px.
    """

    start: Tensor
    height: Tensor
    width: Tensor
    mirrored: Tensor
    scaled_height: Tensor
    scaled_width: Tensor
    top: Tensor
    left: Tensor


def window_start(length: Tensor, size: int, draw: Tensor, containing: Tensor | None = None) -> Tensor:
    """Choose a random window of ``size`` pixels on an axis, by a draw in [0, 1), and return its first pixel.

    The window contains the pixel ``containing`` if it is given.
    """
    lowest, highest = torch.zeros_like(length), (length - size).clamp(min=0)
    if containing is not None:
        lowest, highest = (containing - size + 1).clamp(min=0), torch.minimum(highest, containing)
    return lowest + (draw * (highest - lowest + 1)).long()


def random_pixel(pictures: PackedImages, number: int, label: int, draw: Tensor) -> Tensor:
    """Choose a random pixel with a label in an image's first map, by a draw in [0, 1); return row and column, (2,)."""
    start = pictures.starts[number]
    count = pictures.heights[number] * pictures.widths[number]
    rank = (_as_bytes(pictures.labels[start : start + count])[:, 0] == label).cumsum(0)
    position = torch.searchsorted(rank, (draw * rank[-1]).long() + 1).clamp(max=count - 1)
    return torch.stack([position // pictures.widths[number], position % pictures.widths[number]])


def squares(pictures: PackedImages, numbers: list[int], mirrored: Tensor, size: int) -> Views:
    """Return views that resize whole images to a square."""
    side, zero = (torch.full_like(mirrored, value, dtype=torch.int64) for value in (size, 0))
    start, height, width = _extents(pictures, numbers)
    return Views(start, height, width, mirrored, side, side, zero, zero)


def windows(
    pictures: PackedImages,
    numbers: list[int],
    mirrored: Tensor,
    draws: Tensor,
    size: int,
    *,
    scales: tuple[float, float] | None = None,
    around: list[int] | None = None,
) -> Views:
    """Return views of random windows of images.

    Parameters
    ----------
    pictures
        Packed images.
    numbers
        Number of the image of each of the B windows.
    mirrored : (B,) bool
        Whether left and right are exchanged.
    draws : (B, 4) float64
        Random numbers in [0, 1) for the scale, the row, the column, and the pixel that the window contains.
    size
        Side of a window, px.
    scales
        Range of the longer side after scaling, relative to ``size``; None for images at their own scale.
    around
        For each window, the label of which it contains a random pixel; it must occur in the image. None for windows
        anywhere in the image.
    """
    start, height, width = _extents(pictures, numbers)
    scaled_height, scaled_width = height, width
    rows = columns = None
    if scales:
        factor = (scales[0] + (scales[1] - scales[0]) * draws[:, 0]) * size / torch.maximum(height, width)
        scaled_height, scaled_width = ((length * factor).round().long().clamp(min=1) for length in (height, width))
    if around:
        targets = zip(numbers, around, draws[:, 3], strict=True)
        rows, columns = torch.stack([random_pixel(pictures, *target) for target in targets], 1)
        rows = rows * scaled_height // height
        columns = torch.where(mirrored, width - 1 - columns, columns) * scaled_width // width
    top = window_start(scaled_height, size, draws[:, 1], rows)
    left = window_start(scaled_width, size, draws[:, 2], columns)
    return Views(start, height, width, mirrored, scaled_height, scaled_width, top, left)


def _extents(pictures: PackedImages, numbers: list[int]) -> list[Tensor]:
    """Return the first pixel, height and width of the images ``numbers``, (B,) each, on the device of the images."""
    starts = pictures.starts
    return [
        torch.tensor([column[number] for number in numbers]).to(pictures.colours.device, non_blocking=True)
        for column in (starts, pictures.heights, pictures.widths)
    ]


def gather(pictures: PackedImages, views: Views, size: int) -> tuple[Tensor, Tensor]:
    """Render views as squares; colours are interpolated bilinearly, labels are those of the nearest pixel.

    Pixel x of an image scaled from n to m px is at the position (x + 0.5) · n / m − 0.5 of the original.

    Parameters
    ----------
    pictures
        Packed images.
    views
        Geometry of B views of them.
    size
        Side S of the squares, px.

    Returns
    -------
    images : (B, 3, S, S) float32
        RGB in [0, 1]; :data:`GREY` outside the image.
    labels : (B, 4, S, S) uint8
        Label maps, zero for absent maps; 255 outside the image.
    """
    step = torch.arange(size, device=pictures.colours.device)
    v, u = (first[:, None] + step for first in (views.top, views.left))  # (B, S): rows, columns of the scaled image
    inside = (v < views.scaled_height[:, None])[:, :, None] & (u < views.scaled_width[:, None])[:, None]
    u = torch.where(views.mirrored[:, None], views.scaled_width[:, None] - 1 - u, u)

    def index(rows: Tensor, columns: Tensor) -> Tensor:
        return (views.start[:, None] + rows * views.width[:, None])[:, :, None] + columns[:, None]

    axes = [
        (v, views.height[:, None], views.scaled_height[:, None]),
        (u, views.width[:, None], views.scaled_width[:, None]),
    ]
    nearest = (((2 * x + 1) * length // (2 * scaled)).clamp(min=0).minimum(length - 1) for x, length, scaled in axes)
    labels = _as_bytes(pictures.labels.take(index(*nearest))).masked_fill(~inside[..., None], VOID)
    (y0, y1, wy), (x0, x1, wx) = (_neighbours(*axis) for axis in axes)

    def row(y: Tensor) -> Tensor:
        taps = [_as_bytes(pictures.colours.take(index(y, x))).float() for x in (x0, x1)]
        return torch.lerp(taps[0], taps[1], wx[:, None, :, None])

    images = (torch.lerp(row(y0), row(y1), wy[:, :, None, None]) / 255).masked_fill(~inside[..., None], GREY)
    return images.permute(0, 3, 1, 2)[:, :3].contiguous(), labels.permute(0, 3, 1, 2).contiguous()


def square(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], size: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Resize an image (H, W, 3) and its mask (H, W) to a square in the same way as training does.

    The colours are 0–255 and not rounded.
    """
    sizes = [(image.shape[0], image.shape[1])]
    pictures = pack(sizes, [(torch.from_numpy(image), torch.from_numpy(mask)[None])], torch.device("cpu"))
    images, labels = gather(pictures, squares(pictures, [0], torch.zeros(1, dtype=torch.bool), size), size)
    return (255 * images[0]).permute(1, 2, 0).numpy(), labels[0, 0].numpy()


def _neighbours(x: Tensor, length: Tensor, scaled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two pixels of an axis around the centre of each scaled pixel, and the weight of the second."""
    centre = ((x + 0.5) * (length / scaled) - 0.5).clamp(min=0)
    first = torch.minimum(centre.long(), length - 1)
    second = torch.minimum(first + 1, length - 1)
    return first, second, (centre - first).clamp(max=1).float()
