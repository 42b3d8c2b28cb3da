"""``python -m tests.flips``: flip single bytes of every kind of artifact and count what its reader notices.

One byte of every dataset, attribute, tensor and cell, and others drawn at random. A flip is *noticed* if the reader
raises :class:`InputError` with one line. It *means nothing* if the reader returns what it returns for the whole file
and the byte lies in none of these parts, as the free space of HDF5 files does. Anything else is a fault, and the exit
code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import shutil
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
from novelseg.core.files import digest
from stages.__main__ import main as stage_main
from tests.fuzzing.artifacts import Source, digest_of, region_weights, sources
from tests.makers import ENCODER, REGION_WEIGHTS, SPFL, TRAINED, Project, tiny_values, write_values

WITH_STAGES = (
    *("images", "index", "hierarchies", "regions", "features", "prototypes", "pseudolabels", "encoder", "cam"),
    *("weights", "episodes", "rows", "about", "examples", "log", "region weights"),
)
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


def stage_words(project: Project, kind: str, path: Path, out: Path) -> tuple[str, list[object]]:
    """Return a stage that reads an artifact of a kind, and its options with ``path`` in the artifact's place."""
    index, images = ["--index", project.path("index/index.h5")], ["--images", project.images()[0]]
    encoder = ["--encoder", project.path(ENCODER), "--fold", 0, "--threads", 1]
    regions, second = ["--regions", project.path("regions/0.h5")], project.path("features/fold0/1.h5")
    prototypes = ["--prototypes", project.path("prototypes/fold0.h5")]
    report = [*project.data(), *project.shown_words(), "--trainings", *map(project.path, TRAINED.values())]
    report += ["--evaluations", project.path("evaluate/fold0/1shot")]
    whole: dict[str, tuple[str, list[object]]] = {
        "images": ("pseudolabels", [*index, *images, *encoder, *prototypes]),
        "hierarchies": ("regions", ["--hierarchies", project.path("hierarchies/0.h5")]),
        "regions": ("features", [*index, *images, *regions, *encoder]),
        "features": ("prototypes", ["--features", project.path("features/fold0/0.h5"), second, "--fold", 0]),
        "prototypes": ("pseudolabels", [*index, *images, *encoder, *prototypes]),
        "pseudolabels": ("train", project.train_words(out)[:-2]),
        "index": ("episodes", [*index, "--fold", 0, "--shot", 1, "--seed", 0]),
        "encoder": ("features", [*index, *images, *regions, *encoder]),
        "cam": ("evaluate", project.evaluate_words(out)[:-2]),
        "weights": ("baseline", project.training_words("baseline", out)[:-2]),
        "episodes": ("evaluate", project.evaluate_words(out)[:-2]),
        "rows": ("report", report),
        "about": ("report", report),
        "examples": ("report", report),
        "log": ("report", report),
        "region weights": ("hierarchies", project.hierarchies_words(0, out)[:-2]),
    }
    stage, words = whole[kind]
    original = {"region weights": REGION_WEIGHTS, "weights": project.weights}.get(kind)
    name = original or next(source.path for source in sources(project, path) if source.kind == kind)
    replaced = [path if word in (name, str(name)) else path.parent if word == name.parent else word for word in words]
    assert replaced != words
    return stage, [*replaced, "--out", out]


def flip_for_stages(
    project: Project, found: list[Source], folder: Path, seed: int, each: int
) -> tuple[Counter[str], list[str]]:
    """Flip bytes and run a stage on the file, in this process and without an engine.

    A stage that ends well with the output of the whole file has not used the byte.
    """
    counts: Counter[str] = Counter()
    faults: list[str] = []
    for number, source in enumerate(found):
        own = folder / f"stage{number}"
        shutil.copytree(source.path.parent, own / "in")
        target, rng = own / "in" / source.path.name, np.random.default_rng([seed, number])
        content = source.path.read_bytes()
        expected = _run_stage(project, source.kind, target, own / "whole")
        assert expected[0] == "done", f"{source.kind}: {expected}"
        for place in rng.integers(0, len(content), each).tolist():
            data = bytearray(content)
            data[place] ^= 1 << int(rng.integers(8))
            target.write_bytes(data)
            outcome, output = _run_stage(project, source.kind, target, own / f"out{place}")
            same = outcome == "done" and output == expected[1]
            outcome = "not used" if same else "another output" if outcome == "done" else outcome
            counts[outcome] += 1
            if outcome not in ("noticed", "not used"):
                faults.append(f"stage on {source.kind}: byte {place}: {outcome} {output}")
    return counts, faults


def _run_stage(project: Project, kind: str, path: Path, out: Path) -> tuple[str, str]:
    """Run a stage; return how it ended, and the digest of its output or what it printed."""
    stage, words = stage_words(project, kind, path, out)
    flags = [] if stage == "pseudolabels" else ["--params", project.params]
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            code = stage_main([stage, *map(str, [*flags, *words])])
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted and reported
        return f"traceback ({type(error).__name__})", str(error)
    last = printed.getvalue().strip().splitlines()[-1:]
    if code:
        told = last and last[0].startswith("error: ") and not out.exists()
        return "noticed" if told else f"exit {code}", "".join(last)
    files = sorted(path for path in ([out] if out.is_file() else out.rglob("*")) if path.is_file())
    return "done", digest_of([digest(path) for path in files])


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
    parser.add_argument("--stages", type=int, default=0, help="flips in each file that a stage is run on")
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
        if options.stages:
            used = [source for source in all_sources(project, bundle, Path(scratch)) if source.kind in WITH_STAGES]
            counts, own = flip_for_stages(project, used, Path(scratch), options.seed, options.stages)
            sys.stdout.write(f"stages: {', '.join(f'{n} {what}' for what, n in counts.most_common())}\n")
            faults += own
    sys.stdout.write("\n".join([*faults, f"all: {', '.join(f'{n} {what}' for what, n in total.most_common())}", ""]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
