"""Read annotations with the tools' own readers: run by the interpreter of an environment that has one of them.

``python benchmarks/official_readers.py READER FILE NAMES OUT`` writes OUT, an ``.npz`` with the index mask and the
numbers of the objects of each picture's pixels, by the picture's number. NAMES is a JSON file with the names, sizes and
files of the pictures and the names of the classes. This file imports nothing of novelseg, since the environments do not
have it.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]
Objects = Iterable[tuple[str, NDArray[Any]]]  # class and mask


def pycocotools(file: Path, facts: Any) -> Iterable[tuple[int, Objects]]:
    """COCO's own reader."""
    coco = importlib.import_module("pycocotools.coco").COCO(str(file))
    numbers = {image["file_name"]: image["id"] for image in coco.dataset["images"]}
    for number, picture in enumerate(facts["pictures"]):
        entries = coco.loadAnns(coco.getAnnIds([numbers[picture["name"]]]))
        yield number, [(coco.cats[entry["category_id"]]["name"], coco.annToMask(entry)) for entry in entries]


def _datumaro(folder: Path, kind: str, facts: Any) -> Iterable[tuple[int, Objects]]:
    dataset = importlib.import_module("datumaro").Dataset.import_from(str(folder), kind)
    masks = importlib.import_module("datumaro").AnnotationType.mask
    labels = dataset.categories()[importlib.import_module("datumaro").AnnotationType.label]
    items = {item.id: item for item in dataset}
    for number, picture in enumerate(facts["pictures"]):
        item = items[Path(picture["name"]).with_suffix("").as_posix()]
        yield number, [(labels[one.label].name, one.image) for one in item.annotations if one.type == masks]


def datumaro_voc(file: Path, facts: Any) -> Iterable[tuple[int, Objects]]:
    """Datumaro's reader of VOC's layout."""
    return _datumaro(file, "voc_segmentation", facts)


def datumaro_zip(file: Path, facts: Any) -> Iterable[tuple[int, Objects]]:
    """Datumaro's reader of VOC's layout, on an unpacked zip, as CVAT imports it."""
    folder = Path(tempfile.mkdtemp())
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
    return _datumaro(folder, "voc_segmentation", facts)


def datumaro_coco(file: Path, facts: Any) -> Iterable[tuple[int, Objects]]:
    """Datumaro's reader of COCO, as CVAT imports it."""
    folder = Path(tempfile.mkdtemp())
    (folder / "annotations").mkdir()
    (folder / "images").symlink_to(facts["folder"])
    (folder / "annotations/instances_default.json").write_bytes(file.read_bytes())
    return _datumaro(folder, "coco_instances", facts)


def datumaro_xml(file: Path, facts: Any) -> Iterable[tuple[int, Objects]]:
    """Datumaro's reader of CVAT's XML, which wants the pictures beside it."""
    folder = Path(tempfile.mkdtemp())
    (folder / "images").symlink_to(facts["folder"])
    (folder / "annotations.xml").write_bytes(file.read_bytes())
    return _datumaro(folder, "cvat", facts)


def cvat_sdk(file: Path, facts: Any) -> Iterable[tuple[int, Objects]]:
    """CVAT's own decoder of masks."""
    decode = importlib.import_module("cvat_sdk.masks").decode_mask
    elements = {element.get("name"): element for element in ElementTree.parse(file).getroot().findall("image")}
    for number, picture in enumerate(facts["pictures"]):
        objects = []
        for mask in elements[picture["name"]].findall("mask"):
            left, top, width, height = (int(mask.get(key) or "") for key in ("left", "top", "width", "height"))
            runs = [*map(int, (mask.get("rle") or "").split(",")), left, top, left + width - 1, top + height - 1]
            whole = decode(runs, image_width=picture["width"], image_height=picture["height"])
            objects.append((mask.get("label") or "", whole))
        yield number, objects


def labelme(file: Path, facts: Any) -> Iterable[tuple[int, Objects]]:
    """labelme's own reader and rasteriser."""
    read = importlib.import_module("labelme._label_file").read_label_file
    draw = importlib.import_module("labelme.utils").shape_to_mask
    for number, picture in enumerate(facts["pictures"]):
        data = read(str(file / Path(picture["name"]).with_suffix(".json")))
        size, objects = (picture["height"], picture["width"]), []
        for shape in data.shapes:
            if shape["shape_type"] == "mask":
                mask = np.zeros(size, bool)
                (left, top), (right, bottom) = np.asarray(shape["points"]).astype(int)
                mask[top : bottom + 1, left : right + 1] = shape["mask"]
            else:
                mask = draw(size, shape["points"], shape["shape_type"])
            objects.append((shape["label"], mask))
        yield number, objects


def label_studio(file: Path, facts: Any) -> Iterable[tuple[int, Objects]]:
    """Label Studio's own converter."""
    decode = importlib.import_module("label_studio_sdk.converter.brush").decode_rle
    tasks = json.loads(file.read_text(encoding="utf8"))
    for number, (task, _) in enumerate(zip(tasks, facts["pictures"], strict=True)):
        objects = []
        for result in task["predictions"][0]["result"]:
            size = result["original_height"], result["original_width"], 4
            mask = np.reshape(decode(result["value"]["rle"]), size)[:, :, 3] > 0
            objects.append((result["value"]["brushlabels"][0], mask))
        yield number, objects


def ultralytics(file: Path, facts: Any) -> Iterable[tuple[int, Objects]]:
    """Ultralytics' own check of a label file, and its rasteriser."""
    utils = importlib.import_module("ultralytics.data.utils")
    for number, picture in enumerate(facts["pictures"]):
        label = file.parent / "labels" / Path(picture["name"]).with_suffix(".txt")
        checked = utils.verify_image_label((picture["file"], str(label), "", False, len(facts["classes"]), 0, 0, False))
        if checked[0] is None:
            raise SystemExit(f"ultralytics refuses {label}: {checked[-1]}")
        height, width = size = picture["height"], picture["width"]
        if tuple(checked[2]) != size:
            raise SystemExit(f"ultralytics reads {picture['name']} as {checked[2]}; expected {size}")
        polygons = [segment * (width, height) for segment in checked[3]]
        masks = (utils.polygon2mask(size, [polygon.reshape(-1)]) for polygon in polygons)
        yield number, [(facts["classes"][int(row[0])], mask) for row, mask in zip(checked[1], masks, strict=True)]


READERS = {
    "pycocotools": pycocotools,
    "datumaro-coco": datumaro_coco,
    "datumaro-voc": datumaro_voc,
    "datumaro-zip": datumaro_zip,
    "datumaro-xml": datumaro_xml,
    "cvat-sdk": cvat_sdk,
    "labelme": labelme,
    "label-studio-sdk": label_studio,
    "ultralytics": ultralytics,
}


def main(reader: str, file: str, names: str, out: str) -> None:
    """Read a file and write its masks."""
    facts = json.loads(Path(names).read_text(encoding="utf8"))
    arrays: dict[str, Any] = {}
    for number, objects in READERS[reader](Path(file), facts):
        picture, count = facts["pictures"][number], 0
        canvas = np.zeros((picture["height"], picture["width"]), np.uint8)
        numbers = np.zeros(canvas.shape, np.uint16)
        for name, mask in objects:
            label = facts["classes"].index(name) + 1 if name in facts["classes"] else 0
            if label and np.any(mask):
                count += 1
                canvas[np.asarray(mask) > 0], numbers[np.asarray(mask) > 0] = label, count
        arrays[f"mask{number}"], arrays[f"objects{number}"] = canvas, numbers
    np.savez_compressed(out, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
