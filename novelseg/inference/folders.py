"""Folders of supports and queries, and the folder of results."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from novelseg.core.errors import InputError
from novelseg.core.files import disk_full_as_input_error, whole_file
from novelseg.core.progress import say
from novelseg.data.pictures import is_lossy
from novelseg.inference.inputs import resize_pair
from novelseg.inference.photos import bytes_of, mask_of, read_photo
from novelseg.inference.segmenter import probability
from novelseg.ops.drawing import small_overlay

IMAGES, MASKS, OVERLAYS, TABLE, SETTINGS = "images", "masks", "overlays", "results.tsv", "settings.json"
OVERLAY_PX = 2000  # longest side of an overlay
COLUMNS = (
    "file",
    "md5",
    "mask",
    "width_px",
    "height_px",
    "object_px",
    "object_share",
    "confidence",
    "object_confidence",
)


LONGEST_NAME = 230  # bytes of a picture's name; scratch files and masks add to it, and file systems allow 255


@dataclass(frozen=True)
class Support:
    """A picture with its mask (1 object, 0 rest, 255 void) at the size that the network sees."""

    path: Path
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def pictures_in(folder: Path, option: str) -> list[Path]:
    """Return the files in a folder in the order of their names, without hidden ones.

    Raises
    ------
    InputError
        If there is no such folder, or no file in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; {option} expects one with pictures")
    try:
        # What is neither a file nor a folder, such as a broken link or a pipe, is refused when it is read.
        paths = sorted(path for path in folder.iterdir() if not (path.is_dir() or path.name.startswith(".")))
    except OSError as error:
        reason = f"cannot be read ({error.strerror}); {option} expects a folder with pictures"
        raise InputError(f"{folder}: {reason}") from None
    if not paths:
        raise InputError(f"{folder}: contains no file; {option} expects pictures in it")
    return paths


