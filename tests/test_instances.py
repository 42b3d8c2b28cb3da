"""Separate objects of masks, and `novelseg segment --instances`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.instances import tally
from novelseg import Segmenter
from novelseg.cli.main import main
from novelseg.core.errors import InputError
from novelseg.exchange.registry import read_labels
from novelseg.inference.findings import UNCALIBRATED, Finding
from novelseg.inference.instances import instances_of, object_scores, read_objects, separate_objects
from novelseg.regions import objects
from novelseg.regions.hierarchy import Hierarchy, flat_hierarchy
from novelseg.regions.objects import Objects, ObjectSettings, separate
from tests.conftest import WEIGHTS
from tests.pictures import disc

ALL = ObjectSettings(least=0.0)


def two_touching(side: int = 80) -> Any:
    """Two discs that overlap a little."""
    rows, columns = np.ogrid[:side, :side]
    masks = [(rows - 40) ** 2 + (columns - middle) ** 2 < 18**2 for middle in (23, 56)]
    either: np.ndarray[Any, np.dtype[np.bool_]] = masks[0] | masks[1]
    return either.astype(np.uint8)


def stripes(height: int, width: int, every: int) -> Hierarchy:
    """Regions of upright stripes."""
    return flat_hierarchy(np.broadcast_to(np.arange(width) // every, (height, width)))


def test_touching_objects_are_split_at_their_neck_along_regions() -> None:
    mask = two_touching()
    found = separate(mask, stripes(80, 80, 5), ALL)
    assert (found.labels, found.dropped) == ([1, 1], 0)
    np.testing.assert_array_equal(found.numbers > 0, mask > 0)
    assert {tuple(np.unique(column)) for column in found.numbers.T} <= {(0,), (0, 1), (0, 2)}  # whole stripes
    assert abs(int((found.numbers == 1).sum()) - int((found.numbers == 2).sum())) < 300
    one = separate(mask, stripes(80, 80, 5), ObjectSettings(neck=0.0, relief=0.0))
    assert one.labels == [1]
    assert separate(mask, None, ALL).labels == [1]
    disc_alone = separate(disc()[1], stripes(64, 64, 3), ALL)
    assert disc_alone.labels == [1]


def test_a_large_picture_is_split_as_a_small_one() -> None:
    mask, tree = two_touching(), stripes(80, 80, 5)
    small = separate(mask, tree, ALL)
    large = separate(mask.repeat(3, 0).repeat(3, 1), tree, ALL)
    np.testing.assert_array_equal(large.numbers[1::3, 1::3], small.numbers)


def test_parts_are_those_that_a_slow_search_finds(rng: np.random.Generator) -> None:
    mask = rng.choice(np.array([0, 1, 2, 255], np.uint8), (30, 40), p=[0.6, 0.2, 0.15, 0.05])
    found = separate(mask, None, ObjectSettings(least=3 / mask.size))
    parts = slow_parts(mask)
    large = [part for part in parts if len(part) >= 3]
    assert found.dropped == len(parts) - len(large)
    own = {frozenset(zip(*map(np.ndarray.tolist, np.nonzero(found.numbers == n)), strict=True)) for n in numbers(found)}
    assert own == set(large)
    assert all(mask[found.numbers == number].min() == label for number, label in enumerate(found.labels, 1))


def numbers(found: Objects) -> range:
    return range(1, len(found.labels) + 1)


def slow_parts(mask: Any) -> list[frozenset[tuple[int, int]]]:
    """Parts of one class that are connected by their eight neighbours, pixel by pixel."""
    left = {(y, x) for y, x in np.ndindex(*mask.shape) if 0 < mask[y, x] < 255}
    parts = []
    while left:
        todo, part = [left.pop()], set()
        while todo:
            y, x = todo.pop()
            part.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            near = {place for place in near if mask[place] == mask[y, x]}
            left -= near
            todo += near
        parts.append(frozenset(part))
    return parts


def test_passages_are_those_of_a_slow_loop(rng: np.random.Generator) -> None:
    regions, distance = rng.integers(-1, 5, (12, 15)).astype(np.int32), rng.random((12, 15))
    expected: dict[tuple[int, int], float] = {}
    for y, x in np.ndindex(12, 15):
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            if y + dy < 12 and 0 <= x + dx < 15:
                one, other = sorted((int(regions[y, x]), int(regions[y + dy, x + dx])))
                if 0 <= one < other:
                    width = min(distance[y, x], distance[y + dy, x + dx])
                    expected[one, other] = max(expected.get((one, other), 0), width)
    first, second, widest = objects._passages(regions, distance, 5)
    assert dict(zip(zip(first.tolist(), second.tolist(), strict=True), widest.tolist(), strict=True)) == expected


def test_merge_heights_are_those_of_common_ancestors() -> None:
    tree = Hierarchy(
        np.zeros((1, 1), np.uint16), np.array([3, 3, 4, 4, 4], np.int32), np.array([0, 0, 0, 0.25, 0.5], np.float32)
    )
    heights = objects._merge_heights(np.array([0, 0, 1, 2]), np.array([1, 2, 2, 2]), tree)
    assert heights.tolist() == [0.25, 0.5, 0.5, 0]


def test_a_score_is_the_mean_probability_times_presence() -> None:
    logits = np.full((2, 4, 4), -50, np.float32)
    logits[0, :, :2], logits[1, :, 2:] = 0, 0  # one half where nothing else is likely
    presence, mask = np.array([0.5, 1], np.float32), np.zeros((4, 4), np.uint8)
    finding = Finding(logits, mask, UNCALIBRATED, presence, np.ones(2, bool), presence)
    found = Objects(np.array([[1, 1, 2, 2]] * 4, np.int32), [1, 2], 0)
    assert object_scores(found, finding) == pytest.approx([0.25, 0.5])


def test_objects_are_cut_to_their_boxes() -> None:
    picture = np.array([[0, 1, 0, 3], [0, 1, 0, 3], [0, 0, 0, 0]])
    cut = list(instances_of(picture, [2, 2, 1], [0.5, None, 0.25]))  # number 2 has no pixel
    assert [(one.label, one.box, one.score) for one in cut] == [(2, (1, 0, 1, 2), 0.5), (1, (3, 0, 1, 2), 0.25)]


def test_quality_counts_matches_extras_and_misses() -> None:
    found = np.zeros((10, 10), np.int32)
    found[:4, :4], found[6:, 6:], found[:2, 8:] = 1, 2, 3
    truth = [found == 1, np.zeros((10, 10), bool)]
    truth[1][5:, :3] = True
    result = tally(found, truth, crowd=found == 3)
    assert (result.matched, result.iou, result.extra, result.missed) == (1, 1.0, 1, 1)
    assert result.quality == 0.5


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures of two discs, segmented with separate objects."""
    root = tmp_path_factory.mktemp("instances")
    for name in ("support/images", "support/masks", "new"):
        (root / name).mkdir(parents=True)
    image, mask = disc(side=120, middle=(60, 60))
    Image.fromarray(image).save(root / "support/images/a.png")
    Image.fromarray(255 * mask).save(root / "support/masks/a.png")
    query = image.copy()
    query[:, :60] = disc(side=120, middle=(30, 30))[0][:, :60]
    Image.fromarray(query).save(root / "new/q.png")
    assert main(words(root)) == 0
    return root


