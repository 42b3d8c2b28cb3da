"""Separate objects of what a segmenter finds, and the files in which a folder of results keeps them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from novelseg.core.errors import InputError
from novelseg.core.extras import needs_extras
from novelseg.core.files import whole_file
from novelseg.exchange.record import Instance, instance_of
from novelseg.inference.findings import Finding
from novelseg.inference.photos import bytes_of

if TYPE_CHECKING:
    from novelseg.regions.objects import Objects

FOLDER, TABLE = "instances", "instances.tsv"
COLUMNS = ("file", "number", "class", "area_px", "left_px", "top_px", "width_px", "height_px", "score")
MOST_OBJECTS = (1 << 16) - 1  # of a picture, whose numbers are stored as uint16


def require_regions() -> None:
    """Check, before work is done, that the packages of the region hierarchy are installed.

    Raises
    ------
    InputError
        If they are not; the message says how to install them.
    """
    with needs_extras("--instances"):
        import novelseg.regions.builders
        import novelseg.regions.objects  # noqa: F401


def separate_objects(image: NDArray[np.uint8], mask: NDArray[np.uint8], *, exact: bool = False) -> Objects:
    """Separate the objects of a mask: connected parts, split along the picture's contours where two touch.

    Parameters
    ----------
    image : (H, W, 3)
        RGB.
    mask : (H, W)
        0 background, 1 … K classes, 255 void.
    exact
        Whether the mask was drawn by hand, so that its small parts are kept.

    Raises
    ------
    InputError
        If the packages of the region hierarchy are not installed, or there are more objects than can be numbered.
    """
    with needs_extras("the separation of objects"):
        from novelseg.regions.learned import build_hierarchy
        from novelseg.regions.objects import ObjectSettings, separate
    settings = ObjectSettings(least=0.0) if exact else ObjectSettings()
    objects = separate(mask, build_hierarchy(image) if mask.any() else None, settings)
    if len(objects.labels) > MOST_OBJECTS:
        raise InputError(f"the mask has {len(objects.labels)} objects; expected at most {MOST_OBJECTS}")
    return objects


def object_scores(objects: Objects, finding: Finding) -> list[float]:
    """Return the score of each object: its mean calibrated probability, times the presence of its class."""
    pixels = np.flatnonzero(objects.numbers)
    numbers, labels = objects.numbers.reshape(-1)[pixels], np.array([0, *objects.labels])
    shares = finding.calibrated
    own = shares.reshape(-1)[pixels] if shares.ndim == 2 else shares.reshape(len(shares), -1)[labels[numbers], pixels]
    means = np.bincount(numbers, own)[1:] / np.bincount(numbers)[1:]
    if finding.presence is not None:
        means = means * finding.presence[labels[1:] - 1]
    return [float(score) for score in means]


def instances_of(numbers: NDArray[Any], labels: Sequence[int], scores: Sequence[float | None]) -> Iterator[Instance]:
    """Yield the objects 1 … N of a picture, cut to their boxes; those without a pixel are left out.

    Parameters
    ----------
    numbers : (H, W)
        Object of each pixel, 0 none.
    labels, scores
        Class and score of each object.
    """
    with needs_extras("the separation of objects"):
        from scipy import ndimage
    boxes = ndimage.find_objects(numbers.astype(np.int32, copy=False), len(labels))
    for number, (box, label, score) in enumerate(zip(boxes, labels, scores, strict=True), 1):
        part = None if box is None else instance_of(numbers[box] == number, label, score)
        if part is not None:
            rows, columns = box
            yield Instance(label, part.left + columns.start, part.top + rows.start, part.mask, score)


def write_objects(path: Path, objects: Objects, finding: Finding) -> None:
    """Write the objects of a picture: a PNG of their numbers, with 16 bits, and beside it a JSON file about them."""
    with whole_file(path) as scratch:
        Image.fromarray(objects.numbers.astype(np.uint16)).save(scratch, "PNG")
    scores = object_scores(objects, finding)
    found = [{"class": label, "score": round(score, 6)} for label, score in zip(objects.labels, scores, strict=True)]
    content = json.dumps({"dropped": objects.dropped, "objects": found}, indent=1) + "\n"
    with whole_file(path.with_suffix(".json")) as scratch:
        scratch.write_text(content, encoding="utf8")


def read_objects(path: Path, classes: int) -> tuple[list[Instance], int]:
    """Read the objects of a picture, and the number of parts that were dropped.

    Parameters
    ----------
    path
        Path of the PNG.
    classes
        Number of classes.

    Raises
    ------
    InputError
        If a file was changed by another program, so that it cannot be used.
    """
    about = path.with_suffix(".json")
    try:
        content = json.loads(bytes_of(about))
        labels = [int(one["class"]) for one in content["objects"]]
        scores = [float(one["score"]) for one in content["objects"]]
        dropped = int(content["dropped"])
        with Image.open(path) as image:
            numbers = np.array(image)
        if numbers.ndim != 2 or numbers.max() > len(labels) or not all(1 <= label <= classes for label in labels):
            raise ValueError("the numbers are not those of the objects")
    except (ValueError, TypeError, LookupError, OSError, OverflowError, RecursionError) as error:
        remedy = "remove it and run the command again"
        raise InputError(f"{about}: does not describe the objects of {path.name} ({error}); {remedy}") from None
    return list(instances_of(numbers, labels, scores)), dropped


def write_table(path: Path, pictures: Iterable[tuple[str, Path]], classes: Sequence[str]) -> int:
    """Write the table of all objects; return the number of parts that were too small for one.

    Parameters
    ----------
    path
        The table.
    pictures
        Name of each picture, and the path of its objects.
    classes
        Names of the classes; empty for a single object.
    """
    small = 0
    with whole_file(path) as scratch, scratch.open("w", encoding="utf8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, source in pictures:
            objects, dropped = read_objects(source, max(1, len(classes)))
            small += dropped
            for number, one in enumerate(objects, 1):
                label = classes[one.label - 1] if classes else ""
                writer.writerow((name, number, label, one.area, *one.box, f"{one.score:.4f}"))
    return small
