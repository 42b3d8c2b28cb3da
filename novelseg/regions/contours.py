"""Contour evidence of an image: gradients of local brightness, colour and texture histograms at several scales (A3).

At each pixel and scale, p_b is the share of histogram bin b in a Gaussian window of σ px. For a unit vector n, nᵀJn,

    J = σ²/4 Σ_b ∇p_b (∇p_b)ᵀ / (p_b + 0.02)

is the χ² distance of the histograms on both sides of a line with normal n. One 2×2 tensor thus holds the half-disc
gradient of every orientation. The 0.02 keeps bins that are hardly there from making contours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

BINS = 12  # soft bins of a Lab channel
WORDS = 32  # textons
BLOCK = 8192  # pixels whose distances to all textons stay in the processor's cache
RESPONSES = 10  # filters of the texture descriptor
FLOOR = 0.02
# What, window σ in px, and step of the grid on which it is measured: a wide window needs no fine grid. Wide windows of
# colour and texture are what tells texture from contour.
CUES = (
    ("L", 1.5, 1),
    ("L", 2.7, 1),
    ("L", 5.3, 2),
    ("a", 2.7, 2),
    ("a", 5.3, 2),
    ("a", 10.6, 4),
    ("b", 2.7, 2),
    ("b", 5.3, 2),
    ("b", 10.6, 4),
    ("texture", 2.7, 2),
    ("texture", 5.3, 2),
    ("texture", 10.6, 4),
)
# Share of each cue in the boundary strength whose watershed gives the basins.
SHARES = np.array([1, 1, 0.6, 0.8, 0.6, 0.3, 0.8, 0.6, 0.3, 1, 1.6, 1], np.float32)

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Contours:
    """Contour evidence of an image of H × W pixels.

    Attributes
    ----------
    tensors : (12, 3, H, W) float32
        J of each of ``CUES``: the entries xx, xy, yy.
    lab : (3, H, W) float32
        CIE Lab, each channel brought to [0, 1].
    words : (H, W) uint8
        Nearest texton of each pixel.
    """

    tensors: NDArray[np.float32]
    lab: NDArray[np.float32]
    words: NDArray[np.uint8]


def lab_planes(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """CIE Lab of an RGB image, channels first, each brought to [0, 1]."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    planes = np.ascontiguousarray(lab.transpose(2, 0, 1))
    planes[0] /= 100
    planes[1:] = (planes[1:] + 73) / 168  # what photographs hold of a and b
    return np.clip(planes, 0, 1, out=planes)


