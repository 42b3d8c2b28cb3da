"""Mutations of artifacts: weights, bundles, HDF5 files, episode lists and result tables, each with its reader.

A reader returns a summary of what it accepted, equal for equal content, or raises :class:`InputError`. A mutation that
is accepted must have the content of the original, or be content that is valid in itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save

from novelseg.backbones.encoder import load_encoder, pretrained_backbone
from novelseg.data.index import read_index
from novelseg.data.store import PseudoLabelStore, read_mask, read_rgb
from novelseg.evaluation.comparisons import read_evaluation
from novelseg.evaluation.lists import read_cases
from novelseg.formats import hdf5, tables
from novelseg.formats.class_results import CLASS_SCORES
from novelseg.formats.comparisons import COMPARISONS
from novelseg.formats.examples import EXAMPLES
from novelseg.formats.features import FEATURES
from novelseg.formats.hierarchies import HIERARCHIES
from novelseg.formats.images import IMAGES
from novelseg.formats.index import INDEX
from novelseg.formats.network import NETWORK, header_of, read_header, sealed
from novelseg.formats.prototypes import PROTOTYPES
from novelseg.formats.pseudolabels import PSEUDOLABELS
from novelseg.formats.record import BackboneSpec
from novelseg.formats.regions import REGIONS
from novelseg.formats.results import SCORES
from novelseg.formats.training_log import LOG
from novelseg.inference.bundle import BUNDLE, load_bundle
from novelseg.methods.cam.network import load_cam
from novelseg.regions.hierarchy import Hierarchy, cut, tree_fault
from novelseg.regions.weights import load_model
from tests.makers import CAM, ENCODER, Project

Read = Callable[[Path], str]
BACKBONE = BackboneSpec("resnet18", "torchvision", 16)  # of the weights that the tiny project starts from


@dataclass(frozen=True)
class Source:
    """A valid artifact: its file, the files that must lie beside it, and its reader, which takes the file's path."""

    kind: str
    path: Path
    read: Read
    beside: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Mutation:
    """A mutated artifact: kind, what was changed, the bytes, and the name that the file must have."""

    kind: str
    change: str
    content: bytes
    name: str


def digest_of(value: Any) -> str:
    """Return a digest of nested values: arrays, tensors, tables, records, networks."""
    total = hashlib.md5()
    _feed(total, value)
    return total.hexdigest()


def _feed(total: Any, value: Any) -> None:
    if isinstance(value, torch.nn.Module):
        value = value.state_dict()
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, pd.DataFrame):
        value = {str(name): value[name].tolist() for name in value.columns}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        for name in sorted(value, key=str):
            total.update(f"{name}\0".encode())
            _feed(total, value[name])
    elif isinstance(value, (list, tuple)):
        total.update(f"[{len(value)}".encode())
        for entry in value:
            _feed(total, entry)
    elif isinstance(value, np.ndarray):
        total.update(f"{value.dtype} {value.shape}".encode())
        total.update(repr(value.tolist()).encode() if value.dtype == object else np.ascontiguousarray(value).tobytes())
    else:
        total.update(repr(value).encode())


def read_hdf5(path: Path, spec: hdf5.Spec) -> str:
    """Read an artifact whole, and use it as its stages do."""
    with hdf5.opened(path, spec) as file:
        content = {
            name: file[name].texts() if f.dtype == hdf5.TEXT else file[name][:] for name, f in spec.fields.items()
        }
        if spec is HIERARCHIES:
            for row, name in enumerate(content["id"]):
                parts = [hdf5.Ragged.get(file, part, row) for part in ("basins", "parents", "heights")]
                work = int(file["work_height"][row]), int(file["work_width"][row])
                tree = Hierarchy(parts[0].reshape(work), parts[1], parts[2])
                if fault := tree_fault(tree):
                    raise file.wrong(f"the tree of '{name}': {fault}")
                cut(tree, 0.3, (int(file["height"][row]), int(file["width"][row])))
        if spec is IMAGES:
            for row in range(len(content["id"])):
                read_rgb(file, row)
                read_mask(file, row)
        if spec is PSEUDOLABELS:
            with PseudoLabelStore([path], hdf5.attribute(file, "fold")) as store:
                for name in content["id"]:
                    store.labels(name)
        return digest_of([content, file.attributes])


