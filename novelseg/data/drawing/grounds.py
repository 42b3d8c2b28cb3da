"""Grounds: eight kinds of textured background."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from novelseg.data.drawing.textures import saw

Array = NDArray[np.float64]
Colour = tuple[float, float, float]


def _noise(rng: np.random.Generator, height: int, width: int, cell: int) -> Array:
    """Draw value noise in [0, 1]: random values on a grid, interpolated bilinearly."""
    rows, columns = height // cell + 2, width // cell + 2
    grid = rng.random((rows, columns))
    y, x = np.arange(height) / cell, np.arange(width) / cell
    i, j = y.astype(int), x.astype(int)
    b, a = (y - i)[:, None], (x - j)[None]
    top = grid[i][:, j] * (1 - a) + grid[i][:, j + 1] * a
    bottom = grid[i + 1][:, j] * (1 - a) + grid[i + 1][:, j + 1] * a
    mixed: Array = top * (1 - b) + bottom * b
    return mixed


GROUNDS: tuple[tuple[str, Colour, Colour], ...] = (
    ("grass", (0.24, 0.42, 0.16), (0.46, 0.60, 0.28)),
    ("sand", (0.76, 0.66, 0.48), (0.86, 0.78, 0.62)),
    ("sky", (0.46, 0.64, 0.86), (0.84, 0.90, 0.96)),
    ("water", (0.10, 0.30, 0.46), (0.30, 0.52, 0.62)),
    ("bricks", (0.58, 0.28, 0.20), (0.72, 0.66, 0.60)),
    ("planks", (0.46, 0.32, 0.20), (0.62, 0.46, 0.30)),
    ("cobble", (0.40, 0.40, 0.42), (0.62, 0.60, 0.58)),
    ("cloth", (0.50, 0.38, 0.52), (0.66, 0.60, 0.70)),
)


def ground(rng: np.random.Generator, height: int, width: int) -> Array:
    """Draw one of eight textured grounds, (H, W, 3) in [0, 1]."""
    name, first, second = GROUNDS[int(rng.integers(len(GROUNDS)))]
    y, x = np.mgrid[0:height, 0:width].astype(float)
    fine, coarse = _noise(rng, height, width, 3), _noise(rng, height, width, 24)
    scale = 9 + 7 * float(rng.random())
    row = np.floor(y / scale)
    blends: dict[str, Callable[[], Array]] = {
        "grass": lambda: 0.7 * fine + 0.3 * coarse,
        "sand": lambda: 0.4 * fine + 0.6 * coarse,
        "sky": lambda: 0.7 * y / height + 0.3 * coarse,
        "water": lambda: 0.7 * saw(y / scale + coarse) + 0.3 * fine,
        "bricks": lambda: ((saw(y / scale) < 0.2) | (saw(x / (2 * scale) + 0.5 * row) < 0.1)) * 0.9 + 0.1 * fine,
        "planks": lambda: (saw(x / (1.5 * scale)) < 0.1) * 0.5 + 0.5 * saw(y / 60 + 2 * coarse) * fine,
        "cobble": lambda: saw(3 * coarse + 0.3 * fine),
        "cloth": lambda: 0.5 * saw(x / 4) + 0.5 * saw(y / 4),
    }
    weight = blends[name]()
    tint = 0.9 + 0.2 * rng.random(3)
    mixed: Array = (np.array(first) * (1 - weight[..., None]) + np.array(second) * weight[..., None]) * tint
    return mixed
