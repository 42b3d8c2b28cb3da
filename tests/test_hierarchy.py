"""Region hierarchies and their cuts (A3)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label as connected

from stages.data.scenes import scene
from stages.ops.hierarchy import Hierarchy, build, cut, fit_size
from stages.sections.scenes import Scenes


def slow_cut(tree: Hierarchy, tau: float) -> np.ndarray:
    """Leaf by leaf: climb while the parent merges below τ; equal ends are one region."""
    ends = []
    for leaf in range(int(tree.basins.max()) + 1):
        node = leaf
        while tree.parents[node] != node and tree.heights[tree.parents[node]] < tau:
            node = int(tree.parents[node])
        ends.append(node)
    return np.array(ends)[tree.basins]


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two label maps differ by names alone."""
    pairs = np.unique(np.stack([a.reshape(-1), b.reshape(-1)]), axis=1)
    return bool(pairs.shape[1] == len(np.unique(a)) == len(np.unique(b)))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1))
def test_cut_is_climbing_leaf_by_leaf(number: int, tau: float) -> None:
    image, _ = scene(Scenes(seed=1, train=1, val=1, size=48), number)
    tree = build(image)
    fast = cut(tree, tau, tree.basins.shape)
    assert same_partition(fast, slow_cut(tree, tau))
    assert fast.max() + 1 == len(np.unique(fast))


def test_hierarchies_are_nested_connected_and_rise_to_the_root() -> None:
    image, _ = scene(Scenes(seed=1, train=1, val=1, size=96), 3)
    tree = build(image)
    assert (tree.heights[tree.parents] >= tree.heights).all()
    assert tree.heights.max() < 1
    size = (image.shape[0], image.shape[1])
    fine, coarse = cut(tree, 0.3, size), cut(tree, 0.6, size)
    assert fine.max() > coarse.max() > 0
    assert len(np.unique(np.stack([fine.reshape(-1), coarse.reshape(-1)]), axis=1).T) == fine.max() + 1
    assert connected(fine.astype(int) + 1, connectivity=1).max() == fine.max() + 1
    assert cut(tree, 1.0, size).max() == 0


def test_two_plain_halves_are_two_regions() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = 200
    labels = cut(build(image), 0.45, (40, 60))
    assert labels.max() == 1
    assert len(np.unique(labels[:, :27])) == len(np.unique(labels[:, 33:])) == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (16, 16)])
def test_tiny_and_plain_images_are_one_region(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 90, np.uint8)
    labels = cut(build(image), 0.45, (2 * shape[0], 3 * shape[1]))
    assert labels.shape == (2 * shape[0], 3 * shape[1])
    assert labels.max() == 0


def test_labels_come_back_by_nearest_neighbour() -> None:
    tree = Hierarchy(np.array([[0, 1]], np.uint16), np.array([2, 2, 2], np.int32), np.array([0, 0, 0.9], np.float32))
    assert cut(tree, 0.5, (2, 5)).tolist() == [[0, 0, 0, 1, 1]] * 2


def test_fit_size_keeps_the_aspect_and_never_enlarges() -> None:
    assert fit_size(300, 400, 500) == (300, 400)
    assert fit_size(1000, 500, 500) == (500, 250)
    assert fit_size(3, 9000, 500) == (1, 500)
