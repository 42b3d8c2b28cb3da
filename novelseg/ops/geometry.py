"""Training views of images of any sizes: mirrored, scaled, cut out, in one gather on the device where the images lie.

Nothing is drawn here; draws come in as numbers in [0, 1).
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

GREY = 124 / 255  # beside an image, in RGB


@dataclass(frozen=True)
class Pictures:
    """N images of any sizes with up to four label maps each, pixel after pixel, four bytes to a number.

    Attributes
    ----------
    colours : (P,) int32
        Red, green, blue, nothing of all pixels.
    labels : (P,) int32
        Label maps of all pixels.
    heights, widths
        Sizes, px.
    """

    colours: Tensor
    labels: Tensor
    heights: list[int]
    widths: list[int]

    @staticmethod
    def bytes_of(pixels: int) -> int:
        """Memory that this many pixels take."""
        return 8 * pixels

    @cached_property
    def starts(self) -> list[int]:
        """First pixel of each image, and one after the last."""
        found = [0]
        for height, width in zip(self.heights, self.widths, strict=True):
            found.append(found[-1] + height * width)
        return found


def pack(sizes: list[tuple[int, int]], items: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> Pictures:
    """Lay images one after another; one at a time is held beside the result.

    Parameters
    ----------
    sizes
        Height and width of each, px.
    items
        (H, W, 3) uint8 colours and (L, H, W) uint8 label maps of each, L at most 4.
    device
        Where they shall lie.
    """
    total = sum(height * width for height, width in sizes)
    colours, labels = (torch.empty(total, dtype=torch.int32, device=device) for _ in range(2))
    start = 0
    for (height, width), (image, maps) in zip(sizes, items, strict=True):
        end = start + height * width
        colours[start:end] = _four(image.flatten(0, 1)).to(device)
        labels[start:end] = _four(maps.flatten(1).T).to(device)
        start = end
    return Pictures(colours, labels, [height for height, _ in sizes], [width for _, width in sizes])


def _four(values: Tensor) -> Tensor:
    """(P, up to 4) uint8 to (P,) int32: a gather of whole numbers is three times as fast as one of bytes."""
    padded = torch.zeros((len(values), 4), dtype=torch.uint8)
    padded[:, : values.shape[1]] = values
    return padded.view(torch.int32)[:, 0]


def _bytes(numbers: Tensor) -> Tensor:
    """(...,) int32 to (..., 4) uint8."""
    return numbers[..., None].view(torch.uint8)


@dataclass(frozen=True)
class Views:
    """What a batch shows; (B,) int64 each, but ``mirrored``.

    Attributes
    ----------
    start, height, width
        First pixel and size of the image, px.
    mirrored : bool
        Left and right are exchanged.
    tall, wide
        Size that the image is scaled to, px.
    top, left
        Of the window, in the scaled image, px.
    """

    start: Tensor
    height: Tensor
    width: Tensor
    mirrored: Tensor
    tall: Tensor
    wide: Tensor
    top: Tensor
    left: Tensor


def place(length: Tensor, size: int, draw: Tensor, holding: Tensor | None = None) -> Tensor:
    """Random start of a window, by a draw in [0, 1); it holds the pixel ``holding`` where one is given."""
    lowest, highest = torch.zeros_like(length), (length - size).clamp(min=0)
    if holding is not None:
        lowest, highest = (holding - size + 1).clamp(min=0), torch.minimum(highest, holding)
    return lowest + (draw * (highest - lowest + 1)).long()


def pixel_of(pictures: Pictures, number: int, label: int, draw: Tensor) -> Tensor:
    """Row and column of a random pixel that bears a label on the first map, by a draw in [0, 1); (2,)."""
    start = pictures.starts[number]
    count = pictures.heights[number] * pictures.widths[number]
    rank = (_bytes(pictures.labels[start : start + count])[:, 0] == label).cumsum(0)
    place = torch.searchsorted(rank, (draw * rank[-1]).long() + 1).clamp(max=count - 1)
    return torch.stack([place // pictures.widths[number], place % pictures.widths[number]])


def squares(pictures: Pictures, numbers: list[int], mirrored: Tensor, size: int) -> Views:
    """Whole images, resized to a square."""
    side, zero = (torch.full_like(mirrored, value, dtype=torch.int64) for value in (size, 0))
    start, height, width = _images(pictures, numbers)
    return Views(start, height, width, mirrored, side, side, zero, zero)


def windows(
    pictures: Pictures,
    numbers: list[int],
    mirrored: Tensor,
    draws: Tensor,
    size: int,
    *,
    scales: tuple[float, float] | None = None,
    around: list[int] | None = None,
) -> Views:
    """Random windows of images.

    Parameters
    ----------
    pictures, numbers
        Images, and which of them the B windows are of.
    mirrored : (B,) bool
        Left and right are exchanged.
    draws : (B, 4) float64
        In [0, 1): scale, row, column, pixel to hold.
    size
        Side of a window, px.
    scales
        Range of the longer side's length after scaling, relative to ``size``; as they are if None.
    around
        Label that each window holds a random pixel of; its image has at least one.
    """
    start, height, width = _images(pictures, numbers)
    tall, wide = height, width
    rows = columns = None
    if scales:
        longest = (scales[0] + (scales[1] - scales[0]) * draws[:, 0]) * size / torch.maximum(height, width)
        tall, wide = ((length * longest).round().long().clamp(min=1) for length in (height, width))
    if around:
        wanted = zip(numbers, around, draws[:, 3], strict=True)
        rows, columns = torch.stack([pixel_of(pictures, *pixel) for pixel in wanted], 1)
        rows, columns = rows * tall // height, torch.where(mirrored, width - 1 - columns, columns) * wide // width
    top, left = place(tall, size, draws[:, 1], rows), place(wide, size, draws[:, 2], columns)
    return Views(start, height, width, mirrored, tall, wide, top, left)


def _images(pictures: Pictures, numbers: list[int]) -> list[Tensor]:
    starts = pictures.starts
    return [
        torch.tensor([column[number] for number in numbers]).to(pictures.colours.device, non_blocking=True)
        for column in (starts, pictures.heights, pictures.widths)
    ]


def gather(pictures: Pictures, views: Views, size: int) -> tuple[Tensor, Tensor]:
    """Show the views as squares of ``size``: colours bilinear, labels by the nearest pixel, centres on centres.

    Parameters
    ----------
    pictures
        Images.
    views
        Of a batch of B.
    size
        Side S, px.

    Returns
    -------
    images : (B, 3, S, S) float32
        RGB in [0, 1]; :data:`GREY` beside the image.
    labels : (B, 4, S, S) uint8
        Maps, zero where there is none; 255 beside the image.
    """
    step = torch.arange(size, device=pictures.colours.device)
    v, u = (first[:, None] + step for first in (views.top, views.left))  # (B, S): rows, columns of the scaled image
    inside = (v < views.tall[:, None])[:, :, None] & (u < views.wide[:, None])[:, None]
    u = torch.where(views.mirrored[:, None], views.wide[:, None] - 1 - u, u)

    def index(rows: Tensor, columns: Tensor) -> Tensor:
        return (views.start[:, None] + rows * views.width[:, None])[:, :, None] + columns[:, None]

    axes = [(v, views.height[:, None], views.tall[:, None]), (u, views.width[:, None], views.wide[:, None])]
    nearest = (((2 * x + 1) * length // (2 * scaled)).clamp(min=0).minimum(length - 1) for x, length, scaled in axes)
    labels = _bytes(pictures.labels.take(index(*nearest))).masked_fill(~inside[..., None], VOID)
    (y0, y1, wy), (x0, x1, wx) = (_between(*axis) for axis in axes)

    def row(y: Tensor) -> Tensor:
        taps = [_bytes(pictures.colours.take(index(y, x))).float() for x in (x0, x1)]
        return torch.lerp(taps[0], taps[1], wx[:, None, :, None])

    images = (torch.lerp(row(y0), row(y1), wy[:, :, None, None]) / 255).masked_fill(~inside[..., None], GREY)
    return images.permute(0, 3, 1, 2)[:, :3].contiguous(), labels.permute(0, 3, 1, 2).contiguous()


def square(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], size: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """One image (H, W, 3) and its mask (H, W), resized as training does; colours 0–255, not rounded."""
    size_now = [(image.shape[0], image.shape[1])]
    pictures = pack(size_now, [(torch.from_numpy(image), torch.from_numpy(mask)[None])], torch.device("cpu"))
    images, labels = gather(pictures, squares(pictures, [0], torch.zeros(1, dtype=torch.bool), size), size)
    return (255 * images[0]).permute(1, 2, 0).numpy(), labels[0, 0].numpy()


def _between(x: Tensor, length: Tensor, scaled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two pixels that a scaled pixel's centre lies between, and the weight of the second."""
    centre = ((x + 0.5) * (length / scaled) - 0.5).clamp(min=0)
    first = torch.minimum(centre.long(), length - 1)
    second = torch.minimum(first + 1, length - 1)
    return first, second, (centre - first).clamp(max=1).float()
