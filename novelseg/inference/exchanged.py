"""Supports from annotation tools, and results for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from novelseg.core.errors import InputError, nearest
from novelseg.core.labels import VOID
from novelseg.exchange import voc
from novelseg.exchange.record import LabelledPicture, class_instances, index_mask
from novelseg.exchange.registry import read_labels
from novelseg.inference.folders import Results, Support
from novelseg.inference.inputs import resize_pair
from novelseg.inference.instances import read_objects
from novelseg.inference.photos import bytes_of, class_mask_of, mask_of, read_photo

OBJECT = "object"  # name of a single object without one


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
        raise InputError(f"--classes names '{unknown}', which is no class of {path}; {nearest(unknown, classes)}")
    names = list(chosen) or classes
    table = np.zeros(VOID + 1, np.uint8)
    table[VOID] = VOID
    for label, name in enumerate(classes, 1):
        table[label] = names.index(name) + 1 if name in names else 0
    supports: list[Support] = []
    for picture in pictures:
        if picture.path is None:
            raise InputError(f"{path}: {picture.name} has no file")
        image, mask = read_photo(picture.path), table[index_mask(picture)]
        supports.append(Support(picture.path, *resize_pair(image, mask, side, f"{path}: {picture.name}")))
    if not any((one.mask == 0).any() and np.isin(one.mask, (0, VOID), invert=True).any() for one in supports):
        raise InputError(f"{path}: no picture has annotations of {', '.join(names)}; expected one or more")
    return names, supports


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
