"""An image and its index mask: read, checked, counted, encoded, and decoded again."""

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


@dataclass(frozen=True)
class Picture:
    """An image as it lies on disk: it decodes whole, and is of a kind that cannot be misread."""

    path: Path
    data: NDArray[np.uint8]  # bytes
    height: int
    width: int

    def must_be(self, height: int, width: int, where: str) -> None:
        """Refuse a mask of another size than the image.

        Raises
        ------
        InputError
            Naming ``where`` the mask comes from, and both sizes.
        """
        if (height, width) != (self.height, self.width):
            raise InputError(
                f"{where}: the mask is {width}×{height} px, its image {self.path.name} {self.width}×{self.height}; "
                "make them equal"
            )


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


def read_ids(path: Path) -> list[str]:
    """Ids of a list, one a line.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If it is no text, or a line holds more than an id.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected one image id a line") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file; expected one image id a line") from None
    ids = [line.strip() for line in lines if line.strip()]
    spaced = [image_id for image_id in ids if len(image_id.split()) > 1]
    if spaced:
        raise InputError(f"{path}: the id '{spaced[0]}' holds a space; expected one image id a line")
    return ids


def in_order(lists: list[tuple[str, list[str]]], exclude: Collection[str]) -> list[Entry]:
    """Entries of the training and the validation list.

    Parameters
    ----------
    lists
        Where each list comes from, for messages, and its ids.
    exclude
        Ids that are left out.

    Raises
    ------
    InputError
        If a list is empty, an id holds a space or is listed twice (in one list or in both), or one to be left out is
        in neither.
    """
    entries: list[Entry] = []
    seen: dict[str, str] = {}
    for split, (where, ids) in enumerate(lists):
        if not set(ids) - set(exclude):
            raise InputError(f"{where}: the list is empty; expected one image id a line")
        spaced = [image_id for image_id in ids if len(image_id.split()) > 1]
        if spaced:
            raise InputError(f"{where}: the id '{spaced[0]}' holds a space; rename its files")
        for image_id in ids:
            if image_id in seen:
                raise InputError(f"{where}: '{image_id}' is listed twice (also in {seen[image_id]}); keep one")
            seen[image_id] = Path(where).name
            if image_id not in exclude:
                entries.append(Entry(image_id, len(entries), split))
    unknown = sorted(set(exclude) - seen.keys())
    if unknown:
        raise InputError(f"images.exclude names '{unknown[0]}', which is in neither list; take it out")
    return entries


def read_picture(path: Path) -> Picture:
    """Read and check an image.

    Raises
    ------
    InputError
        If the file is missing, does not decode whole, has 16 bits or transparency, or carries a rotation tag.
    """
    data, image = _decode(path)
    if image.mode not in ("L", "P", "RGB", "CMYK"):
        raise InputError(f"{path}: the image is {image.mode}; expected 8-bit grey, palette, RGB or CMYK; convert it")
    if image.getexif().get(ORIENTATION, 1) != 1:
        raise InputError(
            f"{path}: the image carries a rotation tag; rotate its pixels, and its mask's, and drop the tag"
        )
    return Picture(path, data, image.height, image.width)


def pair_from_file(entry: Entry, picture: Picture, mask_path: Path, classes: int) -> Pair:
    """Put an image and its mask file together (PNG, palette or 8-bit grey, one class number a pixel).

    Parameters
    ----------
    entry
        The image.
    picture
        Its file.
    mask_path
        The mask's.
    classes
        Number of classes; labels above it, 255 excepted, are refused.

    Raises
    ------
    InputError
        If the mask is missing, does not decode whole, is of another size, or is not an index mask.
    """
    data, mask = _decode(mask_path)
    if mask.mode not in ("P", "L"):
        raise InputError(
            f"{mask_path}: the mask is {mask.mode}; expected one class number a pixel (palette or 8-bit grey PNG)"
        )
    picture.must_be(mask.height, mask.width, str(mask_path))
    return _pair(entry, picture, np.asarray(mask), data, str(mask_path), classes)


def pair_from_labels(entry: Entry, picture: Picture, labels: NDArray[np.uint8], where: str, classes: int) -> Pair:
    """Put an image and a mask together that is no file yet; it is encoded as PNG.

    Parameters
    ----------
    entry, picture, classes
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
    picture.must_be(labels.shape[0], labels.shape[1], where)
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return _pair(entry, picture, labels, np.frombuffer(buffer.getvalue(), np.uint8), where, classes)


def _pair(
    entry: Entry, picture: Picture, labels: NDArray[np.uint8], mask: NDArray[np.uint8], where: str, classes: int
) -> Pair:
    counts = np.bincount(labels.reshape(-1), minlength=256)
    wrong = np.flatnonzero(counts[classes + 1 : VOID]) + classes + 1
    if wrong.size:
        raise InputError(f"{where}: label {wrong[0]} found; expected 0…{classes} and 255")
    known = counts[: classes + 1].astype(np.int64)
    return Pair(entry, picture.height, picture.width, known, int(counts[VOID]), picture.data, mask)


def _decode(path: Path) -> tuple[NDArray[np.uint8], Image.Image]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file, though its id is listed; add it, or name the id, in quotes, in images.exclude"
        ) from None
    except (OSError, ValueError) as error:  # a folder, a name too long or with a zero byte, no right to read
        raise InputError(
            f"{path}: cannot be read ({error}); mend it, or name its id, in quotes, in images.exclude"
        ) from None
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise InputError(
            f"{path}: does not decode ({reason}); replace the file, or name its id, in quotes, in images.exclude"
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
