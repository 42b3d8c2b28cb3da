"""Strong photometric augmentation of batches: pure functions of images and random numbers.

The operations are colour jitter, grayscale, blur and cutout, as is common in semi-supervised segmentation. Geometric
augmentation is in :mod:`novelseg.ops.geometry`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from kornia.color import rgb_to_grayscale
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_hue,
    adjust_saturation,
)
from kornia.filters import gaussian_blur2d
from torch import Tensor

from novelseg.core.labels import VOID

BLUR_KERNEL_PX = 9
TURN = 6.2831853  # a full turn, radians


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the strong augmentation; probabilities and shares are in [0, 1].

    Attributes
    ----------
    scales
        Range of the longer side of an image after scaling, relative to the training size.
    flip
        Probability of mirroring.
    jitter, brightness, contrast, saturation, hue
        Probability of colour jitter, and its strengths: factors 1 ± strength, and hue as a share of a full turn.
    grey
        Probability of grayscale.
    blur, blur_sigma
        Probability of Gaussian blur, and the range of its sigma, px.
    cutout, cutout_area, cutout_aspect
        Probability of a rectangle that hides image and labels, and the ranges of its share of the image and of its
        height divided by its width.
    """

    scales: list[float]
    flip: float
    jitter: float
    brightness: float
    contrast: float
    saturation: float
    hue: float
    grey: float
    blur: float
    blur_sigma: list[float]
    cutout: float
    cutout_area: list[float]
    cutout_aspect: list[float]


def _replace_some(images: Tensor, changed: Tensor, chance: float, draw: Tensor) -> Tensor:
    """Replace the images whose draw, (B,), is below ``chance`` by the changed ones."""
    return torch.where((draw < chance)[:, None, None, None], changed, images)


def _jitter(images: Tensor, draws: Tensor, strengths: Augmentation) -> Tensor:
    """Change brightness, contrast, saturation and hue at random, by draws (B, 4) in [0, 1)."""
    ranges = draws.new_tensor([strengths.brightness, strengths.contrast, strengths.saturation])
    factors = 1 + (2 * draws[:, :3] - 1) * ranges
    images = adjust_brightness_accumulative(images, factors[:, 0])
    images = adjust_contrast_with_mean_subtraction(images, factors[:, 1])
    images = adjust_saturation(images, factors[:, 2])
    jittered: Tensor = adjust_hue(images, (2 * draws[:, 3] - 1) * (strengths.hue * TURN))
    return jittered


def _cutout(images: Tensor, labels: Tensor, draws: Tensor, strengths: Augmentation) -> tuple[Tensor, Tensor]:
    """Fill a random rectangle of some images with one colour and set its labels to void, by draws (B, 8) in [0, 1)."""
    height, width = images.shape[-2:]
    smallest, largest = strengths.cutout_area
    area = (smallest + (largest - smallest) * draws[:, 1]) * height * width
    low, high = strengths.cutout_aspect
    aspect = low * (high / low) ** draws[:, 2]
    box_height, box_width = (area * aspect).sqrt().clamp(max=height), (area / aspect).sqrt().clamp(max=width)
    top, left = draws[:, 3] * (height - box_height), draws[:, 4] * (width - box_width)
    y = torch.arange(height, device=images.device)[None, :, None]
    x = torch.arange(width, device=images.device)[None, None]
    inside = (y >= top[:, None, None]) & (y < (top + box_height)[:, None, None])
    inside = inside & (x >= left[:, None, None]) & (x < (left + box_width)[:, None, None])
    inside = inside & (draws[:, 0] < strengths.cutout)[:, None, None]
    colour = draws[:, 5:8, None, None].expand_as(images)
    return torch.where(inside[:, None], colour, images), torch.where(inside[:, None], VOID, labels)


DRAWS = 16  # random numbers per image, whether its augmentation uses them or not


def strong(images: Tensor, labels: Tensor, draws: Tensor, strengths: Augmentation) -> tuple[Tensor, Tensor]:
    """Augment a batch of images and their labels.

    Parameters
    ----------
    images : (B, 3, H, W) float
        RGB in [0, 1].
    labels : (B, L, H, W) uint8
        Pseudo labels.
    draws : (B, 16) float
        Random numbers, uniform in [0, 1). Each image has its own row, so that its augmentation does not depend on the
        batch.
    strengths
        Strengths of the operations.

    Returns
    -------
    images, labels
        Augmented images and labels of the same shapes; labels are 255 in the rectangles of cutout.
    """
    draws = draws.to(images)
    images = _replace_some(images, _jitter(images, draws[:, 1:5], strengths), strengths.jitter, draws[:, 0])
    grey = rgb_to_grayscale(images).expand_as(images)
    images = _replace_some(images, grey, strengths.grey, draws[:, 5])
    low, high = strengths.blur_sigma
    sigma = low + (high - low) * draws[:, 7:8]
    blurred = gaussian_blur2d(images, BLUR_KERNEL_PX, sigma.expand(-1, 2))
    images = _replace_some(images, blurred, strengths.blur, draws[:, 6])
    return _cutout(images, labels, draws[:, 8:16], strengths)
