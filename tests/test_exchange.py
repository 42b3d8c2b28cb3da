"""Masks in the formats of annotation tools: expectations written by hand, slow references, and round trips."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage

from benchmarks.formats import OFFICIAL, TOUCHING, cases, mean_iou, object_iou, own_trip, write_pictures
from novelseg.core.errors import InputError
from novelseg.data.voc import Voc
from novelseg.exchange.outline import fill, outlines, simplify
from novelseg.exchange.record import Instance, LabelledPicture, class_instances, full_mask, index_mask, instance_of
from novelseg.exchange.registry import FORMATS, check_formats, check_names, export, read_labels
from novelseg.exchange.runs import (
    brush_bytes,
    mask_from_brush,
    mask_from_column_runs,
    mask_from_row_runs,
    picture_runs,
    row_runs,
)
from novelseg.ops.runlengths import coco_runs, coco_text
from tests.test_segment import folders, segment

CLASSES = ["cat", "dog"]
Mask = NDArray[np.bool_]


def small() -> LabelledPicture:
    """A picture of 4 × 3 px with an object of three pixels."""
    mask = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]], bool)
    instance = instance_of(mask, 2, 0.5)
    assert instance is not None
    return LabelledPicture("a.png", 4, 3, [instance], 0.25)


def random_masks(count: int = 60) -> Iterator[Mask]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        mask = rng.random(rng.integers(1, 14, 2)) < rng.choice([0.1, 0.5, 0.9, 1])
        if mask.any():
            yield mask


def slow_runs(values: list[bool]) -> list[int]:
    """Return the lengths of runs, counted pixel by pixel."""
    runs, last = [0], False
    for value in values:
        if value != last:
            runs.append(0)
            last = value
        runs[-1] += 1
    return runs


def test_run_lengths_equal_those_of_a_slow_count_and_of_pycocotools() -> None:
    for mask in random_masks():
        height, width = mask.shape
        instance = instance_of(mask, 1)
        assert instance is not None
        down = picture_runs(instance, width, height, columns=True)
        assert down.tolist() == slow_runs(mask.T.ravel().tolist())
        assert picture_runs(instance, width, height, columns=False).tolist() == slow_runs(mask.ravel().tolist())
        assert row_runs(mask).tolist() == slow_runs(mask.ravel().tolist())
        assert coco_text(down) == coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
        assert coco_runs(coco_text(down)) == down.tolist()
        assert (mask_from_column_runs(down, width, height) == mask).all()
        assert (mask_from_row_runs(row_runs(mask), width, height) == mask).all()
        assert (mask_from_brush(brush_bytes(instance, width, height), width, height) == mask).all()


def test_long_runs_are_divided_in_label_studio_s_form() -> None:
    instance = Instance(1, 3, 1, np.ones((300, 200), bool))
    mask = mask_from_brush(brush_bytes(instance, 400, 500), 400, 500)
    assert (mask == full_mask(LabelledPicture("a", 400, 500, [instance]), instance)).all()


def test_label_studio_s_bits_as_documented() -> None:
    # 2 × 1 px, the second on: 8 values of 8 bits; sizes 3, 4, 8, 16; two blocks of a repeated value, four times each.
    bits = f"{8:032b}" + "00111" + "0010" + "0011" + "0111" + "1111"
    bits += "1" + "00" + "011" + "00000000" + "1" + "00" + "011" + "11111111"
    expected = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    assert brush_bytes(Instance(1, 1, 0, np.ones((1, 1), bool)), 2, 1) == expected
    # The same pixels as blocks of single values.
    literal = f"{8:032b}" + "00111" + "0010" + "0011" + "0111" + "1111" + "0" + "00" + "111" + "0" * 32 + "1" * 32
    data = int(literal.ljust(-(-len(literal) // 8) * 8, "0"), 2).to_bytes(-(-len(literal) // 8), "big")
    assert mask_from_brush(data, 2, 1).tolist() == [[False, True]]


def test_outlines_give_every_pixel_back_by_centres_and_by_opencv() -> None:
    for mask in random_masks(200):
        height, width = mask.shape
        parts = outlines(mask)
        assert len(parts) == ndimage.label(mask, np.ones((3, 3)))[1]
        painted, drawn = np.zeros_like(mask), np.zeros(mask.shape, np.uint8)
        for part in parts:
            painted |= fill(part, width, height)
            cv2.fillPoly(drawn, [part.astype(np.float32).astype(np.int32)], 1)
        assert (painted == mask).all()
        assert (drawn == mask).all()


def test_a_filled_polygon_equals_a_slow_even_odd_rule() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        points = rng.uniform(-3, 13, (int(rng.integers(3, 9)), 2))
        expected = np.zeros((10, 11), bool)
        for y, x in np.ndindex(expected.shape):
            inside = False
            for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, 0), strict=True):
                if (y0 > y + 0.5) != (y1 > y + 0.5) and x + 0.5 > x0 + (y + 0.5 - y0) * (x1 - x0) / (y1 - y0):
                    inside = not inside
            expected[y, x] = inside
        assert (fill(points, 11, 10) == expected).all()


def test_simplified_polygons_stay_within_the_tolerance() -> None:
    rows, columns = np.mgrid[:80, :90]
    mask = (rows - 40) ** 2 + (columns - 45) ** 2 < 1000
    (outline,) = outlines(mask)
    coarse = simplify(outline, 1.0)
    assert 3 < len(coarse) < len(outline) / 4
    other = fill(coarse, 90, 80)
    assert (mask & other).sum() / (mask | other).sum() > 0.96


def test_coco_as_published(tmp_path: Path) -> None:
    export("coco", tmp_path / "out", CLASSES, [small()])
    content = json.loads((tmp_path / "out/annotations.json").read_text(encoding="utf8"))
    assert content["images"] == [{"id": 1, "file_name": "a.png", "width": 4, "height": 3, "score": 0.25}]
    (entry,) = content["annotations"]
    assert [category["name"] for category in content["categories"]] == CLASSES
    # Down the columns: 4 px of background, 1 of the object, 2 of background, 2 of the object, 3 of background.
    assert coco_runs(entry.pop("segmentation")["counts"]) == [4, 1, 2, 2, 3]
    facts = {"bbox": [1, 1, 2, 2], "area": 3, "iscrowd": 0, "score": 0.5}
    assert entry == {"id": 1, "image_id": 1, "category_id": 2, **facts}


def test_yolo_as_published(tmp_path: Path) -> None:
    export("yolo", tmp_path / "out", CLASSES, [small()])
    (line,) = (tmp_path / "out/labels/a.txt").read_text(encoding="utf8").splitlines()
    number, *shares = line.split()
    assert number == "1"
    points = np.array(shares, float).reshape(-1, 2) * (4, 3)
    corners = [(1.1, 1.1), (2.9, 1.1), (2.9, 2.9), (2.1, 2.9), (2.1, 1.9), (1.1, 1.9)]
    assert np.allclose(points, corners, atol=1e-5)
    assert 'names:\n  0: "cat"\n  1: "dog"\n' in (tmp_path / "out/data.yaml").read_text(encoding="utf8")


def test_labelme_as_published(tmp_path: Path) -> None:
    export("labelme", tmp_path / "out", CLASSES, [small()])
    content = json.loads((tmp_path / "out/a.json").read_text(encoding="utf8"))
    (shape,) = content["shapes"]
    assert (content["imagePath"], content["imageWidth"], content["imageHeight"]) == ("a.png", 4, 3)
    assert (shape["label"], shape["shape_type"], shape["points"]) == ("dog", "mask", [[1.0, 1.0], [2.0, 2.0]])
    with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as image:
        assert np.array(image).tolist() == [[1, 1], [0, 1]]


def test_cvat_as_published(tmp_path: Path) -> None:
    export("cvat-xml", tmp_path / "xml", CLASSES, [small()])
    text = (tmp_path / "xml/annotations.xml").read_text(encoding="utf8")
    assert '<image id="0" name="a.png" width="4" height="3">' in text
    # In rows of the bounding box: no background, 2 px of the object, 1 of background, 1 of the object.
    assert 'rle="0, 2, 1, 1" left="1" top="1" width="2" height="2"' in text
    export("cvat-masks", tmp_path / "zip", CLASSES, [small()])
    with zipfile.ZipFile(tmp_path / "zip/annotations.zip") as archive:
        assert archive.read("ImageSets/Segmentation/default.txt") == b"a\n"
        lines = archive.read("labelmap.txt").decode("utf8").splitlines()
        assert lines[1:] == ["background:0,0,0::", "cat:128,0,0::", "dog:0,128,0::"]
        with Image.open(io.BytesIO(archive.read("SegmentationClass/a.png"))) as image:
            assert np.array(image.convert("RGB"))[1, 1].tolist() == [0, 128, 0]
        with Image.open(io.BytesIO(archive.read("SegmentationObject/a.png"))) as image:
            assert np.array(image).max() == 1


def test_label_studio_as_published(tmp_path: Path) -> None:
    picture = LabelledPicture(**{**vars(small()), "name": "sub/ü 1.png", "path": tmp_path / "photos/sub/ü 1.png"})
    export("label-studio", tmp_path / "out", CLASSES, [picture])
    (task,) = json.loads((tmp_path / "out/tasks.json").read_text(encoding="utf8"))
    assert task["data"]["image"] == "/data/local-files/?d=photos/sub/%C3%BC%201.png"
    (prediction,) = task["predictions"]
    assert prediction["score"] == 0.25
    assert prediction["model_version"].startswith("novelseg ")
    (result,) = prediction["result"]
    assert (result["type"], result["value"]["brushlabels"]) == ("brushlabels", ["dog"])
    assert (result["original_width"], result["original_height"], result["image_rotation"]) == (4, 3, 0)
    config = (tmp_path / "out/label-config.xml").read_text(encoding="utf8")
    assert re.search(rf'<BrushLabels name="{result["from_name"]}" toName="{result["to_name"]}">', config)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_reads_back_what_it_wrote(name: str, tmp_path: Path) -> None:
    chosen = cases(200)
    pictures = write_pictures(tmp_path / "images", chosen)
    classes = ["cat", 'Hund "ü" & 猫']
    export(name, tmp_path / "out", classes, pictures)
    export(name, tmp_path / "again", classes, iter(pictures))
    source = tmp_path / "out" / OFFICIAL[name][0]
    pairs = list(zip(chosen, own_trip(source, tmp_path / "images", pictures), strict=True))
    ious = [mean_iou(case.labels, trip.labels) for case, trip in pairs]
    (touching,) = ((case, trip) for case, trip in pairs if case.title == TOUCHING)
    assert (len(touching[0].instances), int(touching[1].numbers.max())) == (2, 2)
    ious.append(object_iou(touching[0].instances, touching[1]))
    assert min(ious) > (0.85 if name == "labelme-polygons" else 0.99999)
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "out")).read_bytes()


def test_the_pipeline_reads_the_voc_layout(tmp_path: Path) -> None:
    chosen = cases(100)[:2]
    pictures = write_pictures(tmp_path / "pictures", chosen)
    export("voc", tmp_path / "voc", CLASSES, pictures)
    (tmp_path / "voc/JPEGImages").mkdir()
    for picture in pictures:
        assert picture.path
        with Image.open(picture.path) as image:
            image.save(tmp_path / f"voc/JPEGImages/{picture.stem}.jpg", "JPEG")
    lists = tmp_path / "voc/ImageSets/Segmentation"
    assert (lists / "train.txt").read_text(encoding="utf8") == "holes\nparts\n"
    for name, stem in (("train", "holes"), ("val", "parts")):
        (lists / f"{name}.txt").write_text(f"{stem}\n", encoding="utf8")
    reader = Voc(tmp_path / "voc", None, ("train", "val"), CLASSES)
    for entry, case in zip(reader.entries, chosen, strict=True):
        assert reader.read(entry).pixels.tolist() == np.bincount(case.labels.ravel(), minlength=3).tolist()


def test_more_than_255_objects_keep_their_numbers(tmp_path: Path) -> None:
    instances = [Instance(1, 2 * number, 0, np.ones((1, 1), bool)) for number in range(300)]
    Image.new("RGB", (600, 1)).save(tmp_path / "a.png")
    export("cvat-masks", tmp_path / "out", ["cell"], [LabelledPicture("a.png", 600, 1, instances)])
    _, pictures = read_labels(tmp_path / "out/annotations.zip", tmp_path)
    assert len(next(pictures).instances) == 300


def test_smaller_objects_are_in_front() -> None:
    large, little = Instance(1, 0, 0, np.ones((4, 4), bool)), Instance(2, 1, 1, np.ones((2, 2), bool))
    for order in ([large, little], [little, large]):
        assert index_mask(LabelledPicture("a", 4, 4, order))[1, 1] == 2


def coco(**changes: Any) -> dict[str, Any]:
    """Valid content of COCO's annotations for a picture of 4 × 3 px, with changes of its annotation."""
    annotation = {"id": 1, "image_id": 1, "category_id": 5, "segmentation": [[1, 1, 3, 1, 3, 3]]} | changes
    images = [{"id": 1, "file_name": "a.png", "width": 4, "height": 3}]
    return {"images": images, "annotations": [annotation], "categories": [{"id": 5, "name": "cat"}]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "not valid JSON"),
        ("a.json", "{}", "neither a list nor an object"),
        ("a.json", coco(category_id=6), "the category 6, which is not listed"),
        ("a.json", coco(segmentation=[[1, 1, 3, 1]]), "2 points; expected three or more"),
        ("a.json", coco(segmentation=[[1, 1, 3, 1, 3, 1e9]]), "coordinate 1000000000.0"),
        ("a.json", coco(segmentation={"size": [3, 4], "counts": [5]}), "cover 5 px; expected 12"),
        ("a.json", coco(segmentation={"size": [9, 9], "counts": "0"}), "expected [3, 4]"),
        ("a.json", coco(image_id=2), "image 2, which is not listed"),
        ("a.json", [{"data": {}, "annotations": [{"result": [{"type": "rectanglelabels"}]}]}], "rectanglelabels"),
        ("a.json", {"shapes": [{"label": "x", "shape_type": "circle"}], "imagePath": "a.png"}, "size is None"),
        ("a.xml", "<annotations", "not valid XML"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "document type"),
        ("a.xml", "<annotations/>", "0 classes"),
        ("a.zip", "no zip", "not a zip file"),
        ("data.yaml", "train: x", "the key 'names' is missing"),
        ("a.txt", "", "the format is unknown"),
    ],
)
def test_faulty_files_are_refused_in_a_sentence(name: str, content: Any, message: str, tmp_path: Path) -> None:
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / name).write_text(text, encoding="utf8")
    with pytest.raises(InputError, match=re.escape(message)):
        list(read_labels(tmp_path / name)[1])