def sources(project: Project, bundle: Path) -> list[Source]:
    """Return the artifacts of the tiny project with their readers."""
    index = read_index(project.path("index/index.h5"))
    evaluation, report = project.path("evaluate/fold0/1shot"), project.root / "report"
    both = evaluation / "rows.parquet", evaluation / "about.json"
    files: dict[str, tuple[hdf5.Spec, str]] = {
        "images": (IMAGES, "images/0.h5"),
        "hierarchies": (HIERARCHIES, "hierarchies/0.h5"),
        "regions": (REGIONS, "regions/0.h5"),
        "features": (FEATURES, "features/fold0/0.h5"),
        "prototypes": (PROTOTYPES, "prototypes/fold0.h5"),
        "pseudolabels": (PSEUDOLABELS, "pseudolabels/fold0/0.h5"),
        "examples": (EXAMPLES, "evaluate/fold0/1shot/examples.h5"),
        "index": (INDEX, "index/index.h5"),
    }

    def hdf5_reader(spec: hdf5.Spec) -> Read:
        return lambda path: read_hdf5(path, spec)

    def table_reader(spec: tables.TableSpec) -> Read:
        return lambda path: digest_of(tables.read(path, spec))

    found = [Source(kind, project.path(name), hdf5_reader(spec)) for kind, (spec, name) in files.items()]
    found += [
        Source("encoder", project.path(ENCODER), lambda path: digest_of(load_encoder(path))),
        Source("cam", project.path(CAM), lambda path: digest_of(load_cam(path))),
        Source("bundle", bundle, lambda path: digest_of(load_bundle(path))),
        Source("weights", project.weights, _read_weights, (project.weights.with_suffix(".json"),)),
        Source(
            "episodes",
            project.path("episodes/fold0/1shot/seed0.tsv"),
            lambda path: digest_of(read_cases([path], index, 0, 1)),
        ),
        Source("rows", both[0], lambda path: digest_of(_evaluation(path)), both[1:]),
        Source("about", both[1], lambda path: digest_of(_evaluation(path)), both[:1]),
        Source("log", project.path("baseline/fold0/1shot/log.tsv"), table_reader(LOG)),
        Source("results", report / "results.tsv", table_reader(SCORES)),
        Source("classes", report / "classes.tsv", table_reader(CLASS_SCORES)),
        Source("comparisons", report / "comparisons.tsv", table_reader(COMPARISONS)),
    ]
    return found


def region_weights(path: Path) -> Source:
    """Return a file of region weights with its reader."""
    return Source("region weights", path, lambda file: digest_of(_model(file)))


def _model(path: Path) -> Any:
    model = load_model(path)
    networks = [dataclasses.asdict(network) for network in model.networks]  # type: ignore[call-overload]
    return [model.textons, model.cuts, model.levels, networks]


def _read_weights(path: Path) -> str:
    return digest_of(pretrained_backbone(BACKBONE, path))


def _evaluation(path: Path) -> Any:
    evaluation = read_evaluation(path.parent)
    return [evaluation.rows, evaluation.about]


def mutations(source: Source, rng: np.random.Generator) -> Iterator[Mutation]:
    """Yield mutations of an artifact without end: damaged bytes, and whole files with content that makes no sense."""
    content = source.path.read_bytes()
    make = _MAKERS[source.kind if source.kind in _MAKERS else source.path.suffix]
    while True:
        if rng.random() < 0.5:
            change, damaged = _damage(content, rng)
            yield Mutation(source.kind, change, damaged, source.path.name)
        else:
            yield make(source, rng)


def cases(found: list[Source], rng: np.random.Generator) -> Iterator[tuple[Source, Mutation]]:
    """Yield mutations of all artifacts in turn, without end."""
    streams = [(source, mutations(source, rng)) for source in found]
    while True:
        for source, stream in streams:
            yield source, next(stream)


