"""Geometry moves labels with their pixels; photometry leaves them; every draw is handed in (A7)."""

from __future__ import annotations

import numpy as np
import torch

from stages.core.labels import VOID
from stages.core.random import torch_generator
from stages.ops import augment, geometry


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
    first, again, other = (augment.strong(images, labels, torch_generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_an_image_is_augmented_alike_in_any_batch() -> None:
    images, labels = torch.rand(4, 3, 33, 33), torch.zeros(4, 3, 33, 33, dtype=torch.uint8)
    whole = augment.strong(images, labels, torch_generator(2))
    alone = augment.strong(images[:1], labels[:1], torch_generator(2))
    assert torch.allclose(whole[0][:1], alone[0], atol=1e-6)


def test_photometry_touches_labels_only_where_it_cuts_out() -> None:
    images = torch.rand(40, 3, 33, 33)
    labels = torch.randint(0, 9, (40, 3, 33, 33)).to(torch.uint8)
    changed, kept = augment.strong(images, labels, torch_generator(5))
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
