"""Round trips of masks through each format: written by novelseg, read by novelseg and by the tools' own readers.

``python -m benchmarks.formats --readers DIR [--out docs/results/formats.md]`` prints a table of formats and cases, each
with the mean IoU of the classes after the trip. DIR has an environment per reader: ``python -m venv DIR/NAME`` and
``DIR/NAME/bin/pip install REQUIREMENT``, with the names and requirements of ``ENVIRONMENTS``. Readers without an
environment are left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from novelseg.exchange.record import Instance, LabelledPicture, class_instances, index_mask, paint
from novelseg.exchange.registry import FORMATS, export, read_labels
from novelseg.inference.instances import instances_of, separate_objects

CLASSES = ["cat", 'Hund "ü" & 猫']
ENVIRONMENTS = {
    "datumaro": "datumaro==1.13.12 cvat-sdk==2.80.0",
    "labelme": "labelme==6.3.1",
    "label-studio-sdk": "label-studio-sdk==2.1.2",
    "ultralytics": "ultralytics==8.4.190",
}
OWN = "novelseg"
# File that a reader is given, readers with the environment of each; the project's own environment has pycocotools.
OFFICIAL = {
    "voc": ("", {"datumaro-voc": "datumaro"}),
    "coco": ("annotations.json", {"pycocotools": "", "datumaro-coco": "datumaro"}),
    "yolo": ("data.yaml", {"ultralytics": "ultralytics"}),
    "labelme": ("", {"labelme": "labelme"}),
    "labelme-polygons": ("", {"labelme": "labelme"}),
    "cvat-masks": ("annotations.zip", {"datumaro-zip": "datumaro"}),
    "cvat-xml": ("annotations.xml", {"cvat-sdk": "datumaro", "datumaro-xml": "datumaro"}),
    "label-studio": ("tasks.json", {"label-studio-sdk": "label-studio-sdk"}),
}
TOUCHING = "touching instances"  # whose cells are the IoU of objects; of the others, that of classes
Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """A picture with its name, index mask and instances; grey unless it has pixels."""

    title: str
    name: str
    labels: Labels
    instances: list[Instance]
    orientation: int = 1
    image: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Trip:
    """A picture after the trip: the class and the number of the object of each pixel."""

    labels: Labels
    numbers: NDArray[Any]


def _blobs(height: int, width: int, scale: float, seed: int) -> Labels:
    """Return two classes of blobs with ragged borders, holes and parts."""
    rng = np.random.default_rng(seed)
    small = rng.random((max(2, round(height / scale)), max(2, round(width / scale)))).astype(np.float32)
    field = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    return np.where(field > 0.66, 1, np.where(field < 0.3, 2, 0)).astype(np.uint8)


def _touching() -> Case:
    """Return two discs of one class that touch, separated as by ``--instances``."""
    rows, columns = np.mgrid[:100, :180]
    discs = [(rows - 50) ** 2 + (columns - middle) ** 2 < 40**2 for middle in (52, 126)]
    image = np.full((100, 180, 3), 90, np.uint8)
    image[discs[0]], image[discs[1]] = (200, 60, 40), (230, 200, 60)
    labels = (discs[0] | discs[1]).astype(np.uint8)
    found = separate_objects(image, labels)
    instances = list(instances_of(found.numbers, found.labels, [0.75] * len(found.labels)))
    return Case(TOUCHING, "touching.png", labels, instances, image=image)


def cases(large: int) -> list[Case]:
    """Return the cases; ``large`` is the longest side of the large picture, px."""
    holes = np.zeros((90, 120), np.uint8)
    holes[10:80, 10:110] = 1
    for row, column in ((20, 20), (20, 60), (50, 35)):
        holes[row : row + 18, column : column + 22] = 0
    holes[55:60, 40:50] = 1  # an island in a hole
    holes[85, 5:100:2] = 2
    parts = np.zeros((80, 100), np.uint8)
    parts[5:20, 5:30] = parts[40:70, 50:90] = 1
    parts[30, 5] = parts[31, 6] = parts[32, 5] = 1  # that touch at corners
    parts[60:75, 10:30] = 2
    pixel = np.zeros((40, 50), np.uint8)
    pixel[0, 0] = pixel[39, 49] = 1
    pixel[20, 25] = 2
    turned = np.zeros((60, 100), np.uint8)
    turned[5:20, 5:60] = 1
    turned[30:55, 70:95] = 2
    big = _blobs(large * 3 // 4, large, large / 12, 1)
    ragged = _blobs(300, 400, 6, 2)
    made = [
        ("holes", "holes.png", holes),
        ("several parts", "parts.png", parts),
        ("one-pixel object", "pixel.png", pixel),
        ("ragged", "ragged.png", ragged),
        (f"{large} px", "large.jpg", big),
        ("Unicode name, sub-folder", "Ordner ü/猫 1.png", parts),
    ]
    simple = [Case(title, name, labels, class_instances(labels, [0.5, 0.25])) for title, name, labels in made]
    return [
        *simple[:2],
        _touching(),
        *simple[2:],
        Case("orientation tag", "turned.jpg", turned, class_instances(turned), orientation=6),
    ]


def write_pictures(folder: Path, chosen: list[Case]) -> list[LabelledPicture]:
    """Write a picture for each case and return it with its masks, upright."""
    pictures = []
    for case in chosen:
        path = folder / case.name
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = case.labels.shape
        image = Image.new("RGB", (width, height), "grey") if case.image is None else Image.fromarray(case.image)
        exif = Image.Exif()
        if case.orientation != 1:
            exif[0x0112] = case.orientation
            image = image.transpose(Image.Transpose.ROTATE_90)  # viewers turn it back
        image.save(path, exif=exif)
        pictures.append(LabelledPicture(case.name, width, height, case.instances, 0.5, path))
    return pictures


def mean_iou(truth: Labels, labels: Labels) -> float:
    """Return the mean IoU of the classes of the true mask; 0 for masks of different sizes."""
    if truth.shape != labels.shape:
        return 0.0
    numbers = [number for number in range(1, len(CLASSES) + 1) if (truth == number).any()]
    pairs = [(truth == number, labels == number) for number in numbers]
    return float(np.mean([(one & other).sum() / (one | other).sum() for one, other in pairs]))


def object_iou(truth: list[Instance], trip: Trip) -> float:
    """Return the mean over the true objects of their largest IoU with an object after the trip."""
    own = paint(LabelledPicture("", trip.labels.shape[1], trip.labels.shape[0], truth), range(1, len(truth) + 1))
    ious = []
    for number in range(1, len(truth) + 1):
        pairs = [(own == number, trip.numbers == other) for other in range(1, int(trip.numbers.max()) + 1)]
        ious.append(max(((one & other).sum() / (one | other).sum() for one, other in pairs), default=0.0))
    return float(np.mean(ious))


def own_trip(source: Path, images: Path, pictures: list[LabelledPicture]) -> list[Trip]:
    """Read a file with novelseg."""
    classes, read = read_labels(source, images)
    table = np.array([0, *(CLASSES.index(name) + 1 for name in classes)], np.uint8)
    found = {one.path: one for one in read}
    ours = [found[one.path] for one in pictures]
    return [Trip(table[index_mask(one)], paint(one, range(1, len(one.instances) + 1))) for one in ours]


def official_trip(reader: str, python: str, source: Path, images: Path, pictures: list[LabelledPicture]) -> list[Trip]:
    """Read a file with a tool's own reader in its environment."""
    with tempfile.TemporaryDirectory() as scratch:
        names, out = Path(scratch) / "names.json", Path(scratch) / "out.npz"
        facts = [
            {"name": one.name, "width": one.width, "height": one.height, "file": str(one.path)} for one in pictures
        ]
        names.write_text(json.dumps({"classes": CLASSES, "folder": str(images), "pictures": facts}), encoding="utf8")
        script = Path(__file__).with_name("official_readers.py")
        command = [python, str(script), reader, str(source), str(names), str(out)]
        process = subprocess.run(command, capture_output=True, text=True, check=False, cwd=scratch)
        if process.returncode:
            raise RuntimeError(f"{reader}: {process.stderr.strip()[-2000:]}")
        with np.load(out) as arrays:
            return [Trip(arrays[f"mask{number}"], arrays[f"objects{number}"]) for number in range(len(pictures))]


