"""Pictures and masks as people have them: any size, orientation tag, grey, transparency, 16 bits, CMYK."""

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

MOST_PIXELS = 90_000_000  # of a picture: its mask and its logits have to be held too
WIDE = ("I;16", "I;16L", "I;16B", "I;16N")  # modes of 16 bits
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")  # none that starts another program; MPO is a JPEG
# What decoders raise for damaged files, each its own.
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
LEAST_WIDE = 1 << 14  # largest value of a picture of 16 bits below which it must have been recorded with fewer
MOST_BYTES = 4 * MOST_PIXELS  # of a file: nothing longer is read, be it a film
SEVERAL = 8  # values of a mask that a message lists


def read_photo(path: Path) -> NDArray[np.uint8]:
    """A picture as it is looked at: turned as its tag says, transparency on white, eight bits, (H, W, 3) RGB.

    Raises
    ------
    InputError
        If the file cannot be read, is no picture, is animated, has floating point values, uses a part of 16 bits
        only, or is too large.
    """
    return photo_of(bytes_of(path), path)


def photo_of(data: bytes, path: Path) -> NDArray[np.uint8]:
    """The same from a file's bytes; ``path`` is for messages."""
    return colours_of(_opened(data, path), str(path))


def colours_of(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """The same of a picture that is open; ``name`` is for messages."""
    image = _upright(image, name)
    if image.mode in ("F", "I"):
        raise InputError(f"{name}: has 32 bits a pixel, whose range nobody knows; save it with 8 or 16")
    if image.mode in WIDE:
        values = _integers(image)
        if values.max() < LEAST_WIDE:
            raise InputError(
                f"{name}: its values of 16 bits end at {values.max()}, as those of a camera of 10 to 14 bits do; "
                "stretch them to 65535, or save it with 8 bits"
            )
        return np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def read_mask(path: Path, label: int = 0) -> NDArray[np.uint8]:
    """A mask, (H, W): 1 the object, 0 the rest, 255 neither.

    Parameters
    ----------
    path
        A file of one channel, or one that is grey though it has three.
    label
        Number of the object in it; 255 is then void. With 0, the file must hold two values, of which the larger is
        the object.

    Raises
    ------
    InputError
        If the file cannot be read, has colours, or holds other values.
    """
    return mask_of(bytes_of(path), path, label)


def mask_of(data: bytes, path: Path, label: int = 0) -> NDArray[np.uint8]:
    """The same from a file's bytes; ``path`` is for messages."""
    return labels_of(_opened(data, path), str(path), label)


def labels_of(image: Image.Image, name: str, label: int = 0) -> NDArray[np.uint8]:
    """The same of a picture that is open; ``name`` is for messages."""
    image = _upright(image, name)
    if image.mode == "F":
        raise InputError(f"{name}: has floating point values; expected one number a pixel")
    numbers = image.mode == "P" and label  # without one to look for, a palette's colours count, in whatever order
    if numbers:
        values = np.array(image)
    elif label and image.mode == "1":
        values = np.array(image).astype(np.uint8)
    else:
        values = _integers(image) if image.mode in (*WIDE, "I") else _grey(image, name)
    found = np.unique(values).tolist()
    if label:
        return np.where(values == label, 1, np.where(values == VOID, VOID, 0)).astype(np.uint8)
    if len(found) > 2 or (len(found) == 2 and found[0] != 0):
        listed = ", ".join(map(str, found[:SEVERAL])) + ("…" if len(found) > SEVERAL else "")
        raise InputError(
            f"{name}: holds {len(found)} values ({listed}); expected 0 and another, as a mask saved without smoothing "
            "has; or say which number is the object with --label"
        )
    return (values > 0).astype(np.uint8)


def bytes_of(path: Path) -> bytes:
    """A file's bytes.

    Raises
    ------
    InputError
        If it cannot be read, or is longer than any picture that is.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise InputError(
                f"{path}: has {size / 1e6:.0f} MB; expected a picture of at most {MOST_BYTES / 1e6:.0f}; take it out "
                "or make it smaller"
            )
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); mend it or take it out") from None


def _opened(data: bytes, path: Path) -> Image.Image:
    """The whole picture, decoded."""
    if not data:
        raise InputError(f"{path}: the file is empty; copy it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # its size is looked at here
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > MOST_PIXELS:
                raise InputError(
                    f"{path}: has {image.width}×{image.height} px; expected at most {MOST_PIXELS / 1e6:.0f} million; "
                    "make it smaller"
                )
            # A telephone's MPO holds the photograph and, behind it, what the telephone made of it.
            count = getattr(image, "n_frames", 1)
            if count > 1 and image.format != "MPO":
                raise InputError(f"{path}: holds {count} pictures; save the one that is meant by itself")
            image.load()
    except UnidentifiedImageError:
        raise InputError(
            f"{path}: not a picture of a kind that is read here; save it as JPEG or PNG, or take it out"
        ) from None
    except Image.DecompressionBombError:
        raise InputError(f"{path}: says that it is too large to be a picture; take it out") from None
    except DAMAGED as error:
        raise InputError(f"{path}: does not decode ({error}); copy it again or take it out") from None
    return image


def _upright(image: Image.Image, name: str) -> Image.Image:
    """Turned as the orientation tag says."""
    try:
        return ImageOps.exif_transpose(image)
    except DAMAGED as error:
        raise InputError(f"{name}: has a damaged EXIF block ({error}); save it without one") from None


def _integers(image: Image.Image) -> NDArray[np.int64]:
    """Values of a picture with 16 bits."""
    return np.array(image).astype(np.int64).clip(0, 65535)


def _grey(image: Image.Image, name: str) -> NDArray[np.uint8]:
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise InputError(f"{name}: the mask is {image.mode}; expected grey, palette or RGB values")
    if image.has_transparency_data and np.array(image.convert("RGBA").getchannel("A")).min() < VOID:
        raise InputError(f"{name}: the mask is transparent in places; expected opaque values, 0 and another")
    channels = np.array(image.convert("RGB"))
    if (channels == channels[:, :, :1]).all():
        return channels[:, :, 0]
    black = ~channels.any(axis=2)
    if image.mode == "P" and len(np.unique(channels[~black], axis=0)) == 1 and black.any():
        return np.where(black, 0, 1).astype(np.uint8)
    numbered = ", or --label with the object's number" if image.mode == "P" else ""
    raise InputError(f"{name}: the mask has colours; expected black and another{numbered}")
