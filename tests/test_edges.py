"""Borders that follow the picture: the guided filter beside loops over windows, and what it does to masks."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from novelseg import Segmenter
from novelseg.backbones.grid import AlignedGrid
from novelseg.inference.edges import snap_to_edges
from novelseg.ops.guided import apply_colours, fit_colours
from tests.commands import novelseg
from tests.conftest import WEIGHTS
from tests.pictures import disc


def slowly(scores: Tensor, guide: Tensor, radius: int, smoothness: float) -> Tensor:
    """The guided filter, window by window."""
    height, width = guide.shape[1:]
    scores, colours = scores.double(), guide.double() / 255

    def around(y: int, x: int) -> tuple[slice, slice, slice]:
        rows, columns = slice(max(0, y - radius), y + radius + 1), slice(max(0, x - radius), x + radius + 1)
        return slice(None), rows, columns

    slopes = torch.zeros(len(scores), 3, height, width, dtype=torch.double)
    offsets = torch.zeros(len(scores), height, width, dtype=torch.double)
    for y, x in product(range(height), range(width)):
        colour, values = colours[around(y, x)].flatten(1), scores[around(y, x)].flatten(1)
        centred = colour - colour.mean(1, keepdim=True)
        covariance = centred @ centred.T / colour.shape[1] + smoothness * torch.eye(3)
        slope = torch.linalg.solve(covariance, centred @ values.T / colour.shape[1]).T  # (K, 3)
        slopes[:, :, y, x] = slope
        offsets[:, y, x] = values.mean(1) - slope @ colour.mean(1)
    filtered = torch.empty_like(scores)
    for y, x in product(range(height), range(width)):
        slope = torch.stack([one[around(y, x)].mean((1, 2)) for one in slopes])
        filtered[:, y, x] = slope @ colours[:, y, x] + offsets[around(y, x)].mean((1, 2))
    return filtered


@pytest.mark.parametrize(("height", "width", "radius"), [(6, 9, 2), (5, 4, 7)])
def test_the_guided_filter_is_that_of_loops_over_windows(height: int, width: int, radius: int) -> None:
    generator = torch.Generator().manual_seed(height)
    scores = torch.randn(2, height, width, generator=generator)
    guide = torch.randint(0, 256, (3, height, width), generator=generator).byte()
    found = apply_colours(fit_colours(scores, guide, radius, 1e-2), guide)
    torch.testing.assert_close(found.double(), slowly(scores, guide, radius, 1e-2), rtol=1e-4, atol=1e-4)


def test_a_coarse_mask_gets_the_border_of_the_picture() -> None:
    image, truth = disc(side=128)
    grid = AlignedGrid(8)
    cells = torch.from_numpy(truth[4::8, 4::8].astype(np.float32))[None]
    logits = 6 * cells - 3
    plain = grid.upsample(logits[None], truth.shape)[0, 0].numpy() > 0
    found = snap_to_edges(logits, image, 128, grid)[0].numpy() > 0
    wrong, before = (found != truth).sum(), (plain != truth).sum()
    assert wrong < before / 3


def test_constant_scores_stay_and_larger_pictures_have_their_size() -> None:
    image = disc(side=96)[0]
    found = snap_to_edges(torch.full((2, 5, 6), 2.0), image, 40, AlignedGrid(8))
    assert found.shape == (2, 96, 96)
    torch.testing.assert_close(found, torch.full_like(found, 2.0), rtol=1e-3, atol=1e-3)


def test_masks_follow_borders_and_logits_do_not(tmp_path: Path, capfd: Any) -> None:
    image, mask = disc()
    query = disc(middle=(24, 36))[0]
    with_edges, without = (Segmenter(weights=WEIGHTS, edges=edges).fit(image, mask) for edges in (True, False))
    for one, other in zip(with_edges.each(query), without.each(query), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(without.predict(query)[0], without.decision_function(query)[0] > 0)
    (tmp_path / "s/images").mkdir(parents=True)
    (tmp_path / "s/masks").mkdir()
    Image.fromarray(image).save(tmp_path / "s/images/0.png")
    Image.fromarray(255 * mask).save(tmp_path / "s/masks/0.png")
    Image.fromarray(query).save(tmp_path / "q.png")
    words = ["--weights", WEIGHTS, "--support", tmp_path / "s", "--query", tmp_path / "q.png"]
    for flag, segmenter in (("--edges", with_edges), ("--no-edges", without)):
        assert novelseg("segment", *words, "--out", tmp_path / flag, flag) == 0
        with Image.open(tmp_path / flag / "masks/q.png") as picture:
            np.testing.assert_array_equal(np.array(picture), 255 * segmenter.predict(query)[0])
