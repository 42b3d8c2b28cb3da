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

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from novelseg.exchange.record import Instance, LabelledPicture, class_instances, index_mask, instance_of
from novelseg.exchange.registry import FORMATS, export, read_labels

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
Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """A picture with its name, index mask and instances."""

    title: str
    name: str
    labels: Labels
    instances: list[Instance]
    orientation: int = 1


def _blobs(height: int, width: int, scale: float, seed: int) -> Labels:
    """Return two classes of blobs with ragged borders, holes and parts."""
    rng = np.random.default_rng(seed)
    small = rng.random((max(2, round(height / scale)), max(2, round(width / scale)))).astype(np.float32)
    field = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    return np.where(field > 0.66, 1, np.where(field < 0.3, 2, 0)).astype(np.uint8)


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
    touching = np.zeros((60, 90), np.uint8)
    touching[10:50, 10:80] = 1
    halves = [np.zeros(touching.shape, bool) for _ in range(2)]
    halves[0][10:50, 10:45] = True
    halves[1][10:50, 45:80] = True
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
    two = [one for half in halves if (one := instance_of(half, 1, 0.75))]
    return [
        *simple[:2],
        Case("touching instances", "touching.png", touching, two),
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
        image, exif = Image.new("RGB", (width, height), "grey"), Image.Exif()
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


def own_trip(source: Path, images: Path, pictures: list[LabelledPicture]) -> list[tuple[Labels, int]]:
    """Read a file with novelseg; return the mask and the number of objects of each picture."""
    classes, read = read_labels(source, images)
    table = np.array([0, *(CLASSES.index(name) + 1 for name in classes)], np.uint8)
    found = {one.path: one for one in read}
    return [(table[index_mask(found[one.path])], len(found[one.path].instances)) for one in pictures]


def official_trip(
    reader: str, python: str, source: Path, images: Path, pictures: list[LabelledPicture]
) -> list[tuple[Labels, int]]:
    """Read a file with a tool's own reader in its environment; return masks and numbers of objects."""
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
            return [(arrays[f"mask{number}"], int(arrays[f"objects{number}"])) for number in range(len(pictures))]


def trips(readers: Path | None, large: int, say: Callable[[str], None]) -> list[list[str]]:
    """Write all cases in all formats and read them; return the rows of the table, the titles first."""
    chosen = cases(large)
    rows = [["format", "reader", *(case.title for case in chosen), "objects of touching instances", "write, s", "MB"]]
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
                ious = [mean_iou(case.labels, labels) for case, (labels, _) in zip(chosen, results, strict=True)]
                cells = [f"{iou:.4f}" if iou < 1 else "1" for iou in ious]
                rows.append([name, reader, *cells, str(results[2][1]), f"{seconds:.1f}", f"{size:.1f}"])
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
are the mean IoU of {classes} classes after the trip; 1 is every pixel. The large picture and the ragged one have blobs
with holes. All sizes are those of the upright picture, which the tools show as well. Time and size are of all pictures.

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
