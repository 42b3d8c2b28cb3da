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
from novelseg.data.classes import VOC, VOC_COLOURS
from novelseg.data.pictures import (
    WIDE,
    Picture,
    check_palette,
    damage_as_input_error,
    decode,
    index_numbers,
    rgb,
    wrap,
)
from novelseg.data.rawfiles import read_bytes
from novelseg.inference.twotone import SEVERAL, grey_from_colours, mask_from_grey

REMEDY = "copy it again or remove it"
MOST_SPREAD = 64  # between the channels of a grey pixel in a lossy format


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
        A file of two values or colours. If they are clearly two, but the format is lossy (JPEG, WebP, AVIF) or the
        edges are smoothed, the mask is cut at half, with a warning. Of two colours, black is the background; without
        black, it is the number 0 of a palette, or else the colour of the picture's border, with a warning.
    label
        Number of the object in the file, whose format must keep numbers (PNG, BMP, TIFF); 255 then marks void pixels.
        With 0, the file must hold an object and a background alone.

    Raises
    ------
    InputError
        If the file cannot be read, or holds other values or colours.
    """
    return _warned(*mask_of(bytes_of(path), path, label), str(path))


def mask_of(data: bytes, path: Path, label: int = 0, most_pixels: int | None = None) -> tuple[NDArray[np.uint8], str]:
    """Decode a mask from its file's bytes, like :func:`read_mask`, and return it with a note in place of the warning.

    The note, which is empty for a mask of exact values, does not name the file; ``path`` is for messages.
    """
    return _values(decode(data, str(path), REMEDY, most_pixels), label)


def mask_values(image: Image.Image, name: str, label: int = 0) -> NDArray[np.uint8]:
    """Convert an open picture to a mask, like :func:`read_mask`; ``name`` is for messages."""
    return _warned(*_values(wrap(image, name, REMEDY), label), name)


def _warned(mask: NDArray[np.uint8], note: str, name: str) -> NDArray[np.uint8]:
    if note:
        warnings.warn(f"{name}: {note}", stacklevel=3)
    return mask


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


def _values(picture: Picture, label: int) -> tuple[NDArray[np.uint8], str]:
    """Return the mask of an object, and a note about how it was read; empty if its values are exact."""
    name, image = picture.name, picture.upright()
    if image.mode == "F":
        raise InputError(f"{name}: has floating-point values; expected one integer per pixel")
    if picture.depth > 8 and image.mode not in (*WIDE, "I"):
        raise InputError(f"{name}: the mask is {picture.kind}; expected grey, palette or RGB values of 8 bits")
    if label:
        values = _numbers(picture)
        return np.where(values == label, 1, np.where(values == VOID, VOID, 0)).astype(np.uint8), ""
    with damage_as_input_error(name, picture.remedy):
        if image.mode in (*WIDE, "I"):
            return mask_from_grey(np.array(image), name, picture.lossy)
        channels = _channels(image, name)
        if (channels == channels[:, :, :1]).all():
            return mask_from_grey(channels[:, :, 0], name, picture.lossy)
        if picture.lossy and np.ptp(channels, axis=2).max() <= MOST_SPREAD:
            return mask_from_grey(np.array(image.convert("L")), name, lossy=True)
        if image.mode == "P":
            return _of_palette(np.asarray(image), channels, name)
        grey, note = grey_from_colours(channels, name)
        mask, edges = mask_from_grey(grey, name, picture.lossy)
    return mask, "; ".join(part for part in (note, edges) if part)


def _channels(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """Return the colours of a mask without transparency, (H, W, 3)."""
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise InputError(f"{name}: the mask has the mode {image.mode}; expected grey, palette or RGB values")
    if image.has_transparency_data and np.array(image.convert("RGBA").getchannel("A")).min() < VOID:
        raise InputError(f"{name}: the mask is partly transparent; expected opaque values, 0 and one other")
    if image.mode in ("1", "L"):
        return np.broadcast_to(np.array(image.convert("L"))[:, :, None], (image.height, image.width, 3))
    return np.array(image.convert("RGB"))


def _of_palette(numbers: NDArray[np.uint8], colours: NDArray[np.uint8], name: str) -> tuple[NDArray[np.uint8], str]:
    """Return the mask of a palette picture in colours: its background is black, or else the number 0."""
    table = np.zeros((256, 3), np.uint8)
    table[numbers] = colours
    used = np.flatnonzero(np.bincount(numbers.reshape(-1))).tolist()
    distinct = {tuple(table[number].tolist()) for number in used}
    if len(distinct) == 2 and (0, 0, 0) in distinct:
        return np.asarray(colours.any(axis=2), np.uint8), ""
    if len(used) == 2 and used[0] == 0:
        return (numbers > 0).astype(np.uint8), ""
    known = {number: VOC[number - 1] for number in used if 0 < number <= len(VOC)}
    is_voc = all(VOC_COLOURS.get(tuple(table[number].tolist())) == number for number in used)
    shown = [f"{number} ({known[number]})" if is_voc and number in known else str(number) for number in used]
    listing = ", ".join(shown[:SEVERAL]) + ("…" if len(shown) > SEVERAL else "")
    raise InputError(
        f"{name}: the mask has the numbers {listing}; expected 0 and one other; give the number of the object with "
        "--label, or name all of them with --classes"
    )


def _numbers(picture: Picture) -> NDArray[Any]:
    """Return the numbers of a mask of several objects, upright, from one channel or three equal ones."""
    if picture.exact and picture.depth <= 8 and picture.image.mode in ("RGB", "LA", "RGBA"):
        with damage_as_input_error(picture.name, picture.remedy):
            return _grey(picture.upright(), picture.name)
    check_palette(picture, has_background=False)
    return index_numbers(picture)


def _grey(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """Return the grey values of a mask that has three equal channels."""
    channels = _channels(image, name)
    if not (channels == channels[:, :, :1]).all():
        raise InputError(f"{name}: the mask has colours; expected one number per pixel")
    return channels[:, :, 0]
