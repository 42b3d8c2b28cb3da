"""Mutations of the files of annotation tools."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from novelseg.exchange.record import LabelledPicture, class_instances, index_mask
from novelseg.exchange.registry import export, read_labels
from novelseg.inference.instances import read_objects
from novelseg.inference.session import export_request
from tests.fuzzing.mutate import Changed, mutated, odd_json
from tests.fuzzing.target import Mutation, Target

HEIGHT, WIDTH = 9, 12
# Format, its file, and the name under which it is read.
FILES = {
    "coco": ("annotations.json", "x.json"),
    "labelme": ("a.json", "x.json"),
    "labelme-polygons": ("a.json", "x.json"),
    "label-studio": ("tasks.json", "x.json"),
    "cvat-xml": ("annotations.xml", "x.xml"),
    "cvat-masks": ("annotations.zip", "x.zip"),
    "yolo": ("data.yaml", "x.yaml"),
}


@cache
def _file(name: str) -> bytes:
    labels = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) // 5 % 3).astype(np.uint8)
    picture = LabelledPicture("a.png", WIDTH, HEIGHT, class_instances(labels, [0.5, 0.25]), 0.5)
    with tempfile.TemporaryDirectory() as folder:
        export(name, Path(folder) / "out", ["cat", "dog"], [picture])
        return (Path(folder) / "out" / FILES[name][0]).read_bytes()


def _read(path: Path) -> str:
    """Read a file with a picture beside it; masks have its size and known classes."""
    Image.new("RGB", (WIDTH, HEIGHT)).save(path.with_name("a.png"))
    labels = path.with_name("labels")
    labels.mkdir(exist_ok=True)
    (labels / "a.txt").write_text("0 0.1 0.1 0.6 0.1 0.6 0.6\n")
    classes, pictures = read_labels(path)
    masks = [index_mask(picture) for picture in pictures]
    assert all(set(np.unique(mask)) <= {*range(len(classes) + 1), 255} for mask in masks)
    return f"{classes} {[mask.tobytes() for mask in masks]}"


def _drawn(name: str) -> Callable[[np.random.Generator], Mutation]:
    def drawn(rng: np.random.Generator) -> Mutation:
        data = _file(name)
        changed: Changed
        if FILES[name][1].endswith("json") and rng.random() < 0.7:
            try:
                change, content = odd_json(json.loads(data), rng)
                changed = change, json.dumps(content).encode()
            except (ValueError, RecursionError):  # a value was put into itself
                changed = mutated(data, data, rng)
        else:
            changed = mutated(data, data, rng)
        return Mutation(*changed, data)

    return drawn


REQUEST = {
    "formats": ["coco", "masks"],
    "classes": ["cat", "dog"],
    "pictures": [
        {"name": "a.png", "scores": [0.5, None], "certainty": 0.25},
        {"name": "b.png", "scores": [0.5], "certainty": None, "labels": [2]},
    ],
}
OBJECTS = {"dropped": 1, "objects": [{"class": 1, "score": 0.5}, {"class": 2, "score": 0.25}]}


def _drawn_json(valid: object) -> Callable[[np.random.Generator], Mutation]:
    data = json.dumps(valid).encode()

    def drawn(rng: np.random.Generator) -> Mutation:
        try:
            change, content = odd_json(json.loads(data), rng)
            return Mutation(change, json.dumps(content).encode(), data)
        except (ValueError, RecursionError):  # a value was put into itself
            return Mutation(*mutated(data, data, rng), data)

    return drawn


def _read_request(path: Path) -> str:
    return str(export_request(path.read_text(encoding="utf8", errors="replace")))


def _read_objects(path: Path) -> str:
    Image.fromarray(np.arange(3, dtype=np.uint16).repeat(4).reshape(3, 4)).save(path.with_suffix(".png"))
    instances, dropped = read_objects(path.with_suffix(".png"), 2)
    return f"{dropped} {[(one.label, one.box, one.score) for one in instances]}"


def targets() -> list[Target]:
    """Return the readers of the files of annotation tools, of the page's request for them, and of objects."""
    return [
        *(Target(f"exchange, {name}", read, _drawn(name), _read) for name, (_, read) in FILES.items()),
        Target("exchange, request of the page", "x.txt", _drawn_json(REQUEST), _read_request),
        Target("objects of a picture", "x.json", _drawn_json(OBJECTS), _read_objects),
    ]
