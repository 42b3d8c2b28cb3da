"""What `novelseg segment` refuses, the local page refuses in the same words.

Masks that overlap between folders of classes, and folders without pictures, cannot be sent to the page: a pixel has one
class there, and files are chosen one by one.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from novelseg import Segmenter
from novelseg.core.errors import InputError
from novelseg.data.classes import voc_palette
from novelseg.inference.exchanged import CHOSEN, read_labelled
from novelseg.inference.web import new_app
from tests.commands import novelseg
from tests.conftest import WEIGHTS
from tests.fuzzing.files import png
from tests.pictures import disc
from tests.test_segment import damaged

LOCAL = "127.0.0.1"
SIDE = 64


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    return new_app(Segmenter.load(weights=WEIGHTS, side=SIDE), LOCAL).test_client()


def encoded(values: Any, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def refused_by_page(client: FlaskClient, route: str, files: Sequence[tuple[str, bytes, str]], **fields: Any) -> str:
    """The page's sentence about an upload; files are field, content and name."""
    data: dict[str, Any] = dict(fields)
    for field, content, name in files:
        data.setdefault(field, []).append((io.BytesIO(content), name))
    answer: Any = client.post(route, data=data, content_type="multipart/form-data")
    assert answer.status_code == 422, (route, files, answer.json)
    return str(answer.json["error"])


def refused_by_command(folder: Path, capfd: Any, *more: object) -> list[str]:
    """The sentences of `novelseg segment` about `s` and `q` in a folder, without the paths of folders."""
    words = ["--weights", WEIGHTS, "--support", folder / "s", "--query", folder / "q", "--out", folder / "out"]
    assert novelseg("segment", *words, "--side", SIDE, "--threads", 1, *more) == 2
    lines = [line.partition(": ") for line in capfd.readouterr().err.splitlines()]
    told = [text for kind, _, text in lines if kind in ("refused", "error")]
    for part in ("s/images", "s/masks", "q"):
        told = [line.replace(f"{folder / part}/", "") for line in told]
    return told


def folders(root: Path) -> Path:
    """Folders of supports and queries with one usable picture each."""
    for name in ("s/images", "s/masks", "q"):
        (root / name).mkdir(parents=True)
    image, mask = disc()
    (root / "s/images/good.png").write_bytes(encoded(image))
    (root / "s/masks/good.png").write_bytes(encoded(mask))
    (root / "q/good.png").write_bytes(encoded(image))
    return root


def unusable_pictures() -> dict[str, bytes]:
    image, _ = disc()
    return {
        **{name: data for name, (data, _) in damaged().items()},
        "eps called.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "film.png": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
        "dark.png": encoded(np.full((4, 4), 900, np.uint16)),
        "dark colours.png": png(np.full((4, 4, 3), 900, np.uint16), 16, 2),
        "exif.png": encoded(image, exif=b"Exif\0\0nonsense"),
        "scans.jpg": encoded(image, "JPEG") + b"\xff\xda" * 300,
        "日本.png": b"no",
    }


def test_pictures_that_cannot_be_used(client: FlaskClient, tmp_path: Path, capfd: Any) -> None:
    root, mask = folders(tmp_path), encoded(disc()[1])
    pictures = unusable_pictures()
    for name, data in pictures.items():
        (root / "q" / name).write_bytes(data)
    told = refused_by_command(root, capfd)
    assert told.pop().startswith(f"{len(pictures)} files could not be used")
    assert len(told) == len(pictures)
    for name, data in pictures.items():
        (line,) = (line for line in told if line.startswith(f"{name}:"))
        line = line.replace("at most 90 million", "at most 51 million")  # the page's limit
        for route in ("/open", "/segment"):
            assert refused_by_page(client, route, [("image", data, name)]) == line
        assert refused_by_page(client, "/fit", [("image", data, name), ("mask", mask, "m")], **{"class": "a"}) == line


