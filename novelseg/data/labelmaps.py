"""Reader of label maps made elsewhere (MCG, SAM, by hand): one file per image, one number per pixel."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.data.npy import read_npy
from novelseg.data.pictures import decode, index_numbers
from novelseg.data.rawfiles import read_bytes


def read_label_map(folder: Path, image_id: str, size: tuple[int, int]) -> NDArray[Any]:
    """Read the label map of an image, ``ID.png`` or ``ID.npy``.

    Parameters
    ----------
    folder
        Folder of the maps.
    image_id
        Id of the image.
    size
        Height and width of the image, px.

    Returns
    -------
    (H, W) integers

    Raises
    ------
    InputError
        If there is no such file, or it cannot be read, is not a map of integers, or differs in size from its image.
    """
    png, npy = folder / f"{image_id}.png", folder / f"{image_id}.npy"
    path = png if png.exists() else npy
    try:
        data = read_bytes(path, "make it again")
    except FileNotFoundError:
        raise InputError(
            f"{png}: no such file, nor {npy.name}; expected a label map for every training image"
        ) from None
    labels = _from_png(data, path) if path is png else _from_npy(data, path, size)
    if labels.shape != size:
        raise InputError(
            f"{path}: the map is {labels.shape[1]}×{labels.shape[0]} px, its image {size[1]}×{size[0]}; make them equal"
        )
    return labels


def _from_png(data: bytes, path: Path) -> NDArray[Any]:
    picture = decode(data, str(path), "make it again")
    if picture.format != "PNG":
        raise InputError(
            f"{path}: a {picture.format} file; expected a PNG, which keeps exact labels; save the map again from its "
            "source"
        )
    return index_numbers(picture)


def _from_npy(data: bytes, path: Path, size: tuple[int, int]) -> NDArray[Any]:
    def check(dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        if len(shape) != 2 or dtype.kind not in "iu":
            raise InputError(f"{path}: contains {dtype} of shape {shape}; expected one integer per pixel")
        if shape != size:
            raise InputError(
                f"{path}: the map is {shape[1]}×{shape[0]} px, its image {size[1]}×{size[0]}; make them equal"
            )

    try:
        return read_npy(io.BytesIO(data), check)
    except ValueError as error:
        raise InputError(f"{path}: not a readable label map ({error}); make it again") from None