def trips(readers: Path | None, large: int, say: Callable[[str], None]) -> list[list[str]]:
    """Write all cases in all formats and read them; return the rows of the table, the titles first."""
    chosen = cases(large)
    rows = [["format", "reader", *(case.title for case in chosen), f"objects of {TOUCHING}", "write, s", "MB"]]
    with tempfile.TemporaryDirectory() as scratch:
        images = Path(scratch) / "pictures"
        pictures = write_pictures(images, chosen)
        for name in FORMATS:
            target, start = Path(scratch) / "out" / name, time.perf_counter()
            export(name, target, CLASSES, pictures)
            seconds = time.perf_counter() - start
            size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file()) / 1e6
            file, official = OFFICIAL[name]
            source = target / file if file else target
            found = {OWN: own_trip(source, images, pictures)}
            for reader, environment in official.items():
                python = sys.executable if not environment else str(readers and readers / environment / "bin/python")
                if not Path(python).exists():
                    say(f"{name}: no environment for {reader}")
                    continue
                found[reader] = official_trip(reader, python, source, images, pictures)
            for reader, results in found.items():
                pairs = list(zip(chosen, results, strict=True))
                ious = [
                    object_iou(case.instances, trip) if case.title == TOUCHING else mean_iou(case.labels, trip.labels)
                    for case, trip in pairs
                ]
                cells = [f"{iou:.4f}" if iou < 1 else "1" for iou in ious]
                (objects,) = (int(trip.numbers.max()) for case, trip in pairs if case.title == TOUCHING)
                rows.append([name, reader, *cells, str(objects), f"{seconds:.1f}", f"{size:.1f}"])
                say(" ".join(rows[-1]))
    return rows


