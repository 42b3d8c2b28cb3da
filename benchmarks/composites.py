"""Composites: an object of a VOC folder, cut out by its mask, at a random position in an enlarged background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from benchmarks.untrained import Pictures
from novelseg.data.classes import VOC

SCALES = np.arange(1.0, 0.2, -0.05)  # of the background's rectangle, from the largest that fits
Array = NDArray[np.uint8]


def free_rectangle(mask: Array, ratio: float) -> tuple[slice, slice] | None:
    """Return the largest rectangle of pure background with a ratio of width to height, among a few sizes."""
    sums = np.pad((mask != 0).astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height = min(mask.shape[0], mask.shape[1] / ratio)
    for scale in SCALES:
        h, w = int(scale * height), int(scale * height * ratio)
        inside = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
        if (places := np.argwhere(inside == 0)).size:
            top, left = places[len(places) // 2].tolist()
            return slice(top, top + h), slice(left, left + w)
    return None


def cut_out(image: Array, mask: Array, label: int) -> tuple[Array, Array]:
    """Return the largest connected region of a class: its rectangle of the picture, and its mask."""
    regions, _ = ndimage.label(mask == label)
    largest = (regions == np.bincount(regions[regions > 0]).argmax()).astype(np.uint8)
    (box,) = ndimage.find_objects(largest)
    return image[box], largest[box]


def size_of(mask: Array, size: tuple[int, int], share: float) -> tuple[int, int]:
    """Return width and height of an object that has a share of a picture's area."""
    scale = np.sqrt(share * size[0] * size[1] / mask.sum())
    return max(1, round(scale * mask.shape[1])), max(1, round(scale * mask.shape[0]))


def compose(
    background: Array, thing: tuple[Array, Array], rng: np.random.Generator, whole: tuple[int, int], share: float
) -> tuple[Array, Array]:
    """Set a resized object into a background of ``whole`` width and height; return the picture and its mask."""
    picture = np.array(Image.fromarray(background).resize(whole, Image.Resampling.BICUBIC))
    colours, mask = thing
    size = size_of(mask, whole, share)
    small = np.array(Image.fromarray(colours).resize(size, Image.Resampling.LANCZOS)).astype(np.float32)
    alpha = np.array(Image.fromarray(255 * mask).resize(size, Image.Resampling.BILINEAR)).astype(np.float32) / 255
    top, left = (int(rng.integers(0, free)) for free in (whole[1] - size[1], whole[0] - size[0]))
    place = slice(top, top + size[1]), slice(left, left + size[0])
    picture[place] = np.rint(alpha[..., None] * small + (1 - alpha[..., None]) * picture[place]).astype(np.uint8)
    truth = np.zeros(picture.shape[:2], np.uint8)
    truth[place] = alpha > 0.5
    return picture, truth


def backgrounds(pictures: Pictures, names: tuple[str, ...], ratio: float) -> list[tuple[int, tuple[slice, slice]]]:
    """Return pictures that show one of some classes, each with a rectangle without objects, largest first."""
    shown = pictures.pixels[:, [VOC.index(name) + 1 for name in names]].any(1)
    free = {number: free_rectangle(pictures.mask(number), ratio) for number in np.flatnonzero(shown).tolist()}
    boxes = [(number, box) for number, box in free.items() if box]
    return sorted(boxes, key=lambda one: one[1][0].start - one[1][0].stop)
