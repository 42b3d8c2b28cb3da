"""Bringing images and labels to the training size; every draw comes from the generator that is handed in."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core.labels import VOID

Image = NDArray[np.uint8]
Labels = NDArray[np.uint8]


def resize(image: Image, labels: Labels, height: int, width: int) -> tuple[Image, Labels]:
    """Resize an image bilinearly and its labels (H, W) or (L, H, W) by nearest neighbour."""
    rows = (np.arange(height) * labels.shape[-2]) // height
    columns = (np.arange(width) * labels.shape[-1]) // width
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized.astype(np.uint8, copy=False), labels[..., rows[:, None], columns]


def flip(rng: np.random.Generator, chance: float, image: Image, labels: Labels) -> tuple[Image, Labels]:
    """Mirror left and right with the given chance."""
    if rng.random() >= chance:
        return image, labels
    return image[:, ::-1], labels[..., ::-1]


def crop(
    rng: np.random.Generator, image: Image, labels: Labels, size: int, around: int | None = None
) -> tuple[Image, Labels]:
    """Pad right and below to at least ``size`` (grey, void), then cut a random ``size`` × ``size`` window.

    With ``around``, a label of (H, W) labels, the window holds a random pixel of that label, if there is one.
    """
    down, right = max(0, size - image.shape[0]), max(0, size - image.shape[1])
    if down or right:
        image = np.pad(image, ((0, down), (0, right), (0, 0)), constant_values=124)
        labels = np.pad(labels, (*((0, 0),) * (labels.ndim - 2), (0, down), (0, right)), constant_values=VOID)
    lowest, highest = np.zeros(2, int), np.array(image.shape[:2]) - size
    wanted = np.argwhere(labels == around) if around is not None else np.zeros((0, 2), int)
    if len(wanted):
        pixel = wanted[rng.integers(len(wanted))]
        lowest, highest = np.maximum(lowest, pixel - size + 1), np.minimum(highest, pixel)
    top, left = (int(rng.integers(low, high + 1)) for low, high in zip(lowest, highest, strict=True))
    return image[top : top + size, left : left + size], labels[..., top : top + size, left : left + size]


def scale_and_crop(
    rng: np.random.Generator, image: Image, labels: Labels, size: int, scales: tuple[float, float]
) -> tuple[Image, Labels]:
    """Random scale of the longer side relative to ``size``, then a random window: strong augmentation's geometry."""
    factor = scales[0] + (scales[1] - scales[0]) * float(rng.random())
    longest = factor * size / max(image.shape[:2])
    height, width = max(1, round(image.shape[0] * longest)), max(1, round(image.shape[1] * longest))
    return crop(rng, *resize(image, labels, height, width), size)
