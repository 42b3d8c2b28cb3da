"""``python -m tests.flips``: flip single bytes of every kind of artifact and count what its reader notices.

One byte of every dataset, attribute, tensor and cell, and others drawn at random. A flip is *noticed* if the reader
raises :class:`InputError` with one line. It *means nothing* if the reader returns what it returns for the whole file
and the byte lies in none of these parts, as the free space of HDF5 files does. Anything else is a fault, and the exit
code is 1.
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from novelseg.core.errors import InputError
from tests.fuzzing.artifacts import Source, region_weights, sources
from tests.makers import REGION_WEIGHTS, SPFL, Project, tiny_values, write_values

WEIGHTS = Path(__file__).parent.parent / "weights" / "scenes-resnet18-w16.safetensors"


@dataclass(frozen=True)
class Part:
    """Named bytes of a file, from ``start`` on."""

    name: str
    start: int
    length: int


def parts_of(path: Path) -> list[Part]:
    """Return the datasets' chunks and the attributes of an HDF5 file, the tensors and entries of a weight file, or the
    cells of a table.

    Everything else of these files is in no part, and files of other kinds are one part.
    """
    content = path.read_bytes()
    if path.suffix == ".h5":
        return list(_hdf5_parts(path, content))
    if path.suffix == ".safetensors":
        return list(_tensor_parts(content))
    if path.suffix == ".tsv":
        return list(_cells(content))
    return [Part("file", 0, len(content))]


def _hdf5_parts(path: Path, content: bytes) -> Iterator[Part]:
    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in names:
            dataset = file[name].id
            for number in range(dataset.get_num_chunks() if file[name].size else 0):
                chunk = dataset.get_chunk_info(number)
                yield Part(f"{name} chunk {number}", chunk.byte_offset, chunk.size)
        seen: Counter[str] = Counter()
        for name in ("", *names):
            for key, value in (file[name] if name else file).attrs.items():
                data = value if isinstance(value, bytes) else struct.pack("<q", int(value))
                # An attribute's name, a zero byte, its type and shape, and then its value.
                headed = re.escape(key.encode()) + rb"\0.{0,80}?" + re.escape(data)
                matches = list(re.finditer(headed, content, re.DOTALL))
                match = matches[seen[f"{key}={value!r}"] % len(matches)]
                seen[f"{key}={value!r}"] += 1
                yield Part(f"{name}@{key}", match.end() - len(data), len(data))


def _tensor_parts(content: bytes) -> Iterator[Part]:
    start = 8 + struct.unpack("<Q", content[:8])[0]
    yield Part("length of the header", 0, 8)
    yield Part("header", 8, start - 8)
    for name, entry in json.loads(content[8:start]).items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            yield Part(name, start + first, last - first)


def _cells(content: bytes) -> Iterator[Part]:
    place = 0
    for number, line in enumerate(content.splitlines(keepends=True)):
        for column, cell in enumerate(line.split(b"\t")):
            length = len(cell) + (not cell.endswith(b"\n"))
            yield Part(f"row {number}, column {column}", place, length)
            place += length


def places(parts: list[Part], size: int, rng: np.random.Generator, each: int, more: int) -> list[tuple[int, str]]:
    """Draw the bytes to flip: ``each`` in every part, and ``more`` in the whole file; with the part's name, if any."""
    chosen: dict[int, str] = {}
    for part in parts:
        for offset in rng.integers(0, part.length, each).tolist() if part.length else ():
            chosen[part.start + offset] = part.name
    for place in rng.integers(0, size, more).tolist():
        inside = [part.name for part in parts if part.start <= place < part.start + part.length]
        chosen.setdefault(place, inside[0] if inside else "")
    return sorted(chosen.items())


def flip_all(
    source: Source, folder: Path, rng: np.random.Generator, each: int, more: int
) -> tuple[Counter[str], list[str]]:
    """Flip bytes of a file, one at a time; return how many were noticed and how, and the faults."""
    content = source.path.read_bytes()
    folder.mkdir(parents=True)
    for path in source.beside:
        (folder / path.name).write_bytes(path.read_bytes())
    target = folder / source.path.name
    target.write_bytes(content)
    whole = source.read(target)
    counts: Counter[str] = Counter()
    faults = []
    for place, part in places(parts_of(source.path), len(content), rng, each, more):
        data = bytearray(content)
        data[place] ^= 1 << int(rng.integers(8))
        target.write_bytes(data)
        outcome = _outcome(source, target, whole, part)
        counts[outcome] += 1
        if outcome not in ("noticed", "means nothing"):
            faults.append(f"{source.kind}: byte {place} of {part or 'no part'}: {outcome}")
    return counts, faults


def _outcome(source: Source, target: Path, whole: str, part: str) -> str:
    try:
        same = source.read(target) == whole
    except InputError as error:
        return "noticed" if "\n" not in str(error) else "several lines"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted and reported
        return f"traceback ({type(error).__name__})"
    return ("means nothing" if not part else "not noticed") if same else "another content"


def make_project(root: Path) -> tuple[Project, Path]:
    """Make the tiny project and its bundle."""
    from tests.commands import export

    project, bundle = Project(root, WEIGHTS), root / "bundle.safetensors"
    root.mkdir()
    write_values(project.params, tiny_values())
    project.make_all()
    words = ["--encoder", project.path(SPFL), "--index", project.path("index/index.h5")]
    assert export(project, *words, "--prototypes", project.path("prototypes/fold0.h5"), "--out", bundle) == 0
    return project, bundle


def all_sources(project: Project, bundle: Path, folder: Path) -> list[Source]:
    """Return every kind of artifact, region weights as they are written now and as they are shipped included."""
    from novelseg.regions.weights import load_model, save_model

    written = folder / "regions.safetensors"
    save_model(written, load_model(REGION_WEIGHTS))
    shipped = region_weights(REGION_WEIGHTS)
    beside = (REGION_WEIGHTS.with_suffix(".json"),)
    return [
        *sources(project, bundle),
        region_weights(written),
        Source("shipped region weights", shipped.path, shipped.read, beside),
    ]


def main(argv: list[str] | None = None) -> int:
    """Flip bytes and print the counts of each kind of artifact."""
    parser = argparse.ArgumentParser(prog="python -m tests.flips", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="seed of all draws")
    parser.add_argument("--each", type=int, default=2, help="flips in every dataset chunk, attribute, tensor and cell")
    parser.add_argument("--more", type=int, default=100, help="flips anywhere in each file")
    options = parser.parse_args(argv)
    total: Counter[str] = Counter()
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        project, bundle = make_project(Path(scratch) / "project")
        for number, source in enumerate(all_sources(project, bundle, Path(scratch))):
            rng = np.random.default_rng([options.seed, number])
            counts, own = flip_all(source, Path(scratch) / f"flips{number}", rng, options.each, options.more)
            sys.stdout.write(f"{source.kind}: {', '.join(f'{n} {what}' for what, n in counts.most_common())}\n")
            total += counts
            faults += own
    sys.stdout.write("\n".join([*faults, f"all: {', '.join(f'{n} {what}' for what, n in total.most_common())}", ""]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
