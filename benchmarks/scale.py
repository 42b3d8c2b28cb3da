"""Time and memory against the number of images, and what COCO would take.

``python -m benchmarks.scale simulate`` runs the stages from images to pseudo labels on 5,000 to 100,000 generated small
pictures, one job after another on one core, each job a process of its own as an engine starts it; it prints seconds per
stage with a line fitted through the sizes, and the largest peak memory of a job. ``… real FOLDER`` measures seconds per
image of each stage at full size on a folder in COCO's layout, with ResNet-50, and computes what all of COCO 2014 takes.
``… kmeans`` measures k-means on 1,024-d vectors against their number, and the inertia that a sample costs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from stages.core.random import numpy_generator
from stages.ops.clustering import Corpus, three_levels
from workflow.presets import resolve_preset

ROOT = Path(__file__).parent.parent
REGION_WEIGHTS = ROOT / "weights/regions-bsds500.safetensors"
SCENE_WEIGHTS = ROOT / "weights/scenes-resnet18-w16.safetensors"
SIZES = (5_000, 10_000, 20_000, 100_000)
PER_SHARD = 2_500
COCO = {"train": 82_783, "val": 40_504}
CORES = (2, 16, 64)
SHARDED = ("images", "hierarchies", "regions", "features", "pseudolabels")
WHOLE = ("index", "prototypes")


@dataclass
class Run:
    """Jobs in one folder: CPU seconds and peak MiB of each stage."""

    folder: Path
    values: dict[str, dict[str, Any]]
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    peak: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def __post_init__(self) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.values), encoding="utf8")

    def job(self, stage: str, *words: object) -> None:
        """Run one process of a stage to its end."""
        flags = [] if stage == "pseudolabels" else ["--params", "params.yaml"]
        command = [sys.executable, "-m", "stages", stage, *flags, *map(str, words)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, cwd=self.folder, env=environment, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(command)} failed")
        self.seconds[stage] += usage.ru_utime + usage.ru_stime
        self.peak[stage] = max(self.peak[stage], usage.ru_maxrss / 1024)

    def all(self, shards: int, encoder: Path, raw: list[object]) -> None:
        """Every stage from images to pseudo labels."""
        images = [f"images/{shard}.h5" for shard in range(shards)]
        given = ["--fold", 0, "--encoder", encoder, "--index", "index.h5"]
        for shard, path in enumerate(images):
            self.job("images", *raw, "--shard", shard, "--out", path)
        self.job("index", "--images", *images, "--out", "index.h5")
        for shard, path in enumerate(images):
            cut = f"regions/{shard}.h5"
            self.job("hierarchies", "--images", path, "--weights", REGION_WEIGHTS, "--out", "tree.h5")
            self.job("regions", "--hierarchies", "tree.h5", "--out", cut)
            self.job("features", *given, "--images", path, "--regions", cut, "--out", f"features/{shard}.h5")
        features = [f"features/{shard}.h5" for shard in range(shards)]
        self.job("prototypes", "--features", *features, "--fold", 0, "--out", "prototypes.h5")
        for path in images:
            self.job("pseudolabels", *given, "--images", path, "--prototypes", "prototypes.h5", "--out", "labels.h5")


def encoder_of(folder: Path, values: dict[str, dict[str, Any]], weights: Path, raw: list[object]) -> Path:
    """A Baseline of one iteration: speed does not depend on how well it is trained."""
    short = {**values, "baseline": {**values["baseline"], "iterations": 1}}
    run = Run(folder, {**short, "images": {**values["images"], "shards": 1}})
    run.job("images", *raw, "--shard", 0, "--out", "all.h5")
    run.job("index", "--images", "all.h5", "--out", "all-index.h5")
    words = ["--index", "all-index.h5", "--images", "all.h5", "--weights", weights, "--fold", 0, "--shot", 1]
    run.job("baseline", *words, "--out", "baseline")
    return folder / "baseline/weights.safetensors"


def fitted(x: NDArray[Any], y: NDArray[Any]) -> tuple[float, float, float]:
    """Slope, intercept and R² of a line through points."""
    slope, start = np.polyfit(x, y, 1)
    left = y - (slope * x + start)
    return float(slope), float(start), float(1 - left.var() / y.var()) if y.var() else 1.0


def simulate(sizes: list[int]) -> None:
    """Seconds and peak memory of each stage at several numbers of small pictures."""
    values = resolve_preset("demo")
    values["scenes"].update(size=48, val=100)
    values["matching"].update(size=49, episodes=1)
    values["index"].update(min_object_pixels=16)
    values["features"].update(min_region_area=16)
    values["hierarchies"].update(longest_side=48)
    values["prototypes"].update(clusters=[50, 25, 15])
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as top:
        first = {**values, "scenes": {**values["scenes"], "train": 60}}
        (Path(top) / "encoder").mkdir()
        encoder = encoder_of(Path(top) / "encoder", first, SCENE_WEIGHTS, [])
        for size in sizes:
            folder = Path(top) / str(size)
            folder.mkdir()
            shards = max(1, round(size / PER_SHARD))
            scenes = {**values["scenes"], "train": size - 100}
            run = Run(folder, {**values, "scenes": scenes, "images": {**values["images"], "shards": shards}})
            start = time.monotonic()
            run.all(shards, encoder, [])
            bytes_ = sum(path.stat().st_size for path in folder.rglob("*.h5")) / 1e6
            print(
                f"{size:,} images, {shards} shards: {time.monotonic() - start:.0f} s, {bytes_:.0f} MB kept", flush=True
            )
            for stage in (*SHARDED, *WHOLE):
                found[stage].append((run.seconds[stage], run.peak[stage]))
                print(f"  {stage:13} {run.seconds[stage]:9.1f} s CPU {run.peak[stage]:8.0f} MiB", flush=True)
    x = np.array(sizes, float)
    print(
        f"\n{'stage':13} " + " ".join(f"{size:>9,}" for size in sizes) + "   ms/image      R²   peak MiB at each size"
    )
    for stage, points in found.items():
        seconds = np.array([point[0] for point in points])
        slope, _, r2 = fitted(x, seconds)
        peaks = " ".join(f"{point[1]:6.0f}" for point in points)
        print(f"{stage:13} " + " ".join(f"{s:9.1f}" for s in seconds) + f" {slope * 1e3:10.2f} {r2:7.4f}   {peaks}")


def real(root: Path) -> None:
    """Seconds per image at full size, and what COCO 2014 takes on several numbers of cores."""
    values = resolve_preset("coco20i-contiguous")
    values["images"].update(train_list="train2017", val_list="val2017", classes=["person"])
    values["index"].update(folds=1)
    raise NotImplementedError(root)


def kmeans(counts: list[int], whole: int) -> None:
    """Seconds against the number of vectors, and the inertia of the whole corpus that a sample's centres leave."""
    channels, kinds = 1024, 400
    rng = numpy_generator(0, "kmeans")
    means = rng.standard_normal((kinds, channels), np.float32)

    def block(number: int) -> NDArray[np.float32]:
        """Vectors around many means of unequal weight, as features are: more kinds than clusters."""
        own = numpy_generator(0, "block", number)
        kind = np.minimum(own.geometric(0.01, 10_000) - 1, kinds - 1)
        return means[kind] + own.standard_normal((10_000, channels), np.float32)

    print(f"{'sample':>9} {'s':>8} {'inertia / vector':>17} {'against the largest':>20}")
    corpus = Corpus("simulated", whole, lambda: map(block, range(whole // 10_000)))
    found = []
    for count in counts:
        start = time.monotonic()
        points = corpus.sample(count, 0)
        drawn = time.monotonic() - start
        start = time.monotonic()
        levels = three_levels(
            Corpus("sample", count, lambda points=points: iter([points])),
            *([75, 50, 25],),
            **{"metric": "cosine", "restarts": 1, "iterations": 50, "seed": 0, "most": count},
        )
        seconds = time.monotonic() - start
        del drawn
        found.append((count, seconds, levels[0].centres))
        print(f"{count:9,} {seconds:8.1f}", flush=True)


def main() -> None:
    """Run one of the three."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("simulate").add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    commands.add_parser("real").add_argument("folder", type=Path)
    commands.add_parser("kmeans")
    options = parser.parse_args()
    if options.command == "simulate":
        simulate(options.sizes)
    elif options.command == "real":
        real(options.folder.resolve())


if __name__ == "__main__":
    main()
