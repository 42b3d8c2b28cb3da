"""Small things in large pictures: IoU on composites, and peak memory of a picture of 24 million pixels.

    python -m benchmarks.tiles find --voc $NOVELSEG_DATA/voc-subset --weights PATH --out FILE.tsv
    python -m benchmarks.tiles memory --voc $NOVELSEG_DATA/voc-subset --weights PATH --out FILE.tsv
    python -m benchmarks.tiles page --out docs/results/tiles.md

``find`` makes pictures of 4000 × 3000 px from a VOC folder, in memory: an object that is cut out by its mask, reduced
to 0.06 % of the area, and set at a random position into the background of another picture, which is enlarged. Supports
are ordinary pictures of the training list, objects and backgrounds are of ``--list``. A row per composite gives the IoU
of the closed-form head on the whole picture, reduced, and with ``tile``; composites that ``--out`` has already are not
measured again, and ``--seconds`` ends a run early. ``memory`` predicts an enlarged picture with ``tile``, for one class
and for several, in processes of their own. ``page`` writes these tables, and those of :mod:`benchmarks.views`, below
the text of the page.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.composites import Array, backgrounds, compose, cut_out
from benchmarks.processes import in_process, peak_mib
from benchmarks.tables import markdown, read_rows, write, write_below, write_rows
from benchmarks.untrained import Pictures
from benchmarks.views import rules_table
from novelseg import Segmenter
from novelseg.core.labels import binary
from novelseg.core.progress import track
from novelseg.data.classes import VOC
from novelseg.inference.segmenter import PRESENT
from novelseg.ops.counts import object_iou

SIZE, SHARE = (4000, 3000), 0.0006  # width and height, px; share of the object
LARGE = (6000, 4000)
FIND = ("composite", "object", "background", "whole_iou", "tile_iou", "whole_presence", "tile_presence", "seconds")
MEMORY = ("width", "height", "classes", "seconds", "peak_mib")
MEADOW = ("sheep", "cow")
ENCODERS = ("ResNet-18", "ResNet-50")
MARK = "<!-- written by `python -m benchmarks.tiles page` -->"


def composites(options: argparse.Namespace) -> list[tuple[str, str, Array, Array]]:
    """Return names of object and background, picture and mask of all composites."""
    pictures, label = Pictures(options.voc, options.list), VOC.index(options.label) + 1
    rng = np.random.default_rng(options.seed)
    things = rng.permutation(np.flatnonzero(pictures.pixels[:, label] >= options.min_pixels)).tolist()
    boxes = backgrounds(pictures, MEADOW, SIZE[0] / SIZE[1])
    found = []
    for number in range(options.composites):
        thing, (place, box) = things[number % len(things)], boxes[number % len(boxes)]
        parts = cut_out(pictures.image(thing), pictures.mask(thing), label)
        found.append(
            (pictures.ids[thing], pictures.ids[place], *compose(pictures.image(place)[box], parts, rng, SIZE, SHARE))
        )
    return found


def supports(options: argparse.Namespace, labels: list[int], shots: int) -> tuple[list[Array], list[Array]]:
    """Return supports of the training list with masks of some classes, which are numbered from 1."""
    pictures, rng = Pictures(options.voc, "train"), np.random.default_rng(options.seed)
    images, masks = [], []
    for position, label in enumerate(labels, 1):
        large = np.flatnonzero(pictures.pixels[:, label] >= options.min_pixels)
        for number in rng.permutation(large)[:shots].tolist():
            images.append(pictures.image(number))
            masks.append(np.where(binary(pictures.mask(number), label) == 1, position, 0).astype(np.uint8))
    return images, masks


def find(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row per composite."""
    taught = supports(options, [VOC.index(options.label) + 1], options.shots)
    forms = [
        Segmenter(weights=options.weights, stem=options.stem, tile=tile, presence=options.presence).fit(*taught)
        for tile in (False, True)
    ]
    rows = read_rows(options.out)
    drawn = list(enumerate(composites(options)))[len(rows) :]
    for number, (thing, place, picture, truth) in track(drawn, len(drawn), "tiles", "composite"):
        if time.process_time() > options.seconds:
            break
        start = time.perf_counter()
        findings = [next(segmenter.findings(picture)) for segmenter in forms]
        row: dict[str, Any] = {"composite": number, "object": thing, "background": place}
        for name, finding in zip(("whole", "tile"), findings, strict=True):
            row[f"{name}_iou"] = f"{object_iou(finding.mask, truth):.3f}"
            row[f"{name}_presence"] = "" if finding.presence is None else f"{finding.presence[0]:.2f}"
        rows.append({**row, "seconds": f"{time.perf_counter() - start:.0f}"})
        write_rows(options.out, FIND, rows)
    return rows


