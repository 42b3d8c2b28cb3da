"""Strong photometric augmentation on batches (A7): functional operations, draws handed in.

Colour jitter, grayscale, blur and cutout, as semi-supervised segmentation uses them; the geometric part is in
:mod:`stages.ops.geometry`.
"""

from __future__ import annotations

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

from stages.core.labels import VOID

JITTER_CHANCE, GREY_CHANCE, BLUR_CHANCE, CUTOUT_CHANCE = 0.8, 0.2, 0.5, 0.5
BRIGHTNESS, CONTRAST, SATURATION, HUE_RADIANS = 0.5, 0.5, 0.5, 0.25 * 6.2831853
BLUR_SIGMA_PX, BLUR_KERNEL_PX = (0.1, 2.0), 9
CUTOUT_AREA, CUTOUT_ASPECT = (0.02, 0.4), (0.3, 3.3)


def _chosen(changed: Tensor, images: Tensor, chance: float, draw: Tensor) -> Tensor:
    return torch.where((draw < chance)[:, None, None, None], changed, images)


def _jitter(images: Tensor, draws: Tensor) -> Tensor:
    """Brightness, contrast, saturation, hue, by draws (B, 4) in [0, 1)."""
    factors = 1 + (2 * draws[:, :3] - 1) * draws.new_tensor([BRIGHTNESS, CONTRAST, SATURATION])
    images = adjust_brightness_accumulative(images, factors[:, 0])
    images = adjust_contrast_with_mean_subtraction(images, factors[:, 1])
    images = adjust_saturation(images, factors[:, 2])
    jittered: Tensor = adjust_hue(images, (2 * draws[:, 3] - 1) * HUE_RADIANS)
    return jittered


def _cutout(images: Tensor, labels: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Fill one rectangle an image with one colour and ignore it in the labels, by draws (B, 8) in [0, 1)."""
    height, width = images.shape[-2:]
    area = (CUTOUT_AREA[0] + (CUTOUT_AREA[1] - CUTOUT_AREA[0]) * draws[:, 1]) * height * width
    low, high = CUTOUT_ASPECT
    aspect = low * (high / low) ** draws[:, 2]
    tall, wide = (area * aspect).sqrt().clamp(max=height), (area / aspect).sqrt().clamp(max=width)
    top, left = draws[:, 3] * (height - tall), draws[:, 4] * (width - wide)
    y = torch.arange(height, device=images.device)[None, :, None]
    x = torch.arange(width, device=images.device)[None, None]
    inside = (y >= top[:, None, None]) & (y < (top + tall)[:, None, None])
    inside = inside & (x >= left[:, None, None]) & (x < (left + wide)[:, None, None])
    inside = inside & (draws[:, 0] < CUTOUT_CHANCE)[:, None, None]
    colour = draws[:, 5:8, None, None].expand_as(images)
    return torch.where(inside[:, None], colour, images), torch.where(inside[:, None], VOID, labels)


DRAWS = 16  # of an image, whatever is done with them


def strong(images: Tensor, labels: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Augment a batch.

    Parameters
    ----------
    images : (B, 3, H, W) float
        RGB in [0, 1].
    labels : (B, L, H, W) uint8
        Pseudo labels; 255 where cut out, otherwise untouched.
    draws : (B, 16) float
        Uniform in [0, 1), a row per image: an image is augmented alike in any batch.

    Returns
    -------
    images, labels
        Of the same shapes.
    """
    draws = draws.to(images)
    images = _chosen(_jitter(images, draws[:, 1:5]), images, JITTER_CHANCE, draws[:, 0])
    grey = rgb_to_grayscale(images).expand_as(images)
    images = _chosen(grey, images, GREY_CHANCE, draws[:, 5])
    sigma = BLUR_SIGMA_PX[0] + (BLUR_SIGMA_PX[1] - BLUR_SIGMA_PX[0]) * draws[:, 7:8]
    blurred = gaussian_blur2d(images, BLUR_KERNEL_PX, sigma.expand(-1, 2))
    images = _chosen(blurred, images, BLUR_CHANCE, draws[:, 6])
    return _cutout(images, labels, draws[:, 8:16])
