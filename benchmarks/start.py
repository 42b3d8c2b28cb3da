"""From nothing but pictures to overlays: the command, its seconds and memory, the IoU, and the overlays to look at.

    python -m benchmarks.start measure --voc $NOVELSEG_DATA/voc-subset --weights R18 --work DIR [--before TREE]
    python -m benchmarks.start page --voc $NOVELSEG_DATA/voc-subset --work DIR --out docs/results/start.md

``measure`` lays pictures and masks of some classes of a VOC list into folders, as a user would, runs ``novelseg segment
--weights`` on them in a process of its own, once per class and number of supports, and keeps the results in ``--work``;
what is there already is not measured again. With ``--before``, a checkout of an earlier commit, its ``segment`` does
the same: its bundle is packed from the same weights by private functions, since it had no command for it. ``page``
writes tables below the mark of the page, and a sheet of all overlays into ``--work``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.tables import write_below
from benchmarks.untrained import Pictures
from novelseg.backbones.recognise import recognise
from novelseg.core.labels import binary
from novelseg.data.classes import VOC
from novelseg.ops.counts import object_iou
from novelseg.ops.drawing import overlay

MARK = "<!-- written by `python -m benchmarks.start page` -->"
FORMS = BEFORE, MARKED, NOW = "before", "now, --presence 0", "now"
TILE, HEADER = 190, 16  # px, of the sheet
DRAWS = 2000
# Packs pretrained weights in the tree of the earlier commit: architecture, stem, weights and bundle are its arguments.
PACK = """
import sys
from pathlib import Path
from novelseg.backbones.encoder import pretrained_backbone
from novelseg.formats.record import BackboneSpec, EncoderRecord
from novelseg.inference.bundle import Bundle, save_bundle
from novelseg.methods.refiners import RefinerSettings
arch, stem, weights, out = sys.argv[1:]
record = EncoderRecord(network="encoder", stage="baseline", fold=0, classes=[], arch=arch, stem=stem, width=64,
                       precision="fp32", resolution="", iterations=0, seed=0, scale=10.0)
about = {"classes": [], "lists": {}, "sources": {}, "prototypes": {}, "provenance": []}
net = pretrained_backbone(BackboneSpec(arch, stem), Path(weights))
save_bundle(Path(out), Bundle(net, record, RefinerSettings(), about, {}))
"""
Mask = NDArray[np.uint8]


def lay(options: argparse.Namespace, pictures: Pictures, name: str, shots: int) -> tuple[Path, Path, list[str]]:
    """Lay supports and queries of a class into folders; return them, and the queries' names."""
    label = VOC.index(name) + 1
    order = np.random.default_rng(options.seed).permutation(np.flatnonzero(pictures.pixels[:, label] >= 1152)).tolist()
    most = max(options.shots)
    support, query = options.work / name / f"support{shots}", options.work / name / "query"
    for folder in (support / "images", support / "masks", query):
        folder.mkdir(parents=True, exist_ok=True)
    queries = [pictures.ids[number] for number in order[most : most + options.queries]]
    for number in order[:shots]:
        shutil.copy(options.voc / f"JPEGImages/{pictures.ids[number]}.jpg", support / "images")
        shutil.copy(options.voc / f"SegmentationClass/{pictures.ids[number]}.png", support / "masks")
    for image in queries:
        shutil.copy(options.voc / f"JPEGImages/{image}.jpg", query)
    return support, query, queries