def measure_memory(options: argparse.Namespace, classes: int) -> dict[str, Any]:
    """Predict one large picture in windows and return the row."""
    torch.set_num_threads(1)
    names = None if classes == 1 else list(VOC[:classes])
    segmenter = Segmenter(weights=options.weights, stem=options.stem, tile=True)
    segmenter.fit(*supports(options, list(range(1, classes + 1)), 1), names)
    pictures = Pictures(options.voc, options.list)
    picture = np.array(Image.fromarray(pictures.image(0)).resize(LARGE, Image.Resampling.BICUBIC))
    start = time.perf_counter()
    segmenter.predict(picture)
    seconds = time.perf_counter() - start
    row = {"width": LARGE[0], "height": LARGE[1], "classes": classes}
    return {**row, "seconds": f"{seconds:.0f}", "peak_mib": f"{peak_mib():.0f}"}


def plain(name: str) -> str:
    """Return the name of an encoder as it stands in names of files."""
    return name.lower().replace("-", "")


def write_page(options: argparse.Namespace) -> None:
    """Write all tables below the mark of the page; its text is written by hand."""
    folder = options.out.parent
    files = [f"tiles-{kind}{plain(name)}.tsv" for name in ENCODERS for kind in ("", "views-")]
    for file in (*files, "tiles-memory-resnet18.tsv"):
        if not (folder / file).exists():
            raise SystemExit(f"{folder / file}: does not exist; measure it first, or fetch it from the repository")
    lines = rules_table({name: read_rows(folder / f"tiles-views-{plain(name)}.tsv") for name in ENCODERS})
    for name in ENCODERS:
        rows = read_rows(folder / f"tiles-{plain(name)}.tsv")
        lines += ["", f"## 0.06 % of 4000 × 3000 px, {name}, validation list", "", *markdown(FIND, rows), ""]
        means = (f"{form} {np.mean([float(row[f'{form}_iou']) for row in rows]):.3f}" for form in ("whole", "tile"))
        lines += [f"Mean IoU: {', '.join(means)}."]
    rows = read_rows(folder / "tiles-memory-resnet18.tsv")
    lines += ["", "## Memory, 24 million pixels, ResNet-18", "", *markdown(MEMORY, rows)]
    write_below(options.out, MARK, lines)


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("find", "memory", "page"))
    parser.add_argument("--voc", type=Path)
    parser.add_argument("--list", default="val")
    parser.add_argument("--weights", default="")
    parser.add_argument("--stem", default="")
    parser.add_argument("--label", choices=VOC, default="sheep")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--composites", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=np.inf, help="stop after this CPU time; run again to go on")
    parser.add_argument("--presence", type=float, default=PRESENT)
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--min-pixels", type=int, default=1152)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.part != "page" and not (options.voc and options.weights):
        parser.error("expected --voc and --weights")
    torch.set_num_threads(1)
    if options.part == "memory":
        write(options.out, MEMORY, [in_process(measure_memory, options, classes) for classes in options.classes])
        return
    if options.part == "page":
        write_page(options)
        return
    rows = find(options)
    write(options.out, FIND, rows)
    for name in ("whole", "tile"):
        print(f"mean IoU, {name}: {np.mean([float(row[f'{name}_iou']) for row in rows]):.3f}")


if __name__ == "__main__":
    main()
