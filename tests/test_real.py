"""Real images, where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.artifacts import hdf5
from stages.artifacts.formats.hierarchies import HIERARCHIES
from stages.artifacts.formats.images import IMAGES
from stages.artifacts.formats.regions import REGIONS
from tests.makers import Project, tiny_values, write_values

pytestmark = pytest.mark.real
SHARDS = 96


@pytest.fixture(scope="module")
def voc(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One of many shards of the VOC subset: images, hierarchies, regions."""
    root = tmp_path_factory.mktemp("voc")
    folder = real_data / "voc-subset"
    images = {"source": "voc", "root": str(folder), "shards": SHARDS}
    values = tiny_values(images=images, hierarchies={"longest_side": 500})
    project = Project(write_values(root / "params.yaml", values).parent, root)
    assert project.run("images", "--raw", folder, "--shard", 5, "--out", project.path("images/5.h5")) == 0
    tree, cut = project.path("hierarchies/5.h5"), project.path("regions/5.h5")
    assert project.run("hierarchies", "--images", project.path("images/5.h5"), "--out", tree) == 0
    assert project.run("regions", "--hierarchies", tree, "--out", cut) == 0
    return project


def test_pixel_counts_equal_an_independent_count(voc: Project, real_data: Path) -> None:
    with hdf5.opened(voc.path("images/5.h5"), IMAGES) as file:
        names = hdf5.texts(file, "id")
        assert len(names) == 1536 // SHARDS
        for row, name in enumerate(names):
            with Image.open(real_data / "voc-subset/SegmentationClass" / f"{name}.png") as mask:
                found = dict(zip(*np.unique(np.array(mask), return_counts=True), strict=True))
            assert file["void"][row] == found.pop(255, 0)
            assert {label: n for label, n in enumerate(file["pixels"][row]) if n} == found


def test_bytes_of_images_are_those_of_the_files(voc: Project, real_data: Path) -> None:
    with hdf5.opened(voc.path("images/5.h5"), IMAGES) as file:
        name = hdf5.texts(file, "id")[3]
        data = (real_data / "voc-subset/JPEGImages" / f"{name}.jpg").read_bytes()
        assert hdf5.Ragged.get(file, "image", 3).tobytes() == data


def test_real_images_have_a_sensible_number_of_regions(voc: Project) -> None:
    with hdf5.opened(voc.path("regions/5.h5"), REGIONS) as file:
        counts = file["count"][:]
    assert 2 <= np.median(counts) <= 150
    with hdf5.opened(voc.path("hierarchies/5.h5"), HIERARCHIES) as file:
        assert len(file["row"]) == len(counts)
