"""The built-in data: the same bytes everywhere, and the situation the method is about."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from novelseg.core.labels import VOID
from novelseg.data.encoded import decode_mask, decode_rgb
from novelseg.data.scenes import CLASSES, KINDS, OTHER_SHAPES, SceneSettings, other_kinds, scene, write_voc
from novelseg.data.voc import Voc

SMALL = SceneSettings(seed=0, train=3, val=2, size=96)


def test_pixels_are_those_of_every_machine() -> None:
    digest = hashlib.sha256()
    for number in range(20):
        image, label = scene(SMALL, number)
        digest.update(image.tobytes() + label.tobytes())
    assert digest.hexdigest() == "fae0fcfd08da53bfee801b25f4426255c5a4284e32eb5fb4766db9f84f85beb1"


def test_scenes_hold_two_to_five_classes_with_borders() -> None:
    pictures = [scene(SMALL, number) for number in range(60)]
    counts = [len(set(np.unique(label)) - {0, VOID}) for _, label in pictures]
    assert set(counts) == {2, 3, 4, 5}
    assert {label for _, labels in pictures for label in np.unique(labels)} == {*range(9), VOID}
    for _, label in pictures:
        across = (label[:, :-1] != label[:, 1:]) & (label[:, :-1] != VOID) & (label[:, 1:] != VOID)
        assert not across[:, :].any()  # objects never touch anything but their border
    sizes = {image.shape[:2] for image, _ in pictures}
    assert len(sizes) == 3


def test_a_picture_depends_on_its_number_alone() -> None:
    more = replace(SMALL, train=50)
    assert np.array_equal(scene(SMALL, 4)[0], scene(more, 4)[0])
    assert not np.array_equal(scene(SMALL, 0)[0], scene(replace(SMALL, seed=1), 0)[0])


def test_pretraining_sees_other_shapes() -> None:
    assert not {kind.shape for kind in KINDS} & set(OTHER_SHAPES)
    assert {kind.shape for kind in other_kinds(0, 56)} == set(OTHER_SHAPES)


def test_written_scenes_are_read_as_voc(tmp_path: Path) -> None:
    write_voc(tmp_path, SMALL, range(5))
    reader = Voc(tmp_path, None, ("train", "val"), list(CLASSES))
    assert [entry.split for entry in reader.entries] == [0, 0, 0, 1, 1]
    for entry in reader.entries:
        pair = reader.read(entry)
        label = scene(SMALL, entry.position)[1]
        assert np.array_equal(decode_mask(pair.mask), label)
        assert pair.void == (label == VOID).sum()
        assert abs(decode_rgb(pair.image).astype(int) - scene(SMALL, entry.position)[0]).mean() < 8
