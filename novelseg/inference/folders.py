"""Folders of supports and queries."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.core.labels import VOID
from novelseg.core.progress import say
from novelseg.data.pictures import ENDINGS, SIGNATURE_BYTES, has_picture_signature
from novelseg.inference.inputs import resize_pair
from novelseg.inference.photos import bytes_of, class_mask_of, mask_of, read_photo

IMAGES, MASKS = "images", "masks"
EMPTY = "an empty mask, whose picture shows what is not looked for"
SEVERAL = 5  # names that a message lists
LONGEST_NAME = 230  # bytes of a picture's name; scratch files and masks add to it, and file systems allow 255


@dataclass(frozen=True)
class Support:
    """A picture and its mask at the size that the network sees.

    Attributes
    ----------
    path
        The picture's file.
    image : (H, W, 3)
        RGB.
    mask : (H, W)
        0 background, 1 … K classes, 255 void.
    """

    path: Path
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def pictures_in(folder: Path, option: str) -> list[Path]:
    """Return the pictures in a folder in the order of their names, without hidden files.

    Files that have neither the ending nor the content of a picture, such as ``Thumbs.db``, are skipped and counted.

    Raises
    ------
    InputError
        If there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; {option} expects one with pictures")
    try:
        # What is neither a file nor a folder, such as a broken link or a pipe, is refused when it is read.
        paths = sorted(path for path in folder.iterdir() if not (path.is_dir() or path.name.startswith(".")))
    except OSError as error:
        reason = f"cannot be read ({error.strerror}); {option} expects a folder with pictures"
        raise InputError(f"{folder}: {reason}") from None
    pictures = [path for path in paths if _may_be_picture(path)]
    others = sorted(set(paths) - set(pictures))
    listing = ", ".join(_shown(path.name) for path in others[:SEVERAL]) + (", …" if len(others) > SEVERAL else "")
    if not pictures:
        what = f"contains no picture but {listing}" if others else "contains no file"
        raise InputError(f"{folder}: {what}; {option} expects pictures in it")
    if others:
        say(f"note: {folder}: {len(others)} {'file' if len(others) == 1 else 'files'} skipped, not pictures: {listing}")
    return pictures


def _may_be_picture(path: Path) -> bool:
    """Return whether a file has a picture's ending or content, or is not a regular file, which is refused when read."""
    if path.suffix.lower() in ENDINGS or not path.is_file():
        return True
    try:
        with path.open("rb") as file:
            return has_picture_signature(file.read(SIGNATURE_BYTES))
    except OSError:
        return True  # refused when it is read


