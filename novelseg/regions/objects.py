"""Separate objects of a mask: connected parts, split along the contours of the region hierarchy where objects touch.

Where two objects touch, a part is usually narrow. Its regions are joined across the widest passages first, where the
width of a passage is the largest distance to the border of the part on the contour between two regions, reduced by the
strength of the contour. Two groups of regions stay apart if the passage is narrow in comparison with both of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from novelseg.core.labels import VOID
from novelseg.core.settings import Settings, Share
from novelseg.regions.hierarchy import Hierarchy

Integers = NDArray[np.int64]
NEIGHBOURS = np.ones((3, 3), bool)  # pixels that touch at a corner are connected


@dataclass(frozen=True)
class ObjectSettings(Settings):
    """Settings of the separation of objects.

    Attributes
    ----------
    neck
        Largest width of the passage between two objects, as a share of the largest width of the narrower one.
    relief
        Share by which a contour of the strength 1 reduces the width of a passage.
    share
        Smallest area of an object that is split off, as a share of the connected part.
    least
        Smallest area of an object, as a share of the picture; smaller parts are dropped.
    """

    neck: Share = 0.3
    relief: Share = 0.5
    share: Share = 0.05
    least: Share = 0.002


@dataclass(frozen=True)
class Objects:
    """The objects of a mask.

    Attributes
    ----------
    numbers : (H, W) int32
        Object of each pixel, 1 … N; 0 none.
    labels : (N,)
        Class of each object.
    dropped
        Number of parts that were too small.
    """

    numbers: NDArray[np.int32]
    labels: list[int]
    dropped: int


def separate(mask: NDArray[np.uint8], tree: Hierarchy | None, settings: ObjectSettings) -> Objects:
    """Separate the objects of a mask.

    Parameters
    ----------
    mask : (H, W)
        0 background, 1 … K classes, 255 void, which belongs to no object.
    tree
        Region hierarchy of the picture, of the same or a smaller size; None for connected parts alone.
    settings
        When parts are split and dropped.
    """
    numbers, labels, dropped = np.zeros(mask.shape, np.int32), [], 0
    least = max(1.0, settings.least * mask.size)
    for label in np.flatnonzero(np.bincount(mask.reshape(-1), minlength=256)[1:VOID]) + 1:
        parts, count = ndimage.label(mask == label, NEIGHBOURS)
        for part, box in zip(range(1, count + 1), ndimage.find_objects(parts), strict=True):
            inside = parts[box] == part
            if np.count_nonzero(inside) < least:
                dropped += 1
                continue
            groups = np.where(inside, 1, 0) if tree is None else _split(inside, box, mask.shape, tree, settings)
            for group in range(1, int(groups.max()) + 1):
                labels.append(int(label))
                numbers[box][groups == group] = len(labels)
    return Objects(numbers, labels, dropped)


def _split(
    inside: NDArray[np.bool_],
    box: tuple[slice, slice],
    size: tuple[int, int],
    tree: Hierarchy,
    settings: ObjectSettings,
) -> Integers:
    """Return the object, 1 … N, of each pixel of a connected part within its box; 0 outside."""
    rows, columns = tree.basins.shape
    row = (np.arange(box[0].start, box[0].stop) * rows) // size[0]
    column = (np.arange(box[1].start, box[1].stop) * columns) // size[1]
    basins = tree.basins[row][:, column]
    stride = max(1, min(size[0] // rows, size[1] // columns))  # the tree shows no more of a large picture
    few, some = basins[::stride, ::stride], inside[::stride, ::stride]
    if not some.any():
        return inside.astype(np.int64)
    leaves = np.flatnonzero(np.bincount(few[some]))
    table = np.zeros(int(tree.basins.max()) + 1, np.int32)
    table[leaves] = np.arange(len(leaves))
    regions = np.where(some, table[few], -1).astype(np.int32)
    groups = _groups(regions, leaves, tree, settings)
    largest = int(np.bincount(groups[regions[some]]).argmax())
    group_of_leaf = np.full(len(table), largest)  # of leaves that are on none of the pixels looked at, too
    group_of_leaf[leaves] = groups
    return np.where(inside, group_of_leaf[basins] + 1, 0)


def _groups(regions: NDArray[np.int32], leaves: Integers, tree: Hierarchy, settings: ObjectSettings) -> Integers:
    """Join the regions 0 … R−1 of a part (−1 outside), which are given leaves of the tree; return the group of each."""
    inside = regions >= 0
    distance = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]  # the box's border is the part's, too
    areas = np.bincount(regions[inside], minlength=len(leaves)).astype(float)
    widths = np.zeros(len(leaves))
    np.maximum.at(widths, regions[inside], distance[inside])
    first, second, passage = _passages(regions, distance, len(leaves))
    passage *= 1 - settings.relief * _merge_heights(leaves[first], leaves[second], tree)
    least, group = settings.share * areas.sum(), np.arange(len(leaves))
    for pair in np.argsort(-passage, kind="stable").tolist():
        one, other = int(group[first[pair]]), int(group[second[pair]])
        narrow = passage[pair] <= settings.neck * min(widths[one], widths[other])
        if one == other or (narrow and min(areas[one], areas[other]) >= least):
            continue
        group[group == other] = one
        areas[one] += areas[other]
        widths[one] = max(widths[one], widths[other])
    return np.unique(group, return_inverse=True)[1].astype(np.int64)


def _passages(
    regions: NDArray[np.int32], distance: NDArray[np.float64], count: int
) -> tuple[Integers, Integers, NDArray[np.float64]]:
    """Return the pairs of regions that touch, and the largest distance to the border of the part between them."""
    keys, values = [], []
    for one, other in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:-1], np.s_[1:]),
        (np.s_[:-1, :-1], np.s_[1:, 1:]),
        (np.s_[:-1, 1:], np.s_[1:, :-1]),
    ):
        before, after = regions[one], regions[other]
        touching = (before != after) & (before >= 0) & (after >= 0)
        low, high = np.minimum(before, after)[touching], np.maximum(before, after)[touching]
        keys.append(low.astype(np.int64) * count + high)
        values.append(np.minimum(distance[one], distance[other])[touching])
    pairs, position = np.unique(np.concatenate(keys), return_inverse=True)
    widest = np.zeros(len(pairs))
    np.maximum.at(widest, position, np.concatenate(values))
    return pairs // count, pairs % count, widest


def _merge_heights(first: Integers, second: Integers, tree: Hierarchy) -> NDArray[np.float64]:
    """Return the contour strength at which pairs of leaves merge."""
    one, other = first.copy(), second.copy()
    while (differ := one != other).any():
        lower = differ & (one < other)  # a parent has a higher number than its children
        higher = differ & ~lower
        one[lower], other[higher] = tree.parents[one[lower]], tree.parents[other[higher]]
    return tree.heights[one].astype(np.float64)
