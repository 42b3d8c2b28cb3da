"""Proof on a GPU: agreement with the CPU, speed, memory and two ranks, in one file with a verdict for each bar.

``python -m benchmarks.gpu`` runs on any machine with CUDA, in at most 25 minutes, and writes ``gpu.json``: the device,
versions, figures, and pass or fail for each bar. It continues an earlier, interrupted run from that file. It needs the
packages that docs/gpu.md names and no engine, and draws its own images.

* **agreement**: the stages that use a GPU run on the CPU and on the device, from the same images, weights, labels and
  episodes; the bars are in :data:`BARS`.
* **speed**: every row of ``benchmarks.speed``; the fast implementation must not be slower than the plain one, nor need
  more than nine tenths of the device's memory.
* **ranks**: the Baseline on two devices must move the weights as one does. With fewer than two devices, it is skipped.

``--device cpu`` compares a CPU with itself on another number of threads, which tries the program.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from novelseg.core.errors import InputError
from novelseg.core.files import whole_file
from novelseg.data.scenes import CLASSES, SceneSettings, write_voc
from novelseg.data.shards import write_shard
from novelseg.data.voc import Voc
from novelseg.evaluation.metrics import class_iou
from novelseg.formats import hdf5, tables
from novelseg.formats.episode_results import RESULTS
from novelseg.formats.features import FEATURES
from novelseg.formats.files import LOG_FILE, ROWS, WEIGHTS
from novelseg.formats.images import IMAGES
from novelseg.formats.levels import LEVELS, SIDES
from novelseg.formats.prototypes import PROTOTYPES
from novelseg.formats.pseudolabels import PSEUDOLABELS
from novelseg.formats.regions import REGIONS
from novelseg.formats.training_log import LOG
from novelseg.version import __version__
from stages.__main__ import main as stage_main
from stages.params.schema import read_yaml
from stages.provenance.digests import digest_once

ROOT = Path(__file__).parent.parent
PRESETS = ROOT / "workflow/presets"
PRETRAINED = ROOT / "weights/scenes-resnet18-w16.safetensors"
MINUTES = 25.0
# Largest allowed difference between CPU and device. None has been seen on a GPU yet: the bars say what would be a
# fault, and docs/gpu.md what is expected.
BARS = {
    "features": 1e-3,  # of a pooled vector, relative to the largest value
    "pseudo labels": 1e-3,  # share of pixels with another label
    "first loss": 1e-3,  # of a training, relative
    "mIoU": 0.05,  # of an evaluation, points
    "mIoU, online classifier": 0.5,  # the same: ten to a hundred steps of gradient descent enlarge rounding
    "ranks": 0.01,  # 1 − cosine of the changes of the weights by a short training
    "memory": 0.9,  # share of the device
    "ratio": 1.0,  # of the plain to the fast time, at least
}


@dataclass(frozen=True)
class Figure:
    """A measured value and its bar.

    Attributes
    ----------
    name
        What was measured.
    value
        The value; None if it was not measured.
    bar
        Text of the bar; empty if there is none.
    passed
        Whether the value is within the bar.
    more
        Further figures, or why nothing was measured.
    """

    name: str
    value: float | None
    bar: str
    passed: bool
    more: dict[str, Any]


Part = Callable[[], Iterator[Figure]]


def _at_most(name: str, value: float, bar: str, **more: Any) -> Figure:
    """Return a figure that must not exceed a bar of :data:`BARS`; one that is not a number fails."""
    return Figure(name, value, f"≤ {BARS[bar]:g}", bool(value <= BARS[bar]), more)


class World:
    """A folder with drawn images, their index, regions and parameters, in which the stages run.

    Parameters
    ----------
    root
        Empty folder.
    small
        Whether everything is as small as it can be, for a test.
    """

    def __init__(self, root: Path, *, small: bool) -> None:
        self.root = root
        base, demo = (read_yaml(PRESETS / f"{name}.yaml") for name in ("base", "demo"))
        side, episodes, iterations = (64, 6, 2) if small else (192, 200, 20)
        changes: dict[str, dict[str, Any]] = {
            "plan": {"shots": [1], "seeds": [0]},
            "scenes": {"train": 24, "val": 20, "size": 64, "seed": 4} if small else {"size": side},
            "images": {"shards": 1},
            "index": {"min_object_pixels": 32 if small else 288},
            "matching": {"size": 49 if small else 193},
            "baseline": {"iterations": iterations, "log_every": 1},
            "features": {"min_region_area": 16},
            "train": {"iterations": iterations, "log_every": 1, "extra_images": 4, "decoder_width": 16},
            "cam": {
                **{"iterations": iterations, "classifier_iterations": 1, "classifier_accuracy": 0.0, "log_every": 1},
                **{"episodes": 2, "objects": 2, "deconv_width": 8, "size": 49 if small else 193},
            },
            "episodes": {"count": episodes},
            "srofb": {"hidden": 16} if small else {},
            "evaluate": {"examples": 0},
        }
        values = {name: {**entries, **demo.get(name, {}), **changes.get(name, {})} for name, entries in base.items()}
        (root / "params.yaml").write_text(json.dumps(values), encoding="utf8")  # JSON is YAML
        self._draw(SceneSettings(**values["scenes"]))
        self.run("index", "--images", root / "images.h5", "--out", root / "index.h5")
        words = ["--index", root / "index.h5", "--fold", 0, "--shot", 1, "--seed", 0]
        self.run("episodes", *words, "--out", root / "seed0.tsv")
        self._write_regions()
        self.data = ["--index", root / "index.h5", "--images", root / "images.h5"]

    def run(self, stage: str, *words: object) -> None:
        """Run a stage in this process.

        Raises
        ------
        InputError
            If it fails.
        """
        flags = [] if stage == "pseudolabels" else ["--params", self.root / "params.yaml"]
        if stage_main([stage, *map(str, flags), *map(str, words)]):
            raise InputError(f"the stage {stage} failed; its message is above")

    def _draw(self, settings: SceneSettings) -> None:
        """Draw the images; the stage that does so also reads COCO, which needs another package."""
        raw, lists = self.root / "raw", ("train", "val")
        write_voc(raw, settings, range(settings.train + settings.val))
        reader = Voc(raw, None, lists, list(CLASSES))
        out = self.root / "images.h5"
        write_shard(out, reader, str(raw), shard=0, shards=1, source="scenes", lists=lists, excluded=[])

    def _write_regions(self) -> None:
        """Write regions that need no package of the region hierarchy: a grid of four by four."""
        with hdf5.opened(self.root / "images.h5", IMAGES) as file:
            training = np.flatnonzero(file["split"][:] == 0)
            names = hdf5.texts(file, "id")
            sizes = {name: file[name][:][training] for name in ("height", "width")}
            shard = {name: hdf5.attribute(file, name) for name in hdf5.SHARD_ATTRS}
        labels = []
        for height, width in zip(sizes["height"], sizes["width"], strict=True):
            rows, columns = np.indices((height, width))
            labels.append((rows * 4 // height * 4 + columns * 4 // width).astype(np.uint16))
        arrays = {
            **sizes,
            "row": training.astype(np.int32),
            "id": np.array([names[row] for row in training], object),
            "count": np.full(len(labels), 16, np.int32),
            **hdf5.Ragged.pack("labels", labels, "uint16"),
        }
        hdf5.write(self.root / "regions.h5", REGIONS, arrays, {"tau": 0.45, **shard})

    def write_prototypes(self, features: Path, encoder: Path) -> Path:
        """Write prototypes that need no k-means: vectors of the corpora, evenly spaced."""
        arrays: dict[str, Any] = {}
        counts = {}
        with hdf5.opened(features, FEATURES) as file:
            for side in SIDES:
                vectors = file[f"{side}/vectors"][:]
                counts[side] = len(vectors)
                for level, clusters, coarser in zip(LEVELS, (8, 4, 2), (4, 2, 0), strict=True):
                    members = np.bincount(np.arange(len(vectors)) % clusters, minlength=clusters)
                    parent = np.arange(clusters) % coarser if coarser else np.full(clusters, -1)
                    arrays |= {
                        f"{side}/level{level}/centres": vectors[:: len(vectors) // clusters][:clusters],
                        f"{side}/level{level}/members": members.astype(np.int64),
                        f"{side}/level{level}/parent": parent.astype(np.int32),
                    }
        facts = {"encoder": digest_once(encoder), "metric": "cosine", "vectors": counts}
        inertia = {side: [0.0] * len(LEVELS) for side in SIDES}
        hdf5.write(self.root / "prototypes.h5", PROTOTYPES, arrays, {"fold": 0, "inertia": inertia, **facts})
        return self.root / "prototypes.h5"


class Agreement:
    """Runs of the stages on a CPU and on a device, from the same inputs.

    Parameters
    ----------
    world
        Images and parameters.
    device
        ``cuda``, or ``cpu`` to try the program.
    threads
        Threads on the CPU of the runs on the device; the others have one.
    """

    def __init__(self, world: World, device: str, threads: int) -> None:
        self._world = world
        self._sides = {
            "cpu": ["--device", "cpu", "--threads", 1],
            "device": ["--device", device, "--threads", threads],
        }

    def _both(self, stage: str, *words: object) -> tuple[Path, Path]:
        outs = []
        for side, flags in self._sides.items():
            out = self._world.root / side / stage
            shutil.rmtree(out, ignore_errors=True)
            self._world.run(stage, *words, *flags, "--out", out)
            outs.append(out)
        torch.set_num_threads(1)
        return outs[0], outs[1]

    def _training(self, stage: str, *words: object) -> tuple[Path, Figure]:
        first, second = self._both(stage, *self._world.data, "--weights", PRETRAINED, "--fold", 0, *words)
        losses = [float(tables.read(out / LOG_FILE, LOG)["loss"].iloc[0]) for out in (first, second)]
        value = abs(losses[0] - losses[1]) / abs(losses[0])
        figure = _at_most(f"{stage}: first loss", value, "first loss", cpu=losses[0], device=losses[1])
        return first / WEIGHTS, figure

    def figures(self) -> Iterator[Figure]:
        """Yield the differences, in the order of the pipeline; each stage reads what the CPU has made before."""
        world, root = self._world, self._world.root
        baseline, figure = self._training("baseline", "--shot", 1)
        yield figure
        one = [*world.data, "--fold", 0, "--encoder", baseline]
        features = self._both("features", *one, "--regions", root / "regions.h5")
        for side, name in (("bg", "regions"), ("fg", "objects")):
            vectors = []
            for path in features:
                with hdf5.opened(path, FEATURES) as file:
                    vectors.append(file[f"{side}/vectors"][:])
            difference = float(np.abs(vectors[0] - vectors[1]).max() / np.abs(vectors[0]).max())
            yield _at_most(f"features of {name}", difference, "features", vectors=len(vectors[0]))
        prototypes = world.write_prototypes(features[0], baseline)
        labels = self._both("pseudolabels", *one, "--prototypes", prototypes)
        maps = []
        for path in labels:
            with hdf5.opened(path, PSEUDOLABELS) as file:
                maps.append(file["labels"][:])
        yield _at_most("pseudo labels", float((maps[0] != maps[1]).mean()), "pseudo labels", pixels=len(maps[0]))
        more = ["--shot", 1, "--variant", "hierarchical", "--pseudolabels", labels[0]]
        spfl, figure = self._training("train", *more)
        yield figure
        cam, figure = self._training("cam")
        yield figure
        words = [*world.data, "--episodes", root / "seed0.tsv", "--weights", PRETRAINED, "--fold", 0, "--shot", 1]
        words += ["--baseline", baseline, "--spfl", spfl, "--cam", cam]
        rows = [tables.read(out / ROWS, RESULTS) for out in self._both("evaluate", *words)]
        for variant in rows[0]["variant"].unique():
            scores = [100 * float(class_iou(part[part["variant"] == variant]).mean()) for part in rows]
            bar = "mIoU, online classifier" if "srofb" in variant else "mIoU"
            difference = abs(scores[0] - scores[1])
            yield _at_most(f"mIoU of {variant}", difference, bar, cpu=scores[0], device=scores[1])


def _agreement(device: str, *, small: bool) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), small=small)
        # A test beside others would wait for its second thread longer than it computes.
        yield from Agreement(world, device, threads=1 if small else 2).figures()


def _speed(row: str, device: str) -> Iterator[Figure]:
    from benchmarks import speed

    factor = speed.ROWS[row][1]
    (fast, memory), (plain, plain_memory) = (speed.measure(row, form, device, 1) for form in (0, 1))
    ratio = plain * factor / fast
    more = {"fast_s": fast, "plain_s": plain * factor, "fast_mib": memory, "plain_mib": plain_memory}
    yield Figure(f"speed: {row}", ratio, f"≥ {BARS['ratio']:g}", ratio >= BARS["ratio"], more)
    if device == "cuda":
        total = torch.cuda.get_device_properties(0).total_memory / 2**20
        yield _at_most(f"memory: {row}", memory / total, "memory", mib=memory)


def _ranks(device: str, *, small: bool) -> Iterator[Figure]:
    """Compare a training on two devices with one: both must move the weights in the same direction.

    The losses differ, since each process averages over its own pixels, and the first writes those of its own.
    """
    count = torch.cuda.device_count() if device == "cuda" else 2
    if count < 2:
        yield Figure("two ranks: direction of the training", None, "", True, {"skipped": f"{count} device"})
        return
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), small=small)
        moves, times, before = [], [], load_file(PRETRAINED)
        for ranks in (1, 2):
            out = world.root / f"ranks{ranks}"
            start = time.perf_counter()
            # In a process of its own, since PyTorch's process group lives as long as its process.
            command = ["baseline", "--params", world.root / "params.yaml", *world.data, "--weights", PRETRAINED]
            command += ["--fold", 0, "--shot", 1, "--device", device, "--devices", ranks, "--out", out]
            subprocess.run([sys.executable, "-m", "stages", *map(str, command)], cwd=ROOT, check=True)
            times.append(time.perf_counter() - start)
            after = load_file(out / WEIGHTS)
            moves.append(torch.cat([(after[f"resnet.{name}"] - value).flatten() for name, value in before.items()]))
        value = 1 - float(torch.nn.functional.cosine_similarity(moves[0], moves[1], dim=0))
        yield _at_most("two ranks: 1 − cosine of the weights' changes", value, "ranks", seconds=times)


def machine(device: str) -> dict[str, Any]:
    """Return what a result belongs to: the device, and the versions of whatever computes."""
    name = torch.cuda.get_device_name(0) if device == "cuda" else platform.processor() or platform.machine()
    return {
        "device": name,
        "devices": torch.cuda.device_count() if device == "cuda" else 1,
        "memory_mib": torch.cuda.get_device_properties(0).total_memory >> 20 if device == "cuda" else None,
        "novelseg": __version__,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if device == "cuda" else None,
        "python": platform.python_version(),
    }


def _parts(device: str, only: str, *, small: bool) -> dict[str, Part]:
    """Return the parts whose names begin with ``only``."""
    parts = {
        "agreement": partial(_agreement, device, small=small),
        "ranks": partial(_ranks, device, small=small),
    }
    if only not in ("agreement", "ranks"):
        from benchmarks import speed

        parts |= {f"speed: {row}": partial(_speed, row, device) for row in speed.ROWS}
    return {name: part for name, part in parts.items() if name.startswith(only)}


def prove(out: Path, device: str, only: str, minutes: float, *, small: bool) -> bool:
    """Measure what the file does not hold yet, and return whether every bar is passed.

    Parameters
    ----------
    out
        The file; it is written anew after each part.
    device
        ``cuda`` or ``cpu``.
    only
        Beginning of the names of the parts to measure; empty for all.
    minutes
        Time after which no further part is begun.
    small
        Whether the agreement is tried on as few images as possible.
    """
    here, start = machine(device), time.monotonic()
    result: dict[str, Any] = json.loads(out.read_text(encoding="utf8")) if out.exists() else {}
    if result.get("machine") != here:
        result = {"machine": here, "parts": {}}
    for name, part in _parts(device, only, small=small).items():
        if name in result["parts"]:
            continue
        if time.monotonic() - start > 60 * minutes:
            print(f"{name}: not begun, since {minutes:g} minutes are over; run the same command again to continue")
            continue
        begun = time.monotonic()
        figures = [asdict(figure) for figure in part()]
        result["parts"][name] = {"seconds": round(time.monotonic() - begun, 1), "figures": figures}
        result["passed"] = all(figure["passed"] for entry in result["parts"].values() for figure in entry["figures"])
        with whole_file(out) as scratch:
            scratch.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
    return bool(result.get("passed", False))


def table(out: Path) -> str:
    """Return the figures of a result file as a table."""
    result = json.loads(out.read_text(encoding="utf8"))
    lines = [", ".join(f"{key} {value}" for key, value in result["machine"].items() if value is not None)]
    for entry in result["parts"].values():
        for figure in entry["figures"]:
            value = "not measured" if figure["value"] is None else f"{figure['value']:.3g}"
            verdict = "–" if figure["value"] is None else "pass" if figure["passed"] else "FAIL"
            lines.append(f"{figure['name']:<52} {value:>12} {figure['bar']:>9}  {verdict}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table, and return 0 if every bar is passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu: try the program without a GPU")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="result file (default: %(default)s)")
    parser.add_argument("--only", default="", help="beginning of the names of the parts to measure, such as agreement")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="begin no part after this time")
    parser.add_argument("--small", action="store_true", help="agreement on as few images as possible")
    options = parser.parse_args(argv)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("error: this machine has no CUDA device; --device cpu tries the program", file=sys.stderr)
        return 2
    passed = prove(options.out, options.device, options.only, options.minutes, small=options.small)
    if options.out.exists():
        print(table(options.out))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
