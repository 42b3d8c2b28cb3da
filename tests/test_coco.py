"""COCO's reader: known answers, slow forms, and every malformed input told in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from pycocotools import mask as library

from novelseg.core.errors import InputError
from novelseg.data import jsonstream
from novelseg.data.coco import Coco
from novelseg.data.encoded import decode_mask
from novelseg.data.jsonstream import elements
from novelseg.ops.rasterise import Instance, encode, paint
from novelseg.ops.runlengths import coco_runs
from tests.makers import Project, tiny_values, write_values
from tests.miniatures import (
    CATEGORIES,
    COCO_LISTS,
    coco_folder,
    refused,
)

NAMES = [str(label) for label in range(20)]


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A small folder in COCO's layout."""
    return coco_folder(tmp_path / "coco")


# --- the stream of JSON


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from("abcdef"), VALUES | st.lists(VALUES, max_size=4)), st.integers(1, 40), st.data())
def test_elements_are_those_of_the_whole_file(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any], chunk: int, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("json") / "x.json"
    indent = data.draw(st.sampled_from([None, 0, 3]))
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=data.draw(st.booleans())), encoding="utf8")
    keys = [key for key, value in content.items() if isinstance(value, list)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonstream, "CHUNK", chunk)
        found = list(elements(path, *keys))
    assert found == [(key, element) for key in keys for element in content[key]]


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"images": [1]}', encoding="utf-8-sig")
    assert list(elements(tmp_path / "x.json", "images")) == [("images", 1)]
    with pytest.raises(InputError, match="cannot be read"):
        list(elements(tmp_path, "images"))


def test_reading_ends_with_the_last_array_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"info": {"a": [1]}, "images": [1, 2], "annotations": [broken')
    assert list(elements(path, "images")) == [("images", 1), ("images", 2)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not valid JSON (the file ends early)"),
        ("[1]", "not valid JSON ('{' expected, found '[')"),
        ('{"images": [{"id": 1}, {"id": ', "not valid JSON (the file ends early)"),
        ('{"images": [{"id": 1} {"id": 2}]}', "not valid JSON (',' expected, found '{')"),
        ('{"images": [{"id": tru' + " " * 50 + "}]}", "not valid JSON (Expecting value)"),
        ('{"images": 7}', "the list 'images' is missing"),
        ("{}", "the list 'images' is missing"),
        ('{"info": {}}', "the list 'images' is missing"),
        ('{"info": 1, "info": 2, "images": []}', "the key 'info' occurs twice"),
        ("{[1]: 2}", "the key [1] is not text"),
        ("[" * 100_000, "'{' expected, found '['"),
        ('{"info": ' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError) as found:
        list(elements(path, "images"))
    assert sentence in str(found.value)


# --- painting


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_run_lengths_undo_the_library_s_compression(height: int, width: int, seed: int) -> None:
    mask = np.random.default_rng(seed).integers(0, 2, (height, width)).astype(np.uint8)
    flat = mask.T.reshape(-1)  # column by column, beginning with zeros
    cuts = np.flatnonzero(np.diff(flat)) + 1
    wanted = np.diff([0, *cuts, len(flat)]).tolist()
    found = coco_runs(library.encode(np.asfortranarray(mask))["counts"].decode())
    assert found == ([0, *wanted] if flat[0] else wanted)
    again = encode({"size": [height, width], "counts": found}, height, width)
    assert paint([Instance(7, again)], height, width)[0].tolist() == (7 * mask).tolist()


def square(top: int, left: int, side: int, label: int, size: tuple[int, int] = (12, 16)) -> Instance:
    """A square object."""
    mask = np.zeros(size, np.uint8)
    mask[top : top + side, left : left + side] = 1
    return Instance(label, library.encode(np.asfortranarray(mask)))


def test_small_objects_lie_above_large_ones_and_crowds_below_all() -> None:
    objects = [square(4, 4, 3, 1), square(2, 2, 8, 2), square(0, 0, 2, 255), square(0, 0, 1, 3), square(0, 8, 12, 255)]
    labels, hidden = paint(objects, 12, 16)
    wanted = np.zeros((12, 16), np.uint8)
    for instance in (objects[2], objects[4], objects[1], objects[0], objects[3]):
        wanted[paint([Instance(1, instance.rle)], 12, 16)[0] == 1] = instance.label
    assert labels.tolist() == wanted.tolist()
    assert hidden == 0


def test_what_leaves_no_pixel_is_counted() -> None:
    thin = Instance(5, encode([[1.1, 1.1, 1.2, 1.1, 1.2, 1.2]], 12, 16))
    labels, hidden = paint([square(0, 0, 4, 1), square(0, 0, 4, 2), thin], 12, 16)
    assert set(np.unique(labels).tolist()) == {0, 2}  # of two of one size the later lies above
    assert hidden == 2
    assert paint([], 3, 4)[0].tolist() == [[0] * 4] * 3


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 40), st.floats(0, 30)), min_size=3, max_size=3))
def test_polygons_are_where_pillow_draws_them(points: list[tuple[float, float]]) -> None:
    height, width, zoom = 30, 40, 8
    flat = [value for point in points for value in point]
    mask = paint([Instance(1, encode([flat], height, width))], height, width)[0]
    fine = Image.new("L", (width * zoom, height * zoom))
    ImageDraw.Draw(fine).polygon([(x * zoom, y * zoom) for x, y in points], fill=1)
    share = np.asarray(fine, float).reshape(height, zoom, width, zoom).mean((1, 3))
    assert mask[share > 0.8].all()
    assert not mask[share < 0.01].sum() > 0.15 * (height + width)  # borders are rounded


