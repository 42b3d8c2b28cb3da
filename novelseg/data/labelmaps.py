"""Reader of label maps made elsewhere (MCG, SAM, by hand): one file per image, one number per pixel."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from novelseg.core.errors import InputError

GREY_MODES = ("L", "P", "I;16", "I")


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
        if path is png:
            with Image.open(path) as image:
                if image.mode not in GREY_MODES:
                    raise InputError(f"{path}: the map is {image.mode}; expected an 8- or 16-bit grey or palette PNG")
                if image.format != "PNG":
                    raise InputError(
                        f"{path}: a {image.format} file; expected a PNG, which keeps exact labels; save it as PNG"
                    )
                labels: NDArray[Any] = np.array(image)
        else:
            labels = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise InputError(
            f"{png}: no such file, nor {npy.name}; expected a label map for every training image"
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError, TokenError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable label map ({error}); make it again") from None
    if labels.dtype.kind not in "iu" or labels.ndim != 2:
        raise InputError(f"{path}: contains {labels.dtype} of shape {labels.shape}; expected one integer per pixel")
    if labels.shape != size:
        raise InputError(
            f"{path}: the map is {labels.shape[1]}×{labels.shape[0]} px, its image {size[1]}×{size[0]}; make them equal"
        )
    return labels
