"""Grids beside slow references that compute every pixel by itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from novelseg.backbones.grid import AlignedGrid, Grid, PatchGrid, ReducedPatchGrid
from novelseg.core.labels import VOID
from novelseg.methods.losses import upsampled_cross_entropy
from novelseg.methods.matching.prototypes import support_prototypes
from novelseg.methods.spfl.pseudolabels import pseudo_labels
from novelseg.ops.pooling import EPSILON, pool
from tests.patch14 import PatchBackbone

SIZES = [(28, 42), (41, 53), (35, 20), (14, 6), (64, 48), (49, 49)]
REDUCED = ReducedPatchGrid(14, side=45)  # most of these sizes are reduced, along one axis or both
GRIDS = [PatchGrid(14), PatchGrid(16), REDUCED, AlignedGrid(8)]


def position(grid: Grid, pixel: int, cells: int, pixels: int) -> float:
    """Where a pixel lies between the cells of one axis, from the definition."""
    if isinstance(grid, PatchGrid):
        patches = (cells - 1) // grid.steps + 1
        side = grid.patch if patches == max(1, math.floor(pixels / grid.patch + 0.5)) else pixels / patches
        return min(max(grid.steps * ((pixel + 0.5) / side - 0.5), 0.0), cells - 1.0)
    return pixel * (cells - 1) / (pixels - 1)


def slow_upsample(grid: Grid, maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(K, h, w) to (K, H, W), pixel by pixel, in double precision."""
    full = torch.zeros((len(maps), *size), dtype=torch.float64)
    h, w = maps.shape[1:]
    for u in range(size[0]):
        for v in range(size[1]):
            y, x = position(grid, u, h, size[0]), position(grid, v, w, size[1])
            i, j = min(math.floor(y), h - 1), min(math.floor(x), w - 1)
            i1, j1, b, a = min(i + 1, h - 1), min(j + 1, w - 1), y - math.floor(y), x - math.floor(x)
            upper = (1 - a) * maps[:, i, j].double() + a * maps[:, i, j1].double()
            lower = (1 - a) * maps[:, i1, j].double() + a * maps[:, i1, j1].double()
            full[:, u, v] = (1 - b) * upper + b * lower
    return full


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_upsampling_splatting_and_pooling_are_those_of_the_slow_reference(grid: Grid, size: tuple[int, int]) -> None:
    h, w = grid.cells(size)
    features = drawn(5, h, w)
    full = slow_upsample(grid, features, size)
    assert torch.allclose(grid.upsample(features[None], size)[0].double(), full, atol=1e-5)
    labels = np.random.default_rng(7).integers(-1, 3, size)
    masks = torch.stack([torch.from_numpy(labels == region) for region in range(3)]).double()
    sums = torch.einsum("chw,rhw->rc", full, masks)
    slow = sums / (masks.sum((1, 2))[:, None] + EPSILON)
    for weights in (
        grid.splat_masks(masks.float(), (h, w)),
        torch.from_numpy(grid.splat_labels(labels, 3, (h, w))).unflatten(1, (h, w)),
        grid.region_weights(labels, 3, features),
    ):
        assert torch.allclose(weights.sum((1, 2)).double(), masks.sum((1, 2)), rtol=1e-5)
        assert torch.allclose(pool(features, weights).double(), slow, atol=1e-4)
    mask = torch.from_numpy(np.where(labels < 0, VOID, labels > 0).astype(np.uint8))
    ours = support_prototypes(features[None, None], mask[None, None], grid)[0]
    sides = torch.stack([mask == 0, mask == 1]).double()
    pooled = torch.einsum("chw,rhw->rc", full, sides) / (sides.sum((1, 2))[:, None] + EPSILON)
    assert torch.allclose(ours.double(), pooled, atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grid", [PatchGrid(14), REDUCED], ids=str)
def test_pseudo_labels_and_loss_on_patches_are_those_of_upsampled_maps(grid: Grid, size: tuple[int, int]) -> None:
    features, centres = drawn(6, *grid.cells(size)), drawn(7, 6)
    mask = torch.zeros(size, dtype=torch.uint8)
    mask[: size[0] // 2], mask[:, : size[1] // 3] = 1, VOID
    full = slow_upsample(grid, features, size)
    similarity = torch.einsum("chw,kc->khw", full, F.normalize(centres.double(), dim=1))
    nearest = torch.where(mask == 0, similarity[3:].argmax(0) + 3, similarity[:3].argmax(0))
    expected = torch.where(mask == VOID, VOID, nearest)
    ours = pseudo_labels(features, mask, centres[:3], centres[3:], grid)
    assert (ours != expected).float().mean() < 0.002  # ties within rounding
    logits, target = drawn(1, 4, *grid.cells(size)), torch.where(mask == VOID, VOID, mask * 2)
    plain = F.cross_entropy(slow_upsample(grid, logits[0], size)[None], target[None].long(), ignore_index=VOID)
    assert torch.allclose(upsampled_cross_entropy(logits, target[None], grid).double(), plain, atol=1e-5)


@pytest.mark.parametrize("pixels", [5, 6, 7, 13, 14, 20, 21, 27, 28, 35, 64])
@pytest.mark.parametrize("patch", [14, 16])
def test_cells_of_patches_have_their_centres_in_the_image(patch: int, pixels: int) -> None:
    grid = PatchGrid(patch)
    cells = grid.cells((pixels, pixels))[0]
    inside = [i for i in range(pixels // patch + 2) if i * patch + patch / 2 <= pixels]
    assert cells == max(1, len(inside))
    mask = torch.arange(pixels, dtype=torch.uint8)[:, None].expand(-1, pixels)
    at = grid.labels_at_cells(mask, (cells, cells))[:, 0]
    assert at.tolist() == [min(i * patch + patch // 2, pixels - 1) for i in range(cells)]


def test_whole_patches_are_torchs_bilinear_without_aligned_corners() -> None:
    grid, maps = PatchGrid(14), drawn(1, 3, 4, 5)
    expected = F.interpolate(maps, size=(56, 70), mode="bilinear", align_corners=False)
    assert torch.allclose(grid.upsample(maps, (56, 70)), expected, atol=1e-5)


def test_a_finer_map_lies_on_the_same_pixels() -> None:
    """A map with four steps per cell that is linear in between says the same as the coarse one."""
    for grid, size in ((PatchGrid(14), (41, 53)), (REDUCED, (41, 53)), (AlignedGrid(8), (41, 57))):
        h, w = grid.cells(size)
        coarse = drawn(1, 2, h, w)
        fine = F.interpolate(coarse, size=(4 * h - 3, 4 * w - 3), mode="bilinear", align_corners=True)
        assert torch.allclose(grid.finer(4).upsample(fine, size), grid.upsample(coarse, size), atol=1e-5)
        assert grid.finer(4).cells(size) == (4 * h - 3, 4 * w - 3) or isinstance(grid, AlignedGrid)


@pytest.mark.parametrize("size", SIZES)
def test_the_patch_backbone_keeps_the_contract(size: tuple[int, int]) -> None:
    net = PatchBackbone()
    with torch.no_grad():
        features = net(torch.rand((2, 3, *size), generator=torch.Generator().manual_seed(0)))
    assert features.shape == (2, net.channels, *net.grid.cells(size))
    assert {id(weight) for part in net.parts() for weight in part.parameters()} == set(map(id, net.parameters()))