def timed(command: list[str], tree: Path) -> tuple[float, float]:
    """Run a command with the package of a tree and return its seconds and its peak memory, MiB."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=tree, env={**os.environ, "PYTHONPATH": ""}
    )  # the working folder comes first
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: exit status {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def command_of(options: argparse.Namespace, form: str, arch: str, stem: str) -> tuple[list[str], Path]:
    """Return the beginning of the command and its tree."""
    python = [sys.executable, "-m", "novelseg", "segment"]
    if form != BEFORE:
        given = ["--stem", options.stem] if options.stem else []
        given += ["--presence", "0"] if form == MARKED else []
        return [*python, "--weights", options.weights, *given], Path.cwd()
    bundle = options.work / f"{arch}-before.safetensors"
    if not bundle.exists():
        timed([sys.executable, "-c", PACK, arch, stem, options.weights, str(bundle)], options.before)
    return [*python, "--bundle", str(bundle)], options.before


def measure(options: argparse.Namespace) -> None:
    """Run every command that has not been run."""
    pictures, spec = Pictures(options.voc, options.list), recognise(Path(options.weights), options.stem)
    for form in FORMS if options.before else (MARKED, NOW):
        start, tree = command_of(options, form, spec.arch, spec.stem)
        for name in options.labels:
            for shots in options.shots:
                support, query, queries = lay(options, pictures, name, shots)
                out = options.work / name / f"{spec.arch}-{form.replace(', --', '-').replace(' ', '-')}-{shots}"
                facts = out.with_suffix(".json")
                if facts.exists():
                    continue
                shutil.rmtree(out, ignore_errors=True)
                command = [*start, "--support", str(support), "--query", str(query), "--out", str(out)]
                command += ["--label", str(VOC.index(name) + 1), "--threads", "1"]
                seconds, memory = timed(command, tree)
                record = {"encoder": spec.arch, "form": form, "class": name, "supports": shots, "queries": queries}
                facts.write_text(json.dumps({**record, "seconds": seconds, "mib": memory}), encoding="utf8")


def read(work: Path) -> list[dict[str, Any]]:
    """Return the facts of all runs, in the order of class, encoder, number of supports, and form."""
    found = [
        {**json.loads(path.read_text(encoding="utf8")), "out": path.with_suffix("")} for path in work.glob("*/*.json")
    ]
    return sorted(found, key=lambda one: (one["class"], one["encoder"], one["supports"], FORMS.index(one["form"])))


def mask_of(run: dict[str, Any], image: str) -> Mask:
    """Return the mask that a run has written of a picture: 0 and 1."""
    (path,) = (run["out"] / "masks").glob(f"{image}*.png")
    mask: Mask = (np.array(Image.open(path)) == 255).astype(np.uint8)
    return mask


def scores(run: dict[str, Any], pictures: Pictures) -> list[float]:
    """Return the IoU of each query of a run."""
    label, values = VOC.index(run["class"]) + 1, []
    for image in run["queries"]:
        value = object_iou(mask_of(run, image), binary(pictures.mask(pictures.ids.index(image)), label))
        values.append(1.0 if value is None else value)
    return values


def sheet(runs: list[dict[str, Any]], pictures: Pictures, target: Path) -> None:
    """Draw the queries of all classes, a row each: the truth, then each run's overlay with its IoU."""
    columns = sorted({(one["encoder"], FORMS.index(one["form"]), one["supports"]) for one in runs})
    queries = sorted({(one["class"], image) for one in runs for image in one["queries"]})
    picture = Image.new("RGB", (TILE * (len(columns) + 1), (TILE + HEADER) * len(queries)), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    for row, (name, image) in enumerate(queries):
        number = pictures.ids.index(image)
        own = {(one["encoder"], FORMS.index(one["form"]), one["supports"]): one for one in runs if one["class"] == name}
        masks = {f"{name} {image}": binary(pictures.mask(number), VOC.index(name) + 1)}
        for key in columns:
            if key in own:
                mask, place = mask_of(own[key], image), own[key]["queries"].index(image)
                title = f"{key[0]} {FORMS[key[1]]} {key[2]}: {scores(own[key], pictures)[place]:.2f}"
                masks[title] = mask
        for column, (title, mask) in enumerate(masks.items()):
            tile = Image.fromarray(overlay(pictures.image(number), mask))
            tile.thumbnail((TILE - 4, TILE - 4))
            corner = column * TILE, row * (TILE + HEADER)
            picture.paste(tile, (corner[0], corner[1] + HEADER))
            draw.text((corner[0] + 2, corner[1] + 2), title, fill=(0, 0, 0))
    picture.save(target)


def tables(runs: list[dict[str, Any]], pictures: Pictures, seed: int) -> list[str]:
    """Return the table of IoUs, with the gain over pictures, and that of seconds and memory."""
    keys = sorted({(one["encoder"], one["supports"]) for one in runs})
    labels = sorted({one["class"] for one in runs})
    found = {(one["encoder"], one["supports"], one["form"], one["class"]): one for one in runs}
    rng = np.random.default_rng(seed)
    lines = [
        f"| encoder | supports | | {' | '.join(labels)} | mean | gain [95 %] |",
        "|---|---|---|" + "---|" * (len(labels) + 2),
    ]
    for encoder, shots in keys:
        values = {
            form: [np.array(scores(found[encoder, shots, form, name], pictures)) for name in labels]
            for form in FORMS
            if all((encoder, shots, form, name) in found for name in labels)
        }
        for form, parts in values.items():
            cells = [f"{part.mean():.2f}" for part in parts]
            gain = ""
            if form != BEFORE and BEFORE in values:
                pairs = [now - then for now, then in zip(parts, values[BEFORE], strict=True)]
                drawn = [np.mean([rng.choice(part, len(part)).mean() for part in pairs]) for _ in range(DRAWS)]
                low, high = np.percentile(drawn, [2.5, 97.5])
                gain = f"{np.mean([part.mean() for part in pairs]):+.2f} [{low:+.2f}, {high:+.2f}]"
            mean = np.mean([part.mean() for part in parts])
            lines.append(f"| {encoder} | {shots} | {form} | {' | '.join(cells)} | {mean:.2f} | {gain} |")
    lines += ["", "| encoder | supports | | s per command | s per picture | peak MiB |", "|---|---|---|---|---|---|"]
    for encoder, shots in keys:
        for form in FORMS:
            own = [one for one in runs if (one["encoder"], one["supports"], one["form"]) == (encoder, shots, form)]
            if own:
                seconds, queries = (
                    np.mean([one["seconds"] for one in own]),
                    np.mean([len(one["queries"]) for one in own]),
                )
                cells = [f"{seconds:.1f}", f"{seconds / queries:.2f}", f"{max(one['mib'] for one in own):.0f}"]
                lines.append(f"| {encoder} | {shots} | {form} | {' | '.join(cells)} |")
    return lines


def write_page(options: argparse.Namespace) -> None:
    """Write tables and sheet."""
    runs, pictures = read(options.work), Pictures(options.voc, options.list)
    write_below(options.out, MARK, tables(runs, pictures, options.seed))
    sheet(runs, pictures, options.work / "sheet.png")


def main() -> None:
    """Measure, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("measure", "page"))
    parser.add_argument("--voc", type=Path, required=True)
    parser.add_argument("--list", default="val")
    parser.add_argument("--weights", default="")
    parser.add_argument("--stem", default="")
    parser.add_argument("--labels", nargs="+", choices=VOC, default=["bus", "cat", "sheep"])
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--queries", type=int, default=4)
    parser.add_argument("--before", type=Path, help="a checkout of the commit to compare with")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="the page")
    options = parser.parse_args()
    options.work = options.work.resolve()
    if options.weights:
        options.weights = str(Path(options.weights).resolve())
    if options.command == "measure":
        measure(options)
    else:
        write_page(options)


if __name__ == "__main__":
    main()
