"""Real images, where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.segmentation import felzenszwalb

from stages.artifacts import hdf5
from stages.artifacts.formats.hierarchies import HIERARCHIES
from stages.artifacts.formats.images import IMAGES
from stages.artifacts.formats.regions import REGIONS
from stages.data.bsds import find, read
from stages.models.regions import load_model
from stages.ops import ucm
from stages.ops.hierarchy import regions_at
from stages.ops.partitions import joined, region_scores, summarise
from tests.makers import REGION_WEIGHTS, Project, tiny_values, write_values

pytestmark = pytest.mark.real
SHARDS = 96
TRAIN_ONLY = REGION_WEIGHTS.with_name("regions-bsds500-train.safetensors")


@pytest.fixture(scope="module")
def voc(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One of many shards of the VOC subset: images, hierarchies, regions."""
    root = tmp_path_factory.mktemp("voc")
    folder = real_data / "voc-subset"
    images = {"source": "voc", "root": str(folder), "shards": SHARDS}
    values = tiny_values(images=images, hierarchies={"longest_side": 500})
    project = Project(write_values(root / "params.yaml", values).parent, root)
    assert project.run("images", "--root", folder, "--shard", 5, "--out", project.path("images/5.h5")) == 0
    tree, cut = project.path("hierarchies/5.h5"), project.path("regions/5.h5")
    words = ["--weights", REGION_WEIGHTS, "--out", tree]
    assert project.run("hierarchies", "--images", project.path("images/5.h5"), *words) == 0
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


def test_the_hierarchy_agrees_with_people_better_than_felzenszwalb(real_data: Path) -> None:
    items = find(real_data / "bsds500", "val")[::12]
    model = load_model(TRAIN_ONLY)
    people, learned, plain = [], [], []
    for item in items:
        image, truths = read(item)
        tree = ucm.build(image, model)
        levels = [regions_at(tree, level) for level in np.arange(1, 20) / 20]
        learned.append(region_scores(tree.basins, levels, truths))
        maps = [felzenszwalb(image, scale=scale) for scale in (100, 300, 1000, 3000)]
        plain.append(joined([region_scores(part, [np.arange(part.max() + 1)], truths) for part in maps]))
        for number, one in enumerate(truths):
            others = truths[:number] + truths[number + 1 :]
            people.append(region_scores(one, [np.arange(one.max() + 1)], others))
    found = {name: summarise(scores) for name, scores in (("people", people), ("ucm", learned), ("plain", plain))}
    assert found["people"].covering_ods > found["ucm"].covering_ods > found["plain"].covering_ods + 0.03
    assert 0.65 < found["people"].covering_ods < 0.8
    assert found["people"].variation_ods < found["ucm"].variation_ods < found["plain"].variation_ods - 0.2