def unusable_masks() -> dict[str, bytes]:
    """Masks of one object."""
    _, mask = disc()
    values = mask.copy()
    values[:3] = 2
    wide = np.repeat((mask.astype(np.uint16) * 900)[:, :, None], 3, axis=2)
    colours = np.zeros((*mask.shape, 3), np.uint8)
    colours[:20, :20], colours[40:, 40:], colours[30:40, :9] = (200, 30, 40), (20, 200, 30), (10, 20, 190)
    clear = np.dstack([np.repeat(255 * mask[:, :, None], 3, axis=2), 128 + 0 * mask])
    palette = Image.fromarray(values * 3)
    palette.putpalette(voc_palette())
    return {
        "several.png": encoded(values),
        "deep.png": png(wide, 16, 2),
        "colours.png": encoded(colours),
        "one colour.png": encoded(np.full((*mask.shape, 3), (9, 200, 30), np.uint8)),
        "clear.png": encoded(clear),
        "palette.png": encoded(palette),
        "grey.jpg": encoded(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1)), "JPEG"),
        "floating.tiff": encoded(mask.astype(np.float32), "TIFF"),
        "cut.png": encoded(mask)[:60],
        "text.png": b"no mask",
        "empty.png": b"",
    }


def test_masks_of_an_object_that_cannot_be_used(client: FlaskClient, tmp_path: Path, capfd: Any) -> None:
    root, masks = folders(tmp_path), unusable_masks()
    for name, data in masks.items():
        (root / "s/images" / name).with_suffix(".png").write_bytes(encoded(disc()[0]))
        (root / "s/masks" / name).write_bytes(data)
    told = refused_by_command(root, capfd)
    assert told.pop().startswith(f"{len(masks)} files could not be used")
    assert sorted(told) == sorted(refused_by_page(client, "/mask", [("mask", data, n)]) for n, data in masks.items())


def test_masks_of_classes_that_cannot_be_used(client: FlaskClient, tmp_path: Path, capfd: Any) -> None:
    root, (image, mask) = folders(tmp_path), disc()
    (root / "s/masks/good.png").write_bytes(encoded(mask + 2 * (np.arange(64) < 3).astype(np.uint8)))
    tiny = 0 * mask
    tiny[0, 0] = 2
    in_files = {  # of which the page's button for masks tells
        "jpeg.jpg": encoded(mask, "JPEG"),
        "webp.webp": encoded(mask, "WEBP"),
        "nine.png": encoded(9 * mask),
        "deep.png": png(np.repeat(mask.astype(np.uint16)[:, :, None], 3, axis=2), 16, 2),
    }
    at_once = {  # what can be painted, too
        "small.png": (image, encoded(mask[:9])),
        "void.png": (image, encoded(255 + 0 * mask)),
        "full.png": (image, encoded(1 + 0 * mask)),
        "tiny.png": (np.repeat(np.repeat(image, 9, 0), 9, 1), encoded(np.pad(tiny, ((1, 511), (1, 511))))),
    }
    for name, data in in_files.items():
        (root / "s/images" / name).with_suffix(".png").write_bytes(encoded(image))
        (root / "s/masks" / name).write_bytes(data)
    for name, (own, data) in at_once.items():
        (root / "s/images" / name).write_bytes(encoded(own))
        (root / "s/masks" / name).write_bytes(data)
    told = refused_by_command(root, capfd, "--classes", "a,b")
    assert told.pop().startswith(f"{len(in_files) + len(at_once)} files could not be used")
    found = [refused_by_page(client, "/mask", [("mask", data, name)], classes=2) for name, data in in_files.items()]
    for name, (own, data) in at_once.items():
        files = [("image", encoded(own), name), ("mask", data, name)]
        found.append(refused_by_page(client, "/fit", files, **{"class": ["a", "b"]}))
    assert sorted(told) == sorted(found)


