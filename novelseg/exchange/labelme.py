"""labelme's files: a JSON file per picture, with masks (base64 PNG of the bounding box) or polygons.

The pictures are not copied into the files, which name them by their path.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from novelseg.core.errors import InputError
from novelseg.core.labels import VOID
from novelseg.data.pictures import decode
from novelseg.exchange.outline import fill, outlines, simplify
from novelseg.exchange.record import Instance, LabelledPicture, Mask, check_size, instance_of
from novelseg.exchange.sources import REMEDY, check_classes, faults_of, find_picture, points_of, read_json, text_of

VERSION = "5.3.0"  # of labelme, the first that reads masks
TOLERANCE = 1.0  # px within which a polygon for editing follows the border
EXPECTED = "a file of labelme, with imagePath and shapes"


def write(folder: Path, classes: Sequence[str], pictures: Iterable[LabelledPicture]) -> None:
    """Write one file per picture, with a mask for each instance; one picture is in memory at a time.

    Parameters
    ----------
    folder
        An existing folder.
    classes
        Names of the classes 1 … K.
    pictures
        The pictures.
    """
    _write(folder, classes, pictures, polygons=False)


def write_polygons(folder: Path, classes: Sequence[str], pictures: Iterable[LabelledPicture]) -> None:
    """Write one file per picture, with simplified polygons that are grouped by instance; see :func:`write`."""
    _write(folder, classes, pictures, polygons=True)


def _write(folder: Path, classes: Sequence[str], pictures: Iterable[LabelledPicture], *, polygons: bool) -> None:
    for picture in pictures:
        path = folder / f"{picture.stem}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        shapes: list[dict[str, Any]] = []
        for number, instance in enumerate(picture.instances):
            if instance.label == VOID:
                continue
            common: dict[str, Any] = {"label": classes[instance.label - 1], "description": "", "flags": {}}
            if instance.score is not None:
                common["score"] = round(instance.score, 6)
            if polygons:
                parts = outlines(instance.mask, instance.left, instance.top)
                shapes += [
                    {**common, "points": _polygon(part), "group_id": number, "shape_type": "polygon"} for part in parts
                ]
            else:
                shapes.append({**common, **_mask_shape(instance), "group_id": None, "shape_type": "mask"})
        content: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": _image_path(picture, path),
            "imageData": None,
            "imageHeight": picture.height,
            "imageWidth": picture.width,
        }
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf8")


def _image_path(picture: LabelledPicture, path: Path) -> str:
    """Return the path of a picture from its file, which is in a scratch folder beside the one that it will be in."""
    if picture.path is None:
        return Path(picture.name).name
    try:
        return Path(os.path.relpath(picture.path.resolve(), path.parent.resolve())).as_posix()
    except ValueError:  # on another drive of Windows
        return picture.path.resolve().as_posix()


def _mask_shape(instance: Instance) -> dict[str, Any]:
    left, top, width, height = instance.box
    buffer = io.BytesIO()
    Image.fromarray(instance.mask.astype(np.uint8)).save(buffer, "PNG")
    corners = [[float(left), float(top)], [float(left + width - 1), float(top + height - 1)]]
    return {"points": corners, "mask": base64.b64encode(buffer.getvalue()).decode("ascii")}


def _polygon(part: Any) -> list[list[float]]:
    return [[round(x, 2), round(y, 2)] for x, y in simplify(part, TOLERANCE).tolist()]


def read(path: Path, images: Path | None = None) -> tuple[list[str], Iterator[LabelledPicture]]:
    """Read a file of labelme, or all those in a folder; classes are in the order of their names.

    Raises
    ------
    InputError
        If a file cannot be used, or there is none; the message names it.
    """
    root = path if path.is_dir() else path.parent
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    contents = [(file, _content(file)) for file in files]
    if not contents:
        raise InputError(f"{path}: contains no .json file; expected files of labelme")
    names = {shape["label"] for _, content in contents for shape in content["shapes"]}
    classes = check_classes(sorted(names), str(path))
    return classes, (_picture(file, root, content, images, classes) for file, content in contents)


def _content(file: Path) -> dict[str, Any]:
    content = read_json(file, EXPECTED)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise InputError(f"{file}: the list 'shapes' is missing; expected {EXPECTED}")
    for number, shape in enumerate(content["shapes"], 1):
        with faults_of(f"{file}: shape {number}"):
            text_of(shape, "label")
    return content


def _picture(
    file: Path, root: Path, content: dict[str, Any], images: Path | None, classes: list[str]
) -> LabelledPicture:
    with faults_of(str(file)):
        beside = file.parent / text_of(content, "imagePath")
    name = (file.parent.relative_to(root) / beside.name).as_posix()
    width, height = check_size(content.get("imageWidth"), content.get("imageHeight"), str(file))
    instances = []
    for number, shape in enumerate(content["shapes"], 1):
        with faults_of(f"{file}: shape {number}"):
            instances.append(instance_of(_mask(shape, width, height), classes.index(shape["label"]) + 1))
    path = beside if images is None and beside.is_file() else find_picture(name, root / "labelme", images, str(file))
    return LabelledPicture(name, width, height, [one for one in instances if one], path=path)


def _mask(shape: dict[str, Any], width: int, height: int) -> Mask:
    """Return the mask of a shape, (height, width)."""
    kind = shape.get("shape_type", "polygon")
    if kind == "polygon":
        return fill(points_of(shape.get("points"), width, height), width, height)
    if kind != "mask":
        raise ValueError(f"its shape_type is {kind!r:.40}; expected mask or polygon")
    points = shape.get("points")
    data = shape.get("mask")
    if not isinstance(data, str):
        raise ValueError("its mask is not text")
    try:
        picture = decode(base64.b64decode(data, validate=True), "its mask", REMEDY)
    except (binascii.Error, InputError) as error:
        raise ValueError(f"its mask is not a PNG in base64 ({error})") from None
    values = np.array(picture.image.convert("L")) > 0
    corners = isinstance(points, list) and len(points) == 2 and points[0]
    if not (isinstance(corners, list) and len(corners) == 2 and all(type(one) in (int, float) for one in corners)):
        raise ValueError("its points are not two corners")
    if not all(-1e9 < one < 1e9 for one in corners):
        raise ValueError(f"its first corner is {corners!r:.60}")
    left, top = (int(one) for one in corners)
    rows, columns = values.shape
    if not (0 <= left <= width - columns and 0 <= top <= height - rows):
        raise ValueError(f"its mask of {columns}×{rows} px at {left}, {top} exceeds the picture of {width}×{height} px")
    mask = np.zeros((height, width), bool)
    mask[top : top + rows, left : left + columns] = values
    return mask
