"""Supports and queries as files in folders, and the folder that masks are written to."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from novelseg.core.errors import InputError
from novelseg.core.files import disk_full_as_input_error, whole_file
from novelseg.inference.inputs import shown_pair
from novelseg.inference.photos import bytes_of, read_mask, read_photo
from novelseg.inference.segmenter import probability
from novelseg.ops.drawing import small_overlay

IMAGES, MASKS, OVERLAYS, TABLE, SETTINGS = "images", "masks", "overlays", "results.tsv", "settings.json"
OVERLAY_PX = 2000  # longest side of the pictures that are looked at
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


LONGEST_NAME = 230  # bytes of a picture's name: what is written under it has some more, and 255 at most


@dataclass(frozen=True)
class Support:
    """A picture with its mask (1 object, 0 rest, 255 neither), as the network sees them."""

    path: Path
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def pictures_in(folder: Path, option: str) -> list[Path]:
    """Files of a folder, by name; hidden ones are left out.

    Raises
    ------
    InputError
        If there is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; {option} expects one with pictures")
    found = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not found:
        raise InputError(f"{folder}: holds no file; {option} expects pictures in it")
    return found


def read_supports(folder: Path, label: int, side: int, refused: list[str]) -> list[Support]:
    """Pictures of ``images/`` with the mask of the same name (but for its ending) in ``masks/``.

    What cannot be used is left out, and a sentence for each added to ``refused``.

    Raises
    ------
    InputError
        If nothing is left.
    """
    option = "--support"
    images, masks = (pictures_in(folder / name, option) for name in (IMAGES, MASKS))
    by_name: dict[str, list[Path]] = {}
    for path in masks:
        by_name.setdefault(path.stem, []).append(path)
    found = []
    for path in images:
        try:
            found.append(_support(path, by_name.pop(path.stem, []), label, side))
        except InputError as error:
            refused.append(str(error))
    refused += [
        f"{path}: no picture in {folder / IMAGES} is called {path.stem}; add it or take the mask out"
        for path in sorted(path for left in by_name.values() for path in left)
    ]
    if not found:
        raise InputError(f"{folder}: no support can be used: {'; '.join(refused)}")
    return found


def _support(path: Path, masks: list[Path], label: int, side: int) -> Support:
    if not masks:
        raise InputError(
            f"{path}: no mask of this name in {path.parent.parent / MASKS} (or another picture has the same name); "
            "add one"
        )
    if len(masks) > 1:
        raise InputError(f"{path}: has {len(masks)} masks ({', '.join(mask.name for mask in masks)}); keep one")
    return Support(path, *shown_pair(read_photo(path), read_mask(masks[0], label), side, str(masks[0])))


@dataclass(frozen=True)
class Query:
    """A picture to segment, and the MD5 of the bytes that it was decoded from."""

    path: Path
    md5: str
    image: NDArray[np.uint8]


def read_query(path: Path) -> tuple[str, bytes]:
    """MD5 and bytes of a picture's file.

    Raises
    ------
    InputError
        If it cannot be read, or has a name that no table can hold, or no mask could bear.
    """
    try:
        path.name.encode("utf8")
    except UnicodeEncodeError:
        raise InputError(f"{str(path)!a}: its name is not UTF-8; rename it") from None
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise InputError(f"{path}: its name has more than {LONGEST_NAME} bytes; shorten it")
    data = bytes_of(path)
    return hashlib.md5(data).hexdigest(), data


class Results:
    """The output folder: a mask, an overlay and a row for each picture, the row last.

    Parameters
    ----------
    folder
        Where; made if need be.
    settings
        What the results depend on beside the picture.

    Raises
    ------
    InputError
        If the folder holds results of others, or files that are none, or cannot be made.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._folder, self._table = folder, folder / TABLE
        place = folder / SETTINGS
        text = json.dumps(settings, indent=1, sort_keys=True) + "\n"
        if place.exists() and place.read_bytes() != text.encode():
            raise InputError(
                f"{folder}: holds results of other pictures, supports or settings ({place.name} says which); give "
                "another folder"
            )
        others = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
        if others and not place.exists():
            raise InputError(f"{folder}: holds other files; give a folder for --out that is new or empty")
        try:
            with whole_file(place) as scratch:  # first of all: it says whose the folder is
                scratch.write_bytes(text.encode())
            for name in (MASKS, OVERLAYS):
                (folder / name).mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made ({error.strerror}); give another place for --out") from None
        self._rows = self._done()
        self._write()

    def _done(self) -> dict[str, dict[str, str]]:
        """Rows of an earlier run whose pictures are there; a last line that a kill has torn is left out."""
        if not self._table.exists():
            return {}
        # What is no UTF-8 was torn, or saved by another program: such a row names no picture here, which is done again.
        lines = self._table.read_text(encoding="utf8", errors="replace").splitlines(keepends=True)
        whole = lines if not lines or lines[-1].endswith("\n") else lines[:-1]
        reader = csv.DictReader(whole, delimiter="\t")
        if whole and tuple(reader.fieldnames or ()) != COLUMNS:
            raise InputError(f"{self._table}: not a table of this command; move it away, or give another folder")
        rows = [row for row in reader if None not in row and None not in row.values()]
        return {row["file"]: row for row in rows if all(path.exists() for path in self._places(row["file"]))}

    def knows(self, path: Path) -> bool:
        """Whether there are results of a picture of this name, be it another."""
        return path.name in self._rows

    def _places(self, name: str) -> tuple[Path, Path]:
        """Mask and overlay of a picture; the whole name, or `a.png` and `a.jpg` would share theirs."""
        return self._folder / MASKS / f"{name}.png", self._folder / OVERLAYS / f"{name}.jpg"

    def has(self, path: Path, md5: str) -> bool:
        """Whether the results of a picture are there, and it is still the same; those of another of its name go."""
        row = self._rows.get(path.name)
        if row is not None and row["md5"] != md5:
            del self._rows[path.name]
        return path.name in self._rows

    def add(self, query: Query, logits: NDArray[np.float32]) -> None:
        """Write what was found in a picture; its row last, so that one without a row is done again."""
        mask, (place, overlay_place) = (logits > 0).astype(np.uint8), self._places(query.path.name)
        with whole_file(place) as scratch:
            Image.fromarray(255 * mask).save(scratch, "PNG")
        with whole_file(overlay_place) as scratch:
            small_overlay(query.image, mask, OVERLAY_PX).save(scratch, "JPEG", quality=90)
        sure = probability(np.abs(logits))
        inside = f"{sure[mask > 0].mean():.4f}" if mask.any() else ""
        facts = (query.path.name, query.md5, place.name, *mask.shape[::-1], mask.sum(), f"{mask.mean():.6f}")
        row = dict(zip(COLUMNS, map(str, (*facts, f"{sure.mean():.4f}", inside)), strict=True))
        self._rows[query.path.name] = row
        with disk_full_as_input_error(self._table), self._table.open("a", encoding="utf8", newline="") as file:
            _writer(file).writerow(row)

    def finish(self) -> None:
        """The table in the order of the names."""
        self._rows = dict(sorted(self._rows.items()))
        self._write()

    def _write(self) -> None:
        with whole_file(self._table) as scratch, scratch.open("w", encoding="utf8", newline="") as file:
            writer = _writer(file)
            writer.writeheader()
            writer.writerows(self._rows.values())


def _writer(file: Any) -> csv.DictWriter[str]:
    return csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
