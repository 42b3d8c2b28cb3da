"""An image and its index mask: read, checked, counted, encoded, and decoded again."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stages.core.errors import InputError
from stages.core.labels import VOID

ORIENTATION = 0x0112  # EXIF tag


@dataclass(frozen=True)
class Entry:
    """One image of a data set.

    Attributes
    ----------
    name
        Image id.
    position
        Place in the training list followed by the validation list.
    split
        0 training, 1 validation.
    """

    name: str
    position: int
    split: int


@dataclass(frozen=True)
class Pair:
    """An image and its index mask, encoded and counted."""

    entry: Entry
    height: int
    width: int
    pixels: NDArray[np.int64]  # (C + 1,)
    void: int
    image: NDArray[np.uint8]  # bytes
    mask: NDArray[np.uint8]  # bytes


class Reader(Protocol):
    """A data set as the stage `images` reads it."""

    @property
    def names(self) -> list[str]:
        """Names of classes 1…C."""

    @property
    def entries(self) -> list[Entry]:
        """All images of both lists, in order."""

    def read(self, entry: Entry) -> Pair:
        """One image and its mask; :class:`InputError` if either is faulty."""


def in_order(lists: list[tuple[str, list[str]]]) -> list[Entry]:
    """Entries of the training and the validation list.

    Parameters
    ----------
    lists
        Where each list comes from, for messages, and its ids.

    Raises
    ------
    InputError
        If a list is empty, or an id holds a space or is listed twice (in one list or in both).
    """
    entries: list[Entry] = []
    seen: dict[str, str] = {}
    for split, (where, ids) in enumerate(lists):
        if not ids:
            raise InputError(f"{where}: the list is empty; expected one image id a line")
        spaced = [image_id for image_id in ids if len(image_id.split()) > 1]
        if spaced:
            raise InputError(f"{where}: the id '{spaced[0]}' holds a space; rename its files")
        for image_id in ids:
            if image_id in seen:
                raise InputError(f"{where}: '{image_id}' is listed twice (also in {seen[image_id]}); keep one")
            seen[image_id] = Path(where).name
            entries.append(Entry(image_id, len(entries), split))
    return entries


def pair_from_file(entry: Entry, image_path: Path, mask_path: Path, classes: int) -> Pair:
    """Read and check an image and its mask, one class number a pixel (PNG, palette or 8-bit grey).

    Parameters
    ----------
    entry
        The image.
    image_path, mask_path
        Its files.
    classes
        Number of classes; labels above it, 255 excepted, are refused.

    Raises
    ------
    InputError
        If a file is missing, does not decode whole, the sizes differ, or the mask is not an index mask.
    """
    image = _read_image(image_path)
    mask_bytes, mask = _decode(mask_path)
    if mask.mode not in ("P", "L"):
        raise InputError(
            f"{mask_path}: the mask is {mask.mode}; expected one class number a pixel (palette or 8-bit grey PNG)"
        )
    return _pair(entry, image_path, image, np.asarray(mask), mask_bytes, str(mask_path), classes)


def pair_from_labels(entry: Entry, image_path: Path, labels: NDArray[np.uint8], where: str, classes: int) -> Pair:
    """Read and check an image, and encode its mask as PNG.

    Parameters
    ----------
    entry, image_path, classes
        As of :func:`pair_from_file`.
    labels : (H, W) uint8
        The mask.
    where
        What it was made from, for messages.

    Raises
    ------
    InputError
        As :func:`pair_from_file`.
    """
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    encoded = np.frombuffer(buffer.getvalue(), np.uint8)
    return _pair(entry, image_path, _read_image(image_path), labels, encoded, where, classes)


def _pair(
    entry: Entry,
    image_path: Path,
    image: tuple[NDArray[np.uint8], Image.Image],
    labels: NDArray[np.uint8],
    mask_bytes: NDArray[np.uint8],
    where: str,
    classes: int,
) -> Pair:
    image_bytes, picture = image
    height, width = labels.shape
    if (width, height) != picture.size:
        raise InputError(
            f"{where}: the mask is {width}×{height} px, its image {image_path.name} "
            f"{picture.width}×{picture.height}; make them equal"
        )
    counts = np.bincount(labels.reshape(-1), minlength=256)
    wrong = np.flatnonzero(counts[classes + 1 : VOID]) + classes + 1
    if wrong.size:
        raise InputError(f"{where}: label {wrong[0]} found; expected 0…{classes} and 255")
    known = counts[: classes + 1].astype(np.int64)
    return Pair(entry, height, width, known, int(counts[VOID]), image_bytes, mask_bytes)


def _read_image(path: Path) -> tuple[NDArray[np.uint8], Image.Image]:
    data, image = _decode(path)
    if image.mode not in ("L", "P", "RGB", "CMYK"):
        raise InputError(f"{path}: the image is {image.mode}; expected 8-bit grey, palette, RGB or CMYK; convert it")
    if image.getexif().get(ORIENTATION, 1) != 1:
        raise InputError(
            f"{path}: the image carries a rotation tag; rotate its pixels, and its mask's, and drop the tag"
        )
    return data, image


def _decode(path: Path) -> tuple[NDArray[np.uint8], Image.Image]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file, though its id is listed; add it or take the id out of the list"
        ) from None
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise InputError(
            f"{path}: does not decode ({reason}); replace the file or take its id out of the list"
        ) from None
    return np.frombuffer(data, np.uint8), image


def decode_rgb(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Encoded bytes to (H, W, 3) RGB."""
    with Image.open(io.BytesIO(data.tobytes())) as image:
        return np.array(image.convert("RGB"))


def decode_mask(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Encoded bytes to (H, W) labels."""
    with Image.open(io.BytesIO(data.tobytes())) as image:
        return np.array(image)
