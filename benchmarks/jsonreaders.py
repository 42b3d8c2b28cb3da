"""Compare the streaming reader of COCO's annotations with ijson on a generated file: CPU time, wall time, peak memory.

Run with ``python -m benchmarks.jsonreaders`` after ``pip install ijson``, which nothing else needs. Each reader runs in
a separate process and reads the elements of ``images``, then those of ``annotations`` and ``categories``.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from novelseg.core.random import numpy_generator
from novelseg.data.jsonstream import elements

BYTES = 100_000_000
IMAGES = 25_000
REPEATS = 3
READS = (("images",), ("annotations", "categories"))
Reader = Callable[..., Iterator[tuple[str, Any]]]


def write_annotations(path: Path) -> None:
    """Write ``BYTES`` of random annotations in COCO's format, polygons of 8 to 59 points."""
    rng = numpy_generator(0, "json readers")
    images = [
        {"license": 1, "file_name": f"COCO_train2014_{n:012d}.jpg", "height": 480, "width": 640, "id": n}
        for n in range(IMAGES)
    ]
    with path.open("w", encoding="utf8") as file:
        file.write(f'{{"info": {{"year": 2014}}, "images": {json.dumps(images)}, "annotations": [')
        size, number = file.tell(), 0
        while size < BYTES:
            annotation = {
                "segmentation": [rng.uniform(0, 640, 2 * rng.integers(8, 60)).round(2).tolist()],
                "area": round(float(rng.uniform(10, 90_000)), 4),
                "iscrowd": 0,
                "image_id": int(rng.integers(IMAGES)),
                "bbox": rng.uniform(0, 400, 4).round(2).tolist(),
                "category_id": int(rng.integers(1, 81)),
                "id": number,
            }
            size += file.write((", " if number else "") + json.dumps(annotation))
            number += 1
        categories = [{"supercategory": "thing", "id": n, "name": f"category {n}"} for n in range(1, 81)]
        file.write(f'], "categories": {json.dumps(categories)}}}')


def by_item(path: Path, *keys: str) -> Iterator[tuple[str, Any]]:
    """Read one array per pass with ``ijson.items``, which detects neither missing arrays nor duplicate keys."""
    import ijson

    for key in keys:
        with path.open("rb") as file:
            yield from ((key, value) for value in ijson.items(file, f"{key}.item", use_float=True))


def by_event(path: Path, *keys: str) -> Iterator[tuple[str, Any]]:
    """Read all arrays in one pass with ``ijson.basic_parse``, which allows the same checks as the project's reader."""
    import ijson
    from ijson.common import ObjectBuilder

    pending, seen, key, depth, builder = set(keys), set[str](), "", 0, None
    with path.open("rb") as file:
        for event, value in ijson.basic_parse(file, use_float=True, buf_size=1 << 20):
            depth += (event in ("start_map", "start_array")) - (event in ("end_map", "end_array"))
            if builder is not None:
                builder.event(event, value)
                if depth == 2:
                    yield key, builder.value
                    builder = None
            elif event == "map_key" and depth == 1:
                if value in seen:
                    raise ValueError(f"the key {value!r} occurs twice")
                seen.add(value)
                key = value
            elif depth == 3 and key in pending:
                builder = ObjectBuilder()
                builder.event(event, value)
            elif event == "end_array" and depth == 1:
                pending.discard(key)
                if not pending:
                    return


READERS: dict[str, Reader] = {"project": elements, "ijson.items": by_item, "ijson.basic_parse": by_event}


def measure(name: str, path: Path) -> tuple[int, float, float, float]:
    """Return the number of elements, CPU and wall seconds, and the peak memory of this process in MiB."""
    wall, cpu = time.perf_counter(), time.process_time()
    count = sum(1 for keys in READS for _ in READERS[name](path, *keys))
    seconds = time.process_time() - cpu, time.perf_counter() - wall
    return count, *seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Write the file, run all readers in turn several times, and print the medians."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instances.json"
        write_annotations(path)
        runs: dict[str, list[tuple[int, float, float, float]]] = {name: [] for name in READERS}
        for _ in range(REPEATS):
            for name in READERS:
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                    runs[name].append(pool.submit(measure, name, path).result())
    print(f"{'reader':18} {'elements':>9} {'s CPU':>6} {'s wall':>7} {'peak MiB':>9}")
    for name, rows in runs.items():
        count, cpu, wall, peak = (median(column) for column in zip(*rows, strict=True))
        print(f"{name:18} {count:9,} {cpu:6.2f} {wall:7.2f} {peak:9.0f}")


if __name__ == "__main__":
    main()
