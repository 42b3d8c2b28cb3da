"""Reader of the VOC layout: ``JPEGImages``, ``SegmentationClass`` (index PNG, 255 void), ``ImageSets/Segmentation``."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

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


def read_lists(root: Path, train_list: str, val_list: str) -> list[Entry]:
    """Ids of both lists in order.

    Raises
    ------
    InputError
        If a list is missing or empty, or names an id twice (in one list or in both).
    """
    entries: list[Entry] = []
    seen: dict[str, str] = {}
    for split, name in enumerate((train_list, val_list)):
        path = root / "ImageSets" / "Segmentation" / f"{name}.txt"
        try:
            lines = path.read_text(encoding="utf8").splitlines()
            ids = [line.strip() for line in lines if line.strip()]
        except FileNotFoundError:
            raise InputError(f"{path}: no such list; expected the VOC layout under {root}") from None
        if not ids:
            raise InputError(f"{path}: the list is empty; expected one image id a line")
        spaced = [image_id for image_id in ids if len(image_id.split()) > 1]
        if spaced:
            raise InputError(f"{path}: the id '{spaced[0]}' holds a space; rename its files")
        for image_id in ids:
            if image_id in seen:
                raise InputError(f"{path}: '{image_id}' is listed twice (also in {seen[image_id]}.txt); keep one")
            seen[image_id] = name
            entries.append(Entry(image_id, len(entries), split))
    return entries


def read_pair(root: Path, entry: Entry, classes: int) -> Pair:
    """Read and check one image and its mask.

    Parameters
    ----------
    root
        Folder in VOC layout.
    entry
        The image.
    classes
        Number of classes; labels above it, 255 excepted, are refused.

    Raises
    ------
    InputError
        If a file is missing, does not decode whole, the sizes differ, or the mask is not an index mask.
    """
    image_path = root / "JPEGImages" / f"{entry.name}.jpg"
    mask_path = root / "SegmentationClass" / f"{entry.name}.png"
    image_bytes, image = _decode(image_path)
    mask_bytes, mask = _decode(mask_path)
    if image.mode not in ("L", "P", "RGB", "CMYK"):
        raise InputError(
            f"{image_path}: the image is {image.mode}; expected 8-bit grey, palette, RGB or CMYK; convert it"
        )
    if image.getexif().get(ORIENTATION, 1) != 1:
        raise InputError(
            f"{image_path}: the image carries a rotation tag; rotate its pixels, and its mask's, and drop the tag"
        )
    if mask.mode not in ("P", "L"):
        raise InputError(
            f"{mask_path}: the mask is {mask.mode}; expected one class number a pixel (palette or 8-bit grey PNG)"
        )
    if mask.size != image.size:
        raise InputError(
            f"{mask_path}: the mask is {mask.width}×{mask.height} px, its image {image.width}×{image.height}; "
            "make them equal"
        )
    counts = np.bincount(np.asarray(mask).reshape(-1), minlength=256)
    wrong = np.flatnonzero(counts[classes + 1 : VOID]) + classes + 1
    if wrong.size:
        raise InputError(f"{mask_path}: label {wrong[0]} found; expected 0…{classes} and 255")
    return Pair(
        entry,
        image.height,
        image.width,
        counts[: classes + 1].astype(np.int64),
        int(counts[VOID]),
        image_bytes,
        mask_bytes,
    )


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