@pytest.mark.parametrize(
    "names", [[f"c{number}" for number in range(300)], ["a", "a"], ["a", ""], ["a", "b"]], ids=lambda names: len(names)
)
def test_classes_that_cannot_be_used(client: FlaskClient, tmp_path: Path, capfd: Any, names: list[str]) -> None:
    root, (image, mask) = folders(tmp_path), disc()
    told = refused_by_command(root, capfd, "--classes", ",".join(names))
    files = [("image", encoded(image), "a.png"), ("mask", encoded(mask), "a.png")]
    assert told == [refused_by_page(client, "/fit", files, **{"class": names})]


@pytest.mark.parametrize(
    ("form", "names"), [("cocoa", ["a.png"]), ("voc", ["a.png", "a.jpg"]), ("coco", ["a\u200b.png"])]
)
def test_results_that_cannot_be_written(
    client: FlaskClient, tmp_path: Path, capfd: Any, form: str, names: list[str]
) -> None:
    root, (image, mask) = folders(tmp_path), disc()
    (root / "q/good.png").unlink()
    for name in names:
        (root / "q" / name).write_bytes(encoded(image))
    entries = [{"name": name, "scores": [1], "certainty": 1} for name in names]
    request = json.dumps({"formats": [form], "classes": ["object"], "pictures": entries})
    files = [("mask", encoded(mask), "m.png") for _ in names]
    told = refused_by_page(client, "/export", files, request=request)
    if len(names) > 1:  # of which the command names the first one first
        told = told.replace("a.png and a.jpg", "a.jpg and a.png")
    assert refused_by_command(root, capfd, "--format", form) == [told]


# Annotations of tools: faulty content of one or more files, for the picture a.png of 4 × 3 px.


def coco(**changes: Any) -> dict[str, Any]:
    annotation = {"id": 1, "image_id": 1, "category_id": 5, "segmentation": [[1, 1, 3, 1, 3, 3]]}
    image = {"id": 1, "file_name": "a.png", "width": 4, "height": 3}
    categories = changes.pop("categories", [{"id": 5, "name": "cat"}])
    of_image = {key: changes.pop(key) for key in ("file_name", "width", "height") if key in changes}
    return {"images": [image | of_image], "annotations": [annotation | changes], "categories": categories}


def labelme(**changes: Any) -> dict[str, Any]:
    shape = {"label": "cat", "shape_type": "polygon", "points": [[1, 1], [3, 1], [3, 3]]}
    of_file = {key: changes.pop(key) for key in ("imagePath", "imageWidth") if key in changes}
    content = {"imagePath": "a.png", "imageWidth": 4, "imageHeight": 3, "shapes": [shape | changes]}
    return content | of_file


def task(**changes: Any) -> list[dict[str, Any]]:
    value = {"points": [[25, 30], [75, 30], [75, 99]], "polygonlabels": ["cat"]}
    result = {"type": "polygonlabels", "original_width": 4, "original_height": 3, "value": value} | changes
    return [{"data": {"image": "/data/a.png"}, "annotations": [{"result": [result]}]}]


def cvat(shape: str, labels: str = "<name>cat</name>", name: str = "a.png", size: str = 'width="4" height="3"') -> str:
    meta = f"<meta><task><labels><label>{labels}</label></labels></task></meta>"
    return f'<annotations>{meta}<image id="0" name="{name}" {size}>{shape}</image></annotations>'


def mask_element(**changes: str) -> str:
    facts = {"label": "cat", "rle": "0, 1", "left": "1", "top": "1", "width": "1", "height": "1"} | changes
    return f"<mask {' '.join(f'{key}={json.dumps(value)}' for key, value in facts.items())}></mask>"


