"""Geometry moves labels with their pixels; photometry leaves them; every draw is handed in (A7)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.core.labels import VOID
from stages.core.random import torch_generator
from stages.ops import augment, geometry


def draws(count: int, seed: int) -> torch.Tensor:
    """Draws of a batch."""
    return torch.rand((count, augment.DRAWS), generator=torch_generator(seed))


def marked(height: int = 40, width: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """A picture whose red channel tells its label: 250 where 1, 0 where 0; three levels alike."""
    labels = np.zeros((height, width), np.uint8)
    labels[10:30, 5:25] = 1
    image = np.stack([labels * 250] * 3, -1).astype(np.uint8)
    return image, np.stack([labels] * 3)


def test_geometry_keeps_labels_on_their_pixels(rng: np.random.Generator) -> None:
    for _ in range(20):
        image, labels = geometry.flip(rng, 0.5, *marked())
        image, labels = geometry.scale_and_crop(rng, image, labels, 49, (0.5, 2.0))
        assert image.shape == (49, 49, 3)
        assert labels.shape == (3, 49, 49)
        valid = labels[0] != VOID
        wrong = valid & ((image[..., 0] > 125) != (labels[0] == 1))
        assert wrong.mean() < 0.08  # only where the picture is interpolated
        assert (image[~valid] == 124).all()


def test_resize_is_nearest_for_labels() -> None:
    image, labels = geometry.resize(*marked(), 80, 120)
    assert image.shape == (80, 120, 3)
    assert np.array_equal(labels, marked()[1].repeat(2, 1).repeat(2, 2))


def test_draws_come_from_the_generator_alone() -> None:
    images, labels = torch.rand(6, 3, 33, 33), torch.zeros(6, 3, 33, 33, dtype=torch.uint8)
    state = torch.random.get_rng_state()
    first, again, other = (augment.strong(images, labels, draws(6, seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_an_image_is_augmented_alike_in_any_batch() -> None:
    images, labels = torch.rand(4, 3, 33, 33), torch.zeros(4, 3, 33, 33, dtype=torch.uint8)
    whole = augment.strong(images, labels, draws(4, 2))
    for n in range(4):
        alone = augment.strong(images[n : n + 1], labels[n : n + 1], draws(4, 2)[n : n + 1])
        assert torch.allclose(whole[0][n : n + 1], alone[0], atol=1e-6)
        assert torch.equal(whole[1][n : n + 1], alone[1])


def test_contrast_keeps_the_mean_and_scales_the_spread() -> None:
    image = 0.4 + 0.1 * torch.rand(1, 1, 33, 33).expand(1, 3, 33, 33)
    values = torch.full((1, 16), 0.5)  # a draw of one half leaves brightness, saturation and hue alone
    values[0, [0, 2, 5, 6, 8]] = torch.tensor([0.0, 0.9, 0.9, 0.9, 0.9])  # jitter; contrast × 1.4; nothing else
    changed, _ = augment.strong(image, torch.zeros(1, 1, 33, 33, dtype=torch.uint8), values)
    assert float(changed.mean()) == pytest.approx(float(image.mean()), abs=1e-3)
    assert float(changed.std() / image.std()) == pytest.approx(1.4, abs=0.01)


def test_photometry_touches_labels_only_where_it_cuts_out() -> None:
    images = torch.rand(40, 3, 33, 33)
    labels = torch.randint(0, 9, (40, 3, 33, 33)).to(torch.uint8)
    changed, kept = augment.strong(images, labels, draws(40, 5))
    assert changed.shape == images.shape
    assert bool(((kept == labels) | (kept == VOID)).all())
    cut = (kept == VOID).flatten(1).any(1)
    assert 10 < int(cut.sum()) < 30  # half of them
    share = (kept[cut] == VOID).float().mean((1, 2, 3))
    assert float(share.min()) > 0.01
    assert float(share.max()) < 0.45
    # One colour fills what was cut out.
    first = int(cut.nonzero()[0])
    hole = changed[first][:, kept[first, 0] == VOID]
    assert float(hole.std(1).max()) < 1e-6


def test_a_window_around_a_label_always_holds_it(rng: np.random.Generator) -> None:
    image, labels = marked(90, 120)
    labels = labels[0] * 0
    labels[83, 2] = 1
    for _ in range(50):
        _, view = geometry.crop(rng, image, labels, 33, around=1)
        assert (view == 1).sum() == 1
    assert geometry.crop(rng, image, labels * 0, 33, around=1)[1].shape == (33, 33)


def test_windows_lie_anywhere(rng: np.random.Generator) -> None:
    image = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50, 1).repeat(3, 2).astype(np.uint8)
    labels = np.arange(50, dtype=np.uint8)[None].repeat(40, 0)
    lefts = {int(geometry.crop(rng, image, labels, 33)[1][0, 0]) for _ in range(400)}
    assert lefts == set(range(18))
