"""mIoU, FB-IoU and their spread on cases worked by hand (A9)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from novelseg.core.labels import VOID
from novelseg.evaluation.comparisons import PROTOCOL_KEYS, Evaluation, comparison_table
from novelseg.evaluation.metrics import bootstrap_miou, class_iou, fb_iou, resampled_miou, scores, seed_mean
from novelseg.ops.counts import pixel_counts


def rows(entries: list[tuple[int, str, int, int, int, int, int]]) -> pd.DataFrame:
    """Rows of (seed, query, class, fg intersection, fg union, bg intersection, bg union)."""
    names = ["seed", "query", "class", "fg_intersection", "fg_union", "bg_intersection", "bg_union"]
    return pd.DataFrame(entries, columns=names)


# Class 1: 3/6 and 5/10 px accumulate to 8/16; class 2: 0/4. Background 10/14 + 5/10 + 6/10.
HAND_MADE = rows([(0, "a", 1, 3, 6, 10, 14), (0, "b", 1, 5, 10, 5, 10), (0, "c", 2, 0, 4, 6, 10)])


def test_counts_leave_void_out() -> None:
    prediction = np.array([[1, 1, 0, 0, 1]])
    mask = np.array([[1, 0, 1, 0, VOID]])
    assert pixel_counts(prediction, mask) == (1, 3, 1, 3)


def test_iou_accumulates_over_episodes_before_dividing() -> None:
    assert class_iou(HAND_MADE).to_dict() == {1: 0.5, 2: 0.0}
    # A mean of ratios would give class 1 the same here, so check where it would not.
    uneven = rows([(0, "a", 1, 1, 1, 0, 1), (0, "b", 1, 0, 3, 0, 1)])
    assert class_iou(uneven)[1] == 0.25


def test_fb_iou_is_blind_to_classes() -> None:
    assert fb_iou(HAND_MADE) == pytest.approx((8 / 20 + 21 / 34) / 2)


def test_scores_average_seeds_and_give_their_deviation() -> None:
    second = HAND_MADE.assign(seed=1, fg_intersection=[6, 10, 2])  # class 1: 16/16, class 2: 2/4
    found = scores(pd.concat([HAND_MADE, second]), 100, np.random.default_rng(0))
    assert found.miou == pytest.approx(100 * (0.25 + 0.75) / 2)
    assert found.miou_std == pytest.approx(100 * np.std([0.25, 0.75], ddof=1))
    assert scores(HAND_MADE, 100, np.random.default_rng(0)).miou_std == 0


def slow_bootstrap(frame: pd.DataFrame, times: np.ndarray) -> float:
    """mIoU of one resample: every query's rows as often as it was drawn, written out."""
    queries = sorted(frame["query"].unique())
    parts = [frame[frame["query"] == query] for query, count in zip(queries, times, strict=True) for _ in range(count)]
    return seed_mean(pd.concat(parts))


def test_bootstrap_resamples_query_images_with_all_their_episodes(rng: np.random.Generator) -> None:
    entries = []
    for query in "abcdef":
        for _ in range(3):
            union = int(rng.integers(5, 50))
            seed = int(rng.integers(0, 3))
            entries.append((seed, query, int(rng.integers(1, 4)), int(rng.integers(0, union)), union, 1, 1))
    frame = rows(entries)
    fast = bootstrap_miou(frame, 20, np.random.default_rng(5))
    draws = np.random.default_rng(5).multinomial(6, np.full(6, 1 / 6), size=20)
    assert np.allclose(fast, [slow_bootstrap(frame, times) for times in draws])


def test_score_and_interval_are_of_one_estimator() -> None:
    """A pooled score would be 0.5 here: the second seed has ten times the pixels, and one class only."""
    frame = pd.concat([HAND_MADE, rows([(1, "a", 1, 60, 60, 1, 1), (1, "b", 1, 20, 100, 1, 1)])])
    expected = (0.25 + 0.5) / 2
    assert seed_mean(frame) == pytest.approx(expected)
    assert resampled_miou(frame, np.ones((1, 3), int)) == pytest.approx([expected])
    found = scores(frame, 100, np.random.default_rng(0))
    assert found.miou == pytest.approx(100 * expected)
    one_query = pd.concat([frame[frame["query"] == "a"]])  # resampling changes nothing: no width, and the same value
    found = scores(one_query, 100, np.random.default_rng(0))
    assert found.miou_low == pytest.approx(found.miou) == pytest.approx(found.miou_high)


def test_a_gain_is_paired_and_means_over_folds(rng: np.random.Generator) -> None:
    """One variant is three points better on every query: its interval is narrow where those of the scores are wide."""

    def evaluation(fold: int) -> Evaluation:
        hits = rng.integers(0, 60, 40)
        parts = []
        for variant, more in (("baseline", 0), ("spfl", 3)):
            entries = [(0, str(n), 1 + n % 2, int(hit) + more, 100, 1, 1) for n, hit in enumerate(hits)]
            parts.append(rows(entries).assign(variant=variant, episode=range(40)))
        facts = dict.fromkeys(PROTOCOL_KEYS, "x") | {"held_out": -1, "lists": ["a", "b"], "list_digests": ["c", "d"]}
        return Evaluation(Path(str(fold)), pd.concat(parts), {"fold": fold, "shot": 1, "protocol": facts})

    table = comparison_table([evaluation(fold) for fold in (0, 1)], "name", 200, 0)
    assert table["fold"].tolist() == ["0", "1", "mean"]
    assert set(table["variant"] + " " + table["reference"]) == {"spfl baseline"}
    assert table["gain"].tolist() == pytest.approx([3, 3, 3])
    assert bool((table["gain_high"] - table["gain_low"] < 1e-9).all())
    assert table["better"].tolist() == [1, 1, 1]


def test_interval_holds_the_score_and_shrinks_with_more_queries(rng: np.random.Generator) -> None:
    widths = []
    for count in (10, 1000):
        hits = rng.integers(0, 11, count)
        frame = rows([(0, str(n), 1, int(hit), 10, 1, 1) for n, hit in enumerate(hits)])
        found = scores(frame, 500, np.random.default_rng(1))
        assert found.miou_low <= found.miou <= found.miou_high
        widths.append(found.miou_high - found.miou_low)
    assert widths[1] < widths[0] / 4
