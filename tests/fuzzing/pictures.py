"""Mutations of pictures, masks, label maps, annotations and lists, each with the reader that must bear them.

Where plain mutations of bytes would not get beyond the structure of a file, another kind knows the structure.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from novelseg.core.errors import InputError
from novelseg.data import bsds, sbd
from novelseg.data.coco import Coco
from novelseg.data.encoded import decode_mask, decode_rgb
from novelseg.data.labelmaps import read_label_map
from novelseg.data.pairs import Entry, ImageFile, make_entries, pair_from_file, read_ids
from novelseg.data.pairs import read_image as read_data_image
from novelseg.inference.photos import read_mask, read_photo
from novelseg.inference.results import COLUMNS, Results
from tests.fuzzing.files import png
from tests.fuzzing.mutate import Changed, mutated, mutated_mat, mutated_png, odd_json
from tests.fuzzing.target import Mutation, Target

HEIGHT, WIDTH, CLASSES = 12, 17, 5


Mutate = Callable[[bytes, bytes, np.random.Generator], Changed]


def _labels() -> NDArray[np.uint8]:
    labels = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) // 9 % 4).astype(np.uint8)
    labels[0] = 255
    return labels


def _image() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@cache
def _pngs() -> list[bytes]:
    image, labels = _image(), _labels()
    grey = image[:, :, 0]
    wide = image.astype(np.uint16) * 257
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a picture"
    return [
        *(png(np.minimum(labels, (1 << depth) - 1), depth, colour) for depth in (1, 2, 4, 8) for colour in (0, 3)),
        *(png(values, 8, colour) for values, colour in ((image, 2), (np.dstack([grey, grey]), 4))),
        *(png(values, 16, colour) for values, colour in ((wide[:, :, 0], 0), (wide, 2), (wide[:, :, :2], 4))),
        png(np.dstack([wide, wide[:, :, :1]]), 16, 6),
        _encoded(Image.fromarray(image), "PNG", exif=exif, icc_profile=b"x" * 200),
        _encoded(Image.fromarray(labels), "PNG", transparency=1),
    ]


@cache
def _photos() -> list[bytes]:
    image, exif = Image.fromarray(_image()), Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("JPEG", {"exif": exif}),
        ("JPEG", {"progressive": True}),
        ("WEBP", {"exif": exif}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {"exif": exif}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
        *((kind, {}) for kind in ("BMP", "GIF", "PPM")),
    ]
    others = [
        _encoded(image.convert("CMYK"), "JPEG"),
        _encoded(Image.fromarray(np.full((9, 9), 40000, np.uint16)), "TIFF"),
    ]
    return [*(_encoded(image, kind, **options) for kind, options in kinds), *others, *_pngs()]


@cache
def _masks() -> list[bytes]:
    mask = Image.fromarray(255 * (_labels() == 1).astype(np.uint8))
    palette = Image.fromarray(_labels())
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    kinds = ("PNG", "BMP", "TIFF", "JPEG", "WEBP", "GIF", "PPM")
    return [*(_encoded(mask, kind) for kind in kinds), _encoded(palette, "PNG"), *_pngs()]


def _mat(content: dict[str, Any], compressed: bool) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, content, do_compression=compressed)
    return buffer.getvalue()


@cache
def _sbd_files() -> list[bytes]:
    labels = np.where(_labels() == 255, 0, _labels())
    boundaries = np.empty((CLASSES, 1), object)
    boundaries[:] = [[np.eye(3)] for _ in range(CLASSES)]
    entry = {"Boundaries": boundaries, "Segmentation": labels, "CategoriesPresent": np.unique(labels)}
    return [_mat({"GTcls": entry}, compressed) for compressed in (False, True)]


@cache
def _bsds_files() -> list[bytes]:
    cells = np.empty((1, 3), object)
    for number in range(3):
        cells[0, number] = {"Segmentation": _labels().astype(np.uint16) % 4, "Boundaries": _labels() > 1}
    return [_mat({"groundTruth": cells}, compressed) for compressed in (False, True)]


@cache
def _npz_files() -> list[bytes]:
    files = []
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, segmentation=np.stack([_labels().astype(np.int64)] * 2))
        files.append(buffer.getvalue())
    return files


@cache
def _npy_files() -> list[bytes]:
    files = []
    for dtype in ("u1", "<i4", ">u2"):
        for order in ("C", "F"):
            buffer = io.BytesIO()
            np.save(buffer, np.array(_labels(), dtype, order=order))
            files.append(buffer.getvalue())
    return files


def _digest(values: NDArray[Any]) -> str:
    return f"{values.dtype} {values.shape} {hashlib.md5(np.ascontiguousarray(values).tobytes()).hexdigest()[:8]}"


def read_image(path: Path) -> str:
    """Read a picture of a data set."""
    image = read_data_image(path)
    values = decode_rgb(image.data)
    assert values.shape == (image.height, image.width, 3)
    assert min(values.shape) > 0
    return _digest(values)


def read_class_mask(path: Path) -> str:
    """Read a mask of VOC's layout; what it holds must be what its PNG stores."""
    image = ImageFile(Path("image.jpg"), np.zeros(0, np.uint8), HEIGHT, WIDTH)
    pair = pair_from_file(Entry("a", 0, 0), image, path, CLASSES)
    labels = decode_mask(pair.mask)
    assert labels.shape == (HEIGHT, WIDTH)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {*range(CLASSES + 1), 255}
    assert pair.pixels.tolist() == [int((labels == label).sum()) for label in range(CLASSES + 1)]
    return _digest(labels)