def _damage(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Flip, cut, insert, repeat or blank some bytes."""
    data, way = bytearray(content), int(rng.integers(7))
    start = int(rng.integers(len(data)))
    length = int(rng.integers(1, 1 + min(4096, len(data) - start)))
    if way == 0:
        data[start] ^= 1 << int(rng.integers(8))
        return f"bit of byte {start}", bytes(data)
    if way == 1:
        for place in rng.integers(0, len(data), 8).tolist():
            data[place] = int(rng.integers(256))
        return "8 bytes", bytes(data)
    if way == 2:
        return f"cut at {start}", bytes(data[:start])
    if way == 3:
        return f"{length} bytes removed at {start}", bytes(data[:start] + data[start + length :])
    if way == 4:
        return f"{length} bytes repeated at {start}", bytes(data[: start + length] + data[start:])
    if way == 5:
        data[start : start + length] = bytes(length)
        return f"{length} bytes blanked at {start}", bytes(data)
    head = bytearray(rng.bytes(64)) + data[64:]
    return "first 64 bytes", bytes(head)


def _odd_array(array: NDArray[Any], rng: np.random.Generator) -> tuple[str, NDArray[Any]]:
    """Change values, type or shape of an array."""
    way = int(rng.integers(8))
    if way == 0 or not array.size:
        return "one row more", np.concatenate([array, array[-1:], array[:1]]) if len(array) else array
    if way == 1:
        return "a row less", array[:-1]
    if way == 2:
        return "other type", array.astype(np.float64 if array.dtype != np.float64 else np.int32)
    if way == 3:
        return "reversed", array[::-1]
    if way == 4:
        return "another dimension", array[None]
    changed = array.copy()
    place = tuple(int(rng.integers(side)) for side in array.shape)
    if array.dtype.kind == "f":
        changed[place] = [np.nan, np.inf, -1e30, 1e30][int(rng.integers(4))]
    else:
        info = np.iinfo(array.dtype)
        changed[place] = [info.min, info.max, 0, changed[place] ^ 1][int(rng.integers(4))]
    return f"value at {place}", changed


ODD_VALUES: tuple[Any, ...] = (
    None,
    -1,
    0,
    1,
    1e9,
    10**9,
    float("nan"),
    "",
    "x",
    [],
    {},
    [None],
    True,
    [1, 2],
    {"a": 1},
)


def _odd_hdf5(source: Source, rng: np.random.Generator) -> Mutation:
    """Write the artifact again, with right checksums, and one part that makes no sense."""
    scratch = io.BytesIO()
    with h5py.File(source.path, "r") as old, h5py.File(scratch, "w", libver=("v110", "v110")) as new:
        names: list[str] = []
        old.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        chosen = str(rng.choice([*names, *(f"@{name}" for name in old.attrs)]))
        drop, change = rng.random() < 0.1, "missing"
        for name, value in old.attrs.items():
            if f"@{name}" == chosen:
                if drop:
                    continue
                odd = ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]
                change = repr(odd)
                value = np.bytes_(json.dumps(odd).encode()) if name != "version" else np.int64(rng.integers(0, 9))
            new.attrs[name] = value
        for name in names:
            data, kind = old[name][()], old[name].dtype
            if name == chosen:
                if drop:
                    continue
                if kind.kind == "S":
                    change = "texts"
                    data = data.copy()
                    data[: max(1, len(data) // 2)] = [b"", b"\xff\xfe", b"a b", data[-1] if len(data) else b""][
                        int(rng.integers(4))
                    ]
                else:
                    change, data = _odd_array(data, rng)
            options = {"chunks": data.shape, "fletcher32": True, "compression": "gzip"} if data.size else {}
            new.create_dataset(name, data=data, dtype=data.dtype, **options)
    return Mutation(source.kind, f"{chosen}: {change}", scratch.getvalue(), source.path.name)


def _odd_network(source: Source, rng: np.random.Generator) -> Mutation:
    """Write a network or bundle again, with right checksums, and one tensor or entry that makes no sense."""
    kind = BUNDLE if source.kind == "bundle" else NETWORK
    about, tensors = read_header(source.path, kind), load_file(source.path)
    if rng.random() < 0.5:
        chosen, change = _odd_entry(about, rng)
    else:
        chosen = str(rng.choice(sorted(tensors)))
        change, tensors[chosen] = _odd_tensor(tensors[chosen], rng)
    return Mutation(source.kind, f"{chosen}: {change}", sealed(save(tensors, header_of(kind, about))), source.path.name)


def _odd_entry(about: dict[str, Any], rng: np.random.Generator) -> tuple[str, str]:
    """Change one entry of a header, at any depth."""
    holder: Any = about
    name = str(rng.choice(sorted(about)))
    path = name
    while isinstance(holder[name], dict) and holder[name] and rng.random() < 0.8:
        holder = holder[name]
        name = str(rng.choice(sorted(holder)))
        path += f".{name}"
    if rng.random() < 0.1:
        del holder[name]
        return path, "missing"
    holder[name] = ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]
    return path, repr(holder[name])


def _odd_tensor(tensor: torch.Tensor, rng: np.random.Generator) -> tuple[str, torch.Tensor]:
    way = int(rng.integers(5))
    if way == 0:
        return "integers", tensor.to(torch.int32 if tensor.is_floating_point() else torch.float32)
    if way == 1:
        return "another shape", tensor[None].contiguous()
    if way == 2:
        return "half precision", tensor.to(torch.float16)
    changed = tensor.clone().reshape(-1)
    if changed.numel():
        changed[int(rng.integers(len(changed)))] = float("nan") if way == 3 and tensor.is_floating_point() else -1
    return "a value", changed.reshape(tensor.shape)


def _odd_weights(source: Source, rng: np.random.Generator) -> Mutation:
    """Store weights in another way: pickled, nested, beside other objects, with tensors of other kinds."""
    state = dict(load_file(source.path))
    name = str(rng.choice(sorted(state)))
    tensor = state[name]
    odd: list[Any] = [None, 3, "text", [tensor], tensor.to_sparse(), tensor.to(torch.complex64), np.float64(1)]
    odd += [tensor.to(torch.float64), tensor * float("nan"), torch.zeros(0), torch.empty(3, device="meta")]
    contents: list[Any] = [tensor, [tensor], None, {1: tensor}, {"model": state}, {"state_dict": state, "best": odd[6]}]
    contents += [{**state, name: value} for value in odd]
    chosen = int(rng.integers(len(contents)))
    buffer = io.BytesIO()
    if rng.random() < 0.2:
        arrays = {key: value.numpy() for key, value in state.items()}
        change, arrays[name] = _odd_array(arrays[name], rng)
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        return Mutation(source.kind, f"npz, {name}: {change}", buffer.getvalue(), "w.npz")
    torch.save(contents[chosen], buffer)
    content, change = buffer.getvalue(), f"pickle {chosen} of {name}"
    if rng.random() < 0.5:
        more, content = _damage(content, rng)
        change += f", {more}"
    return Mutation(source.kind, change, content, "w.pth")


CELLS = ("", "x", "-1", "0", "1", "1.5", "nan", "inf", "99999999999999999999", "1e400", '"', "\t", "é", "1_0", " 1")


def _odd_table(source: Source, rng: np.random.Generator) -> Mutation:
    """Change a cell, a row or a column of a table without its checksum."""
    rows = [line.split("\t")[:-1] for line in source.path.read_text(encoding="utf8").splitlines()]
    row, way = int(rng.integers(1, len(rows))), int(rng.integers(6))
    column = int(rng.integers(len(rows[0])))
    change = f"row {row}"
    if way == 0:
        rows.append(list(rows[row]))
    elif way == 1:
        del rows[row]
    elif way == 2:
        rows = [[cell for place, cell in enumerate(line) if place != column] for line in rows]
        change = f"column {column} missing"
    elif way == 3:
        rows[row] = rows[row][:column]
    else:
        other = rows[int(rng.integers(1, len(rows)))][int(rng.integers(len(rows[0])))]
        rows[row][column] = str(rng.choice([*CELLS, other]))
        change = f"row {row}, column {column}: {rows[row][column]!r}"
    return Mutation(source.kind, change, "".join("\t".join(line) + "\n" for line in rows).encode(), source.path.name)


def _odd_rows(source: Source, rng: np.random.Generator) -> Mutation:
    """Change a column of a Parquet table without its checksum."""
    frame = pd.read_parquet(source.path)
    column = str(rng.choice(frame.columns))
    way = int(rng.integers(5))
    if way == 0:
        frame = pd.concat([frame, frame.iloc[[0]]])
    elif way == 1:
        frame = frame.drop(columns=column)
    elif way == 2:
        frame[column] = frame[column].astype(str) + "x"
    elif way == 3:
        frame[column] = frame[column].astype(object).where(np.arange(len(frame)) != 0, None)
    elif column in ("variant", "query"):
        frame[column] = "?"
    else:
        frame.loc[frame.index[0], column] = int(rng.choice([-1, 0, 10**6, 1 << 40]))
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return Mutation(source.kind, f"{column}, way {way}", buffer.getvalue(), source.path.name)


def _odd_about(source: Source, rng: np.random.Generator) -> Mutation:
    """Change an entry of a record without its checksum."""
    about = json.loads(source.path.read_text(encoding="utf8"))
    del about["crc32"], about["version"]
    path, change = _odd_entry(about, rng)
    return Mutation(source.kind, f"{path}: {change}", json.dumps(about).encode(), source.path.name)


_MAKERS: dict[str, Callable[[Source, np.random.Generator], Mutation]] = {
    ".h5": _odd_hdf5,
    ".tsv": _odd_table,
    "encoder": _odd_network,
    "cam": _odd_network,
    "bundle": _odd_network,
    "weights": _odd_weights,
    "rows": _odd_rows,
    "about": _odd_about,
}