def words(root: Path) -> list[str]:
    folders = ["--support", str(root / "support"), "--query", str(root / "new"), "--out", str(root / "out")]
    network = ["--weights", str(WEIGHTS), "--side", "120", "--presence", "0", "--threads", "1"]
    return ["segment", *network, *folders, "--instances", "--format", "coco,voc"]


def test_the_command_keeps_objects_in_files_and_formats(segmented: Path) -> None:
    out = segmented / "out"
    found, _ = read_objects(out / "instances/q.png", 1)
    picture = np.array(Image.open(out / "instances/q.png"))
    mask = np.array(Image.open(out / "masks/q.png")) > 0
    assert found
    assert not (picture[~mask] > 0).any()
    with (out / "instances.tsv").open(encoding="utf8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [int(row["area_px"]) for row in rows] == [one.area for one in found]
    assert json.loads((out / "settings.json").read_text())["instances"] is True
    for source in ("coco/annotations.json", "voc"):
        (labelled,) = read_labels(out / source, segmented / "new")[1]
        assert sorted(one.area for one in labelled.instances) == sorted(one.area for one in found)
    scores = [one["score"] for one in json.loads((out / "coco/annotations.json").read_text())["annotations"]]
    assert scores == pytest.approx([float(row["score"]) for row in rows], abs=1e-4)
    (finding,) = (
        Segmenter.load(weights=WEIGHTS, side=120, presence=0)
        .fit([segmented / "support/images/a.png"], [segmented / "support/masks/a.png"])
        .findings([segmented / "new/q.png"])
    )
    expected = separate_objects(np.array(Image.open(segmented / "new/q.png")), finding.mask)
    np.testing.assert_array_equal(picture, expected.numbers)


def test_a_folder_is_continued_and_spoiled_files_are_told(segmented: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about = segmented / "out/instances/q.json"
    before = about.read_bytes()
    about.unlink()  # as after an interruption: the picture is done again
    assert main(words(segmented)) == 0
    assert about.read_bytes() == before
    for text in ("{", '{"dropped": 0, "objects": []}', '{"dropped": 0, "objects": [{"class": 9, "score": 1}]}', "[1]"):
        about.write_text(text)
        with pytest.raises(InputError, match=r"q.json: does not describe the objects of q.png"):
            read_objects(about.with_suffix(".png"), 1)
    about.write_bytes(before)
    capsys.readouterr()
    other = [word for word in words(segmented) if word != "--instances"]
    assert main(other) == 2
    assert "contains results of other pictures, supports or settings" in capsys.readouterr().err