def read_picture(path: Path) -> str:
    """Read a picture of `segment`."""
    values = read_photo(path)
    assert values.ndim == 3
    assert values.shape[2] == 3
    assert values.dtype == np.uint8
    assert values.size
    return _digest(values)


def read_object_mask(path: Path) -> str:
    """Read the mask of a support of `segment`, with and without a label; either may be refused."""
    summary, refused = "", []
    for label in (0, 1):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a mask in a lossy format
                values = read_mask(path, label)
        except InputError as error:
            refused.append(error)
            continue
        assert values.ndim == 2
        assert set(np.unique(values)) <= {0, 1, 255}
        summary += f"{label}: {_digest(values)} "
    if len(refused) == 2:
        raise refused[0]
    return summary


def read_sbd(path: Path) -> str:
    """Read a mask of SBD."""
    values = sbd.read_mask(path)
    assert values.ndim == 2
    assert values.dtype == np.uint8
    return _digest(values)


def read_bsds(path: Path) -> str:
    """Read annotations of BSDS500."""
    image = path.with_name("picture.jpg")
    if not image.exists():
        Image.fromarray(_image()).save(image)
    _, maps = bsds.read(bsds.Annotation("a", image, path))
    for part in maps:
        assert part.shape == (HEIGHT, WIDTH)
        assert np.unique(part).tolist() == list(range(int(part.max()) + 1))
    return f"{len(maps)} {_digest(maps[0])}"


def read_map(path: Path) -> str:
    """Read a label map."""
    values = read_label_map(path.parent, path.stem, (HEIGHT, WIDTH))
    assert values.shape == (HEIGHT, WIDTH)
    assert values.dtype.kind in "iu"
    return _digest(values)


def read_list(path: Path) -> str:
    """Read a list of ids."""
    entries = make_entries([(str(path), read_ids(path))], [])
    assert all(entry.name.isprintable() and " " not in entry.name for entry in entries)
    return f"{len(entries)} {entries[0].name!r:.20}"