def test_names_are_checked_before_work_is_done() -> None:
    assert check_formats(["coco", "coco", "yolo"]) == ["coco", "yolo"]
    with pytest.raises(InputError, match="did you mean 'labelme'"):
        check_formats(["labelm"])
    check_names(["a.png", "a.jpg"], ["coco"])
    with pytest.raises(InputError, match="rename one picture"):
        check_names(["a.png", "A.jpg"], ["coco", "yolo"])


def test_segment_writes_formats_and_takes_them_as_supports(bundle: Path, tmp_path: Path) -> None:
    support, query = folders(tmp_path)
    assert segment(bundle, support, query, tmp_path / "out", "--format", "coco, label-studio") == 0
    with Image.open(tmp_path / "out/masks/picture 0.png") as image:
        area = int((np.array(image) > 0).sum())
    content = json.loads((tmp_path / "out/coco/annotations.json").read_text(encoding="utf8"))
    assert [image["file_name"] for image in content["images"]] == sorted(path.name for path in query.iterdir())
    areas = {entry["image_id"]: entry["area"] for entry in content["annotations"]}
    assert areas.get(1, 0) == area
    assert all(0 <= entry["score"] <= 1 for entry in [*content["images"], *content["annotations"]])
    # The supports as COCO, beside their pictures, give the same masks.
    pictures = []
    for path in sorted((support / "images").iterdir()):
        with Image.open(support / "masks" / path.name) as image:
            labels = (np.array(image) > 0).astype(np.uint8)
        pictures.append(
            LabelledPicture(path.name, labels.shape[1], labels.shape[0], class_instances(labels), path=path)
        )
    for name in ("coco", "labelme"):
        export(name, tmp_path / name, ["disc"], pictures)
        source = tmp_path / name / OFFICIAL[name][0]
        if name == "coco":
            (support / "images").rename(tmp_path / name / "images")
        else:
            (tmp_path / "coco/images").rename(support / "images")
        assert segment(bundle, source, query, tmp_path / f"from-{name}", "--format", "coco") == 0
        one, other = (tmp_path / folder / "masks/picture 1.png" for folder in ("out", f"from-{name}"))
        with Image.open(one) as first, Image.open(other) as second:
            assert ((np.array(first) > 0) == (np.array(second) > 0)).all()
        content = json.loads((tmp_path / f"from-{name}/coco/annotations.json").read_text(encoding="utf8"))
        assert content["categories"][0]["name"] == "disc"


def test_an_unknown_format_is_refused_first(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    support, query = folders(tmp_path)
    assert segment(bundle, support, query, tmp_path / "out", "--format", "cocoo") == 2
    assert "did you mean 'coco'?" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
