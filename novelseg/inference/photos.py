"""Reading of everyday picture and mask files: any size, orientation tags, grey, transparency, 16 bits, CMYK."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from novelseg.core.errors import InputError
from novelseg.core.labels import VOID
from novelseg.data.pictures import (
    WIDE,
    Picture,
    check_palette,
    damage_as_input_error,
    decode,
    index_numbers,
    is_lossy,
    rgb,
    wrap,
)
from novelseg.data.rawfiles import read_bytes

SEVERAL = 8  # values of a mask that a message lists
REMEDY = "copy it again or remove it"
HALF = 128  # a mask in a lossy format is cut here
MOST_SPREAD = 64  # between the channels of a grey pixel in a lossy format
UNCLEAR, MOST_UNCLEAR = (64, 192), 0.1  # values that are neither black nor white, and their largest share


def read_photo(path: Path) -> NDArray[np.uint8]:
    """Read a picture as viewers show it: upright, transparency on white, 8 bits, (H, W, 3) RGB.

    Raises
    ------
    InputError
        If the file cannot be read, is not a picture, is animated, has 32 bits per pixel, uses only a part of 16 bits,
        or is too large.
    """
    return photo_of(bytes_of(path), path)


def photo_of(data: bytes, path: Path, most_pixels: int | None = None) -> NDArray[np.uint8]:
    """Decode a picture from its file's bytes, like :func:`read_photo`; ``path`` is for messages."""
    return rgb(decode(data, str(path), REMEDY, most_pixels))


