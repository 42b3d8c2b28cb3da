"""Images and masks as artifacts hold them: encoded, and checked by the stage that wrote them."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM")  # none starts another program; MPO is a JPEG


def decode_rgb(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Decode the bytes of an image to RGB, (H, W, 3)."""
    with Image.open(io.BytesIO(data.tobytes()), formats=FORMATS) as image:
        return np.array(image.convert("RGB"))


def decode_mask(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Decode the bytes of a mask to labels, (H, W)."""
    with Image.open(io.BytesIO(data.tobytes()), formats=FORMATS) as image:
        return np.array(image)
