"""Reading of everyday picture and mask files: any size, orientation tags, grey, transparency, 16 bits, CMYK."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from novelseg.core.errors import InputError
from novelseg.core.labels import VOID

MOST_PIXELS = 90_000_000  # per picture; its mask and logits need memory too
WIDE = ("I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes with 16 bits
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")  # none starts another program; MPO counts as JPEG
# Errors that the various decoders raise for damaged files.
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    RuntimeError,
    OverflowError,
    struct.error,
)
LEAST_WIDE = 1 << 14  # a picture of 16 bits whose values are all smaller was recorded with fewer bits
MOST_BYTES = 4 * MOST_PIXELS  # per file; longer ones, such as films, are not read
SEVERAL = 8  # values of a mask that a message lists


def read_photo(path: Path) -> NDArray[np.uint8]:
    """Read a picture as viewers show it: upright, transparency on white, 8 bits, (H, W, 3) RGB.

    Raises
    ------
    InputError
        If the file cannot be read, is not a picture, is animated, has 32 bits per pixel, uses only a part of 16 bits,
        or is too large.
    """
    return photo_of(bytes_of(path), path)


def photo_of(data: bytes, path: Path) -> NDArray[np.uint8]:
    """Decode a picture from its file's bytes, like :func:`read_photo`; ``path`` is for messages."""
    return rgb_values(_decode(data, path), str(path))


def rgb_values(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """Convert an open picture to (H, W, 3) RGB, like :func:`read_photo`; ``name`` is for messages."""
    image = _upright(image, name)
    if image.mode in ("F", "I"):
        raise InputError(f"{name}: has 32 bits per pixel, of unknown value range; save it with 8 or 16 bits")
    if image.mode in WIDE:
        values = _integers(image)
        if values.max() < LEAST_WIDE:
            raise InputError(
                f"{name}: the largest value of its 16 bits is {values.max()}, as from a camera with 10 to 14 bits; "
                "stretch its values to 65535, or save it with 8 bits"
            )
        return np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def read_mask(path: Path, label: int = 0) -> NDArray[np.uint8]:
    """Read a mask, (H, W) uint8: 1 for the object, 0 for the rest, and 255 for void pixels.

    Parameters
    ----------
    path
        A file with one channel, or with three equal ones.
    label
        Number of the object in the file; 255 then marks void pixels. With 0, the file must hold 0 and one other
        value, which is the object.

    Raises
    ------
    InputError
        If the file cannot be read, is in colour, or holds other values.
    """
    return mask_of(bytes_of(path), path, label)


def mask_of(data: bytes, path: Path, label: int = 0) -> NDArray[np.uint8]:
    """Decode a mask from its file's bytes, like :func:`read_mask`; ``path`` is for messages."""
    return mask_values(_decode(data, path), str(path), label)


def mask_values(image: Image.Image, name: str, label: int = 0) -> NDArray[np.uint8]:
    """Convert an open picture to a mask, like :func:`read_mask`; ``name`` is for messages."""
    image = _upright(image, name)
    if image.mode == "F":
        raise InputError(f"{name}: has floating-point values; expected one integer per pixel")
    has_numbers = image.mode == "P" and label  # without a label, a palette's colours count, not their numbers
    if has_numbers:
        values = np.array(image)
    elif label and image.mode == "1":
        values = np.array(image).astype(np.uint8)
    else:
        values = _integers(image) if image.mode in (*WIDE, "I") else _grey(image, name)
    distinct = np.unique(values).tolist()
    if label:
        return np.where(values == label, 1, np.where(values == VOID, VOID, 0)).astype(np.uint8)
    if len(distinct) > 2 or (len(distinct) == 2 and distinct[0] != 0):
        listing = ", ".join(map(str, distinct[:SEVERAL])) + ("…" if len(distinct) > SEVERAL else "")
        raise InputError(
            f"{name}: holds {len(distinct)} values ({listing}); expected 0 and one other; save the mask without "
            "smoothing, or give the number of the object with --label"
        )
    return (values > 0).astype(np.uint8)


def bytes_of(path: Path) -> bytes:
    """Read a file's bytes.

    Raises
    ------
    InputError
        If the file cannot be read, or is longer than ``MOST_BYTES``.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise InputError(
                f"{path}: has {size / 1e6:.0f} MB; expected a picture of at most {MOST_BYTES / 1e6:.0f} MB; remove it "
                "or make it smaller"
            )
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); fix or remove it") from None


def _decode(data: bytes, path: Path) -> Image.Image:
    """Decode a whole picture."""
    if not data:
        raise InputError(f"{path}: the file is empty; copy it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked below
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > MOST_PIXELS:
                raise InputError(
                    f"{path}: has {image.width}×{image.height} px; expected at most {MOST_PIXELS / 1e6:.0f} million "
                    "px; make it smaller"
                )
            # The first picture in a phone's MPO file is the photograph; the others are derived from it.
            count = getattr(image, "n_frames", 1)
            if count > 1 and image.format != "MPO":
                raise InputError(f"{path}: holds {count} pictures; save the right one as a file of its own")
            image.load()
    except UnidentifiedImageError:
        raise InputError(f"{path}: not a picture in a supported format; save it as JPEG or PNG, or remove it") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path}: its header gives a size too large to be a picture; remove it") from None
    except DAMAGED as error:
        raise InputError(f"{path}: does not decode ({error}); copy it again or remove it") from None
    return image


def _upright(image: Image.Image, name: str) -> Image.Image:
    """Turn a picture upright by its orientation tag."""
    try:
        return ImageOps.exif_transpose(image)
    except DAMAGED as error:
        raise InputError(f"{name}: has a damaged EXIF block ({error}); save it without one") from None


def _integers(image: Image.Image) -> NDArray[np.int64]:
    """Return the values of a picture, limited to 16 bits."""
    return np.array(image).astype(np.int64).clip(0, 65535)


def _grey(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """Return the grey values of a mask, or 0 and 1 for a palette of black and one colour."""
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise InputError(f"{name}: the mask has the mode {image.mode}; expected grey, palette or RGB values")
    if image.has_transparency_data and np.array(image.convert("RGBA").getchannel("A")).min() < VOID:
        raise InputError(f"{name}: the mask is partly transparent; expected opaque values, 0 and one other")
    channels = np.array(image.convert("RGB"))
    if (channels == channels[:, :, :1]).all():
        return channels[:, :, 0]
    black = ~channels.any(axis=2)
    if image.mode == "P" and len(np.unique(channels[~black], axis=0)) == 1 and black.any():
        return np.where(black, 0, 1).astype(np.uint8)
    hint = ", or give the object's number with --label" if image.mode == "P" else ""
    raise InputError(f"{name}: the mask has colours; expected black and one other{hint}")
