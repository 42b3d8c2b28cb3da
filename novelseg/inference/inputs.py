"""What a segmenter is given: pictures and masks of any kind, and how the network sees them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from novelseg.core.errors import InputError
from novelseg.core.labels import VOID
from novelseg.inference.photos import colours_of, labels_of, read_mask, read_photo

OBJECT = 1

Photo = NDArray[np.uint8] | Image.Image | Path | str
Mask = NDArray[Any] | Image.Image | Path | str


def shown(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A picture (H, W, 3) as the network sees it: at most ``side`` px long."""
    size = _size(image.shape[0], image.shape[1], side)
    if size == image.shape[:2]:
        return image
    return np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS))


def shown_pair(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], side: int, name: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A support and its mask (1 object, 0 rest, 255 neither) as the network sees them.

    Raises
    ------
    InputError
        Naming the mask, if the sizes differ, or object or background are missing or too small to be seen.
    """
    height, width = mask.shape
    if (height, width) != image.shape[:2]:
        raise InputError(
            f"{name}: the mask is {width}×{height} px, its picture {image.shape[1]}×{image.shape[0]}; make them equal"
        )
    size = _size(height, width, side)
    seen = np.array(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
    for value, what in ((OBJECT, "object"), (0, "background")):
        if not (mask == value).any():
            raise InputError(f"{name}: the mask has no {what}; expected some of both")
        if not (seen == value).any():
            raise InputError(f"{name}: at {side} px nothing is left of the {what}; raise side")
    return shown(image, side), seen


def _size(height: int, width: int, side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(height, width))
    return max(1, round(scale * height)), max(1, round(scale * width))


def listed(given: Iterable[Any], what: str) -> Iterable[Any]:
    """Refuse a single picture or mask where several are asked for."""
    picture = isinstance(given, np.ndarray) and (given.ndim < 3 or given.shape[2:] == (3,))
    if picture or isinstance(given, (str, Path, Image.Image)):
        raise InputError(f"{what} is a single one; expected a list")
    return given


def named(given: object, otherwise: str) -> str:
    """Name of a file, or what else it is called."""
    return str(given) if isinstance(given, (Path, str)) else otherwise


def colours(photo: Photo) -> NDArray[np.uint8]:
    """A picture as (H, W, 3) uint8."""
    if isinstance(photo, (Path, str)):
        return read_photo(Path(photo))
    image = colours_of(photo, "a picture") if isinstance(photo, Image.Image) else photo
    if not isinstance(image, np.ndarray):
        raise InputError(f"a picture is a {type(image).__name__}; expected an array, a PIL picture or a path")
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise InputError(f"a picture is {image.dtype} of shape {image.shape}; expected uint8, (H, W, 3) or (H, W)")
    if not image.size:
        raise InputError(f"a picture of shape {image.shape} has no pixels; expected some")
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


def values_of(mask: Mask, number: int) -> NDArray[np.uint8]:
    """A mask as (H, W) of 1 the object, 0 the rest and 255 neither."""
    if isinstance(mask, (Path, str)):
        return read_mask(Path(mask))
    if isinstance(mask, Image.Image):
        return labels_of(mask, f"mask {number}")
    values = np.asarray(mask)
    if values.dtype.kind in "iu" and np.array_equal(np.unique(values), (0, VOID)):
        raise InputError(f"mask {number} holds 0 and 255, which is neither object nor background here; give mask > 0")
    if values.ndim != 2 or values.dtype.kind not in "biu" or not np.isin(values, (0, OBJECT, VOID)).all():
        raise InputError(
            f"a mask is {values.dtype} of shape {values.shape}; expected (H, W) of 1 (object), 0 and 255 (neither)"
        )
    return values.astype(np.uint8)