@cache
def _coco_content() -> dict[str, Any]:
    runs = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * (WIDTH - 6), HEIGHT * 6]}
    shapes = [[[2.0, 2.0, 9.0, 2.0, 9.0, 9.0, 2.0, 9.0]], [[4.5, 4.5, 8.5, 4.5, 8.5, 10.0]], runs]
    annotations = [
        {"id": 10 * image + number, "image_id": image, "category_id": number + 1, "iscrowd": int(number == 2)}
        | {"segmentation": shape, "bbox": [0, 0, 1, 1]}
        for image in (1, 2)
        for number, shape in enumerate(shapes)
    ]
    images = [{"id": number, "file_name": f"{number}.png", "height": HEIGHT, "width": WIDTH} for number in (1, 2)]
    categories = [{"id": number, "name": f"class {number}"} for number in (1, 2, 3)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def _coco_files() -> list[bytes]:
    return [json.dumps(_coco_content()).encode(), json.dumps(_coco_content(), indent=1).encode()]


def _mutate_coco(data: bytes, other: bytes, rng: np.random.Generator) -> Changed:
    if rng.random() < 0.2:
        return mutated(data, other, rng)
    change, content = odd_json(json.loads(data), rng)
    return change, json.dumps(content).encode()


def read_coco(path: Path) -> str:
    """Read a list of COCO, and paint the masks of all its images."""
    root = path.parent / "coco"
    annotations = root / "annotations"
    if not annotations.is_dir():
        annotations.mkdir(parents=True)
        content = _coco_content()
        shown = [{**image, "id": image["id"] + 4, "file_name": f"{image['id'] + 4}.png"} for image in content["images"]]
        (annotations / "instances_val.json").write_text(
            json.dumps({"images": shown, "annotations": [], "categories": content["categories"]})
        )
        for split, numbers in (("train", (1, 2)), ("val", (5, 6))):
            (root / split).mkdir()
            for number in numbers:
                Image.fromarray(_image()).save(root / f"{split}/{number}.png")
    (annotations / "instances_train.json").write_bytes(path.read_bytes())
    reader = Coco(root, ("train", "val"), [], 0, 1)
    pairs = [reader.read(entry) for entry in reader.entries]
    for pair in pairs:
        assert pair.pixels.sum() + pair.void == HEIGHT * WIDTH
        assert len(pair.pixels) == len(reader.names) + 1
    return f"{len(pairs)} " + " ".join(str(pair.pixels.tolist()) for pair in pairs)


def _table_files() -> list[bytes]:
    row = [
        "a.png",
        "0" * 32,
        "a.png",
        "17",
        "12",
        "",
        "9",
        "0.044118",
        "0.9100",
        "0.9500",
        "1",
        "0.8800",
        "0.7000",
        "0.6160",
    ]
    assert len(row) == len(COLUMNS)
    rows = [COLUMNS, row, ["b\tc.png", *row[1:]], ["Ü 日.png", *row[1:]]]
    text = "".join("\t".join(f'"{cell}"' if "\t" in cell else cell for cell in cells) + "\n" for cells in rows)
    return [text.encode()]


def read_results(path: Path) -> str:
    """Go on with a folder of results whose table is the file."""
    folder = path.parent / "results"
    for name in ("masks", "overlays"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("a.png", "b\tc.png", "Ü 日.png"):
        (folder / f"masks/{name}").touch()
        (folder / f"overlays/{Path(name).stem}.jpg").touch()
    (folder / "settings.json").write_text("{}\n")
    (folder / "results.tsv").write_bytes(path.read_bytes())
    results = Results(folder, {}, ["a.png", "b\tc.png", "Ü 日.png"])
    known = [name for name in ("a.png", "b\tc.png", "Ü 日.png") if results.knows(Path(name))]
    return f"{known} {hashlib.md5((folder / 'results.tsv').read_bytes()).hexdigest()[:8]}"


def _list_files() -> list[bytes]:
    text = "2007_000032\nCOCO_train2014_000000000009\nÜbung-3\n"
    encodings = ("utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le", "utf-32")
    separated = [text.replace("\n", separator).encode() for separator in ("\r\n", "\r", "\u2028", "\x85", "\x0c")]
    return [text.encode()] * 4 + [text.encode(encoding) for encoding in encodings] + separated


def _target(
    name: str, file: str, seeds: Callable[[], list[bytes]], read: Callable[[Path], str], mutate: Mutate = mutated
) -> Target:
    """Return a target that mutates one of several valid files."""

    def drawn(rng: np.random.Generator) -> Mutation:
        files = seeds()
        first, second = (files[int(rng.integers(0, len(files)))] for _ in range(2))
        change, content = mutate(first, second, rng)
        return Mutation(change, content, first)

    return Target(name, file, drawn, read)


def targets() -> list[Target]:
    """Return the readers of raw data and of the pictures of `segment`."""
    return [
        _target("image", "x.jpg", _photos, read_image),
        _target("image, png", "x.jpg", _pngs, read_image, mutated_png),
        _target("class mask", "x.png", _masks, read_class_mask),
        _target("class mask, png", "x.png", _pngs, read_class_mask, mutated_png),
        _target("picture", "x.jpg", _photos, read_picture),
        _target("picture, png", "x.png", _pngs, read_picture, mutated_png),
        _target("object mask", "x.png", _masks, read_object_mask),
        _target("object mask, png", "x.png", _pngs, read_object_mask, mutated_png),
        _target("sbd", "x.mat", _sbd_files, read_sbd),
        _target("sbd, within", "x.mat", _sbd_files, read_sbd, mutated_mat),
        _target("bsds", "x.mat", _bsds_files, read_bsds),
        _target("bsds, within", "x.mat", _bsds_files, read_bsds, mutated_mat),
        _target("bsds, npz", "x.npz", _npz_files, read_bsds),
        _target("label map", "x.npy", _npy_files, read_map),
        _target("label map, png", "x.png", _pngs, read_map, mutated_png),
        _target("coco", "x.json", _coco_files, read_coco, _mutate_coco),
        _target("list", "x.txt", _list_files, read_list),
        _target("results of segment", "x.tsv", _table_files, read_results),
    ]
