"""Drawn pictures with masks, their files, and the table of what ``novelseg segment`` found in them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RED, BLUE = (230, 40, 30), (30, 60, 230)


def disc(side: int = 64, middle: tuple[int, int] = (32, 32), colour: tuple[int, int, int] = (230, 40, 30)) -> Any:
    """A coloured disc on noise, and its mask."""
    noise = np.random.default_rng(sum(middle)).integers(60, 160, (side, side, 3)).astype(np.uint8)
    rows, columns = np.ogrid[:side, :side]
    mask = ((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < (side / 4) ** 2).astype(np.uint8)
    noise[mask == 1] = colour
    return noise, mask


def two_discs(left: tuple[int, int, int] = RED, right: tuple[int, int, int] = BLUE) -> Any:
    """A picture of two discs, and its mask: 1 the left one, 2 the right one."""
    images, masks = zip(disc(colour=left), disc(colour=right), strict=True)
    return np.concatenate(images, axis=1), np.concatenate([masks[0], 2 * masks[1]], axis=1)


def png(path: Path, values: NDArray[Any]) -> None:
    """Write a picture, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def result_rows(out: Path) -> list[dict[str, str]]:
    """Return the rows of ``results.tsv`` in a folder of results."""
    with (out / "results.tsv").open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))
