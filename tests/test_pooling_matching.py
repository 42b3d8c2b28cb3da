"""Exact fast forms beside their slow, obvious references (A2, A6)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from novelseg.backbones.grid import AlignedGrid
from novelseg.core.labels import VOID, binary
from novelseg.methods.losses import upsampled_cross_entropy
from novelseg.methods.matching.prototypes import match, sides, support_prototypes
from novelseg.methods.spfl.pseudolabels import pseudo_labels
from novelseg.ops.pooling import EPSILON, pool

GRID = AlignedGrid(8)
SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 40), st.integers(1, 40))


def slow_map(features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Eq. 1 as it is written: upsample C channels, sum under the mask. (C, h, w), (H, W) → (C,), in double."""
    full = F.interpolate(features[None].double(), size=tuple(mask.shape), mode="bilinear", align_corners=True)[0]
    return (full * mask.double()).sum((1, 2)) / (mask.double().sum() + EPSILON)


def agree(fast: torch.Tensor, slow: torch.Tensor) -> bool:
    """Relative to the largest entry, 1e-5."""
    return float((fast.double() - slow).abs().max()) <= 1e-5 * max(1.0, float(slow.abs().max()))


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(0, 10_000))
def test_splatted_masks_pool_as_upsampled_features_do(size: tuple[int, int, int, int], seed: int) -> None:
    h, w, height, width = size
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn((5, h, w), generator=generator)
    masks = (torch.rand((3, height, width), generator=generator) < 0.4).float()
    fast = pool(features, GRID.splat_masks(masks, (h, w)))
    slow = torch.stack([slow_map(features, mask) for mask in masks])
    assert agree(fast, slow)


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(0, 10_000))
def test_splatted_regions_pool_as_upsampled_features_do(size: tuple[int, int, int, int], seed: int) -> None:
    h, w, height, width = size
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 6, (height, width))
    features = torch.from_numpy(rng.standard_normal((4, h, w)).astype(np.float32))
    weights = torch.from_numpy(GRID.splat_labels(labels, 5, (h, w))).unflatten(1, (h, w))
    slow = torch.stack([slow_map(features, torch.from_numpy(labels == region)) for region in range(5)])
    assert agree(pool(features, weights), slow)
    assert np.allclose(weights.sum((1, 2)), [(labels == region).sum() for region in range(5)], rtol=1e-5)


def test_up_matrix_is_torchs_bilinear_with_aligned_corners() -> None:
    for cells, pixels in ((1, 1), (1, 7), (7, 1), (4, 4), (5, 33), (33, 5)):
        line = torch.randn(1, 1, cells, 1, generator=torch.Generator().manual_seed(cells))
        expected = F.interpolate(line, size=(pixels, 1), mode="bilinear", align_corners=True)[0, 0, :, 0]
        assert torch.allclose(GRID.up_matrix(cells, pixels) @ line[0, 0, :, 0], expected, atol=1e-6)


def test_matching_is_cosine_with_pooled_prototypes_averaged_over_shots() -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn((2, 3, 6, 5, 4), generator=generator)  # (B, K, C, h, w)
    masks = torch.randint(0, 3, (2, 3, 37, 29), generator=generator)
    masks[masks == 2] = VOID
    query = torch.randn((2, 6, 5, 4), generator=generator)
    logits = match(query, support_prototypes(features, masks, GRID), 10.0)
    for b in range(2):
        for side in (0, 1):
            slow = torch.stack([slow_map(features[b, k], masks[b, k] == side) for k in range(3)]).mean(0)
            cosine = F.cosine_similarity(query[b].double(), slow[:, None, None], dim=0)
            assert agree(logits[b, side], 10 * cosine)


def test_sides_leave_void_to_neither() -> None:
    mask = torch.tensor([[0, 1, VOID]])
    assert sides(mask).tolist() == [[[1, 0, 0]], [[0, 1, 0]]]
    assert binary(np.array([0, 3, 5, VOID], np.uint8), 3).tolist() == [0, 1, 0, VOID]


def slow_pseudo_labels(
    features: torch.Tensor, mask: torch.Tensor, foreground: torch.Tensor, background: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Eq. 3 as it is written: upsample C channels, cosine with every prototype. Labels, and the margin of the best."""
    full = F.interpolate(features[None].double(), size=tuple(mask.shape), mode="bilinear", align_corners=True)[0]
    cosines = [
        torch.stack([F.cosine_similarity(full, centre.double()[:, None, None], dim=0) for centre in side])
        for side in (foreground, background)
    ]
    best = [side.topk(2, dim=0) for side in cosines]
    labels = torch.where(mask == 0, best[1].indices[0] + len(foreground), best[0].indices[0])
    margins = torch.where(mask == 0, best[1].values[0] - best[1].values[1], best[0].values[0] - best[0].values[1])
    return torch.where(mask == VOID, VOID, labels), margins


@settings(max_examples=25, deadline=None)
@given(SIZES, st.integers(0, 10_000))
def test_pseudo_labels_are_those_of_upsampled_features(size: tuple[int, int, int, int], seed: int) -> None:
    h, w, height, width = size
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn((6, h, w), generator=generator)
    mask = torch.randint(0, 3, (height, width), generator=generator).to(torch.uint8)
    mask[mask == 2] = VOID
    centres = torch.randn((2, 7, 6), generator=generator)
    fast = pseudo_labels(features, mask, centres[0], centres[1], GRID)
    slow, margins = slow_pseudo_labels(features, mask, centres[0], centres[1])
    different = fast.long() != slow
    # Only exact ties may differ: cosines that double precision tells apart by rounding alone.
    assert bool((margins[different] < 1e-6).all()), int(different.sum())
    assert bool((fast[mask == VOID] == VOID).all())


def test_pseudo_labels_number_foreground_first() -> None:
    features = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # two cells, one along each axis
    centres = torch.eye(2)
    mask = torch.tensor([[5, 0], [5, VOID]], dtype=torch.uint8)[:1]
    assert pseudo_labels(features, mask, centres, centres.flip(0), GRID).tolist() == [[0, 2]]


def test_cross_entropy_image_by_image_is_the_plain_one() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn((4, 9, 6, 5), generator=generator, requires_grad=True)
    labels = torch.randint(0, 9, (4, 31, 27), generator=generator).to(torch.uint8)
    labels[0, :20] = VOID
    labels[2] = VOID
    plain = F.cross_entropy(GRID.upsample(logits, (31, 27)), labels.long(), ignore_index=VOID)
    fast = upsampled_cross_entropy(logits, labels, GRID)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (plain, fast)]
    assert torch.allclose(fast, plain, rtol=1e-5)
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-8)
