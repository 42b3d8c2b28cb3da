"""Masks of one object from pixel values: of two values, with smoothed or lossy edges, or in two colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError

SEVERAL = 8  # values of a mask that a message lists
LEAST_RANGE = 128  # between the two values of a mask whose edges are cut
MOST_UNCLEAR = 0.1  # largest share of pixels in the middle half between the two values
MOST_REGIONS = 0.005  # largest share of pixels inside regions of a third value
NEAR_BLACK = 32  # largest channel of a colour that counts as black
MOST_APART = 64  # largest distance of an edge's colour from the line between the two colours
ROWS = 256  # that are converted at a time
LOSSY = "a mask in a lossy format, cut at half; PNG keeps the borders exact"
SMOOTHED = "a mask with smoothed edges, cut at half; without smoothing the borders are exact"

RGB = NDArray[np.uint8]


def mask_from_grey(grey: NDArray[Any], name: str, lossy: bool) -> tuple[NDArray[np.uint8], str]:
    """Return a mask, 1 for the brighter value, and a note about what was done; empty if the values were exact.

    Parameters
    ----------
    grey : (H, W) integer
        Values, not negative.
    name
        Name of the mask, for messages.
    lossy
        Whether the format changes values a little.

    Raises
    ------
    InputError
        If there are not clearly two values; the message lists those that there are.
    """
    is_small = grey.dtype == np.uint8  # for which counting is faster than sorting
    values = (np.flatnonzero(np.bincount(grey.reshape(-1), minlength=1)) if is_small else np.unique(grey)).tolist()
    if not lossy and (len(values) == 1 or (len(values) == 2 and values[0] == 0)):
        return (grey > 0).astype(np.uint8), ""
    fault = _fault(grey, values, lossy)
    if fault and lossy:
        raise InputError(
            f"{name}: a mask in a lossy format; expected black and white, of values near 0 and 255, but {fault}; save "
            "it as PNG"
        )
    if fault:
        listing = ", ".join(map(str, values[:SEVERAL])) + ("…" if len(values) > SEVERAL else "")
        raise InputError(
            f"{name}: holds {len(values)} values ({listing}); expected 0 and one other; {fault}; save the mask with "
            "two values, give the number of the object with --label, or name all of them with --classes"
        )
    return (grey >= (values[-1] + 1) // 2).astype(np.uint8), LOSSY if lossy else SMOOTHED


def _fault(grey: NDArray[Any], values: list[int], lossy: bool) -> str:
    """Return why values are not those of an object and a background with edges between them; empty if they are."""
    low, high = values[0], values[-1]
    if high < LEAST_RANGE:
        return f"its largest value is {high}"
    unclear = float(((4 * grey.astype(np.int64) >= high) & (4 * grey.astype(np.int64) < 3 * high)).mean())
    if unclear > MOST_UNCLEAR:
        return f"{unclear:.0%} of it is neither"
    if 4 * low > high:
        return f"its smallest value is {low}"
    # Noise of a lossy format in an exact one lies below the larger value too, where masks of numbers have nothing.
    noise = high // 16 if len(values) > SEVERAL and values[-2] >= high - high // 16 else 0
    third = (grey > low + noise) & (grey < high - noise)
    regions = 0.0 if lossy else float((_inside_regions(grey) & third).mean())
    return f"{regions:.1%} of it lies inside regions of further values" if regions > MOST_REGIONS else ""


def _inside_regions(grey: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the pixels whose eight neighbours have the same value."""
    inside = np.zeros(grey.shape, bool)
    middle = grey[1:-1, 1:-1]
    same = np.ones(middle.shape, bool)
    height, width = grey.shape
    for row in range(3):
        for column in range(3):
            same &= grey[row : height - 2 + row, column : width - 2 + column] == middle
    inside[1:-1, 1:-1] = same
    return inside


def grey_from_colours(image: RGB, name: str) -> tuple[NDArray[np.uint8], str]:
    """Return grey values of a picture in two colours, 0 for the background and 255 for the object, and a note.

    Black is the background; without black, the colour that most of the picture's border has.

    Parameters
    ----------
    image : (H, W, 3)
        The picture. Edges may mix the two colours.
    name
        Its name, for messages.

    Raises
    ------
    InputError
        If there are not clearly two colours.
    """
    first, second = _two_colours(image)
    if second is None:
        raise InputError(f"{name}: the mask has one colour; expected two, of background and object")
    grey = np.empty(image.shape[:2], np.uint8)
    apart = 0
    step = second - first
    for row in range(0, len(image), ROWS):
        offset = image[row : row + ROWS].astype(np.float32) - first
        position = np.clip(offset @ step / (step @ step), 0, 1)
        apart += int((np.linalg.norm(offset - position[..., None] * step, axis=2) > MOST_APART).sum())
        grey[row : row + ROWS] = np.round(255 * position)
    if apart > grey.size // 100:
        raise InputError(f"{name}: the mask has colours; expected two, of background and object, or black and white")
    if first.max() <= NEAR_BLACK or second.max() <= NEAR_BLACK:
        return (grey if first.max() <= NEAR_BLACK else 255 - grey), ""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if (border > 127).mean() > 0.5:
        grey, first, second = 255 - grey, second, first
    return grey, f"a mask without black: the object is {_hex(second)}, the background {_hex(first)}, as on the border"


def _two_colours(image: RGB) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return the most frequent colour, and the most frequent one that is far from it, if there is one."""
    first: NDArray[Any] = image[0, 0]
    other = (image != first).any(2)
    if not other.any():
        return first.astype(np.float32), None
    second: NDArray[Any] = image[np.unravel_index(other.argmax(), other.shape)]
    if (image[other] == second).all():
        return first.astype(np.float32), second.astype(np.float32)
    codes = ((image >> 5).astype(np.uint16) @ np.array([64, 8, 1], np.uint16)).reshape(-1)
    flat = image.reshape(-1, 3)
    order = np.argsort(-np.bincount(codes, minlength=512), kind="stable")
    means = [flat[codes == code].mean(0, dtype=np.float32) for code in order[:SEVERAL] if (codes == code).any()]
    far = [mean for mean in means[1:] if np.linalg.norm(mean - means[0]) >= 1.5 * MOST_APART]
    return means[0], far[0] if far else None


def _hex(colour: NDArray[np.float32]) -> str:
    return "#" + "".join(f"{round(float(value)):02x}" for value in colour)