def read_supports(folder: Path, label: int, side: int, refused: list[str]) -> list[Support]:
    """Read the pictures in ``images/``, each with the mask in ``masks/`` whose name differs at most in its suffix.

    Files that cannot be used are left out, and one sentence about each is added to ``refused``.

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
    lossy: list[Path] = []
    for path in images:
        try:
            _check_name(path)
            supports.append(_support(path, by_name.pop(path.stem, []), label, side, lossy))
        except InputError as error:
            refused.append(str(error))
    refused += [
        f"{_shown(path)}: no picture in {folder / IMAGES} has the name {_shown(path.stem)}; add one, or remove the mask"
        for path in sorted(path for unmatched in by_name.values() for path in unmatched)
    ]
    if not supports:
        raise InputError(f"{folder}: no support can be used: {'; '.join(refused)}")
    if lossy:
        others = f", and {len(lossy) - 1} more masks," if len(lossy) > 1 else ""
        verb = "are" if others else "is"
        say(f"note: {lossy[0]}{others} {verb} in a lossy format, and cut at half; PNG keeps the borders exact")
    return supports


def _support(path: Path, masks: list[Path], label: int, side: int, lossy: list[Path]) -> Support:
    if not masks:
        raise InputError(
            f"{path}: no mask of this name in {path.parent.parent / MASKS}, or another picture of this name uses it; "
            "add one"
        )
    if len(masks) > 1:
        raise InputError(f"{path}: has {len(masks)} masks ({', '.join(mask.name for mask in masks)}); keep one")
    _check_name(masks[0])
    data = bytes_of(masks[0])
    support = Support(path, *resize_pair(read_photo(path), mask_of(data, masks[0], label), side, str(masks[0])))
    if is_lossy(data):
        lossy.append(masks[0])
    return support


@dataclass(frozen=True)
class Query:
    """A picture to segment, and the MD5 of its file."""

    path: Path
    md5: str
    image: NDArray[np.uint8]


def read_query(path: Path) -> tuple[str, bytes]:
    """Return the MD5 and the bytes of a picture's file.

    Raises
    ------
    InputError
        If the file cannot be read, or its name is not UTF-8 (for the table) or too long (for its mask).
    """
    _check_name(path)
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise InputError(f"{path}: its name has more than {LONGEST_NAME} bytes; shorten it")
    data = bytes_of(path)
    return hashlib.md5(data).hexdigest(), data


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


class Results:
    """Folder of results: for each picture a mask, an overlay and, written last, a row of the table.

    Parameters
    ----------
    folder
        The folder, which is created if it does not exist.
    settings
        All that the results depend on beside the picture.

    Raises
    ------
    InputError
        If the folder holds results with other settings, or other files, or cannot be created.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._folder, self._table = folder, folder / TABLE
        settings_file = folder / SETTINGS
        text = json.dumps(settings, indent=1, sort_keys=True) + "\n"
        files = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
        if files and not settings_file.exists():
            raise InputError(f"{folder}: contains other files; give a new or empty folder for --out")
        try:
            _write_first(settings_file, text.encode())  # before all others, since it marks the folder as one of results
            if settings_file.read_bytes() != text.encode():
                raise InputError(
                    f"{folder}: contains results of other pictures, supports or settings (see {settings_file.name}), "
                    "perhaps of a run that has just begun; give another folder for --out"
                )
            for name in (MASKS, OVERLAYS):
                (folder / name).mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be created ({error.strerror}); give another folder for --out") from None
        self._rows = self._read()
        self._write()

    def _read(self) -> dict[str, dict[str, str]]:
        """Return the rows of an earlier run whose masks and overlays exist, without an incomplete last line."""
        if not self._table.exists():
            return {}
        # A row that is not UTF-8 is incomplete or from another program; it matches no picture, which is done again.
        text = self._table.read_bytes().decode("utf8", errors="replace")
        complete = text[: text.rfind("\n") + 1]  # names have no line separators, not even those of other systems
        reader = csv.DictReader(io.StringIO(complete, newline="\n"), delimiter="\t")
        foreign = f"{self._table}: not a table of this command; move it away, or give another folder"
        try:
            if complete and tuple(reader.fieldnames or ()) != COLUMNS:
                raise InputError(foreign)
            rows = [row for row in reader if None not in row and None not in row.values()]
        except csv.Error:
            raise InputError(foreign) from None
        return {row["file"]: row for row in rows if all(path.exists() for path in self._paths(row["file"]))}

    def knows(self, path: Path) -> bool:
        """Return whether there are results of a picture of this name, even of another content."""
        return path.name in self._rows

    def _paths(self, name: str) -> tuple[Path, Path]:
        """Return the paths of mask and overlay; with the picture's suffix, `a.png` and `a.jpg` do not share them."""
        return self._folder / MASKS / f"{name}.png", self._folder / OVERLAYS / f"{name}.jpg"

    def has(self, path: Path, md5: str) -> bool:
        """Return whether there are results of this very picture; results of another content are dropped."""
        row = self._rows.get(path.name)
        if row is not None and row["md5"] != md5:
            del self._rows[path.name]
        return path.name in self._rows

    def add(self, query: Query, logits: NDArray[np.float32]) -> None:
        """Write the results of a picture, with its row last, so that an interrupted picture is done again."""
        mask, (mask_path, overlay_path) = (logits > 0).astype(np.uint8), self._paths(query.path.name)
        with whole_file(mask_path) as scratch:
            Image.fromarray(255 * mask).save(scratch, "PNG")
        with whole_file(overlay_path) as scratch:
            small_overlay(query.image, mask, OVERLAY_PX).save(scratch, "JPEG", quality=90)
        confidence = probability(np.abs(logits))
        inside = f"{confidence[mask > 0].mean():.4f}" if mask.any() else ""
        facts = (query.path.name, query.md5, mask_path.name, *mask.shape[::-1], mask.sum(), f"{mask.mean():.6f}")
        row = dict(zip(COLUMNS, map(str, (*facts, f"{confidence.mean():.4f}", inside)), strict=True))
        self._rows[query.path.name] = row
        with disk_full_as_input_error(self._table), self._table.open("a", encoding="utf8", newline="") as file:
            _writer(file).writerow(row)

    def finish(self) -> None:
        """Rewrite the table in the order of the pictures' names."""
        self._rows = dict(sorted(self._rows.items()))
        self._write()

    def _write(self) -> None:
        with whole_file(self._table) as scratch, scratch.open("w", encoding="utf8", newline="") as file:
            writer = _writer(file)
            writer.writeheader()
            writer.writerows(self._rows.values())


def _write_first(path: Path, content: bytes) -> None:
    """Write a file, whole, unless there is one, even if another program writes it at this moment."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_full_as_input_error(path):
        try:
            with scratch.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(scratch, path)  # fails if there is such a file by now, unlike a renaming
            except FileExistsError:
                return
            except OSError:  # a file system without links
                with suppress(FileExistsError), path.open("xb") as target:
                    target.write(content)
        finally:
            scratch.unlink(missing_ok=True)


def _writer(file: Any) -> csv.DictWriter[str]:
    return csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
