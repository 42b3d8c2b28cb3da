"""COCO's instance annotations: one JSON file, with run lengths of column-major masks, which keep holes and parts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from novelseg.core.errors import InputError
from novelseg.core.labels import VOID
from novelseg.exchange.outline import fill
from novelseg.exchange.record import Instance, LabelledPicture, Mask, check_size, instance_of
from novelseg.exchange.runs import mask_from_column_runs, picture_runs
from novelseg.exchange.sources import (
    check_classes,
    faults_of,
    find_picture,
    points_of,
    read_json,
    text_of,
    whole_number,
)
from novelseg.ops.runlengths import coco_runs, coco_text

FILE = "annotations.json"
EXPECTED = "COCO's annotations: an object with images, annotations and categories"


def write(folder: Path, classes: Sequence[str], pictures: Iterable[LabelledPicture]) -> None:
    """Write ``annotations.json``; one picture is in memory at a time.

    Parameters
    ----------
    folder
        An existing folder.
    classes
        Names of the classes 1 … K, which are the ids of the categories.
    pictures
        The pictures; their ids are their numbers, from 1.
    """
    categories = [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate(classes, 1)]
    with (folder / FILE).open("w", encoding="utf8") as file, tempfile.TemporaryFile("w+", encoding="utf8") as later:
        file.write(f'{{"info": {{}}, "licenses": [], "categories": {_dump(categories)},\n"images": [')
        count = 0
        for number, picture in enumerate(pictures, 1):
            entry = {"id": number, "file_name": picture.name, "width": picture.width, "height": picture.height}
            if picture.score is not None:
                entry["score"] = round(picture.score, 6)
            file.write(("\n" if number == 1 else ",\n") + _dump(entry))
            for instance in picture.instances:
                if instance.label != VOID:
                    count += 1
                    later.write(("\n" if count == 1 else ",\n") + _dump(_entry(count, number, picture, instance)))
        file.write('],\n"annotations": [')
        _append(file, later)
        file.write("]}\n")


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _append(file: TextIO, later: Any) -> None:
    later.seek(0)
    while text := later.read(1 << 20):
        file.write(text)


def _entry(number: int, image: int, picture: LabelledPicture, instance: Instance) -> dict[str, Any]:
    runs = picture_runs(instance, picture.width, picture.height, columns=True)
    entry = {
        "id": number,
        "image_id": image,
        "category_id": instance.label,
        "segmentation": {"size": [picture.height, picture.width], "counts": coco_text(runs)},
        "bbox": list(instance.box),
        "area": instance.area,
        "iscrowd": 0,
    }
    return entry if instance.score is None else {**entry, "score": round(instance.score, 6)}


def read(path: Path, images: Path | None = None) -> tuple[list[str], Iterator[LabelledPicture]]:
    """Read a file of annotations, with polygons or run lengths; crowds become void.

    Parameters
    ----------
    path
        The file.
    images
        Folder of the pictures; by default, that of the file, or ``images`` in it.

    Returns
    -------
    classes
        Names of the categories, in the order of their ids.
    pictures
        The pictures that have annotations, in the order of their ids.

    Raises
    ------
    InputError
        If the file is no such file, or an entry cannot be used; the message names it.
    """
    content = read_json(path, EXPECTED)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError(f"{path}: the list '{key}' is missing; expected {EXPECTED}")
    with faults_of(f"{path}: a category"):
        names = {whole_number(entry, "id"): text_of(entry, "name") for entry in content["categories"]}
    classes = check_classes([names[number] for number in sorted(names)], str(path))
    labels = {number: label for label, number in enumerate(sorted(names), 1)}
    known: dict[int, Any] = {}
    with faults_of(f"{path}: an image"):
        for entry in content["images"]:
            known[whole_number(entry, "id")] = entry
    own: dict[int, list[Any]] = {}
    for number, entry in enumerate(content["annotations"], 1):
        with faults_of(f"{path}: annotation {number}"):
            image = whole_number(entry, "image_id")
            if image not in known:
                raise ValueError(f"it is of image {image}, which is not listed")
        own.setdefault(image, []).append(entry)
    return classes, (_picture(path, images, known[number], own[number], labels) for number in sorted(own))


def _picture(path: Path, images: Path | None, entry: Any, own: list[Any], labels: dict[int, int]) -> LabelledPicture:
    with faults_of(f"{path}: image {entry['id']}"):
        name = text_of(entry, "file_name")
    where = f"{path}: image {name}"
    width, height = check_size(entry.get("width"), entry.get("height"), where)
    instances = []
    for annotation in own:
        with faults_of(f"{where}: annotation {annotation.get('id')!r:.40}"):
            category, crowd = whole_number(annotation, "category_id"), annotation.get("iscrowd", 0)
            if category not in labels:
                raise ValueError(f"it has the category {category}, which is not listed")
            if crowd not in (0, 1):
                raise ValueError(f"its iscrowd is {crowd!r:.20}; expected 0 or 1")
            mask = _mask(annotation.get("segmentation"), width, height)
            instances.append(instance_of(mask, VOID if crowd else labels[category]))
    return LabelledPicture(
        name, width, height, [one for one in instances if one], path=find_picture(name, path, images, where)
    )


def _mask(segmentation: Any, width: int, height: int) -> Mask:
    """Return the mask of polygons or run lengths, (height, width)."""
    if isinstance(segmentation, list) and segmentation:
        mask = None
        for polygon in segmentation:
            if not isinstance(polygon, list) or len(polygon) % 2:
                raise ValueError("a polygon is not a list of pairs of x and y")
            pairs = [list(pair) for pair in zip(polygon[::2], polygon[1::2], strict=True)]
            part = fill(points_of(pairs, width, height), width, height)
            mask = part if mask is None else mask | part
        assert mask is not None
        return mask
    if not isinstance(segmentation, dict):
        raise ValueError("its segmentation is neither polygons nor run lengths")
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        raise ValueError(f"its run lengths are of size {size!r:.40}; expected [{height}, {width}]")
    if isinstance(counts, str):
        counts = coco_runs(counts)
    if not (isinstance(counts, list) and all(type(count) is int for count in counts)):
        raise ValueError("its run lengths are not a list of whole numbers")
    return mask_from_column_runs(counts, width, height)
