"""Geometry moves labels with their pixels; photometry leaves them; every draw is handed in (A7)."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from novelseg.core.labels import VOID
from novelseg.core.random import torch_generator
from novelseg.methods.spfl import augment
from novelseg.ops import geometry
from stages.params.augmentation import Augmentation as AugmentationParams
from tests.makers import tiny_values

CPU = torch.device("cpu")
STRENGTHS = AugmentationParams.model_validate(tiny_values()["augmentation"]).to(augment.Augmentation)


def draws(count: int, seed: int) -> torch.Tensor:
    """Draws of a batch."""
    return torch.rand((count, augment.DRAWS), generator=torch_generator(seed))


def marked(height: int = 40, width: int = 60) -> tuple[Tensor, Tensor]:
    """A picture whose colours tell its label: 250 where 1, 0 where 0; three maps alike."""
    labels = torch.zeros((height, width), dtype=torch.uint8)
    labels[10:30, 5:25] = 1
    return (labels * 250)[..., None].expand(-1, -1, 3), labels[None].expand(3, -1, -1)


def random_pictures(
    sizes: list[tuple[int, int]], seed: int
) -> tuple[geometry.PackedImages, list[tuple[Tensor, Tensor]]]:
    """Noise of several sizes, packed and apart; two maps."""
    generator = torch.Generator().manual_seed(seed)
    items = [
        (
            torch.randint(0, 256, (*size, 3), generator=generator).to(torch.uint8),
            torch.randint(0, 9, (2, *size), generator=generator).to(torch.uint8),
        )
        for size in sizes
    ]
    return geometry.pack(sizes, items, CPU), items


def slow_view(item: tuple[Tensor, Tensor], view: dict[str, int], size: int) -> tuple[np.ndarray, np.ndarray]:
    """One view, pixel by pixel, in double."""
    colours, labels = item[0].double().numpy(), item[1].numpy()
    height, width = colours.shape[:2]
    image, maps = np.full((3, size, size), geometry.GREY), np.full((len(labels), size, size), VOID)
    for row, column in itertools.product(range(size), range(size)):
        v, u = view["top"] + row, view["left"] + column
        if v >= view["scaled_height"] or u >= view["scaled_width"]:
            continue
        u = view["scaled_width"] - 1 - u if view["mirrored"] else u
        y = (v + 0.5) * height / view["scaled_height"]  # edges at whole numbers
        x = (u + 0.5) * width / view["scaled_width"]
        maps[:, row, column] = labels[:, int(y), int(x)]
        y, x = (min(max(place - 0.5, 0), end - 1) for place, end in ((y, height), (x, width)))
        y0, x0 = int(y), int(x)
        y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
        upper = colours[y0, x0] * (1 - x + x0) + colours[y0, x1] * (x - x0)
        lower = colours[y1, x0] * (1 - x + x0) + colours[y1, x1] * (x - x0)
        image[:, row, column] = (upper * (1 - y + y0) + lower * (y - y0)) / 255
    return image, maps


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=3),
    st.integers(0, 10_000),
    st.integers(3, 11),
)
def test_one_gather_shows_what_pixel_by_pixel_is_seen(sizes: list[tuple[int, int]], seed: int, size: int) -> None:
    pictures, items = random_pictures(sizes, seed)
    generator = torch.Generator().manual_seed(seed)
    numbers = list(range(len(sizes)))
    mirrored = torch.rand(len(sizes), generator=generator) < 0.5
    drawn = torch.rand((len(sizes), 4), generator=generator, dtype=torch.float64)
    views = geometry.windows(pictures, numbers, mirrored, drawn, size, scales=(0.5, 2.0))
    images, labels = geometry.gather(pictures, views, size)
    for number, item in enumerate(items):
        names = ("top", "left", "scaled_height", "scaled_width", "mirrored")
        view = {name: int(getattr(views, name)[number]) for name in names}
        image, maps = slow_view(item, view, size)
        assert np.abs(images[number].numpy() - image).max() < 1e-5
        assert np.array_equal(labels[number, :2].numpy(), maps)


def test_a_resized_square_is_what_opencv_makes() -> None:
    pictures, items = random_pictures([(37, 50), (64, 33)], 0)
    views = geometry.squares(pictures, [0, 1], torch.tensor([False, True]), 49)
    images, _ = geometry.gather(pictures, views, 49)
    for number, (colours, _) in enumerate(items):
        shown = cv2.resize(colours.numpy(), (49, 49), interpolation=cv2.INTER_LINEAR)
        expected = shown[:, ::-1] if number else shown
        difference = np.abs(255 * images[number].permute(1, 2, 0).numpy() - expected)
        assert difference.max() <= 1  # OpenCV rounds, and works in fixed point


def test_geometry_keeps_labels_on_their_pixels() -> None:
    pictures = geometry.pack([(40, 60)], [marked()], CPU)
    drawn = torch.rand((20, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mirrored = torch.arange(20) % 2 == 0
    views = geometry.windows(pictures, [0] * 20, mirrored, drawn, 49, scales=(0.5, 2.0))
    for image, labels in zip(*geometry.gather(pictures, views, 49), strict=True):
        valid = labels[0] != VOID
        wrong = valid & ((image[0] > 0.5) != (labels[0] == 1))
        assert float(wrong.float().mean()) < 0.08  # only where the picture is interpolated
        assert bool((image[:, ~valid] == geometry.GREY).all())


def test_draws_come_from_the_generator_alone() -> None:
    images, labels = torch.rand(6, 3, 33, 33), torch.zeros(6, 3, 33, 33, dtype=torch.uint8)
    state = torch.random.get_rng_state()
    first, again, other = (augment.strong(images, labels, draws(6, seed), STRENGTHS) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_an_image_is_augmented_alike_in_any_batch() -> None:
    images, labels = torch.rand(4, 3, 33, 33), torch.zeros(4, 3, 33, 33, dtype=torch.uint8)
    whole = augment.strong(images, labels, draws(4, 2), STRENGTHS)
    for n in range(4):
        alone = augment.strong(images[n : n + 1], labels[n : n + 1], draws(4, 2)[n : n + 1], STRENGTHS)
        assert torch.allclose(whole[0][n : n + 1], alone[0], atol=1e-6)
        assert torch.equal(whole[1][n : n + 1], alone[1])


def test_contrast_keeps_the_mean_and_scales_the_spread() -> None:
    image = 0.4 + 0.1 * torch.rand(1, 1, 33, 33).expand(1, 3, 33, 33)
    values = torch.full((1, 16), 0.5)  # a draw of one half leaves brightness, saturation and hue alone
    values[0, [0, 2, 5, 6, 8]] = torch.tensor([0.0, 0.9, 0.9, 0.9, 0.9])  # jitter; contrast × 1.4; nothing else
    changed, _ = augment.strong(image, torch.zeros(1, 1, 33, 33, dtype=torch.uint8), values, STRENGTHS)
    assert float(changed.mean()) == pytest.approx(float(image.mean()), abs=1e-3)
    assert float(changed.std() / image.std()) == pytest.approx(1.4, abs=0.01)


def test_photometry_touches_labels_only_where_it_cuts_out() -> None:
    images = torch.rand(40, 3, 33, 33)
    labels = torch.randint(0, 9, (40, 3, 33, 33)).to(torch.uint8)
    changed, kept = augment.strong(images, labels, draws(40, 5), STRENGTHS)
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


def test_a_window_around_a_label_always_holds_it() -> None:
    image, _ = marked(90, 120)
    labels = torch.zeros((1, 90, 120), dtype=torch.uint8)
    labels[0, 83, 2] = 1
    pictures = geometry.pack([(90, 120)], [(image, labels)], CPU)
    drawn = torch.rand((50, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    views = geometry.windows(pictures, [0] * 50, torch.arange(50) % 2 == 0, drawn, 33, around=[1] * 50)
    shown = geometry.gather(pictures, views, 33)[1]
    assert (shown[:, 0] == 1).sum((1, 2)).tolist() == [1] * 50


def test_every_pixel_of_a_label_is_chosen_as_often() -> None:
    labels = torch.zeros((1, 6, 7), dtype=torch.uint8)
    labels[0, 1, 2], labels[0, 5, 6], labels[0, 0, 0] = 1, 1, 1
    pictures = geometry.pack([(6, 7)], [(torch.zeros((6, 7, 3), dtype=torch.uint8), labels)], CPU)
    draws = torch.linspace(0, 1 - 1e-9, 300, dtype=torch.float64)
    found = [tuple(geometry.random_pixel(pictures, 0, 1, draw).tolist()) for draw in draws]
    assert {pixel: found.count(pixel) for pixel in set(found)} == {(0, 0): 100, (1, 2): 100, (5, 6): 100}


def test_windows_lie_anywhere() -> None:
    draws = torch.rand(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert set(geometry.window_start(torch.full((400,), 50), 33, draws).tolist()) == set(range(18))
    assert set(geometry.window_start(torch.full((400,), 20), 33, draws).tolist()) == {0}
