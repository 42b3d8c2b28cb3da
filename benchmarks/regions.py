"""Compare the region hierarchy with scikit-image's felzenszwalb: CPU time, peak memory, growth with pixels and images.

Run with ``python -m benchmarks.regions``; it prints three tables. Every method runs in a separate process on one core.
The CPU time of that process is measured, on which other programs have little influence. Images are parts of photographs
that come with scikit-image.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from skimage.segmentation import felzenszwalb

from novelseg.core.threads import one_thread
from novelseg.regions import ucm
from novelseg.regions.weights import BSDS500, load_model
from workflow.presets import resolve_preset

SHAPE = (321, 481)
SCALES = (0.5, 2**-0.5, 1.0, 2**0.5)  # of the sides; 0.25, 0.5, 1 and 2 times the pixels
SHARDS = (5, 10, 20, 40)  # images per shard
REPEATS = 7

Picture = NDArray[np.uint8]


def photographs(shape: tuple[int, int]) -> list[Picture]:
    """Return public-domain photographs, scaled and cropped to one size (H, W)."""
    photos = []
    for photo in (data.astronaut(), data.coffee(), data.chelsea(), data.rocket()):
        height, width = photo.shape[:2]
        scale = max(shape[0] / height, shape[1] / width)
        size = (max(shape[1], round(width * scale)), max(shape[0], round(height * scale)))
        photos.append(np.asarray(Image.fromarray(photo).resize(size))[: shape[0], : shape[1]])
    return photos


def _segment_ucm() -> Callable[[Picture], object]:
    model = load_model(BSDS500)
    return lambda image: ucm.build(image, model)


def _segment_felzenszwalb() -> Callable[[Picture], object]:
    return lambda image: felzenszwalb(image, scale=300)


METHODS = {"ucm": _segment_ucm, "felzenszwalb": _segment_felzenszwalb}


def _measure(method: str, shape: tuple[int, int], pipe: Any) -> None:
    images = photographs(shape)
    segment = METHODS[method]()
    with one_thread():
        segment(images[0])
        best = [min(_seconds(segment, image) for _ in range(REPEATS)) for image in images]
    pipe.send((float(np.mean(best)) * 1e3, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def _seconds(segment: Callable[[Picture], object], image: Picture) -> float:
    start = time.process_time()
    segment(image)
    return time.process_time() - start


def measure(method: str, shape: tuple[int, int]) -> tuple[float, float]:
    """Return CPU milliseconds per image and peak memory in MiB, measured in a new process."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(method, shape, send))
    process.start()
    result: tuple[float, float] = receive.recv()
    process.join()
    return result


def _write_voc(root: Path, count: int) -> None:
    """Write a folder in VOC's layout with ``count`` training images, different parts of the photographs."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    names = [f"part{number:03d}" for number in range(count + 1)]
    photos = photographs((SHAPE[0] + 60, SHAPE[1] + 60))
    for number, name in enumerate(names):
        row, column = (number * 7) % 60, (number * 13) % 60
        part = photos[number % 4][row : row + SHAPE[0], column : column + SHAPE[1]]
        Image.fromarray(part).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        Image.new("L", SHAPE[::-1], 1).save(root / "SegmentationClass" / f"{name}.png")
    for split, listed in (("train", names[:-1]), ("val", names[-1:])):
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(listed) + "\n", encoding="utf8")


def stage(count: int) -> tuple[float, float]:
    """Return CPU seconds and peak memory in MiB of the stage ``hierarchies`` on a shard of ``count`` images."""
    values = resolve_preset("demo")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write_voc(root / "raw", count)
        values["images"] |= {"source": "voc", "root": str(root / "raw"), "shards": 1}
        values["hierarchies"]["longest_side"] = 500
        (root / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf8")
        params = ["--params", str(root / "params.yaml")]
        images = str(root / "0.h5")
        command = [sys.executable, "-m", "stages"]
        subprocess.run(
            [*command, "images", *params, "--root", str(root / "raw"), "--shard", "0", "--out", images],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        options = [*params, "--images", images, "--weights", str(BSDS500), "--out", str(root / "trees.h5")]
        process = subprocess.Popen([*command, "hierarchies", *options], stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"the stage hierarchies failed with exit code {process.returncode}")
        return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def fit_line(sizes: list[float], seconds: list[float]) -> str:
    """Describe the least-squares line of seconds against sizes, and its R²."""
    slope, offset = np.polyfit(sizes, seconds, 1)
    residuals = np.array(seconds) - (slope * np.array(sizes) + offset)
    r2 = 1 - (residuals**2).sum() / ((np.array(seconds) - np.mean(seconds)) ** 2).sum()
    return f"line: {offset:.3g} + {slope:.3g} per unit, R² {r2:.4f}"


def main() -> None:
    """Measure and print three tables."""
    print(f"One image of {SHAPE[1]}×{SHAPE[0]} px (mean of 4 photographs, each the best of {REPEATS}), one core")
    print(f"{'method':14} {'CPU ms':>8} {'ratio':>7} {'peak MiB':>9}")
    results = {method: measure(method, SHAPE) for method in METHODS}
    for method, (milliseconds, memory) in results.items():
        print(f"{method:14} {milliseconds:8.1f} {milliseconds / results['felzenszwalb'][0]:7.2f} {memory:9.0f}")
    print("\nTime against pixels (ucm)")
    print(f"{'size':>10} {'Mpx':>7} {'CPU ms':>8} {'peak MiB':>9}")
    sizes, times = [], []
    for scale in SCALES:
        shape = (round(SHAPE[0] * scale), round(SHAPE[1] * scale))
        milliseconds, memory = measure("ucm", shape)
        sizes.append(shape[0] * shape[1] / 1e6)
        times.append(milliseconds)
        print(f"{shape[1]:>5}×{shape[0]:<4} {sizes[-1]:7.3f} {milliseconds:8.1f} {memory:9.0f}")
    print(fit_line(sizes, times))
    print("\nThe stage `hierarchies` against images in a shard, including the start of the program")
    print(f"{'images':>10} {'CPU s':>8} {'peak MiB':>9}")
    sizes, times = [], []
    for count in SHARDS:
        seconds, memory = stage(count)
        sizes.append(float(count))
        times.append(seconds)
        print(f"{count:>10} {seconds:8.2f} {memory:9.0f}")
    print(fit_line(sizes, times))


if __name__ == "__main__":
    main()