def rgb_values(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """Convert an open picture to (H, W, 3) RGB, like :func:`read_photo`; ``name`` is for messages."""
    return rgb(wrap(image, name, REMEDY))


def read_mask(path: Path, label: int = 0) -> NDArray[np.uint8]:
    """Read a mask, (H, W) uint8: 1 for the object, 0 for the rest, and 255 for void pixels.

    Parameters
    ----------
    path
        A file with one channel, or with three equal ones. A mask in a lossy format (JPEG, WebP) is cut at half, with a
        warning.
    label
        Number of the object in the file, whose format must keep numbers (PNG, BMP, TIFF); 255 then marks void pixels.
        With 0, the file must hold 0 and one other value, which is the object.

    Raises
    ------
    InputError
        If the file cannot be read, is in colour, or holds other values.
    """
    data = bytes_of(path)
    mask = mask_of(data, path, label)
    if is_lossy(data):
        warnings.warn(f"{path}: a mask in a lossy format, cut at half; PNG keeps the borders exact", stacklevel=2)
    return mask


def mask_of(data: bytes, path: Path, label: int = 0, most_pixels: int | None = None) -> NDArray[np.uint8]:
    """Decode a mask from its file's bytes, like :func:`read_mask`; ``path`` is for messages."""
    return _values(decode(data, str(path), REMEDY, most_pixels), label)


def mask_values(image: Image.Image, name: str, label: int = 0) -> NDArray[np.uint8]:
    """Convert an open picture to a mask, like :func:`read_mask`; ``name`` is for messages."""
    return _values(wrap(image, name, REMEDY), label)


def read_class_mask(path: Path, classes: int) -> NDArray[np.uint8]:
    """Read a mask of several classes, (H, W) uint8: 1 … K the classes, 0 the background, 255 void.

    Raises
    ------
    InputError
        If the file cannot be read, does not keep numbers exactly, or holds other numbers.
    """
    return class_mask_of(bytes_of(path), path, classes)


def class_mask_of(data: bytes, path: Path, classes: int, most_pixels: int | None = None) -> NDArray[np.uint8]:
    """Decode a mask of several classes from its file's bytes, like :func:`read_class_mask`."""
    return _class_values(decode(data, str(path), REMEDY, most_pixels), classes)


def class_mask_values(image: Image.Image, name: str, classes: int) -> NDArray[np.uint8]:
    """Convert an open picture to a mask of several classes; ``name`` is for messages."""
    return _class_values(wrap(image, name, REMEDY), classes)


def _class_values(picture: Picture, classes: int) -> NDArray[np.uint8]:
    values = _numbers(picture)
    check_class_values(values, picture.name, classes)
    return values.astype(np.uint8)


def check_class_values(values: NDArray[Any], name: str, classes: int) -> None:
    """Check that a mask holds only 0, 1 … K and 255.

    Raises
    ------
    InputError
        If it holds another number; the message lists those that it holds.
    """
    distinct = np.unique(values).tolist()
    if any(value != VOID and not 0 <= value <= classes for value in distinct):
        listing = ", ".join(map(str, distinct[:SEVERAL])) + ("…" if len(distinct) > SEVERAL else "")
        raise InputError(
            f"{name}: holds the numbers {listing}; expected 0 (background), 1 to {classes} (the classes) and 255 (void)"
        )


def bytes_of(path: Path) -> bytes:
    """Read a file's bytes.

    Raises
    ------
    InputError
        If the file cannot be read, or is too long.
    """
    try:
        return read_bytes(path, "fix or remove it")
    except FileNotFoundError:
        raise InputError(f"{path}: cannot be read (No such file or directory); fix or remove it") from None


def _values(picture: Picture, label: int) -> NDArray[np.uint8]:
    name, image = picture.name, picture.upright()
    if image.mode == "F":
        raise InputError(f"{name}: has floating-point values; expected one integer per pixel")
    if picture.depth > 8 and image.mode not in (*WIDE, "I"):
        raise InputError(f"{name}: the mask is {picture.kind}; expected grey, palette or RGB values of 8 bits")
    if label:
        values = _numbers(picture)
        return np.where(values == label, 1, np.where(values == VOID, VOID, 0)).astype(np.uint8)
    with damage_as_input_error(name, picture.remedy):
        grey: NDArray[Any] = np.array(image) if image.mode in (*WIDE, "I") else _grey(image, name, picture.lossy)
    if picture.lossy:
        return _cut(grey, name)
    is_small = grey.dtype == np.uint8  # for which counting is faster than sorting
    distinct = (np.flatnonzero(np.bincount(grey.reshape(-1))) if is_small else np.unique(grey)).tolist()
    if len(distinct) > 2 or (len(distinct) == 2 and distinct[0] != 0):
        listing = ", ".join(map(str, distinct[:SEVERAL])) + ("…" if len(distinct) > SEVERAL else "")
        raise InputError(
            f"{name}: holds {len(distinct)} values ({listing}); expected 0 and one other; save the mask without "
            "smoothing, or give the number of the object with --label"
        )
    return (grey > 0).astype(np.uint8)


def _numbers(picture: Picture) -> NDArray[Any]:
    """Return the numbers of a mask of several objects, upright, from one channel or three equal ones."""
    if picture.exact and picture.image.mode in ("RGB", "LA", "RGBA"):
        with damage_as_input_error(picture.name, picture.remedy):
            return _grey(picture.upright(), picture.name)
    check_palette(picture, has_background=False)
    return index_numbers(picture)


def _cut(values: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """Cut a mask in a lossy format, whose values lie near 0 and 255, at half."""
    low, high = UNCLEAR
    unclear = float(((values >= low) & (values < high)).mean())
    if unclear > MOST_UNCLEAR or values.max() < HALF:
        fault = f"{unclear:.0%} of it is neither" if unclear > MOST_UNCLEAR else f"its largest value is {values.max()}"
        raise InputError(
            f"{name}: a mask in a lossy format; expected black and white, of values near 0 and 255, but {fault}; save "
            "it as PNG"
        )
    return (values >= HALF).astype(np.uint8)


def _grey(image: Image.Image, name: str, lossy: bool = False) -> NDArray[np.uint8]:
    """Return the grey values of a mask, or 0 and 1 for a palette of black and one colour."""
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise InputError(f"{name}: the mask has the mode {image.mode}; expected grey, palette or RGB values")
    if image.has_transparency_data and np.array(image.convert("RGBA").getchannel("A")).min() < VOID:
        raise InputError(f"{name}: the mask is partly transparent; expected opaque values, 0 and one other")
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))
    channels = np.array(image.convert("RGB"))
    if (channels == channels[:, :, :1]).all():
        return channels[:, :, 0]
    if lossy and np.ptp(channels, axis=2).max() <= MOST_SPREAD:
        return np.array(image.convert("L"))
    if image.mode == "P" and _is_black_and_one_other(np.asarray(image), channels):
        return np.asarray(channels.any(axis=2), np.uint8)
    hint = ", or give the object's number with --label" if image.mode == "P" else ""
    raise InputError(f"{name}: the mask has colours; expected black and one other{hint}")


def _is_black_and_one_other(indices: NDArray[np.uint8], colours: NDArray[np.uint8]) -> bool:
    """Return whether a palette picture consists of black and one other colour."""
    table = np.zeros((256, 3), np.uint8)
    table[indices] = colours
    shown = table[np.flatnonzero(np.bincount(indices.reshape(-1)))].tolist()
    return [0, 0, 0] in shown and len({tuple(colour) for colour in shown}) == 2
