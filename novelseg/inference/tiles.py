"""Windows of a large picture, and the blending of what is predicted in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OVERLAP = 4  # neighbouring windows share at least one part in so many of their side
LEAST_WEIGHT = 1e-3  # of a window's outermost pixels, so that corners of the picture have a weight too


@dataclass(frozen=True)
class Window:
    """A rectangle of a picture, px."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the picture."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def windows(height: int, width: int, side: int) -> list[Window]:
    """Cover a picture with overlapping windows of one size, row by row.

    Parameters
    ----------
    height, width
        Size of the picture, px.
    side
        Largest side of a window, px.
    """
    rows, columns = _starts(height, side), _starts(width, side)
    return [Window(top, left, min(side, height), min(side, width)) for top in rows for left in columns]


def _starts(length: int, side: int) -> list[int]:
    """Return the first pixels of evenly spaced windows along one side of a picture."""
    if length <= side:
        return [0]
    count = 1 + -(-(length - side) // max(1, side - side // OVERLAP))
    return [round(number * (length - side) / (count - 1)) for number in range(count)]


class Blend:
    """Weighted mean of logits that are predicted in windows; the weights fall to the windows' borders.

    Parameters
    ----------
    classes
        Number K of classes.
    height, width
        Size of the picture, px.
    """

    def __init__(self, classes: int, height: int, width: int) -> None:
        self._sums = np.zeros((classes, height, width), np.float32)
        self._weights = np.zeros((height, width), np.float32)

    def add(self, window: Window, logits: NDArray[np.float32]) -> None:
        """Add the logits of a window, (K, h, w) at its size."""
        weight = np.minimum.outer(_ramp(window.height), _ramp(window.width))
        self._sums[:, *window.slices] += weight * logits
        self._weights[window.slices] += weight

    def mean(self) -> NDArray[np.float32]:
        """Return the blended logits, (K, H, W); nothing can be added afterwards."""
        self._sums /= self._weights
        return self._sums


def _ramp(length: int) -> NDArray[np.float32]:
    """Return weights that fall from 1 in the middle to almost 0 at both ends."""
    position = (np.arange(length, dtype=np.float32) + 0.5) / length
    ramp: NDArray[np.float32] = np.maximum(np.minimum(position, 1 - position) * 2, np.float32(LEAST_WEIGHT))
    return ramp


def batches(items: list[Window], size: int) -> Iterator[list[Window]]:
    """Yield windows in groups."""
    for first in range(0, len(items), size):
        yield items[first : first + size]
