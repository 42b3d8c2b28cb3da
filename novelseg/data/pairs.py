"""Images with their index masks: reading, checks, pixel counts, encoding and decoding."""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from novelseg.core.errors import InputError
from novelseg.core.labels import VOID
from novelseg.data.pictures import Picture, check_palette, decode, index_numbers
from novelseg.data.rawfiles import read_bytes, read_text

REPLACE = "replace the file, or list its id in images.exclude, in quotes"


@dataclass(frozen=True)
class Entry:
    """One image of a data set.

    Attributes
    ----------
    name
        Image id.
    position
        Position in the training list followed by the validation list.
    split
        0 for the training list, 1 for the validation list.
    """

    name: str
    position: int
    split: int


@dataclass(frozen=True)
class Pair:
    """An image and its index mask, encoded, with pixel counts."""

    entry: Entry
    height: int
    width: int
    pixels: NDArray[np.int64]  # (C + 1,)
    void: int
    image: NDArray[np.uint8]  # bytes
    mask: NDArray[np.uint8]  # bytes


@dataclass(frozen=True)
class ImageFile:
    """A checked image file: it decodes completely, and its mode and orientation are unambiguous."""

    path: Path
    data: NDArray[np.uint8]  # bytes
    height: int
    width: int

    def check_size(self, height: int, width: int, where: str) -> None:
        """Check that a mask has the size of the image.

        Raises
        ------
        InputError
            If the sizes differ; the message names ``where`` the mask comes from.
        """
        if (height, width) != (self.height, self.width):
            raise InputError(
                f"{where}: the mask is {width}×{height} px, its image {self.path.name} {self.width}×{self.height}; "
                "make them equal"
            )


class Reader(Protocol):
    """Reader of a data set for the stage `images`."""

    @property
    def names(self) -> list[str]:
        """Names of the classes 1…C."""

    @property
    def entries(self) -> list[Entry]:
        """Entries of the training list, then those of the validation list."""

    def read(self, entry: Entry) -> Pair:
        """Read one image and its mask; raise :class:`InputError` if either is faulty."""


def read_ids(path: Path) -> list[str]:
    """Read the ids of a list file, one per line.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If the file cannot be read, is not text, or has more than one id in a line.
    """
    lines = [line.strip(" \t") for line in read_text(path, "one image id per line").split("\n")]
    ids = [line for line in lines if line]
    for image_id in ids:
        _check_id(image_id, str(path), "expected one image id per line")
    return ids


def _check_id(image_id: str, where: str, remedy: str) -> None:
    """Refuse an id with a space, or with a character that would break the lines of a list or table."""
    if len(image_id.replace("\t", " ").split(" ")) > 1:
        raise InputError(f"{where}: the id '{image_id}' contains a space; {remedy}")
    if not image_id.isprintable():
        raise InputError(f"{where}: the id {image_id!a} contains a character that cannot be printed; {remedy}")


def make_entries(lists: list[tuple[str, list[str]]], exclude: Collection[str]) -> list[Entry]:
    """Make the entries of the training list, then those of the validation list.

    Parameters
    ----------
    lists
        Origin of each list, for messages, and its ids.
    exclude
        Ids to leave out.

    Raises
    ------
    InputError
        If a list is empty, an id contains a space or is listed twice (in one list or in both), or an id to leave out
        is in neither.
    """
    entries: list[Entry] = []
    seen: dict[str, str] = {}
    for split, (where, ids) in enumerate(lists):
        if not set(ids) - set(exclude):
            raise InputError(f"{where}: the list is empty; expected one image id per line")
        for image_id in ids:
            _check_id(image_id, where, "rename its files")
            if image_id in seen:
                raise InputError(f"{where}: '{image_id}' is listed twice (also in {seen[image_id]}); keep one")
            seen[image_id] = Path(where).name
            if image_id not in exclude:
                entries.append(Entry(image_id, len(entries), split))
    unknown = sorted(set(exclude) - seen.keys())
    if unknown:
        raise InputError(f"images.exclude names '{unknown[0]}', which is in neither list; remove it")
    return entries


