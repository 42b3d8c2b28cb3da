"""Colours laid over pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from novelseg.core.labels import VOID

RGB = NDArray[np.uint8]  # (H, W, 3)
FOREGROUND, BORDER, UNKNOWN = (230, 60, 40), (255, 235, 60), (128, 128, 128)


def mix(image: RGB, where: NDArray[np.bool_], colour: tuple[int, int, int], share: float) -> RGB:
    """A picture with ``share`` of a colour where the mask (H, W) is true."""
    levels = np.arange(256)[:, None]
    table = ((1 - share) * levels + share * np.array(colour)).astype(np.uint8)
    mixed = image.copy()
    for channel in range(3):
        mixed[where, channel] = table[image[where, channel], channel]
    return mixed


def outline(where: NDArray[np.bool_], px: int = 1) -> NDArray[np.bool_]:
    """The outermost ``px`` pixels of a mask."""
    inner = where
    for _ in range(px):
        padded = np.pad(inner, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:] & inner
    return where & ~inner


def overlay(image: RGB, mask: NDArray[np.uint8], px: int = 1) -> RGB:
    """Foreground (mask 1) tinted, its outline drawn ``px`` wide; void (255) grey."""
    shown = mix(image, mask == VOID, UNKNOWN, 0.6)
    shown = mix(shown, mask == 1, FOREGROUND, 0.45)
    return mix(shown, outline(mask == 1, px), BORDER, 1.0)


def small_overlay(image: RGB, mask: NDArray[np.uint8], side: int) -> Image.Image:
    """The same of a picture that is made at most ``side`` px long first."""
    picture, labels = Image.fromarray(image), Image.fromarray(mask)
    picture.thumbnail((side, side))
    seen = np.array(labels.resize(picture.size, Image.Resampling.NEAREST))
    return Image.fromarray(overlay(np.array(picture), seen, max(1, round(max(seen.shape) / 400))))
