"""The built-in data: the same bytes everywhere, and the situation the method is about."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from novelseg.core.labels import VOID
from novelseg.data.drawing.kinds import BREEDS, KINDS, other_kinds
from novelseg.data.drawing.shapes import OTHER_SHAPES
from novelseg.data.encoded import decode_mask, decode_rgb
from novelseg.data.scenes import CLASSES, SceneSettings, scene, write_voc
from novelseg.data.voc import Voc

SMALL = SceneSettings(seed=0, train=3, val=2, size=96)


def test_pixels_are_those_of_every_machine() -> None:
    digest = hashlib.sha256()
    for number in range(20):
        image, label = scene(SMALL, number)
        digest.update(image.tobytes() + label.tobytes())
    assert digest.hexdigest() == "0982c1c628090109a42cbf03d595dd4f63510a8710155460189c54f75304431a"


def test_scenes_have_the_statistics_of_photographs() -> None:
    """Measured on PASCAL VOC and stated in decision 0004."""
    labels = [scene(replace(SMALL, seed=1, train=300), number)[1] for number in range(300)]
    pixels = np.array([np.bincount(label.reshape(-1), minlength=256)[1:9] for label in labels])
    shares = (pixels / np.array([label.size for label in labels])[:, None])[pixels > 0]
    assert 0.14 <= shares.mean() <= 0.20
    assert shares.min() < 0.03
    assert shares.max() > 0.40
    counts = (pixels > 0).sum(1)
    assert set(counts) == {1, 2, 3}
    assert 1.3 < counts.mean() < 2.0
    assert (pixels > 0).any(0).all()


def test_objects_have_borders() -> None:
    for _, label in (scene(SMALL, number) for number in range(60)):
        across = (label[:, :-1] != label[:, 1:]) & (label[:, :-1] != VOID) & (label[:, 1:] != VOID)
        assert not across.any()  # objects never touch anything but their border
    assert len({scene(SMALL, number)[0].shape for number in range(20)}) == 3


def test_a_class_has_one_shape_and_several_breeds() -> None:
    for kinds in (KINDS, other_kinds(0, 56)):
        assert {len(kind.breeds) for kind in kinds} == {BREEDS}
        assert all(len({(breed.texture, breed.palette) for breed in kind.breeds}) == BREEDS for kind in kinds)
    looks = [[*kind.breeds, kind.marking] for kind in KINDS]
    textures = Counter(texture for own in looks for texture in {look.texture for look in own if look})
    palettes = Counter(palette for own in looks for palette in {look.palette for look in own if look})
    assert min(*textures.values(), *palettes.values()) > 1  # neither alone identifies a class


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
