"""Outlines of masks as polygons, and masks of polygons.

An outline runs along the borders of the pixels, a tenth of a pixel inside the object. So it contains the same pixels
for a reader that takes those whose centres lie inside, for one that cuts coordinates to whole numbers and draws the
outline too, as OpenCV's ``fillPoly`` does, and after a change of scale. Pixels that touch at a corner belong to one
part. A hole is joined to the outline around it by a bridge, there and back again, in a row of object pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from novelseg.exchange.record import Mask

Points = NDArray[np.float64]
Line = list[tuple[float, float]]
INSET = 0.1  # px


class _Corners:
    """Corners of the borders between object and background, each with its neighbours along the border.

    Where two pixels of the object meet at a point, two corners lie there, one for each turn of the border.
    """

    def __init__(self, mask: Mask) -> None:
        padded = np.pad(mask, 1)
        upper_left, upper_right = padded[:-1, :-1], padded[:-1, 1:]
        lower_left, lower_right = padded[1:, :-1], padded[1:, 1:]
        right, below = upper_right != lower_right, lower_left != lower_right  # whether a border leaves that way
        left, above = upper_left != lower_left, upper_left != upper_right
        double = right & left & above & below
        single = (right != left) & (above != below)
        falling = double & upper_left  # object to the upper left and lower right
        # One record per corner: y, x, whether its horizontal border goes right and its vertical one up.
        records = []
        for chosen, goes_right, goes_up in (
            (single & right & above, 1, 1),
            (single & right & below, 1, 0),
            (single & left & above, 0, 1),
            (single & left & below, 0, 0),
            (falling, 1, 1),
            (falling, 0, 0),
            (double & ~falling, 1, 0),
            (double & ~falling, 0, 1),
        ):
            y, x = np.nonzero(chosen)
            records.append(np.stack([y, x, np.full(y.size, goes_right), np.full(y.size, goes_up)]))
        table = np.concatenate(records, axis=1).astype(np.int64)
        table = table[:, np.lexsort((table[2], table[1], table[0]))]
        self.y, self.x, goes_right, goes_up = table
        count = self.y.size
        order = np.arange(count)
        self.across = order ^ 1  # in a row, the corners at both ends of a border follow each other
        columns = np.lexsort((1 - goes_up, self.y, self.x))
        self.along = np.empty(count, np.int64)
        self.along[columns[0::2]], self.along[columns[1::2]] = columns[1::2], columns[0::2]
        # Beside a horizontal border, the object is above or below it; beside a vertical one, left or right of it.
        column = self.x + goes_right - 1  # of the pixels above and below the horizontal border, in the mask
        row = self.y - goes_up
        inset_y = np.where(padded[self.y + 1, column + 1], INSET, -INSET)
        inset_x = np.where(padded[row + 1, self.x + 1], INSET, -INSET)
        # Where two pixels meet at a point, the outline goes from the one to the other, through the point.
        is_double = double[self.y, self.x]
        other_x = np.where(is_double, np.where(goes_right, INSET, -INSET), inset_x)
        other_y = np.where(is_double, np.where(goes_up, -INSET, INSET), inset_y)
        self.beside_across = np.stack([self.x + other_x, self.y + inset_y], 1)  # (N, 2), in the horizontal's pixel
        self.beside_along = np.stack([self.x + inset_x, self.y + other_y], 1)  # in the vertical's pixel
        # Rows that the vertical borders of each column span, to find one from a pixel beside it.
        self.first = columns[0::2]
        self.key = self.x[self.first] * (mask.shape[0] + 1) + self.y[self.first]
        self.stride = mask.shape[0] + 1

    def vertical_at(self, x: int, row: int) -> int:
        """Return the upper corner of the vertical border at ``x`` that a row of pixels touches."""
        return int(self.first[np.searchsorted(self.key, x * self.stride + row, side="right") - 1])


def outlines(mask: Mask, left: int = 0, top: int = 0) -> list[Points]:
    """Return a polygon for each part of a mask, (N, 2) of x and y, px; see the module.

    Parameters
    ----------
    mask : (h, w)
        The mask.
    left, top
        Where its first pixel lies, px; the coordinates are moved by it.
    """
    corners = _Corners(mask)
    across, along = corners.across.tolist(), corners.along.tolist()
    xs, ys = corners.x.tolist(), corners.y.tolist()
    owner = np.full(len(xs), -1, np.int64)
    contours: list[list[int]] = []
    is_hole: list[bool] = []
    for start in range(len(xs)):
        if owner[start] >= 0:
            continue
        contour, at = [], start
        while True:
            contour += [at, across[at]]
            at = along[across[at]]
            if at == start:
                break
        owner[contour] = len(contours)
        contours.append(contour)
        is_hole.append(not mask[ys[start], xs[start]])  # of its first border, whose object lies above a hole
    moved = np.array([left, top])
    across_at, along_at = (corners.beside_across + moved).tolist(), (corners.beside_along + moved).tolist()
    joints: list[dict[int, list[tuple[float, int]]]] = [{} for _ in contours]
    parent: dict[int, int] = {}
    for number in np.flatnonzero(is_hole).tolist():
        start = contours[number][0]  # upper left corner of the uppermost and leftmost pixel of the hole
        x, row = xs[start], ys[start]
        beside = np.flatnonzero(~mask[row, :x])  # the bridge ends at the border of the last one
        border = corners.vertical_at(int(beside[-1]) + 1 if beside.size else 0, row)
        parent[number] = int(owner[border])
        joints[parent[number]].setdefault(border, []).append((row + 0.5 + top, number))
    lines: dict[int, Line] = {}
    for number in sorted(parent, key=lambda number: _depth(number, parent), reverse=True):
        start = contours[number][0]
        side = (xs[start] - INSET + left, ys[start] + 0.5 + top)  # on the left border of the hole
        lines[number] = [side, *_line(contours[number], joints[number], across_at, along_at, lines), side]
    parts = (number for number, hole in enumerate(is_hole) if not hole)
    return [np.array(_line(contours[number], joints[number], across_at, along_at, lines)) for number in parts]


def _depth(number: int, parent: dict[int, int]) -> int:
    """Return how many bridges lead from a hole to the outer contour."""
    depth = 0
    while number in parent:
        number, depth = parent[number], depth + 1
    return depth


def _line(
    contour: Sequence[int],
    joints: dict[int, list[tuple[float, int]]],
    across_at: Sequence[Sequence[float]],
    along_at: Sequence[Sequence[float]],
    lines: dict[int, Line],
) -> Line:
    """Return the points of a contour, with the lines of the holes that are joined to its vertical borders."""
    line: Line = []
    for number, corner in enumerate(contour):
        arrival, departure = across_at[corner], along_at[corner]
        if number % 2 == 0:
            arrival, departure = departure, arrival
        line.append((arrival[0], arrival[1]))
        if arrival != departure:
            line.append((departure[0], departure[1]))
        if number % 2 == 0 or not joints:
            continue  # a horizontal border follows
        end = contour[(number + 1) % len(contour)]
        upper, down = (corner, True) if corner in joints else (end, False)
        for y, hole in sorted(joints.get(upper, ()), reverse=not down):
            near = (along_at[corner][0], y)
            line += [near, *lines[hole], near]
    return line


def fill(polygon: Sequence[Sequence[float]] | Points, width: int, height: int) -> Mask:
    """Return the mask of a polygon, (height, width): the pixels whose centres lie inside, by the even-odd rule.

    Parameters
    ----------
    polygon : (N, 2)
        Points, px; it is closed from the last to the first one. Parts outside the picture are cut off.
    width, height
        Size of the picture, px.
    """
    points = np.asarray(polygon, np.float64).reshape(-1, 2)
    left, top = np.clip(np.floor(points.min(0)), 0, (width, height)).astype(int).tolist()
    right, bottom = np.clip(np.ceil(points.max(0)), 0, (width, height)).astype(int).tolist()
    whole = np.zeros((height, width), bool)
    if right > left and bottom > top:
        whole[top:bottom, left:right] = _fill_box(points - (left, top), right - left, bottom - top)
    return whole


def _fill_box(points: Points, width: int, height: int) -> Mask:
    """Return the mask of a polygon in its bounding box; see :func:`fill`."""
    toggles = np.zeros((height, width + 1), np.uint8)
    after = np.roll(points, -1, 0)
    # Rows whose centres an edge crosses: those from the first centre at or below its upper end, the lower end excluded.
    upper, lower = np.minimum(points[:, 1], after[:, 1]), np.maximum(points[:, 1], after[:, 1])
    first = np.clip(np.ceil(upper - 0.5), 0, height).astype(np.int64)
    end = np.clip(np.ceil(lower - 0.5), 0, height).astype(np.int64)
    count = np.maximum(end - first, 0)
    for part in np.array_split(np.arange(len(points)), max(1, int(count.sum()) >> 22)):
        edge = np.repeat(part, count[part])
        row = np.arange(edge.size) - np.repeat(np.cumsum(count[part]) - count[part], count[part]) + first[edge]
        (x0, y0), (x1, y1) = points[edge].T, after[edge].T
        x = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        np.bitwise_xor.at(toggles, (row, column), 1)
    return np.bitwise_xor.accumulate(toggles, axis=1)[:, :width].astype(bool)


def simplify(polygon: Points, tolerance: float) -> Points:
    """Leave out points of a polygon that lie within ``tolerance`` px of the line between those that stay.

    Douglas and Peucker's method, from the two points that are farthest apart along x and y; at least three points stay.
    """
    count = len(polygon)
    if count <= 4:
        return polygon
    first = int(polygon.sum(1).argmin())
    closed = np.concatenate([np.roll(polygon, -first, 0), polygon[first : first + 1]])
    middle = int(closed.sum(1).argmax())
    stays = np.zeros(count + 1, bool)
    stays[[0, middle, count]] = True
    pending = [(0, middle), (middle, count)]
    while pending:
        begin, end = pending.pop()
        if end - begin < 2:
            continue
        start, line = closed[begin], closed[end] - closed[begin]
        offset = closed[begin + 1 : end] - start
        length = float(np.hypot(*line))
        far = np.abs(offset[:, 0] * line[1] - offset[:, 1] * line[0]) / length if length else np.hypot(*offset.T)
        worst = int(far.argmax())
        if far[worst] > tolerance:
            stays[begin + 1 + worst] = True
            pending += [(begin, begin + 1 + worst), (begin + 1 + worst, end)]
    chosen = closed[:-1][stays[:-1]]
    return chosen if len(chosen) > 2 else polygon
