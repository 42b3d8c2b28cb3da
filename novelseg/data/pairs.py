"""Images with their index masks: reading, checks, pixel counts, encoding and decoding."""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from novelseg.core.errors import InputError
from novelseg.core.labels import VOID

ORIENTATION = 0x0112  # EXIF tag


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
        If the file cannot be read, is not text, or has more than an id in a line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected one image id per line") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file; expected one image id per line") from None
    ids = [line.strip() for line in lines if line.strip()]
    spaced = [image_id for image_id in ids if len(image_id.split()) > 1]
    if spaced:
        raise InputError(f"{path}: the id '{spaced[0]}' contains a space; expected one image id per line")
    return ids


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
        spaced = [image_id for image_id in ids if len(image_id.split()) > 1]
        if spaced:
            raise InputError(f"{where}: the id '{spaced[0]}' contains a space; rename its files")
        for image_id in ids:
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
    data, image = _decode(path)
    if image.mode not in ("L", "P", "RGB", "CMYK"):
        raise InputError(f"{path}: the image is {image.mode}; expected 8-bit grey, palette, RGB or CMYK; convert it")
    if image.getexif().get(ORIENTATION, 1) != 1:
        raise InputError(
            f"{path}: the image has an EXIF rotation tag; rotate the pixels of image and mask, and remove the tag"
        )
    return ImageFile(path, data, image.height, image.width)


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
        If the mask is missing, does not decode completely, differs in size from the image, or is not an index mask.
    """
    data, mask = _decode(mask_path)
    if mask.mode not in ("P", "L"):
        raise InputError(
            f"{mask_path}: the mask is {mask.mode}; expected one class number per pixel (palette or 8-bit grey PNG)"
        )
    image.check_size(mask.height, mask.width, str(mask_path))
    return _pair(entry, image, np.asarray(mask), data, str(mask_path), classes)


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
        If the mask differs in size from the image, or has a label that is no class.
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


def _decode(path: Path) -> tuple[NDArray[np.uint8], Image.Image]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file, although its id is listed; add it, or list the id in images.exclude, in quotes"
        ) from None
    except (OSError, ValueError) as error:  # a folder, a name that is too long or has a zero byte, a lack of permission
        raise InputError(
            f"{path}: cannot be read ({error}); fix it, or list its id in images.exclude, in quotes"
        ) from None
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise InputError(
            f"{path}: does not decode ({reason}); replace the file, or list its id in images.exclude, in quotes"
        ) from None
    return np.frombuffer(data, np.uint8), image


def decode_rgb(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Decode the bytes of an image to RGB, (H, W, 3)."""
    with Image.open(io.BytesIO(data.tobytes())) as image:
        return np.array(image.convert("RGB"))


def decode_mask(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Decode the bytes of a mask to labels, (H, W)."""
    with Image.open(io.BytesIO(data.tobytes())) as image:
        return np.array(image)
