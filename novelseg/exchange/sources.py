"""What the readers share: whole JSON and XML files, values in them, and the pictures that they name."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

from novelseg.core.errors import InputError
from novelseg.data.pictures import ENDINGS, decode
from novelseg.data.rawfiles import read_bytes, read_text

REMEDY = "fix or remove it"
IMAGES = ("", "images", "JPEGImages")  # folders beside a file in which its pictures may lie


@contextmanager
def faults_of(where: str) -> Iterator[None]:
    """Raise one sentence, with its place in the file, for a value that cannot be used."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"{where}: {error}; {REMEDY}") from None


def read_json(path: Path, expected: str) -> Any:
    """Read a JSON file.

    Raises
    ------
    InputError
        If the file is absent, cannot be read, or is not JSON; the message says what was ``expected``.
    """
    text = _text(path, expected)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{path}: not valid JSON ({reason}); expected {expected}") from None


def read_xml(path: Path, expected: str) -> Element:
    """Read an XML file; raises like :func:`read_json`.

    Files with a document type are refused, since its expansion may never end.
    """
    text = _text(path, expected)
    try:
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ValueError("it has a document type")
        return ElementTree.fromstring(text)
    except (ValueError, ElementTree.ParseError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{path}: not valid XML ({reason}); expected {expected}") from None


def _text(path: Path, expected: str) -> str:
    try:
        return read_text(path, expected)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected {expected}") from None


def text_of(entry: Any, key: str) -> str:
    """Return a printable text that is not empty.

    Raises
    ------
    ValueError
        If there is none under ``key``.
    """
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError(f"{key} is {value!r:.60}; expected a printable text")
    return value


def whole_number(entry: Any, key: str, low: int = 0) -> int:
    """Return a whole number.

    Raises
    ------
    ValueError
        If there is none of at least ``low`` under ``key``.
    """
    value = entry.get(key) if isinstance(entry, dict) else None
    if type(value) is not int or value < low:
        raise ValueError(f"{key} is {value!r:.60}; expected a whole number of at least {low}")
    return value


def points_of(value: Any, width: int, height: int) -> list[tuple[float, float]]:
    """Return the points of a polygon, px.

    Raises
    ------
    ValueError
        If it is not a list of at least three pairs of numbers, or a point lies a whole picture outside.
    """
    pairs = isinstance(value, list) and all(isinstance(point, list) and len(point) == 2 for point in value)
    numbers = pairs and all(type(number) in (int, float) for point in value for number in point)
    if not numbers:
        raise ValueError("its polygon is not a list of pairs of numbers")
    if len(value) < 3:
        raise ValueError(f"its polygon has {len(value)} points; expected three or more")
    for point in value:
        for number, size in zip(point, (width, height), strict=True):
            if not -size <= number <= 2 * size:  # false for NaN, too
                raise ValueError(f"its polygon has the coordinate {number!r:.20} in a picture of {width}×{height} px")
    return [(float(x), float(y)) for x, y in value]


def find_picture(name: str, file: Path, images: Path | None, where: str) -> Path:
    """Return the picture that a file of annotations names.

    Parameters
    ----------
    name
        The name, with folders; the first of them may be missing on the disk.
    file
        The file, beside which the picture lies, or in ``images`` or ``JPEGImages`` beside it.
    images
        Folder of the pictures instead; None if it is not given.
    where
        The place that names it, for messages.

    Raises
    ------
    InputError
        If there is no such file there, or the name leads elsewhere.
    """
    parts = PurePosixPath(name.replace("\\", "/"))
    folders = [images] if images else [file.parent / folder for folder in IMAGES]
    inside = not parts.is_absolute() and ".." not in parts.parts
    shorter = [PurePosixPath(*parts.parts[start:]) for start in range(len(parts.parts))] if inside else [parts.name]
    candidates = [folder / option for option in shorter for folder in folders]
    try:
        picture = next((path for path in candidates if path.is_file()), None)
    except (OSError, ValueError):  # a name that is too long, or has a zero byte
        picture = None
    if picture is None:
        shown = name if name.isprintable() else ascii(name)
        raise InputError(f"{where}: no picture {shown:.200} in {folders[0]}; put it there, or remove its annotations")
    return picture


def picture_of_stem(stem: str, file: Path, images: Path | None, where: str) -> Path:
    """Return the picture of a name without its ending; see :func:`find_picture`."""
    folders = [images] if images else [file.parent / folder for folder in IMAGES]
    inside = not PurePosixPath(stem).is_absolute() and ".." not in PurePosixPath(stem).parts
    for folder in folders if inside else ():
        parent = (folder / stem).parent
        name = PurePosixPath(stem).name
        if parent.is_dir():
            own = sorted(path for path in parent.iterdir() if path.stem == name and path.suffix.lower() in ENDINGS)
            if own:
                return own[0]
    raise InputError(f"{where}: no picture {stem:.200} in {folders[0]}; put it there, or remove its annotations")


def upright_size(path: Path) -> tuple[int, int]:
    """Return width and height of a picture as viewers show it, px.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        return decode(read_bytes(path, REMEDY), str(path), REMEDY).upright().size
    except FileNotFoundError:
        raise InputError(f"{path}: no such picture; put it there, or remove its annotations") from None


def check_classes(names: list[str], where: str) -> list[str]:
    """Return the names of classes.

    Raises
    ------
    InputError
        If there are none, more than 254, or two are equal.
    """
    if not 1 <= len(names) <= 254:
        raise InputError(f"{where}: has {len(names)} classes; expected 1 to 254")
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"{where}: two classes have the name '{doubled}'; rename one")
    return names