# --- COCO


def reader(root: Path, chosen: list[str] | None = None, shard: int = 0, shards: int = 1) -> Coco:
    """Open the folder."""
    return Coco(root, COCO_LISTS, chosen or [], shard, shards)


def test_a_folder_in_coco_s_layout(coco: Path) -> None:
    found = reader(coco)
    assert found.names == list(CATEGORIES.values())
    assert [entry.split for entry in found.entries] == [0, 0, 0, 1, 1, 1]
    pair = found.read(found.entries[1])
    labels = decode_mask(pair.mask)
    assert labels[25, 3] == 1  # person
    assert labels[22, 22] == labels[5, 9] == 2  # car: both parts, above the person
    assert labels[0, -1] == 255  # a crowd
    assert pair.void == (labels == 255).sum() > 0
    assert pair.pixels.tolist() == [(labels == label).sum() for label in range(5)]


def test_chosen_categories_are_labelled_in_the_given_order(coco: Path) -> None:
    found = reader(coco, ["car", "person"])
    labels = decode_mask(found.read(found.entries[0]).mask)
    assert found.names == ["car", "person"]
    assert labels[25, 3] == 2
    assert labels[22, 22] == 1
    assert labels[0, -1] == 0  # a crowd of a category that is not read


def test_a_shard_holds_its_own_annotations_alone(coco: Path) -> None:
    whole, part = reader(coco), reader(coco, shard=1, shards=4)
    assert [entry.name for entry in part.entries] == [entry.name for entry in whole.entries]
    assert sum(map(len, part._annotations.values())) == 6  # images 1 and 5 of 6
    for entry in whole.entries[1::4]:
        assert part.read(entry).mask.tobytes() == whole.read(entry).mask.tobytes()


def test_the_order_of_keys_and_annotations_does_not_matter(coco: Path) -> None:
    before = [reader(coco).read(entry).mask.tobytes() for entry in reader(coco).entries]
    for split in COCO_LISTS:
        path = coco / f"annotations/instances_{split}.json"
        content = json.loads(path.read_text())
        content["annotations"].reverse()
        content["images"].reverse()
        path.write_text(json.dumps(dict(reversed(content.items()))))
    assert [reader(coco).read(entry).mask.tobytes() for entry in reader(coco).entries] == before


Content = dict[str, Any]
RLE = {"size": [1, 1], "counts": [1]}


def _segmentation(value: Any) -> Callable[[Content], Any]:
    return lambda content: content["annotations"][0].update(segmentation=value)


def _sized(counts: Any) -> Callable[[Content], Any]:
    def change(content: Content) -> None:
        size = [content["images"][0]["height"], content["images"][0]["width"]]
        content["annotations"][0]["segmentation"] = {"size": size, "counts": counts}

    return change


