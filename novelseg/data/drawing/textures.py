"""Textures: functions of (u, v) in an object's frame, scaled by a frequency, that return a mixing weight in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Texture = Callable[[Array, Array], Array]


def saw(value: Array) -> Array:
    """Return a triangle wave of period 1, in [0, 1]."""
    part = value - np.floor(value)
    return 1 - np.abs(2 * part - 1)


def _plain(u: Array, _: Array) -> Array:
    return np.zeros_like(u)


def _stripes(u: Array, _: Array) -> Array:
    return (saw(u) > 0.5).astype(float)


def _checker(u: Array, v: Array) -> Array:
    return ((np.floor(u) + np.floor(v)) % 2).astype(float)


def _dots(u: Array, v: Array) -> Array:
    x, y = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    return (x * x + y * y < 0.09).astype(float)


def _rings(u: Array, v: Array) -> Array:
    return (saw(np.sqrt(u * u + v * v)) > 0.5).astype(float)


def _zigzag(u: Array, v: Array) -> Array:
    return (saw(u + 0.8 * saw(v)) > 0.5).astype(float)


def _mesh(u: Array, v: Array) -> Array:
    return ((saw(u) > 0.7) | (saw(v) > 0.7)).astype(float)


def _fade(u: Array, v: Array) -> Array:
    return saw(0.35 * u + 0.15 * v)


TEXTURES: dict[str, Texture] = {
    "plain": _plain,
    "stripes": _stripes,
    "checker": _checker,
    "dots": _dots,
    "rings": _rings,
    "zigzag": _zigzag,
    "mesh": _mesh,
    "fade": _fade,
}
