"""Folds, training lists and episodes by hand (A9)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from novelseg.core.errors import InputError
from novelseg.core.labels import TRAIN, VAL, VOID
from novelseg.data.index import Index
from novelseg.data.sampling import EpisodeSampler
from novelseg.data.shardindex import class_folds


def index(pixels: list[list[int]], split: list[int] | None = None, novel_images: str = "keep") -> Index:
    """An index of four classes in two folds; ``pixels`` holds counts of background and classes 1–4."""
    n = len(pixels)
    return Index(
        ids=[f"i{number}" for number in range(n)],
        split=np.array(split or [TRAIN] * n, np.uint8),
        shard=np.zeros(n, np.int32),
        row=np.arange(n, dtype=np.int32),
        height=np.full(n, 10, np.int32),
        width=np.full(n, 10, np.int32),
        pixels=np.array(pixels, np.int64),
        class_fold=class_folds(4, 2, "contiguous"),
        classes=["a", "b", "c", "d"],
        source="voc",
        lists=["train", "val"],
        list_digests=["0" * 32, "1" * 32],
        folds=2,
        layout="contiguous",
        min_object_pixels=20,
        novel_images=novel_images,
        held_out=-1,
    )


def test_folds_are_contiguous_or_modulo() -> None:
    assert class_folds(20, 4, "contiguous").tolist() == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5
    assert class_folds(8, 4, "fwb").tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    with pytest.raises(InputError, match=r"index\.folds is 3, but 20 classes do not divide evenly into 3 folds"):
        class_folds(20, 3, "contiguous")


def test_base_and_novel_share_no_class() -> None:
    data = index([[100, 0, 0, 0, 0]])
    assert data.novel(0).tolist() == [1, 2]
    assert data.base(0).tolist() == [3, 4]
    with pytest.raises(InputError, match="fold -1 does not exist"):
        data.novel(-1)


def test_training_images_hold_a_base_class_and_novel_ones_are_kept_or_dropped() -> None:
    pixels = [
        [50, 0, 0, 50, 0],  # base only
        [50, 30, 0, 20, 0],  # base and novel
        [50, 50, 0, 0, 0],  # novel only
        [100, 0, 0, 0, 0],  # nothing
        [50, 0, 0, 50, 0],  # base, but in the validation list
    ]
    split = [TRAIN, TRAIN, TRAIN, TRAIN, VAL]
    assert index(pixels, split).training_images(0).tolist() == [0, 1]
    assert index(pixels, split, "drop").training_images(0).tolist() == [0]
    assert index(pixels, split).validation_images().tolist() == [4]


def test_novel_objects_are_background_while_training() -> None:
    mask = np.array([[0, 1, 2, 3, 4, VOID]], np.uint8)
    assert index([[1, 1, 1, 1, 1]]).base_labels(mask, 0).tolist() == [[0, 0, 0, 3, 4, VOID]]


def test_classes_that_are_held_out_are_neither_base_nor_novel() -> None:
    pixels = [[50, 30, 0, 0, 0], [50, 30, 0, 20, 0], [50, 0, 0, 20, 0]]
    data = replace(index(pixels), class_fold=class_folds(4, 4, "contiguous"), folds=4, held_out=0)
    assert data.novel(1).tolist() == [2]
    assert data.base(1).tolist() == [3, 4]
    assert data.unknown(1).tolist() == [1, 2]
    assert data.training_images(1).tolist() == [1, 2]
    assert replace(data, novel_images="drop").training_images(1).tolist() == [2]
    mask = np.array([[0, 1, 2, 3, 4, VOID]], np.uint8)
    assert data.base_labels(mask, 1).tolist() == [[0, 0, 0, 3, 4, VOID]]
    with pytest.raises(InputError, match=r"fold 0 is held out \(index\.held_out\)"):
        data.novel(0)


def sampler(shot: int = 2) -> EpisodeSampler:
    """Six images of class 1, three of which hold class 2 too; one has too little of class 1."""
    pixels = [[0, 50, 50, 0, 0]] * 3 + [[50, 50, 0, 0, 0]] * 2 + [[90, 10, 0, 0, 0]]
    data = index(pixels)
    return EpisodeSampler(data, np.arange(6), data.novel(0), shot, "validation")


def test_episodes_keep_the_rules() -> None:
    drawn = [sampler().draw(np.random.default_rng(seed)) for seed in range(600)]
    for episode in drawn:
        assert episode.query not in episode.supports
        assert len(set(episode.supports)) == 2
        holders = {1: {0, 1, 2, 3, 4}, 2: {0, 1, 2}}[episode.label]
        assert {episode.query, *episode.supports} <= holders  # never image 5: its object is too small
    queries = Counter(episode.query for episode in drawn)
    assert all(80 < queries[image] < 160 for image in range(5))  # uniform over images: 120 expected
    both = Counter(episode.label for episode in drawn if episode.query < 3)
    assert abs(both[1] - both[2]) < 65  # uniform among the classes present


def test_the_same_generator_gives_the_same_episodes() -> None:
    first, again = (np.random.default_rng(7) for _ in range(2))
    assert [sampler().draw(first) for _ in range(20)] == [sampler().draw(again) for _ in range(20)]


def test_a_class_with_too_few_images_is_named() -> None:
    with pytest.raises(InputError, match=r"class 'b' has 3 images of at least 20 px in the validation list.*need 4"):
        sampler(shot=3)
