"""Measure time and memory against the number of images, and estimate both for COCO.

``python -m benchmarks.scale simulate`` runs the stages from images to pseudo labels on 5,000 to 100,000 generated small
pictures, one job after another on one core, each in a separate process as an engine starts it. It prints seconds per
stage with a line fitted to the sizes, and the largest peak memory of a job. ``… real FOLDER`` measures seconds per
image of each stage at full size on a folder in COCO's layout, with ResNet-50, and estimates the time for COCO 2014.
``… memory`` prints the peak memory of every stage, including trainings and evaluation, at two sizes.
``… kmeans`` measures the time of k-means against the number of 1,024-dimensional vectors, and how much a sample of them
increases the inertia. ``… annotations`` reads the annotations of one shard from files as large as COCO's.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml
from numpy.typing import NDArray

from novelseg.backbones.registry import new_backbone
from novelseg.core.random import numpy_generator
from novelseg.data.coco import Coco
from novelseg.data.index import read_index
from novelseg.formats.network import save_network
from novelseg.formats.record import EncoderRecord
from novelseg.methods.spfl.clustering import Corpus, three_levels
from workflow.presets import resolve_preset

ROOT = Path(__file__).parent.parent
REGION_WEIGHTS = ROOT / "novelseg/regions/bsds500.safetensors"
SCENE_WEIGHTS = ROOT / "weights/scenes-resnet18-w16.safetensors"
SIZES = (5_000, 10_000, 20_000, 100_000)
PER_SHARD = 2_500
COCO = {"train": 82_783, "val": 40_504}
CORES = (2, 16, 64)
PER_FOLD = ("features", "pseudolabels")
CHANNELS, BLOCK, VECTORS = 1024, 10_000, 960_000
SHARDED = ("images", "hierarchies", "regions", "features", "pseudolabels")
WHOLE = ("index", "prototypes")


@dataclass
class Run:
    """Jobs in one folder, with the CPU seconds and the peak memory in MiB of each stage."""

    folder: Path
    values: dict[str, dict[str, Any]]
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    peak: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.values), encoding="utf8")

    def job(self, stage: str, *arguments: object) -> None:
        """Run a stage in a process and wait until it ends."""
        flags = [] if stage == "pseudolabels" else ["--params", "params.yaml"]
        command = [sys.executable, "-m", "stages", stage, *flags, *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, cwd=self.folder, env=environment, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(command)}: failed with exit code {os.waitstatus_to_exitcode(status)}")
        self.seconds[stage] += usage.ru_utime + usage.ru_stime
        self.peak[stage] = max(self.peak[stage], usage.ru_maxrss / 1024)

    def all(self, shards: int, encoder: Path, raw: list[object]) -> None:
        """Run every stage from images to pseudo labels."""
        self.data(shards, raw)
        self.labels(shards, encoder)

    def data(self, shards: int, raw: list[object]) -> None:
        """Run the stages ``images`` and ``index``."""
        images = [f"images/{shard}.h5" for shard in range(shards)]
        for shard, path in enumerate(images):
            self.job("images", *raw, "--shard", shard, "--out", path)
        self.job("index", "--images", *images, "--out", "index.h5")

    def labels(self, shards: int, encoder: Path, prototypes: Path | None = None) -> None:
        """Run the stages from hierarchies to pseudo labels; ``prototypes`` replaces the stage of that name."""
        images = [f"images/{shard}.h5" for shard in range(shards)]
        common = ["--fold", 0, "--encoder", encoder, "--index", "index.h5"]
        for shard, path in enumerate(images):
            regions = f"regions/{shard}.h5"
            self.job("hierarchies", "--images", path, "--weights", REGION_WEIGHTS, "--out", "tree.h5")
            self.job("regions", "--hierarchies", "tree.h5", "--out", regions)
            self.job("features", *common, "--images", path, "--regions", regions, "--out", f"features/{shard}.h5")
        if prototypes is None:
            prototypes = self.folder / "prototypes.h5"
            features = [f"features/{shard}.h5" for shard in range(shards)]
            self.job("prototypes", "--features", *features, "--fold", 0, "--out", prototypes)
        for path in images:
            out = f"labels/{Path(path).name}"
            self.job("pseudolabels", *common, "--images", path, "--prototypes", prototypes, "--out", out)

    def train_and_evaluate(self, shards: int, budget_mb: int) -> None:
        """Run the stages that read the whole data set, with ``budget_mb`` MiB of cached data."""
        data = ["--index", "index.h5", "--images", *(f"images/{shard}.h5" for shard in range(shards))]
        without_shot = [*data, "--weights", SCENE_WEIGHTS, "--fold", 0, "--memory-mb", budget_mb]
        common = [*without_shot, "--shot", 1]
        labels = ["--pseudolabels", *(f"labels/{shard}.h5" for shard in range(shards))]
        self.job("baseline", *common, "--out", "baseline")
        self.job("train", *common, *labels, "--variant", "hierarchical", "--out", "train")
        self.job("cam", *without_shot, "--out", "cam")
        self.job("episodes", "--index", "index.h5", "--fold", 0, "--shot", 1, "--seed", 0, "--out", "seed0.tsv")
        trained = {"--baseline": "baseline", "--spfl": "train", "--cam": "cam"}
        networks = [word for flag, name in trained.items() for word in (flag, f"{name}/weights.safetensors")]
        self.job("evaluate", *common, *networks, "--episodes", "seed0.tsv", "--out", "evaluate")


def train_encoder(folder: Path, values: dict[str, dict[str, Any]], weights: Path, raw: list[object]) -> Path:
    """Train a Baseline encoder for one iteration, which is enough to measure speed; returns its weight file."""
    short = {**values, "baseline": {**values["baseline"], "iterations": 1}}
    run = Run(folder, {**short, "images": {**values["images"], "shards": 1}})
    run.job("images", *raw, "--shard", 0, "--out", "all.h5")
    run.job("index", "--images", "all.h5", "--out", "all-index.h5")
    arguments = ["--index", "all-index.h5", "--images", "all.h5", "--weights", weights, "--fold", 0, "--shot", 1]
    run.job("baseline", *arguments, "--out", "baseline")
    return folder / "baseline/weights.safetensors"


def write_untrained_encoder(path: Path, classes: list[str]) -> None:
    """Write a ResNet-50 with random weights as an encoder of the base classes of fold 0."""
    record = EncoderRecord(
        network="encoder",
        stage="baseline",
        fold=0,
        classes=classes,
        arch="resnet50",
        stem="torchvision",
        width=64,
        precision="fp32",
        resolution="none",
        iterations=0,
        seed=0,
        scale=10.0,
    )
    save_network(path, new_backbone(record.backbone), record)


def fit_line(x: NDArray[Any], y: NDArray[Any]) -> tuple[float, float, float]:
    """Return slope, intercept and R² of the least-squares line through points."""
    slope, start = np.polyfit(x, y, 1)
    residuals = y - (slope * x + start)
    return float(slope), float(start), float(1 - residuals.var() / y.var()) if y.var() else 1.0


def simulate(sizes: list[int]) -> None:
    """Print the time and peak memory of each stage for several numbers of small pictures."""
    values = resolve_preset("demo")
    values["scenes"].update(size=48, val=100)
    values["matching"].update(size=49, episodes=1)
    values["index"].update(min_object_pixels=16)
    values["features"].update(min_region_area=16)
    values["hierarchies"].update(longest_side=48)
    values["prototypes"].update(clusters=[50, 25, 15])
    results: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as top:
        first = {**values, "scenes": {**values["scenes"], "train": 60}}
        (Path(top) / "encoder").mkdir()
        encoder = train_encoder(Path(top) / "encoder", first, SCENE_WEIGHTS, [])
        for size in sizes:
            folder = Path(top) / str(size)
            folder.mkdir()
            shards = max(1, round(size / PER_SHARD))
            scenes = {**values["scenes"], "train": size - 100}
            run = Run(folder, {**values, "scenes": scenes, "images": {**values["images"], "shards": shards}})
            start = time.monotonic()
            run.all(shards, encoder, [])
            megabytes = sum(path.stat().st_size for path in folder.rglob("*.h5")) / 1e6
            print(
                f"{size:,} images, {shards} shards: {time.monotonic() - start:.0f} s, {megabytes:.0f} MB of artifacts",
                flush=True,
            )
            for stage in (*SHARDED, *WHOLE):
                results[stage].append((run.seconds[stage], run.peak[stage]))
                print(f"  {stage:13} {run.seconds[stage]:9.1f} s CPU {run.peak[stage]:8.0f} MiB", flush=True)
    x = np.array(sizes, float)
    print(
        f"\n{'stage':13} " + " ".join(f"{size:>9,}" for size in sizes) + "   ms/image      R²   peak MiB at each size"
    )
    for stage, points in results.items():
        seconds = np.array([point[0] for point in points])
        slope, _, r2 = fit_line(x, seconds)
        peaks = " ".join(f"{point[1]:6.0f}" for point in points)
        print(f"{stage:13} " + " ".join(f"{s:9.1f}" for s in seconds) + f" {slope * 1e3:10.2f} {r2:7.4f}   {peaks}")


def memory(sizes: list[int], budget_mb: int) -> None:
    """Print the peak memory of every stage for several numbers of small pictures, a quarter of them for validation."""
    values = resolve_preset("demo-cam")
    values["cam"].update(classifier_iterations=10)
    values["index"].update(min_object_pixels=32)
    values["hierarchies"].update(longest_side=96)
    values["features"].update(min_region_area=64)
    for section in ("baseline", "train", "cam"):
        values[section].update(iterations=30)
    peaks: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as top:
        for size in sizes:
            folder = Path(top) / str(size)
            (folder / "encoder").mkdir(parents=True)
            scenes = {**values["scenes"], "train": 3 * size // 4, "val": size // 4}
            shards = size // 500
            changed = {
                **{"scenes": scenes, "images": {**values["images"], "shards": shards}},
                "episodes": {**values["episodes"], "count": size // 4},
            }
            run = Run(folder, {**values, **changed})
            first = {**values["scenes"], "train": 60, "val": 20}
            encoder = train_encoder(folder / "encoder", {**values, "scenes": first}, SCENE_WEIGHTS, [])
            run.all(shards, encoder, [])
            run.train_and_evaluate(shards, budget_mb)
            peaks.append(dict(run.peak))
    print(f"peak MiB, shards of 500 pictures of 96 px, --memory-mb {budget_mb}")
    print(f"{'stage':13} " + " ".join(f"{size:>8,}" for size in sizes))
    for stage in peaks[0]:
        print(f"{stage:13} " + " ".join(f"{peak[stage]:8.0f}" for peak in peaks))


def real(root: Path, lists: tuple[str, str]) -> None:
    """Print CPU seconds per image at full size, and the hours for COCO 2014 on several numbers of cores.

    Each stage runs on a third of the images and on all of them; the difference excludes the start of a process.
    """
    values = resolve_preset("coco20i-contiguous")
    values["images"].update(root=str(root), train_list=lists[0], val_list=lists[1], shards=3)
    values["index"].update(min_object_pixels=1)
    runs = []
    with tempfile.TemporaryDirectory() as top:
        encoder = Path(top) / "encoder.safetensors"
        for shards in (1, 3):
            folder = Path(top) / str(shards)
            folder.mkdir()
            runs.append(Run(folder, {**values, "images": {**values["images"], "shards": shards}}))
            runs[-1].data(1, ["--root", root])
            if shards == 1:
                write_untrained_encoder(encoder, read_index(folder / "index.h5").base_names(0))
            runs[-1].labels(1, encoder, None if shards == 1 else runs[0].folder / "prototypes.h5")
            with h5py.File(folder / "images/0.h5") as file:
                split = file["split"][:]
            runs[-1].counts = {"images": len(split), "train": int((split == 0).sum())}
    whole, part = runs
    print(
        f"{'stage':13} {'s/image':>8} {'MiB':>6} {'images':>8} {'times':>6}" + "".join(f"{c:>7} cores" for c in CORES)
    )
    total = 0.0
    for stage in SHARDED:
        key = "images" if stage == "images" else "train"
        per_image = (whole.seconds[stage] - part.seconds[stage]) / (whole.counts[key] - part.counts[key])
        images, times = (sum(COCO.values()) if key == "images" else COCO["train"]), 4 if stage in PER_FOLD else 1
        hours = per_image * images * times / 3600
        total += hours
        print(
            f"{stage:13} {per_image:8.3f} {whole.peak[stage]:6.0f} {images:8,} {times:6}"
            + "".join(f"{hours / cores:11.1f} h" for cores in CORES)
        )
    print(f"{'together':13} {'':8} {'':6} {'':8} {'':6}" + "".join(f"{total / cores:11.1f} h" for cores in CORES))


def _block(number: int) -> NDArray[np.float32]:
    """Draw vectors (BLOCK, CHANNELS) around 400 means: more means than clusters, and most are rare, as in regions."""
    means = numpy_generator(0, "means").standard_normal((400, CHANNELS), np.float32)
    rng = numpy_generator(0, "block", number)
    kind = np.minimum(rng.geometric(0.01, BLOCK) - 1, 399)
    vectors: NDArray[np.float32] = means[kind] + rng.standard_normal((BLOCK, CHANNELS), np.float32)
    return vectors


def _blocks() -> Iterator[NDArray[np.float32]]:
    return map(_block, range(VECTORS // BLOCK))


def _cluster(most: int) -> tuple[float, float, float]:
    """Run k-means on ``most`` vectors; return CPU seconds, peak MiB, and the inertia of the whole corpus."""
    start = time.process_time()
    for _ in _blocks():
        pass
    drawing = time.process_time() - start  # seconds to draw the blocks, which clustering does twice
    start = time.process_time()
    settings: dict[str, Any] = {"metric": "cosine", "restarts": 1, "iterations": 50, "seed": 0, "most": most}
    levels = three_levels(Corpus("simulated", VECTORS, _blocks), [75, 50, 25], **settings)
    seconds = time.process_time() - start - 2 * drawing
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, levels[0].inertia


def kmeans() -> None:
    """Print the time of k-means against the number of vectors, and the inertia of the whole corpus for each sample."""
    results = {}
    for most in (VECTORS >> shift for shift in range(6, -1, -1)):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            results[most] = pool.submit(_cluster, most).result()
        print(f"{most:,} vectors: {results[most][0]:.1f} s CPU, {results[most][1]:.0f} MiB", flush=True)
    slope, start, r2 = fit_line(np.array(list(results), float), np.array([entry[0] for entry in results.values()]))
    print(f"\n{'vectors':>9} {'per centre':>10} {'s CPU':>8} {'peak MiB':>9} {'inertia of all':>15} {'above all':>10}")
    for most, (seconds, peak, inertia) in results.items():
        increase = 100 * (inertia / results[VECTORS][2] - 1)
        print(f"{most:9,} {most // 75:10,} {seconds:8.1f} {peak:9.0f} {inertia / VECTORS:15.5f} {increase:9.3f} %")
    hours = (start + slope * 4e6) * 10 / 3600
    print(f"line: {slope * 1e6:.1f} s per million vectors, R² {r2:.4f}; 4 million, 10 restarts: {hours:.1f} h")


def _write_annotations(folder: Path) -> None:
    """Write random annotations with as many images, objects and points of outlines as COCO 2014."""
    rng = numpy_generator(0, "annotations")
    (folder / "annotations").mkdir()
    number = 0
    for split, images in COCO.items():
        with (folder / f"annotations/instances_{split}2014.json").open("w", encoding="utf8") as file:
            pictures = [
                {"id": n, "file_name": f"COCO_{split}2014_{n:012d}.jpg", "height": 480, "width": 640, "license": 1}
                for n in range(number, number + images)
            ]
            file.write(f'{{"info": {{}}, "images": {json.dumps(pictures)}, "licenses": [], "annotations": [')
            for position, picture in enumerate(pictures):
                for label in range(7):  # COCO has 7.3 objects per image, of about 36 points each
                    outline = (rng.random((36, 2)) * (640, 480)).round(2).reshape(-1).tolist()
                    entry = {"segmentation": [outline], "image_id": picture["id"], "bbox": [1.0, 2.0, 3.0, 4.0]}
                    entry |= {"area": 1.5, "iscrowd": 0, "category_id": 1 + label}
                    entry["id"] = 10 * number + 10 * position + label
                    file.write(("," if position or label else "") + json.dumps(entry))
            categories = [{"supercategory": "x", "id": n, "name": f"c{n}"} for n in range(1, 81)]
            file.write(f'], "categories": {json.dumps(categories)}}}')
        number += images


def _read_shard(folder: str) -> tuple[float, float]:
    """Return CPU seconds and peak MiB of opening one shard of 256."""
    start = time.process_time()
    reader = Coco(Path(folder), ("train2014", "val2014"), [], 3, 256)
    assert len(reader.entries) == sum(COCO.values())
    return time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _read_whole(folder: str) -> tuple[float, float]:
    """Return CPU seconds and peak MiB of reading both files completely, as COCO's own library does."""
    start = time.process_time()
    contents = [json.loads(path.read_bytes()) for path in sorted(Path(folder).glob("annotations/*.json"))]
    assert len(contents) == 2
    return time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def coco_annotations() -> None:
    """Compare reading the annotations of one shard with reading complete files, both as large as COCO's."""
    with tempfile.TemporaryDirectory() as top:
        _write_annotations(Path(top))
        size = sum(path.stat().st_size for path in Path(top).rglob("*.json")) / 1e6
        for name, read in (("whole files", _read_whole), ("one shard of 256", _read_shard)):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                seconds, peak = pool.submit(read, top).result()
            print(f"{name:17} of {size:.0f} MB: {seconds:6.1f} s CPU, {peak:6.0f} MiB", flush=True)


def main() -> None:
    """Run the benchmark that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("simulate").add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    full = commands.add_parser("real")
    full.add_argument("folder", type=Path)
    full.add_argument("--lists", nargs=2, default=("train2017", "val2017"))
    bounded = commands.add_parser("memory")
    bounded.add_argument("--sizes", type=int, nargs="+", default=[1000, 4000])
    bounded.add_argument("--budget-mb", type=int, default=16)
    commands.add_parser("kmeans")
    commands.add_parser("annotations")
    options = parser.parse_args()
    if options.command == "simulate":
        simulate(options.sizes)
    elif options.command == "real":
        real(options.folder.resolve(), tuple(options.lists))
    elif options.command == "memory":
        memory(options.sizes, options.budget_mb)
    elif options.command == "kmeans":
        kmeans()
    else:
        coco_annotations()


if __name__ == "__main__":
    main()