def texture(brightness: Plane) -> NDArray[np.float32]:
    """Contrast-normalised Gaussian derivatives of first and second order at two scales, (10, H, W)."""
    found = []
    for sigma in (1.0, 2.0):
        smooth = cv2.GaussianBlur(brightness, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
        for order_x, order_y, scale in ((1, 0, 1 / 8), (0, 1, 1 / 8), (2, 0, 1 / 4), (0, 2, 1 / 4), (1, 1, 2**0.5 / 4)):
            response = cv2.Sobel(
                smooth,
                cv2.CV_32F,
                order_x,
                order_y,
                ksize=3,
                scale=scale * sigma ** (order_x + order_y),
                borderType=cv2.BORDER_REFLECT,
            )
            found.append(response)
    responses = np.stack(found)
    strength = np.sqrt((responses * responses).sum(axis=0))
    responses *= np.log1p(strength / 0.01) / (strength + 1e-3)
    return responses


def _words(brightness: Plane, textons: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Nearest texton of each pixel; of equally near ones the first."""
    descriptors = texture(brightness).reshape(RESPONSES, -1)
    norms = (textons * textons).sum(axis=1)[:, None]
    rank = np.arange(WORDS, 0, -1, dtype=np.uint8)[:, None]  # the first has the highest
    words = np.empty(brightness.size, np.uint8)
    for start in range(0, brightness.size, BLOCK):
        block = np.s_[start : start + BLOCK]
        nearness = (2 * textons) @ descriptors[:, block]
        nearness -= norms
        # Much faster than argmax along 32.
        nearest = (nearness == nearness.max(axis=0)).view(np.uint8)
        words[block] = WORDS - (nearest * rank).max(axis=0)
    return words.reshape(brightness.shape)


def _halved(plane: Plane) -> Plane:
    """Means of 2 × 2 blocks."""
    height, width = plane.shape
    small: Plane = cv2.resize(plane, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return small


def _soft_bins(plane: Plane) -> list[Plane]:
    """Share of each bin at each pixel, a triangle around its centre; bins that nothing falls into are left out."""
    position = plane * (BINS - 1)
    low, high = int(position.min()), int(np.ceil(position.max()))
    return [np.maximum(0, 1 - np.abs(position - b)) for b in range(low, high + 1)]


def _word_bins(words: NDArray[np.uint8]) -> list[Plane]:
    """Share of each texton in each 2 × 2 block."""
    height, width = words.shape[0] // 2, words.shape[1] // 2
    counts = np.zeros((WORDS, height, width), np.float32)
    block = np.arange(height * width).reshape(height, width)
    for y in (0, 1):
        for x in (0, 1):
            counts.reshape(-1)[words[y::2, x::2].astype(np.intp) * block.size + block] += np.float32(0.25)
    return [plane for plane in counts if plane.any()]


def _tensor(bins: list[Plane], sigma: float) -> NDArray[np.float32]:
    """J of a histogram for a window of ``sigma`` (in pixels of ``bins``)."""
    xx, xy, yy = np.zeros((3, *bins[0].shape), np.float32)
    for share in bins:
        window = cv2.GaussianBlur(share, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
        dx = cv2.Sobel(window, cv2.CV_32F, 1, 0, ksize=1, scale=sigma / 4, borderType=cv2.BORDER_REFLECT)
        dy = cv2.Sobel(window, cv2.CV_32F, 0, 1, ksize=1, scale=sigma / 4, borderType=cv2.BORDER_REFLECT)
        window += FLOOR
        ex, ey = dx / window, dy / window
        cv2.accumulateProduct(dx, ex, xx)
        cv2.accumulateProduct(dx, ey, xy)
        cv2.accumulateProduct(dy, ey, yy)
    return np.stack([xx, xy, yy])


def contours(image: NDArray[np.uint8], textons: NDArray[np.float32]) -> Contours:
    """Measure the contour evidence of an image.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB.
    textons : (32, 10) float32
        Centres of texture descriptors.

    Returns
    -------
    Contours
    """
    height, width = image.shape[:2]
    whole = cv2.copyMakeBorder(image, 0, -height % 4, 0, -width % 4, cv2.BORDER_REFLECT)
    lab = lab_planes(whole)
    words = _words(lab[0], textons)
    # Bins at full, half and quarter resolution.
    bins = {("texture", 2): _word_bins(words)}
    for plane, name in zip(lab, "Lab", strict=True):
        bins[name, 1] = _soft_bins(plane)
        bins[name, 2] = [_halved(share) for share in bins[name, 1]]
    for name in ("L", "a", "b", "texture"):
        bins[name, 4] = [_halved(share) for share in bins[name, 2]]
    tensors = np.empty((len(CUES), 3, height, width), np.float32)
    for number, (name, sigma, step) in enumerate(CUES):
        small = _tensor(bins[name, step], sigma / step)
        for entry, plane in enumerate(small):
            if step > 1:
                plane = cv2.resize(plane, (whole.shape[1], whole.shape[0]), interpolation=cv2.INTER_LINEAR)
            tensors[number, entry] = plane[:height, :width]
    return Contours(tensors, np.ascontiguousarray(lab[:, :height, :width]), words[:height, :width])


def largest_eigenvalue(xx: NDArray[Any], xy: NDArray[Any], yy: NDArray[Any]) -> NDArray[Any]:
    """λ_max of symmetric 2 × 2 matrices."""
    larger: NDArray[Any] = (xx + yy) / 2 + np.sqrt(((xx - yy) / 2) ** 2 + xy * xy)
    return larger


def strength(tensors: NDArray[np.float32]) -> Plane:
    """Boundary strength √λ_max(Σ share·J) at each pixel, lightly smoothed, (H, W)."""
    xx, xy, yy = np.tensordot(SHARES, tensors, 1)
    largest = np.maximum(0, largest_eigenvalue(xx, xy, yy))
    smooth: Plane = cv2.GaussianBlur(np.sqrt(largest), (0, 0), 0.7, borderType=cv2.BORDER_REFLECT)
    return smooth
