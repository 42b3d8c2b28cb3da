"""Region hierarchies and their cuts (A3)."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from novelseg.regions.hierarchy import Hierarchy, cut, fit_size, flat_hierarchy


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


def random_tree(seed: int, leaves: int) -> Hierarchy:
    """Join two random roots until one is left, at heights that never fall."""
    rng = np.random.default_rng(seed)
    parents, heights = np.zeros(2 * leaves - 1, np.int32), np.zeros(2 * leaves - 1, np.float32)
    roots = list(range(leaves))
    for node in range(leaves, 2 * leaves - 1):
        pair = [roots.pop(rng.integers(len(roots))) for _ in range(2)]
        parents[pair] = node
        heights[node] = max(heights[pair].max(), np.round(rng.random(), 1))
        roots.append(node)
    parents[-1] = len(parents) - 1
    basins = np.concatenate([np.arange(leaves), rng.integers(0, leaves, 60 - leaves)]).reshape(6, 10)
    return Hierarchy(basins.astype(np.uint16), parents, heights)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10000), st.floats(0, 1), st.integers(1, 40))
def test_cut_is_climbing_leaf_by_leaf(seed: int, tau: float, leaves: int) -> None:
    tree = random_tree(seed, leaves)
    fast = cut(tree, tau, tree.basins.shape)
    assert same_partition(fast, slow_cut(tree, tau))
    assert fast.max() + 1 == len(np.unique(fast))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1), st.integers(1, 30))
def test_a_label_map_as_hierarchy_is_given_back_by_every_cut(seed: int, tau: float, most: int) -> None:
    labels = np.random.default_rng(seed).integers(0, most, (7, 9)) * 1000
    assert same_partition(cut(flat_hierarchy(labels), tau, (7, 9)), labels)


def test_labels_come_back_by_nearest_neighbour() -> None:
    tree = Hierarchy(np.array([[0, 1]], np.uint16), np.array([2, 2, 2], np.int32), np.array([0, 0, 0.9], np.float32))
    assert cut(tree, 0.5, (2, 5)).tolist() == [[0, 0, 0, 1, 1]] * 2


def test_fit_size_keeps_the_aspect_and_never_enlarges() -> None:
    assert fit_size(300, 400, 500) == (300, 400)
    assert fit_size(1000, 500, 500) == (500, 250)
    assert fit_size(3, 9000, 500) == (1, 500)
