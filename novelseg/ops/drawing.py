"""Coloured overlays of masks on images."""

from __future__ import annotations

from colorsys import hsv_to_rgb

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from novelseg.core.labels import VOID

RGB = NDArray[np.uint8]  # (H, W, 3)
GOLDEN = (5**0.5 - 1) / 2  # share of the circle of hues between one class and the next
FOREGROUND, BORDER, UNKNOWN = (230, 60, 40), (255, 235, 60), (128, 128, 128)


def mix(image: RGB, where: NDArray[np.bool_], colour: tuple[int, int, int], share: float) -> RGB:
    """Blend ``share`` of a colour into an image where the mask (H, W) is true."""
    levels = np.arange(256)[:, None]
    table = ((1 - share) * levels + share * np.array(colour)).astype(np.uint8)
    mixed = image.copy()
    for channel in range(3):
        mixed[where, channel] = table[image[where, channel], channel]
    return mixed


def outline(where: NDArray[np.bool_], px: int = 1) -> NDArray[np.bool_]:
    """Return the outline of a mask (H, W): its outermost pixels, ``px`` deep."""
    inner = where
    for _ in range(px):
        padded = np.pad(inner, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:] & inner
    return where & ~inner


def overlay(image: RGB, mask: NDArray[np.uint8], px: int = 1) -> RGB:
    """Tint the classes 1 … K of a mask (H, W), draw their outlines ``px`` wide, and shade void pixels (255) grey."""
    blended = mix(image, mask == VOID, UNKNOWN, 0.6)
    for label in np.flatnonzero(np.bincount(mask.reshape(-1), minlength=256)[1:VOID]) + 1:
        blended = mix(blended, mask == label, class_colour(int(label)), 0.45)
        blended = mix(blended, outline(mask == label, px), BORDER, 1.0)
    return blended


def class_colour(label: int) -> tuple[int, int, int]:
    """Return the colour of a class: red for the first, then hues that are far from those before."""
    if label == 1:
        return FOREGROUND
    red, green, blue = hsv_to_rgb((label - 1) * GOLDEN % 1, 0.75, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def small_overlay(image: RGB, mask: NDArray[np.uint8], side: int) -> Image.Image:
    """Shrink an image and its mask (H, W) to at most ``side`` px per side, and overlay the mask."""
    thumbnail, labels = Image.fromarray(image), Image.fromarray(mask)
    thumbnail.thumbnail((side, side))
    small_mask = np.array(labels.resize(thumbnail.size, Image.Resampling.NEAREST))
    return Image.fromarray(overlay(np.array(thumbnail), small_mask, max(1, round(max(small_mask.shape) / 400))))
