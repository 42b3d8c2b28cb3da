"""Supports from annotation tools, and results for them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from novelseg.core.errors import InputError, nearest
from novelseg.core.labels import VOID
from novelseg.exchange import voc, yolo
from novelseg.exchange.record import LabelledPicture, class_instances, index_mask
from novelseg.exchange.registry import read_labels
from novelseg.inference.folders import Support
from novelseg.inference.inputs import check_sizes, require_background, resize_pair
from novelseg.inference.instances import read_objects
from novelseg.inference.photos import bytes_of, class_mask_of, mask_of, read_photo
from novelseg.inference.results import Results

OBJECT = "object"  # name of a single object without one
CHOSEN = "the chosen files"  # in messages, in the place of a folder that only the server knows


def is_exchanged(path: Path) -> bool:
    """Return whether supports are a file of an annotation tool, or a folder of its files."""
    return path.is_file() or (path / voc.LABELMAP).is_file() or (path.is_dir() and _has_json_only(path))


def _has_json_only(folder: Path) -> bool:
    names = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return any(path.suffix == ".json" for path in names) and not (folder / "masks").exists()


def read_labelled(path: Path, side: int, chosen: Sequence[str] = ()) -> tuple[list[str], list[Support]]:
    """Read supports from annotations of any format (:func:`novelseg.exchange.registry.read_labels`).

    Parameters
    ----------
    path
        The file or folder; its pictures are beside it, or in ``images`` there.
    side
        Longest side at which the network sees a picture, px.
    chosen
        Names of the classes to segment; others become background. All, if empty.

    Returns
    -------
    names
        Names of the classes 1 … K.
    supports
        The pictures with their masks.

    Raises
    ------
    InputError
        If the file or a picture cannot be used, a chosen class is not in it, or no picture shows one.
    """
    classes, pictures = read_labels(path)
    if unknown := next((name for name in chosen if name not in classes), None):
        raise InputError(f"--classes names '{unknown}', which is not a class of {path}; {nearest(unknown, classes)}")
    names = list(chosen) or classes
    table = np.zeros(VOID + 1, np.uint8)
    table[VOID] = VOID
    for label, name in enumerate(classes, 1):
        table[label] = names.index(name) + 1 if name in names else 0
    supports: list[Support] = []
    for picture in pictures:
        if picture.path is None:
            raise InputError(f"{path}: {picture.name} has no image file; put it where the annotations name it")
        image, mask = read_photo(picture.path), table[index_mask(picture)]
        supports.append(Support(picture.path, *resize_pair(image, mask, side, f"{path}: {picture.name}")))
    _require_objects([_shows_an_object(one.mask) for one in supports], path, names)
    return names, supports


def _shows_an_object(mask: NDArray[np.uint8]) -> bool:
    return bool((mask == 0).any() and np.isin(mask, (0, VOID), invert=True).any())


def _require_objects(shown: Iterable[bool], path: Path, names: Sequence[str]) -> None:
    if not any(shown):
        raise InputError(f"{path}: no picture has annotations of {', '.join(names)}; expected one or more")


def read_chosen(
    files: Mapping[str, bytes], sizes: Mapping[str, tuple[int, int]]
) -> Iterator[tuple[list[str], str, NDArray[np.uint8]]]:
    """Read annotations that were chosen without their folder, for pictures of known name and size.

    Parameters
    ----------
    files
        Content of the files by their names: one file, several of labelme, or YOLO's ``data.yaml`` with ``.txt`` files.
    sizes
        Width and height of the upright pictures, px, by their names.

    Yields
    ------
    classes
        Names of all classes 1 … K of the annotations.
    name
        Name of a picture.
    mask : (H, W)
        Its mask: 1 … K, 0 the rest, 255 void.

    Raises
    ------
    InputError
        As :func:`read_labelled` would, in its words.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder, pictures = Path(scratch) / "files", Path(scratch) / "pictures"
        (folder / yolo.LABELS).mkdir(parents=True)
        pictures.mkdir()
        for name, data in files.items():
            (folder / yolo.LABELS / name if _is_text(name) else folder / name).write_bytes(data)
        for name, size in sizes.items():  # readers look for files, and that of YOLO for their size
            Image.new("1", size).save(pictures / name, "PNG", compress_level=1)
        try:
            yield from _read_chosen(folder / _source_of(list(files)), pictures, sizes)
        except InputError as error:
            text = str(error)
            for place in (folder, pictures):
                text = text.replace(f"{place}{os.sep}", "").replace(str(place), CHOSEN)
            raise InputError(text) from None


def _is_text(name: str) -> bool:
    return Path(name).suffix.lower() == ".txt"


def _source_of(names: Sequence[str]) -> str:
    """Return the name of the file to read, or that of the folder for several files."""
    texts, others = ([name for name in names if _is_text(name) is text] for text in (True, False))
    endings = {Path(name).suffix.lower() for name in others}
    if texts and not endings & {".yaml", ".yml"}:
        raise InputError(f"{texts[0]}: YOLO's labels without their {yolo.DATA}; choose it too")
    if len(others) > 1 and endings != {".json"}:
        raise InputError(f"{', '.join(others)}: expected one file of annotations, or several of labelme")
    return others[0] if len(others) == 1 else ""


def _read_chosen(
    source: Path, folder: Path, sizes: Mapping[str, tuple[int, int]]
) -> Iterator[tuple[list[str], str, NDArray[np.uint8]]]:
    classes, pictures = read_labels(source, folder)
    shown = []
    for picture in pictures:
        assert picture.path is not None
        mask, (width, height) = index_mask(picture), sizes[picture.path.name]
        where = f"{source}: {picture.name}"
        check_sizes(np.broadcast_to(np.uint8(0), (height, width)), mask, where)
        require_background(mask, where)
        shown.append(_shows_an_object(mask))
        yield classes, picture.path.name, mask
    _require_objects(shown, source, classes)


def labelled_results(results: Results, folder: Path, classes: Sequence[str]) -> Iterator[LabelledPicture]:
    """Yield the results of a folder in the order of the pictures' names: separate objects, or one instance per class.

    The score of a class is the mean probability of its pixels, times the presence of the class where that is known;
    that of an object is :func:`novelseg.inference.instances.object_scores`. The score of a picture is the certainty of
    its least certain class.

    Parameters
    ----------
    results
        The results; their masks are read again, one at a time.
    folder
        Folder of the pictures.
    classes
        Names of the classes; empty for a single object.
    """
    for name, rows in results.rows.items():
        width, height = (int(rows[0][key]) for key in ("width_px", "height_px"))
        if results.instances:
            instances, _ = read_objects(results.objects_path(name), max(1, len(classes)))
        else:
            path = results.mask_path(name)
            data = bytes_of(path)
            mask = class_mask_of(data, path, len(classes)) if classes else mask_of(data, path)[0]
            height, width = mask.shape
            instances = class_instances(mask, [_score(row) for row in rows])
        certainty = min(float(row["certainty"]) for row in rows)
        yield LabelledPicture(name, width, height, instances, certainty, folder / name)


def _score(row: Mapping[str, str]) -> float | None:
    if not row["object_confidence"]:
        return None
    return float(row["object_confidence"]) * float(row["presence"] or 1)