def main() -> None:
    """Print the table, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=Path, help="folder with an environment per reader")
    parser.add_argument("--large", type=int, default=8000, help="longest side of the large picture, px")
    parser.add_argument("--out", type=Path, help="page to write")
    options = parser.parse_args()
    rows = trips(options.readers and options.readers.resolve(), options.large, print)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    table = "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
    versions = "\n".join(f"* `{name}`: `pip install {needed}`" for name, needed in ENVIRONMENTS.items())
    if options.out:
        options.out.write_text(PAGE.format(table=table, versions=versions, classes=len(CLASSES)), encoding="utf8")


PAGE = """# Round trips of the formats

`python -m benchmarks.formats --readers DIR --out docs/results/formats.md` writes this page: every format of
`novelseg segment --format` is written for the same pictures and read by novelseg and by the tools' own readers. Cells
are the mean IoU of {classes} classes after the trip; 1 is every pixel. Touching instances are two discs of one class,
separated as by `--instances`; their cell is the mean IoU of the objects. The large picture and the ragged one have
blobs with holes. All sizes are those of the upright picture, which the tools show as well. Time and size are of all
pictures.

{table}

* `labelme-polygons` follows the borders within 1 px, so that polygons can be edited by hand; `labelme` is exact.
* A line of YOLO is a connected part: the parts of an object become objects of their own. The other formats keep them.
* In VOC's layout and CVAT's zip, objects that overlap lose what is hidden; their class masks are index masks.
* CVAT itself imports with its own version of Datumaro; here, Datumaro's release reads the files, and `cvat-sdk` decodes
  the run lengths of the XML. A running CVAT server was not available.

Environments of the readers, which the lock of the project does not contain:

{versions}
* `pycocotools`: in the lock
"""


if __name__ == "__main__":
    main()
