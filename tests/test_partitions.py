"""The evaluator of segmentations: known answers, and plain forms on random maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from novelseg.regions.partitions import (
    RegionScores,
    boundary,
    boundary_counts,
    boundary_f,
    concatenate_scores,
    match_boundaries,
    region_scores,
    summarise,
)


def one(labels: np.ndarray, truths: list[np.ndarray]) -> RegionScores:
    return region_scores(labels, [np.arange(labels.max() + 1)], truths)


def covering(scores: RegionScores) -> float:
    return float(scores.overlap[0] @ scores.area / scores.area.sum())


HALVES = np.repeat([[0, 0, 1, 1]], 4, axis=0)
QUARTERS = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]])
WHOLE = np.zeros((4, 4), int)
# Scored map, annotation, covering, Rand index, variation of information in bits.
KNOWN = [
    (HALVES, HALVES, 1.0, 1.0, 0.0),
    (WHOLE, WHOLE, 1.0, 1.0, 0.0),
    (QUARTERS, HALVES, 0.5, 1 - (2 * 8 * 8 - 4 * 4 * 4) / 2 / 120, 1.0),  # each half met by a quarter
    (HALVES, QUARTERS, 0.5, 1 - (2 * 8 * 8 - 4 * 4 * 4) / 2 / 120, 1.0),  # each quarter met by a half
    (WHOLE, HALVES, 0.5, 1 - (16 * 16 - 2 * 8 * 8) / 2 / 120, 1.0),
    (HALVES.T, HALVES, 1 / 3, 1 - (2 * 64 - 4 * 16) / 120, 2.0),  # independent halves
    (np.arange(16).reshape(4, 4), WHOLE, 1 / 16, 0.0, 4.0),
]


@pytest.mark.parametrize(("labels", "truth", "covered", "rand", "variation"), KNOWN)
def test_scores_of_hand_made_maps(
    labels: np.ndarray, truth: np.ndarray, covered: float, rand: float, variation: float
) -> None:
    scores = one(labels, [truth])
    assert covering(scores) == pytest.approx(covered)
    assert scores.rand[0] == pytest.approx(rand)
    assert scores.variation[0] == pytest.approx(variation)
    assert scores.count[0] == len(np.unique(labels))


def test_several_annotations_weigh_equally() -> None:
    scores = one(HALVES, [HALVES, WHOLE])
    assert covering(scores) == pytest.approx((1 + 0.5) / 2)
    assert scores.variation[0] == pytest.approx(0.5)
    assert scores.rand[0] == pytest.approx((1 + 1 - 64 / 120) / 2)


def slow_scores(labels: np.ndarray, truths: list[np.ndarray]) -> tuple[float, float, float]:
    """Covering by masks, Rand by all pixel pairs, VI by definition."""
    overlaps, areas, rands, variations = [], [], [], []
    flat = labels.reshape(-1)
    for truth in truths:
        for region in np.unique(truth):
            mask = truth == region
            each = [(mask & (labels == part)).sum() / (mask | (labels == part)).sum() for part in np.unique(labels)]
            overlaps.append(max(each))
            areas.append(mask.sum())
        other = truth.reshape(-1)
        pairs = [
            (flat[i] == flat[j]) == (other[i] == other[j]) for i in range(len(flat)) for j in range(i + 1, len(flat))
        ]
        rands.append(np.mean(pairs))
        total = 0.0
        for a in np.unique(flat):
            for b in np.unique(other):
                p, q, both = np.mean(flat == a), np.mean(other == b), np.mean((flat == a) & (other == b))
                if both:
                    total -= both * (np.log2(both / p) + np.log2(both / q))
        variations.append(total)
    return float(np.average(overlaps, weights=areas)), float(np.mean(rands)), float(np.mean(variations))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10000))
def test_a_series_of_coarsenings_is_scored_as_each_map_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    finest = np.unique(rng.integers(0, 9, (6, 7)), return_inverse=True)[1].reshape(6, 7)
    truths = [np.unique(rng.integers(0, 4, (6, 7)), return_inverse=True)[1].reshape(6, 7) for _ in range(3)]
    leaves = int(finest.max()) + 1
    levels = [np.arange(leaves), rng.integers(0, 4, leaves), rng.integers(0, 2, leaves), np.zeros(leaves, int)]
    levels = [np.unique(level, return_inverse=True)[1] for level in levels]
    scores = region_scores(finest, levels, truths)
    for number, level in enumerate(levels):
        slow = slow_scores(level[finest], truths)
        fast = float(scores.overlap[number] @ scores.area / scores.area.sum())
        assert (fast, scores.rand[number], scores.variation[number]) == pytest.approx(slow)
        alone = one(level[finest], truths)
        assert np.allclose(alone.overlap[0], scores.overlap[number])
        assert alone.count[0] == scores.count[number]


def test_ods_takes_one_level_and_ois_each_images_best() -> None:
    area = np.array([10])
    parts = [
        RegionScores(
            np.array([[0.2], [0.9]]), area, np.array([0.5, 0.7]), np.array([2.0, 1.0]), np.array([4, 2])
        ),
        RegionScores(
            np.array([[0.8], [0.3]]), area, np.array([0.9, 0.5]), np.array([1.0, 1.5]), np.array([6, 3])
        ),
    ]  # fmt: skip
    summary = summarise(parts)
    assert summary.level == 1
    assert summary.covering_ods == pytest.approx(0.6)
    assert summary.covering_ois == pytest.approx(0.85)
    assert summary.covering_best == pytest.approx(0.85)
    assert (summary.rand_ods, summary.rand_ois) == pytest.approx((0.7, 0.8))
    assert (summary.variation_ods, summary.variation_ois) == pytest.approx((1.25, 1.0))
    assert summary.regions == 2.5


def test_best_covering_takes_each_region_from_its_own_level() -> None:
    scores = one(QUARTERS, [np.where(QUARTERS == 0, 0, 1)])
    whole = one(WHOLE, [np.where(QUARTERS == 0, 0, 1)])
    summary = summarise([concatenate_scores([scores, whole])])
    assert summary.covering_best == pytest.approx((4 * 1 + 12 * 12 / 16) / 16)
    assert summary.covering_ois == pytest.approx((4 * 4 / 16 + 12 * 12 / 16) / 16)


def test_boundaries_are_thin_and_nothing_has_none() -> None:
    labels = np.zeros((20, 20), int)
    labels[:, 9:] = 1
    assert boundary(labels).sum(axis=1).tolist() == [1] * 20
    assert boundary(np.zeros((5, 5), int)).sum() == 0
    assert boundary(np.zeros((1, 1), int)).shape == (1, 1)
    diagonal = (np.add.outer(np.arange(20), np.arange(20)) > 19).astype(int)
    assert abs(int(boundary(diagonal).sum()) - 20) <= 2


def test_matching_is_one_to_one_and_within_reach() -> None:
    mine, theirs = np.zeros((2, 300, 400), bool)
    mine[100, 50:60] = True  # ten pixels, of which five have partners three rows below
    theirs[103, 50:55] = True
    theirs[200, 300] = True
    ours, paired = match_boundaries(mine, theirs, 0.0075)  # reach 3.75 px
    assert ours.sum() == paired.sum() == 5
    assert not paired[200, 300]
    near, _ = match_boundaries(mine, theirs, 0.004)  # reach 2 px
    assert near.sum() == 0
    crowd = np.zeros((300, 400), bool)
    crowd[99:102, 50] = True
    single = np.zeros((300, 400), bool)
    single[100, 50] = True
    ours, paired = match_boundaries(crowd, single)
    assert ours.sum() == paired.sum() == 1
    assert ours[100, 50]  # the nearest


def slow_matching(mine: np.ndarray, theirs: np.ndarray, reach: float) -> int:
    """Nearest pairs first, pair by pair."""
    pairs = sorted(
        ((b - a) @ (b - a), tuple(b - a), tuple(a), tuple(b)) for a in np.argwhere(mine) for b in np.argwhere(theirs)
    )
    used_mine, used_theirs = set(), set()
    for squared, _, a, b in pairs:
        if squared <= reach**2 and a not in used_mine and b not in used_theirs:
            used_mine.add(a)
            used_theirs.add(b)
    return len(used_mine)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10000), st.floats(0.02, 0.3))
def test_matching_all_pairs_of_an_offset_at_once_is_matching_them_in_turn(seed: int, tolerance: float) -> None:
    rng = np.random.default_rng(seed)
    mine, theirs = rng.random((2, 12, 13)) < 0.15
    ours, paired = match_boundaries(mine, theirs, tolerance)
    assert ours.sum() == paired.sum() == slow_matching(mine, theirs, tolerance * float(np.hypot(12, 13)))
    assert not (ours & ~mine).any()
    assert not (paired & ~theirs).any()


def test_matching_reaches_no_farther_than_the_image() -> None:
    mine, theirs = np.zeros((2, 3, 1700), bool)
    mine[0, 5] = theirs[2, 9] = True
    assert match_boundaries(mine, theirs)[0].sum() == 1


def test_precision_and_recall_of_a_shifted_and_a_missing_line() -> None:
    truth = np.zeros((200, 200), int)
    truth[:, 50:] = 1
    truth[:, 150:] = 2
    found = np.zeros((200, 200), int)
    found[:, 51:] = 1
    counts = boundary_counts(boundary(found), [boundary(truth)])
    assert boundary_f(counts) == pytest.approx((1.0, 0.5, 2 / 3))
    assert boundary_f(boundary_counts(boundary(truth), [boundary(truth)] * 3)) == pytest.approx((1, 1, 1))
    assert boundary_f(np.zeros(4, np.int64))[2] == 0
