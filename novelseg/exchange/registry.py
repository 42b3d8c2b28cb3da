"""The formats by name: how results are written and supports are read.

A further format is a module with ``write`` and ``read``, and an entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from novelseg.core.errors import InputError, nearest
from novelseg.core.files import whole_folder
from novelseg.exchange import coco, cvat, label_studio, labelme, voc, yolo
from novelseg.exchange.record import LabelledPicture
from novelseg.exchange.sources import check_classes, read_json

Write = Callable[[Path, Sequence[str], Iterable[LabelledPicture]], None]
Read = Callable[[Path, Path | None], tuple[list[str], Iterator[LabelledPicture]]]


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes
    ----------
    write
        Writes pictures to an existing folder.
    read
        Reads a file or folder, with the folder of its pictures if it is not beside.
    by_stem
        Whether files are named after a picture without its ending, which must then be unique.
    """

    write: Write
    read: Read
    by_stem: bool


FORMATS = {
    "voc": Format(voc.write, voc.read, True),
    "coco": Format(coco.write, coco.read, False),
    "yolo": Format(yolo.write, yolo.read, True),
    "labelme": Format(labelme.write, labelme.read, True),
    "labelme-polygons": Format(labelme.write_polygons, labelme.read, True),
    "cvat-masks": Format(voc.write_zip, voc.read_zip, True),
    "cvat-xml": Format(cvat.write, cvat.read, False),
    "label-studio": Format(label_studio.write, label_studio.read, False),
}


def check_formats(names: Sequence[str]) -> list[str]:
    """Return the names of formats, each once.

    Raises
    ------
    InputError
        If a name is unknown.
    """
    if unknown := next((name for name in names if name not in FORMATS), None):
        raise InputError(f"--format {unknown}: no such format ({', '.join(FORMATS)}); {nearest(unknown, FORMATS)}")
    return list(dict.fromkeys(names))


def check_names(names: Sequence[str], formats: Sequence[str]) -> None:
    """Check, before work is done, that pictures can be told apart in all formats.

    Parameters
    ----------
    names
        Names of the pictures, with ``/`` between folders.
    formats
        Names of the formats.

    Raises
    ------
    InputError
        If two pictures differ in their endings alone, and a format leaves these out, or a name cannot be printed.
    """
    if hidden := next((name for name in names if not name.isprintable()), None):
        raise InputError(f"{hidden!a}: the name cannot be printed; rename the picture")
    by_stem = [name for name in formats if FORMATS[name].by_stem]
    if not by_stem:
        return
    seen: dict[str, str] = {}
    for name in names:
        stem = LabelledPicture(name, 1, 1).stem.casefold()
        if stem in seen:
            raise InputError(
                f"{seen[stem]} and {name}: --format {by_stem[0]} names files without the ending; rename one picture"
            )
        seen[stem] = name


def export(name: str, folder: Path, classes: Sequence[str], pictures: Iterable[LabelledPicture]) -> None:
    """Write pictures in a format; the folder appears whole or not at all.

    Parameters
    ----------
    name
        Name of the format.
    folder
        The folder; files of other names in it are kept.
    classes
        Names of the classes 1 … K.
    pictures
        The pictures.

    Raises
    ------
    InputError
        If the name of a class cannot stand in the format, or the folder cannot be written.
    """
    check_classes(list(classes), "the classes")
    with whole_folder(folder) as scratch:
        FORMATS[name].write(scratch, classes, pictures)


def read_labels(path: Path, images: Path | None = None) -> tuple[list[str], Iterator[LabelledPicture]]:
    """Read pictures with their masks from a file or folder of any format, which its name and content tell.

    Parameters
    ----------
    path
        A ``.json`` of COCO, labelme or Label Studio; a ``.xml`` or ``.zip`` of CVAT; ``data.yaml`` of YOLO; a folder in
        VOC's layout with ``labelmap.txt``, or of labelme's files.
    images
        Folder of the pictures; by default, that of the file, or ``images`` in it.

    Returns
    -------
    classes
        Names of the classes 1 … K.
    pictures
        The pictures with their instances; each is read when it is asked for.

    Raises
    ------
    InputError
        If it is of none of these formats, or cannot be used; also while the pictures are read.
    """
    return FORMATS[_format_of(path)].read(path, images)


def _format_of(path: Path) -> str:
    if path.is_dir():
        return "voc" if (path / voc.LABELMAP).exists() else "labelme"
    ending = path.suffix.lower()
    known = {".xml": "cvat-xml", ".zip": "cvat-masks", ".yaml": "yolo", ".yml": "yolo"}
    if ending in known:
        return known[ending]
    expected = "annotations of COCO, labelme or Label Studio (.json), CVAT (.xml, .zip) or YOLO (data.yaml)"
    if ending != ".json":
        raise InputError(f"{path}: the format is unknown; expected {expected}")
    content = read_json(path, expected)
    if isinstance(content, list):
        return "label-studio"
    if isinstance(content, dict) and "shapes" in content:
        return "labelme"
    if isinstance(content, dict) and "annotations" in content:
        return "coco"
    raise InputError(f"{path}: neither a list nor an object with annotations or shapes; expected {expected}")
