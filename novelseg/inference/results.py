"""The folder of results: masks, overlays and tables."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
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
from novelseg.inference import instances as instances_files
from novelseg.inference.findings import Finding
from novelseg.inference.folders import MASKS
from novelseg.ops.drawing import class_colour, small_overlay

OVERLAYS, TABLE, SETTINGS = "overlays", "results.tsv", "settings.json"
REVIEW = "review.tsv"  # the rows of the table, least certain first
OVERLAY_PX = 2000  # longest side of an overlay
COLUMNS = (
    "file",
    "md5",
    "mask",
    "width_px",
    "height_px",
    "class",
    "object_px",
    "object_share",
    "confidence",
    "object_confidence",
    "present",
    "presence",
    "expected_iou",
    "certainty",
)
REVIEW_COLUMNS = ("certainty", "file", "class", "present", "presence", "expected_iou", "object_share", "mask")


@dataclass(frozen=True)
class Query:
    """A picture to segment, and the MD5 of its file."""

    path: Path
    md5: str
    image: NDArray[np.uint8]


class Results:
    """Folder of results: for each picture a mask, an overlay and, written last, a row of the table.

    Parameters
    ----------
    folder
        The folder, which is created if it does not exist.
    settings
        All that the results depend on beside the picture.
    pictures
        Names of the pictures' files. A mask has the stem of its picture; pictures that share one keep their ending.
    classes
        Names of the classes; empty for a single object.
    instances
        Whether separate objects are kept too.

    Raises
    ------
    InputError
        If the folder holds results with other settings, or other files, or cannot be created.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        pictures: Sequence[str],
        classes: Sequence[str] = (),
        *,
        instances: bool = False,
    ) -> None:
        self._folder, self._table, self._classes = folder, folder / TABLE, list(classes)
        self.instances = instances
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
            for name in (MASKS, OVERLAYS, *([instances_files.FOLDER] if instances else [])):
                (folder / name).mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be created ({error.strerror}); give another folder for --out") from None
        rows = self._read()
        self._names = result_names([*pictures, *rows])
        self._rows = {name: own for name, own in rows.items() if self._is_whole(name, own)}
        self._write()

    def _read(self) -> dict[str, list[dict[str, str]]]:
        """Return the rows of each picture of an earlier run."""
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
        pictures: dict[str, list[dict[str, str]]] = {}
        for row in rows:
            pictures.setdefault(row["file"], []).append(row)
        return pictures

    def _is_whole(self, name: str, rows: list[dict[str, str]]) -> bool:
        """Return whether the results of a picture are complete, and named as they would be now.

        Results under another name, because a picture of the same stem was added or removed, are removed.
        """
        mask, overlay = self._paths(name)
        outdated = Path(rows[0]["mask"])
        if outdated.name != mask.name and outdated.suffix == ".png" and outdated.name == rows[0]["mask"]:
            (self._folder / MASKS / outdated).unlink(missing_ok=True)
            (self._folder / OVERLAYS / f"{outdated.stem}.jpg").unlink(missing_ok=True)
            for suffix in (".png", ".json"):
                (self._folder / instances_files.FOLDER / f"{outdated.stem}{suffix}").unlink(missing_ok=True)
            return False
        files = [mask, overlay]
        if self.instances:
            files += [self.objects_path(name), self.objects_path(name).with_suffix(".json")]
        return len(rows) == max(1, len(self._classes)) and all(path.exists() for path in files)

    def knows(self, path: Path) -> bool:
        """Return whether there are results of a picture of this name, even of another content."""
        return path.name in self._rows

    @property
    def rows(self) -> Mapping[str, list[dict[str, str]]]:
        """Rows of the table, one per class, by the name of the picture's file."""
        return self._rows

    def mask_path(self, name: str) -> Path:
        """Return the path of a picture's mask."""
        return self._paths(name)[0]

    def objects_path(self, name: str) -> Path:
        """Return the path of the numbers of a picture's objects."""
        return self._folder / instances_files.FOLDER / f"{self._names[name]}.png"

    def _paths(self, name: str) -> tuple[Path, Path]:
        """Return the paths of mask and overlay."""
        return self._folder / MASKS / f"{self._names[name]}.png", self._folder / OVERLAYS / f"{self._names[name]}.jpg"

    def has(self, path: Path, md5: str) -> bool:
        """Return whether there are results of this very picture; results of another content are dropped."""
        rows = self._rows.get(path.name)
        if rows is not None and rows[0]["md5"] != md5:
            del self._rows[path.name]
        return path.name in self._rows

    def add(self, query: Query, finding: Finding) -> None:
        """Write the results of a picture, with its rows last, so that an interrupted picture is done again.

        Parameters
        ----------
        query
            The picture.
        finding
            What was found in it.
        """
        mask, (mask_path, overlay_path) = finding.mask, self._paths(query.path.name)
        with whole_file(mask_path) as scratch:
            mask_picture(mask, bool(self._classes)).save(scratch, "PNG")
        with whole_file(overlay_path) as scratch:
            small_overlay(query.image, mask, OVERLAY_PX).save(scratch, "JPEG", quality=90)
        if self.instances:
            objects = instances_files.separate_objects(query.image, mask)
            instances_files.write_objects(self.objects_path(query.path.name), objects, finding)
        shares = finding.probability
        confidence = np.maximum(shares, 1 - shares) if shares.ndim == 2 else shares.max(0)  # of the winner
        height, width = mask.shape
        rows = []
        for number, name in enumerate(self._classes or [""], 1):
            inside = mask == number
            facts = (query.path.name, query.md5, mask_path.name, width, height, name, inside.sum())
            sure = f"{confidence[inside].mean():.4f}" if inside.any() else ""
            score = "" if finding.presence is None else f"{finding.presence[number - 1]:.4f}"
            judged = (int(finding.present[number - 1]), score, f"{finding.expected_iou[number - 1]:.4f}")
            certainty = f"{finding.certainty[number - 1]:.4f}"
            values = map(str, (*facts, f"{inside.mean():.6f}", f"{confidence.mean():.4f}", sure, *judged, certainty))
            rows.append(dict(zip(COLUMNS, values, strict=True)))
        self._rows[query.path.name] = rows
        text = io.StringIO(newline="")
        _writer(text).writerows(rows)
        with disk_full_as_input_error(self._table), self._table.open("a", encoding="utf8", newline="") as file:
            file.write(text.getvalue())

    def finish(self) -> None:
        """Rewrite the table in the order of the pictures' names, and write the one for review, least certain first."""
        self._rows = dict(sorted(self._rows.items()))
        self._write()
        rows = [row for own in self._rows.values() for row in own]
        with whole_file(self._folder / REVIEW) as scratch, scratch.open("w", encoding="utf8", newline="") as file:
            writer = csv.DictWriter(file, REVIEW_COLUMNS, delimiter="\t", lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(sorted(rows, key=_certainty))
        if self.instances:
            pictures = [(name, self.objects_path(name)) for name in self._rows]
            small = instances_files.write_table(self._folder / instances_files.TABLE, pictures, self._classes)
            if small:
                say(f"note: {small} parts are too small for an object (see {instances_files.FOLDER})")

    def _write(self) -> None:
        with whole_file(self._table) as scratch, scratch.open("w", encoding="utf8", newline="") as file:
            writer = _writer(file)
            writer.writeheader()
            writer.writerows(row for rows in self._rows.values() for row in rows)


def result_names(pictures: Iterable[str]) -> dict[str, str]:
    """Return the name, without its ending, of each picture's results: its stem, or its whole name if others have that.

    Names that differ in capitals alone count as equal, since some file systems do not tell them apart.
    """
    names = {name: Path(name).stem for name in sorted(set(pictures))}
    while True:
        users: dict[str, list[str]] = {}
        for name, own in names.items():
            users.setdefault(own.casefold(), []).append(name)
        sharing = [name for same in users.values() if len(same) > 1 for name in same if names[name] != name]
        if not sharing:
            return names
        names |= {name: name for name in sharing}


def mask_picture(mask: NDArray[np.uint8], several: bool) -> Image.Image:
    """Return a mask as a picture: 255 on a single object, or numbers of classes, in the colours of the overlays."""
    if not several:
        return Image.fromarray(255 * mask)
    picture = Image.fromarray(mask)
    picture.putpalette([0, 0, 0, *(value for label in range(1, 256) for value in class_colour(label))])
    return picture


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


def _certainty(row: Mapping[str, str]) -> float:
    """Return the certainty in a row; a row that another program has spoiled is the first to review."""
    try:
        return float(row["certainty"])
    except ValueError:
        return -1.0


def _writer(file: Any) -> csv.DictWriter[str]:
    return csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
