"""Shapes: functions of (x, y) in an object's frame, |x|, |y| ≤ 1, that return whether a point is inside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Shape = Callable[[Array, Array], Mask]


def _ellipse(x: Array, y: Array) -> Mask:
    return x * x + 2.2 * y * y < 1


def _triangle(x: Array, y: Array) -> Mask:
    return (y < 0.8) & (y > 1.9 * np.abs(x) - 0.9)


def _cross(x: Array, y: Array) -> Mask:
    return ((np.abs(x) < 0.33) & (np.abs(y) < 0.95)) | ((np.abs(y) < 0.33) & (np.abs(x) < 0.95))


def _ring(x: Array, y: Array) -> Mask:
    r = x * x + y * y
    return (r < 0.92) & (r > 0.2)


def _crescent(x: Array, y: Array) -> Mask:
    return (x * x + y * y < 0.95) & ((x - 0.55) ** 2 + y * y > 0.55)


def _heart(x: Array, y: Array) -> Mask:
    u, v = 1.2 * x, 0.15 - 1.2 * y
    w = u * u + v * v - 0.9
    return w * w * w - u * u * v * v * v < 0


def _arrow(x: Array, y: Array) -> Mask:
    return ((np.abs(y) < 0.28) & (x < 0.2) & (x > -0.95)) | ((x >= 0.0) & (np.abs(y) < 0.95 - x))


def _clover(x: Array, y: Array) -> Mask:
    u, v = np.abs(x), np.abs(y)
    inside: Mask = ((u - 0.48) ** 2 + v * v < 0.24) | (u * u + (v - 0.48) ** 2 < 0.24)
    return inside


def _square(x: Array, y: Array) -> Mask:
    return (np.abs(x) < 0.8) & (np.abs(y) < 0.8)


def _bar(x: Array, y: Array) -> Mask:
    return (np.abs(x) < 0.98) & (np.abs(y) < 0.36)


def _diamond(x: Array, y: Array) -> Mask:
    return np.abs(x) + 0.7 * np.abs(y) < 0.75


def _hourglass(x: Array, y: Array) -> Mask:
    return (np.abs(x) < 0.15 + 0.8 * np.abs(y)) & (np.abs(y) < 0.85)


def _ell(x: Array, y: Array) -> Mask:
    return _square(x, y) & ((x < -0.15) | (y > 0.2))


def _tee(x: Array, y: Array) -> Mask:
    return _square(x, y) & ((y < -0.2) | (np.abs(x) < 0.3))


def _frame(x: Array, y: Array) -> Mask:
    return _square(x, y) & ~((np.abs(x) < 0.4) & (np.abs(y) < 0.4))


def _hexagon(x: Array, y: Array) -> Mask:
    return (np.abs(x) < 0.8) & (0.5 * np.abs(x) + 0.87 * np.abs(y) < 0.8)


def _hexagram(x: Array, y: Array) -> Mask:
    v = np.abs(x)
    return ((y < 0.45) & (y > 1.73 * v - 0.95)) | ((y > -0.45) & (y < 0.95 - 1.73 * v))


def _half(x: Array, y: Array) -> Mask:
    return (x * x + y * y < 0.95) & (y < 0.15)


def _dumbbell(x: Array, y: Array) -> Mask:
    return ((np.abs(x) - 0.6) ** 2 + y * y < 0.14) | ((np.abs(y) < 0.15) & (np.abs(x) < 0.6))


def _aitch(x: Array, y: Array) -> Mask:
    return _square(x, y) & ((np.abs(x) > 0.35) | (np.abs(y) < 0.22))


def _chevron(x: Array, y: Array) -> Mask:
    return (np.abs(y - 0.7 * np.abs(x) + 0.3) < 0.36) & (np.abs(x) < 0.95)


def _wedge(x: Array, y: Array) -> Mask:
    return (x * x + y * y < 0.95) & (np.abs(y) > 0.8 * x)


# The shapes of the eight built-in classes; the encoder's pretraining has the others.
SHAPES: dict[str, Shape] = {
    "melon": _ellipse,
    "sail": _triangle,
    "kite": _cross,
    "tyre": _ring,
    "moon": _crescent,
    "heart": _heart,
    "arrow": _arrow,
    "clover": _clover,
}
OTHER_SHAPES: tuple[Shape, ...] = (
    _square,
    _bar,
    _diamond,
    _hourglass,
    _ell,
    _tee,
    _frame,
    _hexagon,
    _hexagram,
    _half,
    _dumbbell,
    _aitch,
    _chevron,
    _wedge,
)
