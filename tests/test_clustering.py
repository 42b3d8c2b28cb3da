"""Three-level k-means (A5)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from novelseg.core.errors import InputError
from novelseg.methods.spfl.clustering import Corpus, Level, normalise, three_levels


def clouds(rng: np.random.Generator, centres: np.ndarray, each: int) -> np.ndarray:
    """Tight clouds around centres, in order."""
    return (
        np.repeat(centres, each, axis=0) + 0.01 * rng.standard_normal((len(centres) * each, centres.shape[1]))
    ).astype(np.float32)


def corpus(vectors: np.ndarray, block: int = 17) -> Corpus:
    """Vectors in blocks of unequal length."""
    cuts = range(0, len(vectors), block)
    return Corpus("test", len(vectors), lambda: (vectors[cut : cut + block] for cut in cuts))


def run(
    vectors: np.ndarray, clusters: list[int], metric: str = "euclidean", seed: int = 0, most: int = 1000
) -> list[Level]:
    """Cluster with the usual settings."""
    return three_levels(corpus(vectors), clusters, metric=metric, restarts=10, iterations=30, seed=seed, most=most)


def test_levels_find_clouds_pairs_of_clouds_and_everything(rng: np.random.Generator) -> None:
    # Four clouds in two pairs: level 1 finds the clouds, level 2 the pairs, level 3 one centre.
    centres = np.array([[0, 0], [0, 1], [10, 0], [10, 1]], float)
    levels = run(clouds(rng, centres, 25), [4, 2, 1])
    found = levels[0].centres[np.lexsort((levels[0].centres[:, 1].round(), levels[0].centres[:, 0].round()))]
    assert np.allclose(found, centres, atol=0.02)
    assert levels[0].members.tolist() == [25] * 4
    assert levels[1].members.tolist() == [50, 50]
    assert levels[2].members.tolist() == [100]
    left = levels[0].centres[:, 0] < 5
    assert len(set(levels[0].parent[left])) == len(set(levels[0].parent[~left])) == 1
    assert set(levels[0].parent) == {0, 1}
    assert levels[2].parent.tolist() == [-1]


def test_inertia_is_the_sum_of_squared_distances(rng: np.random.Generator) -> None:
    vectors = rng.standard_normal((60, 5)).astype(np.float32)
    level = run(vectors, [7, 3, 1])[0]
    distances = ((vectors[:, None] - level.centres) ** 2).sum(-1).min(1)
    assert level.inertia == pytest.approx(distances.sum(), rel=1e-4)


def test_cosine_ignores_length(rng: np.random.Generator) -> None:
    directions = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    vectors = clouds(rng, directions, 20) * rng.uniform(0.1, 50, (60, 1)).astype(np.float32)
    level = run(vectors, [3, 2, 1], "cosine")[0]
    assert np.allclose(np.sort(normalise(level.centres) @ directions.T, axis=1)[:, -1], 1, atol=1e-3)
    assert level.members.tolist() == [20] * 3


def test_the_same_seed_gives_the_same_bytes(rng: np.random.Generator) -> None:
    vectors = rng.standard_normal((300, 16)).astype(np.float32)
    first, again, other = run(vectors, [9, 5, 2]), run(vectors, [9, 5, 2]), run(vectors, [9, 5, 2], seed=1)
    assert all(a.centres.tobytes() == b.centres.tobytes() for a, b in zip(first, again, strict=True))
    assert first[0].centres.tobytes() != other[0].centres.tobytes()


def test_more_clusters_than_vectors_names_both_numbers() -> None:
    with pytest.raises(InputError, match="starts with 9 clusters, but the test corpus has 4 vectors"):
        run(np.zeros((4, 2), np.float32), [9, 5, 2])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(1, 40), st.integers(0, 1000))
def test_a_sample_does_not_depend_on_the_blocks(sizes: list[int], most: int, seed: int) -> None:
    vectors = np.arange(sum(sizes) * 3, dtype=np.float32).reshape(-1, 3)
    blocks = np.split(vectors, np.cumsum(sizes)[:-1])
    found = Corpus("test", len(vectors), lambda: iter(blocks)).sample(most, seed)
    plain = Corpus("test", len(vectors), lambda: iter([vectors])).sample(most, seed)
    assert found.tolist() == plain.tolist()
    assert len(found) == min(most, len(vectors))
    assert (np.diff(found[:, 0]) > 0).all()  # distinct, in order
    if most >= len(vectors):
        assert found.tolist() == vectors.tolist()


def test_every_vector_is_as_likely_as_any_other() -> None:
    vectors = np.arange(20, dtype=np.float32)[:, None]
    drawn = [corpus(vectors, 7).sample(5, seed)[:, 0].astype(int) for seed in range(2000)]
    counts = np.bincount(np.concatenate(drawn), minlength=20)
    assert abs(counts - 500).max() < 5 * np.sqrt(500 * 0.75)


def test_members_and_inertia_are_of_the_whole_corpus_whatever_the_sample(rng: np.random.Generator) -> None:
    vectors = rng.standard_normal((400, 6)).astype(np.float32)
    blocks = [vectors[:150], vectors[150:150], vectors[150:]]  # one of them empty
    levels = three_levels(
        Corpus("test", 400, lambda: iter(blocks)),
        [7, 3, 2],
        metric="cosine",
        restarts=2,
        iterations=20,
        seed=0,
        most=256,
    )
    unit = normalise(vectors)
    squared = ((unit[:, None] - levels[0].centres) ** 2).sum(-1)
    assert levels[0].members.tolist() == np.bincount(squared.argmin(1), minlength=7).tolist()
    assert levels[0].inertia == pytest.approx(squared.min(1).sum(), rel=1e-4)
    assert [level.members.sum() for level in levels] == [400] * 3
    owners = levels[0].parent[squared.argmin(1)]
    assert levels[1].members.tolist() == np.bincount(owners, minlength=3).tolist()
    whole = run(unit, [7, 3, 2])[0].inertia
    assert whole * 0.9 < levels[0].inertia < whole * 1.2
