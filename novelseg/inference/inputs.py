"""Inputs of a segmenter: pictures and masks of several types, and their size for the network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from novelseg.core.errors import InputError
from novelseg.core.labels import VOID
from novelseg.inference.fitted import MOST_CLASSES
from novelseg.inference.photos import (
    check_class_values,
    class_mask_values,
    mask_values,
    read_class_mask,
    read_mask,
    read_photo,
    rgb_values,
)

OBJECT = 1

Photo = NDArray[np.uint8] | Image.Image | Path | str
Mask = NDArray[Any] | Image.Image | Path | str
Photos = Iterable[Photo] | Photo
Masks = Iterable[Mask] | Mask


def resize(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Reduce a picture (H, W, 3) whose longest side exceeds ``side`` px to that size."""
    size = _size(image.shape[0], image.shape[1], side)
    if size == image.shape[:2]:
        return image
    return np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS))


def resize_pair(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], side: int, name: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Reduce a support and its mask (0 background, 1 … K classes, 255 void) to at most ``side`` px.

    Raises
    ------
    InputError
        If the sizes differ, the background is missing, or object or background vanish; the message starts with
        ``name``. A mask without an object shows what the object is not.
    """
    check_sizes(image, mask, name)
    height, width = mask.shape
    size = _size(height, width, side)
    small_mask = np.array(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
    require_background(mask, name)
    objects = set(np.unique(mask).tolist()) - {0, VOID}
    if vanished := (objects | {0}) - set(np.unique(small_mask).tolist()):
        what = "background" if 0 in vanished else "object"
        raise InputError(f"{name}: at {side} px no pixel of the {what} is left; raise side")
    return resize(image, side), small_mask


def check_sizes(image: NDArray[np.uint8], mask: NDArray[np.uint8], name: str) -> None:
    """Check that a picture and its mask have the same size.

    Raises
    ------
    InputError
        If they have not; the message starts with ``name``.
    """
    height, width = mask.shape
    if (height, width) != image.shape[:2]:
        raise InputError(
            f"{name}: the mask is {width}×{height} px, its picture {image.shape[1]}×{image.shape[0]}; make them equal"
        )


def require_background(mask: NDArray[np.uint8], name: str) -> None:
    """Check that a support's mask has background, 0.

    Raises
    ------
    InputError
        If it has none; the message starts with ``name``.
    """
    if not (mask == 0).any():
        what = "no background" if (mask != VOID).any() else "neither object nor background, since all of it is void"
        raise InputError(f"{name}: the mask has {what}; expected object and background, or background alone")


def _size(height: int, width: int, side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(height, width))
    return max(1, round(scale * height)), max(1, round(scale * width))


def listed(items: Any) -> Iterable[Any]:
    """Return ``items``, or a list of one if it is a single picture or mask instead of several."""
    is_picture = isinstance(items, np.ndarray) and (items.ndim < 3 or items.shape[2:] == (3,))
    if is_picture or isinstance(items, (str, Path, Image.Image)):
        return [items]
    several: Iterable[Any] = items
    return several


def name_of(item: object, default: str) -> str:
    """Return the path of a file, or ``default`` for anything else."""
    return str(item) if isinstance(item, (Path, str)) else default


def rgb_of(photo: Photo) -> NDArray[np.uint8]:
    """Return a picture as (H, W, 3) uint8.

    Raises
    ------
    InputError
        If the picture has another type, shape or depth, no pixels, or cannot be read.
    """
    if isinstance(photo, (Path, str)):
        return read_photo(Path(photo))
    image = rgb_values(photo, "a picture") if isinstance(photo, Image.Image) else photo
    if not isinstance(image, np.ndarray):
        raise InputError(f"a picture is a {type(image).__name__}; expected an array, a PIL picture or a path")
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise InputError(f"a picture is {image.dtype} of shape {image.shape}; expected uint8, (H, W, 3) or (H, W)")
    if not image.size:
        raise InputError(f"a picture of shape {image.shape} has no pixels; expected at least one")
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


def labels_of(mask: Mask, number: int) -> NDArray[np.uint8]:
    """Return a mask as (H, W) uint8: 1 the object, 0 the rest, 255 void.

    Raises
    ------
    InputError
        If the mask holds other values, has another shape, or cannot be read.
    """
    if isinstance(mask, (Path, str)):
        return read_mask(Path(mask))
    if isinstance(mask, Image.Image):
        return mask_values(mask, f"mask {number}")
    values = np.asarray(mask)
    if values.ndim == 2 and values.dtype.kind in "iu" and np.array_equal(np.unique(values), (0, VOID)):
        return (values > 0).astype(np.uint8)  # without a 1, 255 is the object, as in files
    if values.ndim != 2 or values.dtype.kind not in "biu" or not np.isin(values, (0, OBJECT, VOID)).all():
        raise InputError(
            f"a mask is {values.dtype} of shape {values.shape}; expected (H, W) of 1 (object), 0 and 255 (neither), "
            "or of 255 (object) and 0"
        )
    return values.astype(np.uint8)


def class_labels_of(mask: Mask, number: int, classes: int) -> NDArray[np.uint8]:
    """Return a mask of several classes as (H, W) uint8: 1 … K the classes, 0 the background, 255 void.

    Raises
    ------
    InputError
        If the mask holds other values, has another shape, or cannot be read.
    """
    if isinstance(mask, (Path, str)):
        return read_class_mask(Path(mask), classes)
    if isinstance(mask, Image.Image):
        return class_mask_values(mask, f"mask {number}", classes)
    values = np.asarray(mask)
    if values.ndim != 2 or values.dtype.kind not in "iu":
        raise InputError(f"a mask is {values.dtype} of shape {values.shape}; expected (H, W) integers")
    check_class_values(values, f"mask {number}", classes)
    return values.astype(np.uint8)


def pairs_of(images: Photos, masks: Masks) -> list[tuple[Photo, Mask]]:
    """Pair pictures with masks and refuse different numbers of both."""
    photos, labels = list(listed(images)), list(listed(masks))
    if len(photos) != len(labels) or not photos:
        raise InputError(
            f"{len(photos)} images, {len(labels)} masks; expected the same number of both, and at least one"
        )
    return list(zip(photos, labels, strict=True))


def class_count(classes: Sequence[str] | None) -> int:
    """Return the number of classes.

    Raises
    ------
    InputError
        If a name is no text or is given twice, or there are too many or none.
    """
    if classes is None:
        return 1
    if isinstance(classes, str) or not all(isinstance(name, str) and name for name in classes):
        raise InputError(f"classes is {classes!r:.60}; expected a list of names")
    if len(set(classes)) < len(classes):
        raise InputError(f"classes names '{next(name for name in classes if list(classes).count(name) > 1)}' twice")
    if not 1 <= len(classes) <= MOST_CLASSES:
        raise InputError(f"{len(classes)} classes; expected 1 to {MOST_CLASSES}, the numbers that a mask can hold")
    return len(classes)
