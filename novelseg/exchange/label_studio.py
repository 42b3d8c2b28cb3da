"""Label Studio's tasks: a JSON list with one prediction per picture, whose masks are in Label Studio's run lengths.

``tasks.json`` is imported into a project whose labelling interface is ``label-config.xml``. A picture is named as in
Label Studio's local storage, ``/data/local-files/?d=FOLDER/NAME``, from the folder that contains that of the pictures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

from novelseg.core.errors import InputError
from novelseg.core.labels import VOID
from novelseg.data.classes import voc_palette
from novelseg.exchange.outline import fill
from novelseg.exchange.record import Instance, LabelledPicture, Mask, check_size, instance_of
from novelseg.exchange.runs import brush_bytes, mask_from_brush
from novelseg.exchange.sources import check_classes, faults_of, find_picture, points_of, read_json
from novelseg.version import __version__

FILE, CONFIG = "tasks.json", "label-config.xml"
CONTROL, OBJECT = "label", "image"  # names of the tags in the labelling interface
LOCAL = "/data/local-files/?d="
EXPECTED = "tasks of Label Studio: a list of objects with data and annotations or predictions"


def write(folder: Path, classes: Sequence[str], pictures: Iterable[LabelledPicture]) -> None:
    """Write ``tasks.json`` and ``label-config.xml``; one picture is in memory at a time.

    Parameters
    ----------
    folder
        An existing folder.
    classes
        Names of the classes 1 … K.
    pictures
        The pictures; Label Studio sorts by their scores.
    """
    (folder / CONFIG).write_text(_config(classes), encoding="utf8")
    with (folder / FILE).open("w", encoding="utf8") as file:
        file.write("[")
        for number, picture in enumerate(pictures, 1):
            file.write(",\n" if number > 1 else "\n")
            json.dump(_task(number, picture, classes), file, ensure_ascii=False)
        file.write("\n]\n")


def _config(classes: Sequence[str]) -> str:
    palette = voc_palette()
    labels = "".join(
        f'    <Label value={quoteattr(name)} background="#{bytes(palette[3 * number : 3 * number + 3]).hex()}"/>\n'
        for number, name in enumerate(classes, 1)
    )
    return (
        f'<View>\n  <Image name="{OBJECT}" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="{CONTROL}" toName="{OBJECT}">\n{labels}  </BrushLabels>\n</View>\n'
    )


def _task(number: int, picture: LabelledPicture, classes: Sequence[str]) -> dict[str, Any]:
    results = [
        _result(f"{number}-{count}", instance, picture, classes[instance.label - 1])
        for count, instance in enumerate(picture.instances, 1)
        if instance.label != VOID
    ]
    prediction: dict[str, Any] = {"model_version": f"novelseg {__version__}", "result": results}
    if picture.score is not None:
        prediction["score"] = round(picture.score, 6)
    return {"data": {"image": LOCAL + quote(_local_name(picture))}, "predictions": [prediction]}


def _local_name(picture: LabelledPicture) -> str:
    """Return the name of a picture with the folder of all pictures before it, if that is known."""
    if picture.path is None:
        return picture.name
    parents = picture.path.resolve().parents
    return f"{parents[len(PurePosixPath(picture.name).parts) - 1].name}/{picture.name}".lstrip("/")


def _result(key: str, instance: Instance, picture: LabelledPicture, name: str) -> dict[str, Any]:
    data = brush_bytes(instance, picture.width, picture.height)
    result = {
        "id": key,
        "type": "brushlabels",
        "from_name": CONTROL,
        "to_name": OBJECT,
        "original_width": picture.width,
        "original_height": picture.height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": list(data), "brushlabels": [name]},
    }
    return result if instance.score is None else {**result, "score": round(instance.score, 6)}


def read(path: Path, images: Path | None = None) -> tuple[list[str], Iterator[LabelledPicture]]:
    """Read exported tasks, with brush masks and polygons: the annotations of a picture, or else its predictions.

    Classes are in the order of their names. Pictures are looked for by their names beside the file, or in ``images``.

    Raises
    ------
    InputError
        If it is no such file, or a part cannot be used; the message names it.
    """
    content = read_json(path, EXPECTED)
    if not isinstance(content, list) or not all(isinstance(task, dict) for task in content):
        raise InputError(f"{path}: not a list of tasks; expected {EXPECTED}")
    tasks = [(task, _results(task, f"{path}: task {number}")) for number, task in enumerate(content, 1)]
    names: set[str] = set()
    for number, (_, results) in enumerate(tasks, 1):
        with faults_of(f"{path}: task {number}"):
            names |= {_label(result) for result in results}
    classes = check_classes(sorted(names), str(path))
    labelled = [(f"{path}: task {number}", *task) for number, task in enumerate(tasks, 1) if task[1]]
    return classes, (_picture(where, task, results, path, images, classes) for where, task, results in labelled)


def _results(task: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """Return the results of the first annotation that was not cancelled, or of the first prediction."""
    for key in ("annotations", "predictions"):
        entries = task.get(key) or []
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InputError(f"{where}: {key} is not a list of objects; expected {EXPECTED}")
        for entry in entries:
            results = entry.get("result")
            if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
                raise InputError(f"{where}: result is not a list of objects; expected {EXPECTED}")
            if results and not entry.get("was_cancelled"):
                return results
    return []


def _value(result: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    kind, value = result.get("type"), result.get("value")
    if kind not in ("brushlabels", "polygonlabels") or not isinstance(value, dict):
        raise ValueError(f"a result is of the type {kind!r:.40}; expected brushlabels or polygonlabels")
    return kind, value


def _label(result: dict[str, Any]) -> str:
    kind, value = _value(result)
    labels = value.get(kind)
    label = labels[0] if isinstance(labels, list) and len(labels) == 1 else None
    if not isinstance(label, str) or not label.isprintable():
        raise ValueError(f"the labels of a result are {labels!r:.60}; expected one printable name")
    return label


def _picture(
    where: str,
    task: dict[str, Any],
    results: list[dict[str, Any]],
    path: Path,
    images: Path | None,
    classes: list[str],
) -> LabelledPicture:
    name = _file_name(task.get("data"), where)
    width, height = check_size(results[0].get("original_width"), results[0].get("original_height"), where)
    instances = []
    for number, result in enumerate(results, 1):
        with faults_of(f"{where}: result {number}"):
            if (result.get("original_width"), result.get("original_height")) != (width, height):
                raise ValueError("it differs in size from the first result")
            if result.get("image_rotation") not in (0, None):
                raise ValueError("the picture was rotated in Label Studio; rotate it back there")
            instances.append(instance_of(_mask(result, width, height), classes.index(_label(result)) + 1))
    image_path = find_picture(name, path, images, where)
    return LabelledPicture(name, width, height, [one for one in instances if one], path=image_path)


def _file_name(data: object, where: str) -> str:
    """Return the name of a task's picture, from the address in its data."""
    addresses = [value for value in data.values() if isinstance(value, str)] if isinstance(data, dict) else []
    if not addresses:
        raise InputError(f"{where}: its data names no picture; expected {EXPECTED}")
    try:
        parts = urlsplit(addresses[0])
        name = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    except ValueError:
        name = addresses[0]
    return name.lstrip("/")


def _mask(result: dict[str, Any], width: int, height: int) -> Mask:
    """Return the mask of a result, (height, width)."""
    kind, value = _value(result)
    if kind == "polygonlabels":
        points = value.get("points")
        pairs = [[x * width / 100, y * height / 100] for x, y in points_of(points, 100, 100)]
        return fill(pairs, width, height)
    runs = value.get("rle")
    if value.get("format") != "rle" or not isinstance(runs, list):
        raise ValueError("its mask is not in the format rle")
    try:
        data = bytes(runs)
    except (TypeError, ValueError):
        raise ValueError("its run lengths are not numbers from 0 to 255") from None
    return mask_from_brush(data, width, height)
