"""CVAT's XML "CVAT for images 1.1", with a ``<mask>`` per instance: run lengths in rows of the bounding box."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from novelseg.core.errors import InputError
from novelseg.core.labels import VOID
from novelseg.data.classes import voc_palette
from novelseg.exchange.outline import fill
from novelseg.exchange.record import Instance, LabelledPicture, Mask, check_size, instance_of
from novelseg.exchange.runs import mask_from_row_runs, row_runs
from novelseg.exchange.sources import check_classes, faults_of, find_picture, points_of, read_xml

FILE = "annotations.xml"
EXPECTED = "CVAT's XML for images, with image and mask"


def write(folder: Path, classes: Sequence[str], pictures: Iterable[LabelledPicture]) -> None:
    """Write ``annotations.xml``; one picture is in memory at a time. Scores are left out.

    Parameters
    ----------
    folder
        An existing folder.
    classes
        Names of the classes 1 … K.
    pictures
        The pictures.
    """
    palette = voc_palette()
    labels = "".join(
        f"<label><name>{escape(name)}</name><color>#{bytes(palette[3 * number : 3 * number + 3]).hex()}</color>"
        "<type>any</type><attributes></attributes></label>\n"
        for number, name in enumerate(classes, 1)
    )
    with (folder / FILE).open("w", encoding="utf8", newline="\n") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        file.write(f"<meta><task><mode>annotation</mode><labels>\n{labels}</labels></task></meta>\n")
        for number, picture in enumerate(pictures):
            size = f'width="{picture.width}" height="{picture.height}"'
            file.write(f'<image id="{number}" name={quoteattr(picture.name)} {size}>\n')
            for instance in picture.instances:
                if instance.label != VOID:
                    file.write(_mask_element(instance, classes[instance.label - 1]))
            file.write("</image>\n")
        file.write("</annotations>\n")


def _mask_element(instance: Instance, name: str) -> str:
    left, top, width, height = instance.box
    runs = ", ".join(map(str, row_runs(instance.mask).tolist()))
    return (
        f'<mask label={quoteattr(name)} source="auto" occluded="0" rle="{runs}" left="{left}" top="{top}" '
        f'width="{width}" height="{height}" z_order="0"></mask>\n'
    )


def read(path: Path, images: Path | None = None) -> tuple[list[str], Iterator[LabelledPicture]]:
    """Read an XML file with masks and polygons; pictures are beside it, in ``images`` there, or as given.

    Raises
    ------
    InputError
        If it is no such file, or an element cannot be used; the message names it.
    """
    root = read_xml(path, EXPECTED)
    if root.tag != "annotations":
        raise InputError(f"{path}: its root is '{root.tag}'; expected {EXPECTED}")
    names = [name.text or "" for name in root.findall("./meta//label/name")]
    if not all(name and name.isprintable() for name in names):
        raise InputError(f"{path}: a label has no printable name; expected {EXPECTED}")
    classes = check_classes(list(dict.fromkeys(names)), str(path))
    return classes, (_picture(element, path, images, classes) for element in root.findall("image") if len(element))


def _picture(element: Element, path: Path, images: Path | None, classes: list[str]) -> LabelledPicture:
    name = element.get("name") or ""
    where = f"{path}: image {name if name.isprintable() else ascii(name)}"
    with faults_of(where):
        columns, rows = (_number(element, key) for key in ("width", "height"))
    width, height = check_size(columns, rows, where)
    instances = []
    for number, shape in enumerate(element, 1):
        if shape.tag == "tag":  # of the whole picture
            continue
        with faults_of(f"{where}: element {number}"):
            label = shape.get("label")
            if label not in classes:
                raise ValueError(f"its label is {label!r:.60}, which is not listed")
            instances.append(instance_of(_mask(shape, width, height), classes.index(label) + 1))
    image_path = find_picture(name, path, images, where)
    return LabelledPicture(name, width, height, [one for one in instances if one], path=image_path)


def _number(element: Element, key: str) -> int:
    text = element.get(key) or ""
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise ValueError(f"{key} is {text!r:.40}; expected a whole number")
    return int(text)


def _mask(shape: Element, width: int, height: int) -> Mask:
    """Return the mask of an element, (height, width)."""
    if shape.tag == "polygon":
        try:
            points = [[float(value) for value in pair.split(",")] for pair in (shape.get("points") or "").split(";")]
        except ValueError:
            raise ValueError("its points are not pairs of numbers") from None
        return fill(points_of(points, width, height), width, height)
    if shape.tag != "mask":
        raise ValueError(f"it is a {shape.tag}; expected a mask or a polygon")
    left, top, columns, rows = (_number(shape, key) for key in ("left", "top", "width", "height"))
    if not (left + columns <= width and top + rows <= height and columns and rows):
        raise ValueError(f"its mask of {columns}×{rows} px at {left}, {top} exceeds the picture of {width}×{height} px")
    words = [word.strip() for word in (shape.get("rle") or "").split(",")]
    if not all(word.isascii() and word.isdecimal() and len(word) < 10 for word in words):
        raise ValueError("its run lengths are not whole numbers, separated by commas")
    mask = np.zeros((height, width), bool)
    mask[top : top + rows, left : left + columns] = mask_from_row_runs(list(map(int, words)), columns, rows)
    return mask
