"""Real images, where they are."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from skimage.segmentation import felzenszwalb

from novelseg.core.labels import TRAIN
from novelseg.data.bsds import find, read
from novelseg.data.coco import Coco
from novelseg.data.encoded import decode_mask
from novelseg.data.index import read_index
from novelseg.formats import hdf5
from novelseg.formats.hierarchies import HIERARCHIES
from novelseg.formats.images import IMAGES
from novelseg.formats.regions import REGIONS
from novelseg.regions import ucm
from novelseg.regions.hierarchy import regions_at
from novelseg.regions.partitions import concatenate_scores, region_scores, summarise
from novelseg.regions.weights import load_model
from tests.makers import REGION_WEIGHTS, Project, tiny_values, write_values

pytestmark = [pytest.mark.real, pytest.mark.processes]
SHARDS = 96
TRAIN_ONLY = Path(__file__).parent.parent / "weights/regions-bsds500-train.safetensors"


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
        plain.append(concatenate_scores([region_scores(part, [np.arange(part.max() + 1)], truths) for part in maps]))
        for number, one in enumerate(truths):
            others = truths[:number] + truths[number + 1 :]
            people.append(region_scores(one, [np.arange(one.max() + 1)], others))
    found = {name: summarise(scores) for name, scores in (("people", people), ("ucm", learned), ("plain", plain))}
    assert found["people"].covering_ods > found["ucm"].covering_ods > found["plain"].covering_ods + 0.03
    assert 0.65 < found["people"].covering_ods < 0.8
    assert found["people"].variation_ods < found["ucm"].variation_ods < found["plain"].variation_ods - 0.2


def coco_labels(annotations: Path, image_id: int, names: list[str]) -> np.ndarray:
    """An image's labels through the library's own reader: crowds, then objects from large to small."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the library's, on numpy 2
        data = COCO(str(annotations))
        objects = [(entry, data.annToMask(entry)) for entry in data.loadAnns(data.getAnnIds(imgIds=[image_id]))]
    number = {category["id"]: names.index(category["name"]) + 1 for category in data.dataset["categories"]}
    shape = data.imgs[image_id]["height"], data.imgs[image_id]["width"]
    labels = np.zeros(shape, np.uint8)
    for entry, mask in sorted(objects, key=lambda pair: (not pair[0]["iscrowd"], -int(pair[1].sum()), pair[0]["id"])):
        labels[mask == 1] = 255 if entry["iscrowd"] else number[entry["category_id"]]
    return labels


@pytest.mark.parametrize("split", [0, 1])
def test_coco_masks_equal_those_of_the_library_s_reader(real_data: Path, split: int) -> None:
    root = real_data / "coco-subset"
    reader = Coco(root, ("train2017", "val2017"), [], 0, 1)
    assert len(reader.names) == 80
    assert len(reader.entries) == 90
    file = root / f"annotations/instances_{('train2017', 'val2017')[split]}.json"
    crowds = 0
    for entry in [entry for entry in reader.entries if entry.split == split][::6]:
        pair = reader.read(entry)
        wanted = coco_labels(file, int(entry.name), reader.names)
        assert np.array_equal(decode_mask(pair.mask), wanted)
        assert pair.pixels.tolist() == np.bincount(wanted.reshape(-1), minlength=256)[:81].tolist()
        crowds += pair.void > 0
    assert crowds


def test_dropping_images_with_novel_objects_changes_the_real_training_list(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = real_data / "voc-subset"
    found = {}
    for rule in ("keep", "drop"):
        images = {"source": "voc", "root": str(folder), "shards": 1}
        values = tiny_values(images=images, index={"novel_images": rule, "min_object_pixels": 1152})
        project = Project(write_values(tmp_path / "params.yaml", values).parent, tmp_path)
        shard = project.path("images/0.h5")
        if not shard.exists():
            assert project.run("images", "--root", folder, "--shard", 0, "--out", shard) == 0
        out = project.path(f"index/{rule}.h5")
        assert project.run("index", "--images", shard, "--out", out) == 0
        found[rule] = read_index(out)
    told = capsys.readouterr().err
    listed = (found["keep"].split == TRAIN).sum()
    for fold in range(4):
        kept, dropped = (found[rule].training_images(fold) for rule in ("keep", "drop"))
        assert set(dropped) < set(kept)
        lost = np.setdiff1d(kept, dropped)
        assert found["keep"].pixels[lost][:, found["keep"].novel(fold)].any(axis=1).all()
        holding = f"fold {fold}: {len(kept)} of {listed} training images contain base classes"
        assert f"{holding}, {len(lost)} of them also novel ones" in told