def read_image(path: Path) -> ImageFile:
    """Read and check an image file.

    Raises
    ------
    InputError
        If the file is missing, does not decode completely, has 16 bits or transparency, or has a rotation tag.
    """
    data, picture = _decode(path)
    if picture.depth > 8 or picture.image.mode not in ("L", "P", "RGB", "CMYK") or picture.is_transparent:
        clear = picture.depth <= 8 and picture.image.mode in ("L", "P", "RGB")
        kind = picture.kind + (" with transparent pixels" if clear else "")
        raise InputError(f"{path}: the image is {kind}; expected 8-bit grey, palette, RGB or CMYK; convert it")
    _check_orientation(picture, "image")
    return ImageFile(path, data, picture.image.height, picture.image.width)


def pair_from_file(entry: Entry, image: ImageFile, mask_path: Path, classes: int) -> Pair:
    """Combine an image with its mask file, a palette or 8-bit grey PNG with one class number per pixel.

    Parameters
    ----------
    entry
        Entry of the image.
    image
        Image file.
    mask_path
        Path of the mask.
    classes
        Number of classes; larger labels, except 255, are refused.

    Raises
    ------
    InputError
        If the mask is missing, does not decode completely, differs in size from the image, is not an index mask, or
        has no object although pixels are void.
    """
    data, mask = _decode(mask_path)
    if mask.format != "PNG":
        raise InputError(
            f"{mask_path}: a {mask.format} file, whose numbers are not exact; expected a palette or grey PNG; save the "
            "mask again from its source"
        )
    _check_orientation(mask, "mask")
    numbers = index_numbers(mask)
    check_palette(mask, has_background=True)
    if mask.depth > 8:
        raise InputError(
            f"{mask_path}: the mask is {mask.kind}; expected one class number per pixel (palette or 8-bit grey PNG)"
        )
    labels = numbers.astype(np.uint8)
    image.check_size(labels.shape[0], labels.shape[1], str(mask_path))
    if mask.image.mode == "P" or mask.depth == 8:
        pair = _pair(entry, image, labels, data, str(mask_path), classes)
    else:  # Pillow would stretch the numbers
        pair = pair_from_labels(entry, image, labels, str(mask_path), classes)
    if pair.void and not pair.pixels[1:].any():
        raise InputError(
            f"{mask_path}: contains only 0 and 255, and 255 is void, so it has no object; write class numbers "
            f"1…{classes} into the mask, or list its id in images.exclude, in quotes"
        )
    return pair


def pair_from_labels(entry: Entry, image: ImageFile, labels: NDArray[np.uint8], where: str, classes: int) -> Pair:
    """Combine an image with a mask that is not yet a file; the mask is encoded as PNG.

    Parameters
    ----------
    entry, image, classes
        See :func:`pair_from_file`.
    labels : (H, W) uint8
        The mask.
    where
        Origin of the mask, for messages.

    Raises
    ------
    InputError
        If the mask differs in size from the image, or has a label that is not a class.
    """
    image.check_size(labels.shape[0], labels.shape[1], where)
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return _pair(entry, image, labels, np.frombuffer(buffer.getvalue(), np.uint8), where, classes)


def _pair(
    entry: Entry, image: ImageFile, labels: NDArray[np.uint8], mask: NDArray[np.uint8], where: str, classes: int
) -> Pair:
    counts = np.bincount(labels.reshape(-1), minlength=256)
    wrong = np.flatnonzero(counts[classes + 1 : VOID]) + classes + 1
    if wrong.size:
        raise InputError(f"{where}: contains the label {wrong[0]}; expected 0…{classes} and 255; correct the mask")
    pixels = counts[: classes + 1].astype(np.int64)
    return Pair(entry, image.height, image.width, pixels, int(counts[VOID]), image.data, mask)


def _check_orientation(picture: Picture, what: str) -> None:
    if picture.orientation != 1:
        raise InputError(
            f"{picture.name}: the {what} has an EXIF rotation tag; rotate the pixels of image and mask, and remove the "
            "tag"
        )


def _decode(path: Path) -> tuple[NDArray[np.uint8], Picture]:
    try:
        data = read_bytes(path, "fix it, or list its id in images.exclude, in quotes")
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file, although its id is listed; add it, or list the id in images.exclude, in quotes"
        ) from None
    return np.frombuffer(data, np.uint8), decode(data, str(path), REPLACE)
