"""Contour evidence against plain forms (A3)."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from novelseg.regions import contours as c

TEXTONS = np.random.default_rng(5).normal(size=(c.TEXTON_COUNT, c.RESPONSES)).astype(np.float32)


def slow_windows(share: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian window means, pixel by pixel, borders mirrored."""
    size = round(sigma * 8 + 1) | 1
    kernel = cv2.getGaussianKernel(size, sigma, cv2.CV_64F)[:, 0]
    half = size // 2
    padded = np.pad(share.astype(np.float64), half, mode="symmetric")
    means = np.zeros(share.shape)
    for y, x in np.ndindex(*share.shape):
        means[y, x] = kernel @ padded[y : y + size, x : x + size] @ kernel
    return means


def slow_form(bins: list[np.ndarray], sigma: float, angle: float) -> np.ndarray:
    """σ²/4 Σ_b (∂_n p_b)² / p_b for the one direction n."""
    total = np.zeros(bins[0].shape)
    for share in bins:
        window = slow_windows(share, sigma)
        around = np.pad(window, 1, mode="symmetric")
        dx = (around[1:-1, 2:] - around[1:-1, :-2]) / 2
        dy = (around[2:, 1:-1] - around[:-2, 1:-1]) / 2
        along = np.cos(angle) * dx + np.sin(angle) * dy
        total += sigma**2 / 4 * along**2 / (window + c.FLOOR)
    return total


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1.35, 1.5, 2.65]), st.floats(0, np.pi))
def test_tensor_holds_the_gradient_of_every_orientation(seed: int, sigma: float, angle: float) -> None:
    rng = np.random.default_rng(seed)
    bins = list(rng.dirichlet(np.ones(4), size=(13, 17)).transpose(2, 0, 1).astype(np.float32))
    xx, xy, yy = c._tensor(bins, sigma)
    nx, ny = np.cos(angle), np.sin(angle)
    assert np.allclose(
        nx * nx * xx + 2 * nx * ny * xy + ny * ny * yy, slow_form(bins, sigma, angle), rtol=1e-3, atol=1e-7
    )


def test_soft_bins_share_each_pixel_between_two_neighbours() -> None:
    plane = np.array([[0, 0.5 / 11, 1 / 11, 1]], np.float32)
    bins = c._soft_bins(plane)
    assert len(bins) == c.BINS
    assert np.allclose(sum(bins), 1, atol=1e-6)
    assert np.allclose([share[0, 1] for share in bins[:3]], [0.5, 0.5, 0], atol=1e-6)
    assert len(c._soft_bins(np.full((2, 2), 0.5, np.float32))) == 2


def test_words_are_the_nearest_textons() -> None:
    plane = np.random.default_rng(0).random((9, 11), dtype=np.float32)
    descriptors = c.texture(plane).astype(np.float64)
    distances = ((descriptors[None] - TEXTONS[:, :, None, None]) ** 2).sum(axis=1)
    assert np.array_equal(c._nearest_textons(plane, TEXTONS), distances.argmin(axis=0))
    twice = TEXTONS.copy()
    twice[7] = twice[3]
    assert 7 not in c._nearest_textons(plane, twice)
    words = np.array([[0, 1, 2, 2], [0, 3, 2, 2]], np.uint8)
    bins = c._texton_bins(words)
    assert [share.tolist() for share in bins] == [[[0.5, 0]], [[0.25, 0]], [[0, 1]], [[0.25, 0]]]


def test_an_edge_is_strongest_where_it_is_and_points_across() -> None:
    image = np.full((40, 60, 3), 60, np.uint8)
    image[:, 30:] = (200, 90, 60)
    found = c.contours(image, TEXTONS)
    boundary = c.strength(found.tensors)
    assert set(boundary[20].argsort()[-2:]) == {29, 30}
    assert boundary[20, 29] > 4 * boundary[20, 8]
    xx, _, yy = found.tensors[:, :, 20, 29].sum(axis=0)
    assert xx > 100 * yy


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 1), (5, 9), (16, 16)])
def test_plain_images_of_any_size_have_no_contour(shape: tuple[int, int]) -> None:
    found = c.contours(np.full((*shape, 3), 77, np.uint8), TEXTONS)
    assert found.tensors.shape == (len(c.CUES), 3, *shape)
    assert found.textons.shape == shape
    assert np.abs(found.tensors).max() < 1e-9


def test_mirrored_images_have_mirrored_brightness_contours() -> None:
    image = np.random.default_rng(1).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    here, there = (c.contours(part, TEXTONS).tensors[:9] for part in (image, np.ascontiguousarray(image[:, ::-1])))
    assert np.allclose(here[:, 0], there[:, 0, :, ::-1], atol=1e-5)
    assert np.allclose(here[:, 1], -there[:, 1, :, ::-1], atol=1e-5)