def zipped(**changes: bytes | None) -> bytes:
    """CVAT's zip with changed members, whose names have / for __ and no ending."""
    mask = np.zeros((3, 4, 3), np.uint8)
    mask[1, 1:3] = 128, 0, 0
    members: dict[str, bytes | None] = {
        "labelmap.txt": b"background:0,0,0::\ncat:128,0,0::\n",
        "SegmentationClass/a.png": encoded(mask),
    }
    members |= {f"{name.replace('__', '/')}.{'txt' if name == 'labelmap' else 'png'}": c for name, c in changes.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    return buffer.getvalue()


YOLO = 'names:\n  0: "cat"\n'
MANY = [{"id": number, "name": f"c{number}"} for number in range(300)]
DOUBLED = [{"id": 5, "name": "cat"}, {"id": 6, "name": "cat"}]
CORNERS = [0, 0, 4, 0, 4, 3, 0, 3]
RUNS = {"size": [3, 4], "counts": [12]}
# fmt: off
NO_ANNOTATIONS: list[Any] = ["", "{", "{}", "3", "[" * 100000, b"\xff\xfe", {"annotations": [], "images": []}]
FAULTY_COCO: list[dict[str, Any]] = [
    {"category_id": 6}, {"category_id": "cat"}, {"image_id": 2}, {"iscrowd": 2}, {"iscrowd": 1}, {"file_name": "b.png"},
    {"file_name": "../a\n.png"}, {"file_name": ""}, {"width": "4"}, {"width": 0}, {"width": 5},
    {"width": 10**6, "height": 10**6}, {"categories": MANY}, {"categories": DOUBLED}, {"categories": []},
    {"segmentation": []}, {"segmentation": [[1, 1, 3, 1]]}, {"segmentation": [[1, 1, 3]]},
    {"segmentation": [[1, 1, 3, 1, 3, 1e9]]}, {"segmentation": [CORNERS]}, {"segmentation": RUNS},
    {"segmentation": {"size": [9, 9], "counts": "0"}}, {"segmentation": {"size": [3, 4], "counts": [5]}},
    {"segmentation": {"size": [3, 4], "counts": "~~"}}, {"segmentation": [[0, 0, 0.1, 0, 0.1, 0.1]]},
]
FAULTY_LABELME: list[dict[str, Any]] = [
    {"shape_type": "circle"}, {"label": ""}, {"points": [[1, 1]]}, {"points": 3}, {"imagePath": "b.png"},
    {"imagePath": ""}, {"imageWidth": None}, {"imageWidth": 9}, {"shape_type": "mask", "mask": "%"},
    {"shape_type": "mask", "mask": 3}, {"shape_type": "mask", "mask": ""},
]
FAULTY_TASKS: list[dict[str, Any]] = [
    {"type": "rectanglelabels"}, {"original_width": 5}, {"original_width": None}, {"image_rotation": 90},
    {"value": {"points": [[1, 1]], "polygonlabels": ["cat"]}}, {"value": {"polygonlabels": ["cat", "dog"]}},
    {"type": "brushlabels", "value": {"format": "rle", "rle": [0, 0, 1], "brushlabels": ["cat"]}},
    {"type": "brushlabels", "value": {"format": "rle", "rle": [999], "brushlabels": ["cat"]}},
    {"type": "brushlabels", "value": {"format": "png", "rle": [1], "brushlabels": ["cat"]}},
]
NO_TASKS: list[Any] = [[3], [{"annotations": 3}], [{"annotations": [{"result": 3}]}], []]
FAULTY_XML = [
    "<annotations", "<!DOCTYPE a><annotations/>", "<annotations/>", "<other/>", cvat(mask_element(), "<name></name>"),
    cvat(mask_element(label="dog")), cvat("<box/>"), cvat(mask_element(), name="b.png"),
    cvat(mask_element(), size='width="4"'), cvat(mask_element(rle="0, 9")), cvat(mask_element(rle="x")),
    cvat(mask_element(left="4")), cvat('<polygon label="cat" points="1"/>'),
    cvat(mask_element(), size='width="9" height="9"'),
]
FAULTY_ZIPS = [
    b"no zip", b"", zipped()[:90], zipped(labelmap=None), zipped(labelmap=b"\xff"), zipped(labelmap=b"cat:1,2::"),
    zipped(labelmap=b"dog:0,128,0::"), zipped(labelmap=b"cat:128,0,0::\ndog:128,0,0::"),
    zipped(SegmentationClass__a=b"no"), zipped(SegmentationClass__b=encoded(np.zeros((3, 4), np.uint8))),
    zipped(SegmentationObject__a=encoded(np.zeros((4, 4), np.uint8))),
    zipped(SegmentationClass__a=encoded(np.zeros((9, 9), np.uint8))),
]
FAULTY_LABELS: list[Any] = [
    "1 0 0 1 0 1 1", "x 0 0 1 0 1 1", "0 0 0 1 0", "0 0 0 1 0 1 x", "0 0 0 1 0 1 99", "0 0 0 1 0 1 1 1",
    "0 0 0 1 0 1 1 0 1", "", b"\xff",
]
# fmt: on
ANNOTATIONS: list[dict[str, Any]] = [
    *({"a.json": content} for content in NO_ANNOTATIONS),
    *({"a.json": coco(**changes)} for changes in FAULTY_COCO),
    *({"a.json": labelme(**changes)} for changes in FAULTY_LABELME),
    {"a.json": labelme(), "b.json": labelme(imagePath="b.png")},
    {"a.json": labelme(), "b.json": "{"},
    {"a.json": {"shapes": [], "imagePath": "a.png"}},
    *({"a.json": task(**changes)} for changes in FAULTY_TASKS),
    *({"a.json": content} for content in NO_TASKS),
    *({"a.xml": content} for content in FAULTY_XML),
    *({"a.zip": content} for content in FAULTY_ZIPS),
    *({"data.yaml": YOLO, "labels/a.txt": content} for content in FAULTY_LABELS),
    {"data.yaml": YOLO, "labels/b.txt": "0 0 0 1 0 1 1"},
    {"data.yaml": YOLO},
    {"data.yaml": "train: x", "labels/a.txt": ""},
    {"data.yaml": "names:\n  0: ''\n", "labels/a.txt": ""},
    {"data.yaml": b"\xff", "labels/a.txt": ""},
    {"a.csv": ""},
]


def bytes_of(content: Any) -> bytes:
    if isinstance(content, bytes):
        return content
    return (content if isinstance(content, str) else json.dumps(content)).encode()


def refused_annotations(folder: Path, source: Path) -> str:
    """The sentence of the reader of `--support FILE`, without the folder's path."""
    with pytest.raises(InputError) as caught:
        read_labelled(source, 512)
    return str(caught.value).replace(f"{folder}/", "").replace(str(folder), CHOSEN)


def test_annotations_that_cannot_be_used(client: FlaskClient, tmp_path: Path) -> None:
    picture = encoded(np.zeros((3, 4, 3), np.uint8))
    sizes = json.dumps([{"name": "a.png", "width": 4, "height": 3}])
    told = set()
    for number, files in enumerate(ANNOTATIONS):
        folder = tmp_path / str(number)
        (folder / "labels").mkdir(parents=True)
        (folder / "a.png").write_bytes(picture)
        for name, content in files.items():
            (folder / name).write_bytes(bytes_of(content))
        sources = [name for name in files if not name.endswith(".txt")]
        sentence = refused_annotations(folder, folder / sources[0] if len(sources) == 1 else folder)
        chosen = [("labels", bytes_of(content), Path(name).name) for name, content in files.items()]
        assert refused_by_page(client, "/labels", chosen, pictures=sizes) == sentence
        told.add(sentence)
    assert len(told) > 0.9 * len(ANNOTATIONS)  # each says something of its own


def test_the_command_tells_what_the_reader_of_annotations_tells(tmp_path: Path, capfd: Any) -> None:
    root = folders(tmp_path)
    source = root / "s/a.json"
    source.write_text(json.dumps(coco(file_name="b.png")), encoding="utf8")
    words = ["--weights", WEIGHTS, "--support", source, "--query", root / "q", "--out", root / "out"]
    assert novelseg("segment", *words) == 2
    line = capfd.readouterr().err.splitlines()[-1].replace(f"{root / 's'}/", "").replace(str(root / "s"), CHOSEN)
    assert line == f"error: {refused_annotations(root / 's', source)}"
