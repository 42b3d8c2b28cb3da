"""Strong photometric augmentation on batches (A7): functional operations, draws handed in.

Colour jitter, grayscale, blur and cutout, as semi-supervised segmentation uses them; the geometric part is in
:mod:`novelseg.ops.geometry`.
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
TURN = 6.2831853  # radians


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the strong augmentation; chances and shares are in [0, 1].

    Attributes
    ----------
    scales
        Range of the longer side of an image after scaling, relative to the training size.
    flip
        Chance of mirroring.
    jitter, brightness, contrast, saturation, hue
        Chance of colour jitter, and its strengths: factors 1 ± strength, and hue by a share of a full turn.
    grey
        Chance of grayscale.
    blur, blur_sigma
        Chance of Gaussian blur, and the range of its sigma, px.
    cutout, cutout_area, cutout_aspect
        Chance of a rectangle that hides image and labels, its share of the image, and its height over its width.
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


def _chosen(changed: Tensor, images: Tensor, chance: float, draw: Tensor) -> Tensor:
    return torch.where((draw < chance)[:, None, None, None], changed, images)


def _jitter(images: Tensor, draws: Tensor, by: Augmentation) -> Tensor:
    """Brightness, contrast, saturation, hue, by draws (B, 4) in [0, 1)."""
    factors = 1 + (2 * draws[:, :3] - 1) * draws.new_tensor([by.brightness, by.contrast, by.saturation])
    images = adjust_brightness_accumulative(images, factors[:, 0])
    images = adjust_contrast_with_mean_subtraction(images, factors[:, 1])
    images = adjust_saturation(images, factors[:, 2])
    jittered: Tensor = adjust_hue(images, (2 * draws[:, 3] - 1) * (by.hue * TURN))
    return jittered


def _cutout(images: Tensor, labels: Tensor, draws: Tensor, by: Augmentation) -> tuple[Tensor, Tensor]:
    """Fill one rectangle an image with one colour and ignore it in the labels, by draws (B, 8) in [0, 1)."""
    height, width = images.shape[-2:]
    least, most = by.cutout_area
    area = (least + (most - least) * draws[:, 1]) * height * width
    low, high = by.cutout_aspect
    aspect = low * (high / low) ** draws[:, 2]
    tall, wide = (area * aspect).sqrt().clamp(max=height), (area / aspect).sqrt().clamp(max=width)
    top, left = draws[:, 3] * (height - tall), draws[:, 4] * (width - wide)
    y = torch.arange(height, device=images.device)[None, :, None]
    x = torch.arange(width, device=images.device)[None, None]
    inside = (y >= top[:, None, None]) & (y < (top + tall)[:, None, None])
    inside = inside & (x >= left[:, None, None]) & (x < (left + wide)[:, None, None])
    inside = inside & (draws[:, 0] < by.cutout)[:, None, None]
    colour = draws[:, 5:8, None, None].expand_as(images)
    return torch.where(inside[:, None], colour, images), torch.where(inside[:, None], VOID, labels)


DRAWS = 16  # of an image, whatever is done with them


def strong(images: Tensor, labels: Tensor, draws: Tensor, by: Augmentation) -> tuple[Tensor, Tensor]:
    """Augment a batch.

    Parameters
    ----------
    images : (B, 3, H, W) float
        RGB in [0, 1].
    labels : (B, L, H, W) uint8
        Pseudo labels; 255 where cut out, otherwise untouched.
    draws : (B, 16) float
        Uniform in [0, 1), a row per image: an image is augmented alike in any batch.
    by
        Strengths.

    Returns
    -------
    images, labels
        Of the same shapes.
    """
    draws = draws.to(images)
    images = _chosen(_jitter(images, draws[:, 1:5], by), images, by.jitter, draws[:, 0])
    grey = rgb_to_grayscale(images).expand_as(images)
    images = _chosen(grey, images, by.grey, draws[:, 5])
    least, most = by.blur_sigma
    sigma = least + (most - least) * draws[:, 7:8]
    blurred = gaussian_blur2d(images, BLUR_KERNEL_PX, sigma.expand(-1, 2))
    images = _chosen(blurred, images, by.blur, draws[:, 6])
    return _cutout(images, labels, draws[:, 8:16], by)