MALFORMED: list[tuple[Callable[[Content], Any], str]] = [
    (_segmentation([[1, 1, 5, 5]]), "annotation 100: a polygon has 2 points; expected three or more"),
    (_segmentation([[1, 1, 5, 5, 7, 7, 3]]), "a polygon has 7 numbers; expected pairs of x and y"),
    (_segmentation([[1, 1, 5, 5, 7, float("nan")]]), "a polygon has the coordinate nan in an image of"),
    (_segmentation([[1, 1, 5, 5, 7, 1e9]]), "a polygon has the coordinate 1000000000.0 in an image of"),
    (_segmentation([[1, 1, 5, 5, 7, "9"]]), "a polygon is not a list of numbers"),
    (_segmentation([]), "it has no polygon"),
    (_segmentation("1 2 3"), "its segmentation is str; expected polygons or run lengths"),
    (_segmentation(RLE), "its run lengths are of size [1, 1]; expected ["),
    (_sized([5, 3]), "its run lengths cover 8 px; expected"),
    (_sized([5, -3]), "its run lengths are not a list of counts"),
    (_sized("zz\x7f"), "its run lengths contain the invalid character"),
    (_sized("0P"), "its run lengths end in the middle of a number"),
    (_sized(40 * "o" + "0"), "its run lengths contain a number that is too large"),
    (lambda content: content["annotations"][0].update(category_id=2), "has category 2, which is not listed"),
    (lambda content: content["annotations"][0].update(iscrowd=2), "has iscrowd 2; expected 0 or 1"),
    (
        lambda content: content["annotations"][0].update(id=101),
        "two annotations have the id 101, of image 1 and of image 1",
    ),
    (
        lambda content: content["annotations"][0].pop("id"),
        "annotations, entry None: id is None; expected a whole number",
    ),
    (lambda content: content["annotations"][0].update(image_id=99), "1 annotations are of images that are not listed"),
    (lambda content: content["annotations"][0].pop("image_id"), "annotations, entry 100: image_id is None"),
    (lambda content: content["images"][0].update(id=2), "two images have the id 2; keep one"),
    (
        lambda content: [image.update(file_name=f"{n}/x.jpg") for n, image in enumerate(content["images"][:2])],
        "the file '1/x.jpg' shares the id 'x' with '0/x.jpg'; an id is the name of a file without folder and ending",
    ),
    (
        lambda content: content["images"][0].update(file_name="COCO_val2014_000000000005.png"),
        "with 'COCO_val2014_000000000005.png' of instances_train2014.json; an id is the name",
    ),
    (
        lambda content: content["annotations"][0].update(id=content["annotations"][-1]["id"]),
        "annotations have the id 302, of image 1 and of image 3 (1 such ids in all)",
    ),
    (lambda content: content["annotations"][0].update(id=2**70), "is too large; expected at most 9223372036854775807"),
    (lambda content: content["categories"][0].update(name="a\u2028b"), "expected a unique printable text"),
    (lambda content: content["images"][0].update(file_name="../x.jpg"), "expected a path inside the image folder"),
    (lambda content: content["images"][0].update(file_name="none.jpg"), "none.jpg: no such file, although its id is"),
    (lambda content: content["images"][0].update(height="48"), "image 1: height is '48'; expected a whole number"),
    (lambda content: content["images"].append(7), "image 7: id is None"),
    (lambda content: content.pop("annotations"), "the list 'annotations' is missing"),
    (lambda content: content["categories"].pop(), "its categories differ from those of instances_train2014.json"),
    (lambda content: content["categories"].append({"id": 1, "name": "x"}), "id is 1, which another category has"),
    (
        lambda content: content["categories"].append({"id": 9, "name": "car"}),
        "name is 'car'; expected a unique printable text",
    ),
    (lambda content: content["categories"].append({"id": 9}), "categories, entry 9: name is None"),
    (lambda content: content["images"][0].update(height=10**30), "px, its image COCO_train2014_000000000001.jpg"),
    (lambda content: content["images"][0].update(file_name="."), "cannot be read ("),
    (lambda content: content["images"][0].update(file_name="x\0.jpg"), "file_name is 'x\\x00.jpg'; expected text"),
    (lambda content: content["images"][0].update(file_name=["x.jpg"]), "file_name is ['x.jpg']; expected text"),
    (_segmentation([[1, 1, 5, 5, 7, 10**400]]), "a polygon has the coordinate 10000000000000000000 in an image"),
]


@pytest.mark.parametrize(("change", "sentence"), MALFORMED)
def test_malformed_annotations(
    coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Content], Any], sentence: str
) -> None:
    path = coco / "annotations/instances_train2014.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    told = refused(coco, tmp_path, capsys)
    assert sentence in told
    assert str(coco) in told


def test_faults_of_several_images_are_counted(coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = coco / "annotations/instances_train2014.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"][::3]:
        annotation["segmentation"] = [[1, 2]]
    content["annotations"][-1]["category_id"] = 2  # a second fault of the last image
    path.write_text(json.dumps(content))
    assert "(2 more of the shard's 6 images are faulty too)" in refused(coco, tmp_path, capsys)


def test_an_image_of_another_size_than_its_annotations(
    coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (9, 5)).save(next((coco / "val2014").iterdir()))
    assert "px, its image COCO_val2014_" in refused(coco, tmp_path, capsys)


def test_a_category_that_is_not_there(coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(coco, tmp_path, capsys, classes=["person", "bottel"])
    assert "images.classes names 'bottel'" in told
    assert "did you mean 'bottle'" in told


def test_objects_that_leave_no_pixel_are_told(coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = coco / "annotations/instances_train2014.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = [[1.1, 1.1, 1.2, 1.1, 1.2, 1.2]]
    path.write_text(json.dumps(content))
    images = {"source": "coco", "root": str(coco), "train_list": COCO_LISTS[0], "val_list": COCO_LISTS[1], "shards": 1}
    project = Project(tmp_path, tmp_path / "none")
    write_values(project.params, tiny_values(images=images))
    assert project.run("images", "--root", coco, "--shard", 0, "--out", tmp_path / "0.h5") == 0
    assert "images 0: 1 objects have no visible pixel" in capsys.readouterr().err


def test_missing_annotations(coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (coco / "annotations/instances_val2014.json").unlink()
    assert "instances_val2014.json: no such file; expected COCO's annotations" in refused(coco, tmp_path, capsys)
