"""Contour evidence of an image: gradients of local brightness, colour and texture histograms at several scales.

At each pixel and scale, p_b is the share of histogram bin b in a Gaussian window of σ px. For a unit vector n, nᵀJn,

    J = σ²/4 Σ_b ∇p_b (∇p_b)ᵀ / (p_b + 0.02)

is the χ² distance of the histograms on both sides of a line with normal n. One 2×2 tensor thus holds the half-disc
gradient of every orientation. The constant 0.02 suppresses contours from bins that hardly occur.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

BINS = 12  # soft bins of a Lab channel
TEXTON_COUNT = 32
BLOCK = 8192  # pixels whose distances to all textons fit the processor's cache
RESPONSES = 10  # filter responses in a texture descriptor
FLOOR = 0.02  # the constant in the denominator of J
# Channel, window σ in px, and step in px of the grid on which it is measured, which is coarser for wider windows. The
# wide windows of colour and texture distinguish contours from texture.
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
# Weight of each cue in the boundary strength whose watershed gives the basins.
CUE_WEIGHTS = np.array([1, 1, 0.6, 0.8, 0.6, 0.3, 0.8, 0.6, 0.3, 1, 1.6, 1], np.float32)

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Contours:
    """Contour evidence of an image.

    Attributes
    ----------
    tensors : (12, 3, H, W) float32
        Entries xx, xy and yy of J for each of :data:`CUES`.
    lab : (3, H, W) float32
        CIE Lab, each channel scaled to [0, 1].
    textons : (H, W) uint8
        Number of the nearest texton of each pixel, 0…31.
    """

    tensors: NDArray[np.float32]
    lab: NDArray[np.float32]
    textons: NDArray[np.uint8]


def lab_planes(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert an RGB image (H, W, 3) to CIE Lab (3, H, W), each channel scaled to [0, 1]."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    planes = np.ascontiguousarray(lab.transpose(2, 0, 1))
    planes[0] /= 100
    planes[1:] = (planes[1:] + 73) / 168  # a and b lie between −73 and 95 in photographs
    return np.clip(planes, 0, 1, out=planes)


def texture(brightness: Plane) -> NDArray[np.float32]:
    """Compute the texture descriptor of each pixel, (10, H, W), from brightness (H, W).

    It consists of contrast-normalised Gaussian derivatives of first and second order at two scales.
    """
    responses = []
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
            responses.append(response)
    descriptors = np.stack(responses)
    norm = np.sqrt((descriptors * descriptors).sum(axis=0))
    descriptors *= np.log1p(norm / 0.01) / (norm + 1e-3)
    return descriptors


def _nearest_textons(brightness: Plane, textons: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the number of the nearest texton of each pixel, (H, W); the first of several equally near ones."""
    descriptors = texture(brightness).reshape(RESPONSES, -1)
    squared_norms = (textons * textons).sum(axis=1)[:, None]
    rank = np.arange(TEXTON_COUNT, 0, -1, dtype=np.uint8)[:, None]  # highest for the first texton, which wins ties
    numbers = np.empty(brightness.size, np.uint8)
    for start in range(0, brightness.size, BLOCK):
        block = np.s_[start : start + BLOCK]
        similarity = (2 * textons) @ descriptors[:, block]  # ‖descriptor‖² minus the squared distance
        similarity -= squared_norms
        # Much faster than argmax over 32 textons.
        nearest = (similarity == similarity.max(axis=0)).view(np.uint8)
        numbers[block] = TEXTON_COUNT - (nearest * rank).max(axis=0)
    return numbers.reshape(brightness.shape)


def _halve(plane: Plane) -> Plane:
    """Average 2 × 2 blocks."""
    height, width = plane.shape
    halved: Plane = cv2.resize(plane, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return halved


def _soft_bins(plane: Plane) -> list[Plane]:
    """Return the share of each bin at each pixel, (H, W) per bin.

    A share falls linearly from the centre of a bin to the centres of its neighbours. Bins below or above all values are
    omitted.
    """
    position = plane * (BINS - 1)
    low, high = int(position.min()), int(np.ceil(position.max()))
    return [np.maximum(0, 1 - np.abs(position - b)) for b in range(low, high + 1)]


def _texton_bins(textons: NDArray[np.uint8]) -> list[Plane]:
    """Return the share of each texton in each 2 × 2 block, (H/2, W/2) per texton; absent textons are omitted."""
    height, width = textons.shape[0] // 2, textons.shape[1] // 2
    shares = np.zeros((TEXTON_COUNT, height, width), np.float32)
    block = np.arange(height * width).reshape(height, width)
    for y in (0, 1):
        for x in (0, 1):
            shares.reshape(-1)[textons[y::2, x::2].astype(np.intp) * block.size + block] += np.float32(0.25)
    return [plane for plane in shares if plane.any()]


def _tensor(bins: list[Plane], sigma: float) -> NDArray[np.float32]:
    """Compute J, (3, h, w), from the shares of the bins, (h, w) each, for a window of ``sigma`` pixels of ``bins``."""
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
        Texture descriptors of the textons.

    Returns
    -------
    Contours
        Evidence at the resolution of the image.
    """
    height, width = image.shape[:2]
    padded = cv2.copyMakeBorder(image, 0, -height % 4, 0, -width % 4, cv2.BORDER_REFLECT)
    lab = lab_planes(padded)
    texton_map = _nearest_textons(lab[0], textons)
    # Bins at full, half and quarter resolution.
    bins = {("texture", 2): _texton_bins(texton_map)}
    for plane, name in zip(lab, "Lab", strict=True):
        bins[name, 1] = _soft_bins(plane)
        bins[name, 2] = [_halve(share) for share in bins[name, 1]]
    for name in ("L", "a", "b", "texture"):
        bins[name, 4] = [_halve(share) for share in bins[name, 2]]
    tensors = np.empty((len(CUES), 3, height, width), np.float32)
    for number, (name, sigma, step) in enumerate(CUES):
        for entry, plane in enumerate(_tensor(bins[name, step], sigma / step)):
            if step > 1:
                plane = cv2.resize(plane, (padded.shape[1], padded.shape[0]), interpolation=cv2.INTER_LINEAR)
            tensors[number, entry] = plane[:height, :width]
    return Contours(tensors, np.ascontiguousarray(lab[:, :height, :width]), texton_map[:height, :width])


def largest_eigenvalue(xx: NDArray[Any], xy: NDArray[Any], yy: NDArray[Any]) -> NDArray[Any]:
    """Compute λ_max of symmetric 2 × 2 matrices."""
    largest: NDArray[Any] = (xx + yy) / 2 + np.sqrt(((xx - yy) / 2) ** 2 + xy * xy)
    return largest


def strength(tensors: NDArray[np.float32]) -> Plane:
    """Compute the boundary strength √λ_max(Σ weight·J) of each pixel, lightly smoothed: (12, 3, H, W) to (H, W)."""
    xx, xy, yy = np.tensordot(CUE_WEIGHTS, tensors, 1)
    largest = np.maximum(0, largest_eigenvalue(xx, xy, yy))
    smooth: Plane = cv2.GaussianBlur(np.sqrt(largest), (0, 0), 0.7, borderType=cv2.BORDER_REFLECT)
    return smooth
