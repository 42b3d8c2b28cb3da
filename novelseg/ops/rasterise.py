"""Conversion of object instances, as outlines or run lengths, to one label map."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from novelseg.core.labels import VOID
from novelseg.ops.runlengths import coco_runs

Rle = dict[str, Any]


@dataclass(frozen=True)
class Instance:
    """One object: its label (255 for a crowd), and its mask as compressed run lengths."""

    label: int
    rle: Rle


def encode(segmentation: object, height: int, width: int) -> Rle:
    """Convert the ``segmentation`` of a COCO annotation to compressed run lengths, with checks that pycocotools omits.

    Parameters
    ----------
    segmentation
        A list of polygons (x0, y0, x1, y1, … in px; all of them belong to the object) or run lengths
        ``{"size": [height, width], "counts": …}``, plain or compressed.
    height, width
        Size of the image, px.

    Raises
    ------
    ValueError
        If ``segmentation`` is neither, or does not fit the image; the message states the reason.
    """
    if isinstance(segmentation, list):
        return _from_polygons(segmentation, height, width)
    if isinstance(segmentation, dict):
        return _from_runs(segmentation, height, width)
    raise ValueError(f"its segmentation is {type(segmentation).__name__}; expected polygons or run lengths")


def _from_polygons(polygons: list[Any], height: int, width: int) -> Rle:
    """Check and rasterise polygons; see :func:`encode`."""
    if not polygons:
        raise ValueError("it has no polygon")
    for polygon in polygons:
        numbers = isinstance(polygon, list) and all(
            isinstance(value, (int, float)) and not isinstance(value, bool) for value in polygon
        )
        if not numbers:
            raise ValueError("a polygon is not a list of numbers")
        if len(polygon) % 2:
            raise ValueError(f"a polygon has {len(polygon)} numbers; expected pairs of x and y")
        if len(polygon) < 6:
            raise ValueError(f"a polygon has {len(polygon) // 2} points; expected three or more")
        # An outline may extend a little beyond the image. A point a whole image away is an error, and pycocotools
        # would take minutes and gigabytes for it.
        for value, size in zip(polygon, (width, height) * (len(polygon) // 2), strict=True):
            if not -size <= value <= 2 * size:  # false for NaN, too
                raise ValueError(f"a polygon has the coordinate {value!r:.20} in an image of {width}×{height} px")
    parts: Rle = coco.merge(coco.frPyObjects(polygons, height, width))
    return parts


def _from_runs(runs: Rle, height: int, width: int) -> Rle:
    """Check and compress run lengths; see :func:`encode`."""
    size, counts = runs.get("size"), runs.get("counts")
    if size != [height, width]:
        raise ValueError(f"its run lengths are of size {size}; expected [{height}, {width}]")
    if isinstance(counts, str):
        counts = coco_runs(counts)
    if not (isinstance(counts, list) and all(type(count) is int and count >= 0 for count in counts)):
        raise ValueError("its run lengths are not a list of counts")
    if sum(counts) != height * width:
        raise ValueError(f"its run lengths cover {sum(counts)} px; expected {height * width}")
    compressed: Rle = coco.frPyObjects({"size": size, "counts": counts}, height, width)
    return compressed


def _decode(rle: Rle) -> NDArray[np.bool_]:
    """Decode compressed run lengths to a mask, (H, W)."""
    with warnings.catch_warnings():  # pycocotools 2.0.11 lacks numpy 2's `copy` argument
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
        return np.asarray(coco.decode(rle)).astype(bool)


def paint(instances: list[Instance], height: int, width: int) -> tuple[NDArray[np.uint8], int]:
    """Paint the label map of an image.

    Crowds are painted first, then objects from large to small, so that small objects are not covered by larger ones.

    Parameters
    ----------
    instances
        The objects; of two with the same area, the later one covers the earlier one.
    height, width
        Size of the image, px.

    Returns
    -------
    labels : (H, W) uint8
        0 where there is no object.
    hidden : int
        Number of objects without a visible pixel: smaller than a pixel, or covered by smaller objects.
    """
    owner = np.full((height, width), -1, np.int32)
    areas = [(instance.label != VOID, -int(coco.area(instance.rle))) for instance in instances]
    for number in sorted(range(len(instances)), key=lambda number: areas[number]):
        owner[_decode(instances[number].rle)] = number
    table = np.array([*(instance.label for instance in instances), 0], np.uint8)  # the last entry is for −1, no object
    return table[owner], len(instances) - len(np.unique(owner[owner >= 0]))