def class_folders(folder: Path) -> list[Path]:
    """Return the folders ``CLASS`` of supports that are laid out as ``CLASS/images`` and ``CLASS/masks``, by name.

    Empty if ``folder`` itself contains ``images``, as for a single class.

    Raises
    ------
    InputError
        If there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --support expects one with {IMAGES} and {MASKS}")
    if (folder / IMAGES).exists():
        return []
    return sorted(path for path in folder.iterdir() if (path / IMAGES).is_dir() and not path.name.startswith("."))


def read_supports(
    folder: Path, label: int, side: int, refused: list[str], classes: Sequence[str] = ()
) -> list[Support]:
    """Read the pictures in ``images/``, each with the mask in ``masks/`` of its name.

    The name of a mask differs at most in its suffix, or is that of the picture, suffix included, with a further suffix.

    Files that cannot be used are left out, and one sentence about each is added to ``refused``.

    Parameters
    ----------
    folder
        Contains ``images`` and ``masks``.
    label
        Number of the object in masks of several objects; 0 for masks of 0 and one other value.
    side
        Longest side at which the network sees a picture, px.
    refused
        Gets a sentence about each file that cannot be used.
    classes
        Names of the classes in masks of several classes, in the order of their numbers; empty for a single object.

    Raises
    ------
    InputError
        If no support can be used.
    """
    option = "--support"
    images, masks = (pictures_in(folder / name, option) for name in (IMAGES, MASKS))
    by_name: dict[str, list[Path]] = {}
    for path in masks:
        by_name.setdefault(path.stem, []).append(path)
    supports: list[Support] = []
    notes: dict[str, list[Path]] = {}
    for path in images:
        try:
            _check_name(path)
            own = by_name.pop(path.name, None) or by_name.pop(path.stem, [])
            supports.append(_support(path, own, label, side, notes, len(classes)))
        except InputError as error:
            refused.append(str(error))
    refused += [
        f"{_shown(path)}: no picture in {folder / IMAGES} has the name {_shown(path.stem)}; add one, or remove the mask"
        for path in sorted(path for unmatched in by_name.values() for path in unmatched)
    ]
    if not supports:
        raise InputError(f"{folder}: no support can be used: {'; '.join(refused)}")
    for note, paths in notes.items():
        say(f"note: {paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}: {note}")
    return supports


def read_class_folders(folders: Sequence[Path], label: int, side: int, refused: list[str]) -> list[Support]:
    """Read the supports of several classes, one folder each; a picture that several folders contain is one support.

    Parameters
    ----------
    folders
        Folder of each class, in the order of the numbers 1 … K.
    label, side, refused
        See :func:`read_supports`.

    Raises
    ------
    InputError
        If a class has no support that can be used, or the masks of a picture in two classes overlap.
    """
    supports: dict[bytes, Support] = {}
    for number, folder in enumerate(folders, 1):
        for one in read_supports(folder, label, side, refused):
            mask = np.where(one.mask == 1, number, one.mask).astype(np.uint8)
            key = hashlib.md5(one.image.tobytes() + str(one.image.shape).encode()).digest()
            if key in supports:
                mask = _merge(supports[key], mask, one.path)
            supports[key] = Support(supports[key].path if key in supports else one.path, one.image, mask)
    return list(supports.values())


def _merge(first: Support, mask: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    """Merge two masks of one picture, whose classes must not overlap; void where either is void."""
    known = (first.mask != VOID) & (mask != VOID)
    both = known & (first.mask > 0) & (mask > 0)
    if both.any():
        raise InputError(
            f"{path}: the same picture as {first.path}, and the masks of both classes share {int(both.sum())} px; give "
            "each pixel one class"
        )
    return np.where(known, np.maximum(first.mask, mask), VOID).astype(np.uint8)


def _support(
    path: Path, masks: list[Path], label: int, side: int, notes: dict[str, list[Path]], classes: int
) -> Support:
    if not masks:
        raise InputError(
            f"{path}: {path.parent.parent / MASKS} has no mask for it (of the same name, and not that of another "
            "picture); add one"
        )
    if len(masks) > 1:
        raise InputError(f"{path}: has {len(masks)} masks ({', '.join(mask.name for mask in masks)}); keep one")
    _check_name(masks[0])
    data = bytes_of(masks[0])
    mask, note = (class_mask_of(data, masks[0], classes), "") if classes else mask_of(data, masks[0], label)
    support = Support(path, *resize_pair(read_photo(path), mask, side, str(masks[0])))
    note = note or ("" if np.isin(mask, (0, VOID), invert=True).any() else EMPTY)
    if note:
        notes.setdefault(note, []).append(masks[0])
    return support


def read_query(path: Path) -> tuple[str, bytes]:
    """Return the MD5 and the bytes of a picture's file.

    Raises
    ------
    InputError
        If the file cannot be read, or its name is not UTF-8 (for the table) or too long (for its mask).
    """
    check_query_name(path)
    data = bytes_of(path)
    return hashlib.md5(data).hexdigest(), data


def check_query_name(path: Path) -> None:
    """Check that the name of a picture can stand in a table, and that its mask can be named after it.

    Raises
    ------
    InputError
        If it is not UTF-8, has a line separator, or is too long.
    """
    _check_name(path)
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise InputError(f"{path}: its name has more than {LONGEST_NAME} bytes; shorten it")


def _shown(path: Path | str) -> str:
    """Return a name as it stands in a message of one line."""
    return str(path) if str(path).isprintable() else ascii(str(path))


def _check_name(path: Path) -> None:
    """Refuse a file name that cannot stand in a line of a table or message."""
    try:
        path.name.encode("utf8")
    except UnicodeEncodeError:
        raise InputError(f"{_shown(path)}: its name is not UTF-8; rename it") from None
    if path.name.splitlines() != [path.name]:
        raise InputError(f"{_shown(path)}: its name holds a line separator; rename it")
