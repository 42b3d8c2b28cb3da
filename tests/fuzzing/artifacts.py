"""Mutations of artifacts: weights, bundles, HDF5 files, episode lists and result tables, each with its reader.

Half of the mutations damage bytes. The others write the whole file again, with right checksums where it can have them,
and with one part that makes no sense.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable
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
from novelseg.core.errors import InputError
from novelseg.data.index import read_index
from novelseg.data.labelstore import PseudoLabelStore
from novelseg.data.store import read_mask, read_rgb
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
from novelseg.formats.provenance import Record, read_record
from novelseg.formats.pseudolabels import PSEUDOLABELS
from novelseg.formats.record import BackboneSpec
from novelseg.formats.regions import REGIONS
from novelseg.formats.results import SCORES
from novelseg.formats.study_results import STUDY_CURVE, STUDY_ROWS
from novelseg.formats.training_log import LOG
from novelseg.inference.bundle import BUNDLE, load_bundle
from novelseg.methods.cam.network import load_cam
from novelseg.regions.hierarchy import Hierarchy, cut, tree_fault
from novelseg.regions.weights import REGION_WEIGHTS, load_model
from tests.fuzzing.mutate import ODD, Changed, mutated, odd_json
from tests.fuzzing.target import Mutation, Target
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


def studies_and_records(project: Project, folder: Path) -> list[Source]:
    """Write the tables of a study and a provenance record; return them with their readers."""
    rows, curve, record = folder / "rows.parquet", folder / "curve.tsv", folder / "record.json"
    evaluated = read_evaluation(project.path("evaluate/fold0/1shot")).rows
    tables.write(rows, STUDY_ROWS, evaluated.assign(setting="1")[[column.name for column in STUDY_ROWS.columns]])
    points = [("1", "bam", 50.0, 40.0, 60.0, 12), ("5", "bam", 60.0, 50.0, 70.0, 12)]
    tables.write(curve, STUDY_CURVE, pd.DataFrame(points, columns=[column.name for column in STUDY_CURVE.columns]))
    job = Record("episodes", {"fold": "0"}, {"episodes": {"count": 6}}, "0" * 32, {"a": "1" * 32}, {"b": "2" * 32}, {})
    record.write_text(json.dumps(dataclasses.asdict(job)))
    return [
        Source("study rows", rows, lambda path: digest_of(tables.read(path, STUDY_ROWS))),
        Source("study curve", curve, lambda path: digest_of(tables.read(path, STUDY_CURVE))),
        Source("provenance record", record, _read_job),
    ]


def _read_job(path: Path) -> str:
    record = read_record(path)
    if record is None:  # its job runs again
        raise InputError(f"{path}: no record")
    return repr(record)


def _model(path: Path) -> Any:
    model = load_model(path)
    networks = [dataclasses.asdict(network) for network in model.networks]  # type: ignore[call-overload]
    return [model.textons, model.cuts, model.levels, networks]


def _read_weights(path: Path) -> str:
    return digest_of(pretrained_backbone(BACKBONE, path))


def _evaluation(path: Path) -> Any:
    evaluation = read_evaluation(path.parent)
    return [evaluation.rows, evaluation.about]


def target_of(source: Source) -> Target:
    """Return an artifact's reader with its mutations."""
    content = source.path.read_bytes()
    make = _MAKERS.get(source.kind) or _MAKERS.get(source.path.suffix)

    def drawn(rng: np.random.Generator) -> Mutation:
        if make is None or rng.random() < 0.5:
            return Mutation(*mutated(content, content, rng), content)
        change, odd, *name = make(source, rng)
        return Mutation(change, odd, content, *name)

    return Target(source.kind, source.path.name, drawn, source.read, source.beside)


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
    return f"value at {place} is {changed[place]} instead of {array[place]}", changed


def _odd_hdf5(source: Source, rng: np.random.Generator) -> Changed:
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
                odd = ODD[int(rng.integers(len(ODD)))]
                change = repr(odd)
                value = np.bytes_(json.dumps(odd).encode()) if name != "version" else np.int64(rng.integers(0, 9))
            new.attrs[name] = value
        for name in names:
            data, kind = old[name][()], old[name].dtype
            if name == chosen:
                if drop:
                    continue
                if kind.kind == "S":
                    texts = [b"", b"\xff\xfe", b"a b", data[-1] if len(data) else b""]
                    text = texts[int(rng.integers(len(texts)))]
                    change, data = f"the first half is {text!r}", data.copy()
                    data[: max(1, len(data) // 2)] = text
                else:
                    change, data = _odd_array(data, rng)
            options = {"chunks": data.shape, "fletcher32": True, "compression": "gzip"} if data.size else {}
            new.create_dataset(name, data=data, dtype=data.dtype, **options)
    return f"{chosen}: {change}", scratch.getvalue()


def _odd_network(source: Source, rng: np.random.Generator) -> Changed:
    """Write a network, bundle or region weights again, and one tensor or entry that makes no sense."""
    kind = _KINDS.get(source.kind, NETWORK)
    about, tensors = read_header(source.path, kind), load_file(source.path)
    if about and rng.random() < 0.5:
        change, about = odd_json(about, rng, 1)
    else:
        change, tensors = _odd_tensors(tensors, rng)
    return change, sealed(save(tensors, header_of(kind, about)))


def _odd_tensors(tensors: dict[str, torch.Tensor], rng: np.random.Generator) -> tuple[str, dict[str, torch.Tensor]]:
    """Change, remove, add or exchange a tensor."""
    name, other = (str(rng.choice(sorted(tensors))) for _ in range(2))
    tensor, way = tensors[name], int(rng.integers(8))
    changed = tensor.clone().reshape(-1)
    number = int(rng.integers(len(changed))) if len(changed) else 0
    if way == 0:
        return f"{name} missing", {key: value for key, value in tensors.items() if key != name}
    if way == 1:
        return f"{name} twice", {**tensors, f"{name}x": tensor.clone()}
    if way == 2:
        return f"{name} is {other}", {**tensors, name: tensors[other].clone()}
    if way == 3:
        change, odd = "integers", tensor.to(torch.int32 if tensor.is_floating_point() else torch.float32)
    elif way == 4:
        more = not tensor.ndim or rng.random() < 0.5
        change, odd = ("one dimension more", tensor[None]) if more else ("a row less", tensor[:-1].contiguous())
    elif way == 5:
        change, odd = "other precision", tensor.to(torch.float16 if rng.random() < 0.5 else torch.float64)
    else:
        values = [float("nan"), float("inf"), -1.0, 1e30] if tensor.is_floating_point() else [-1, 0, 1]
        value = values[int(rng.integers(len(values)))]
        if len(changed):
            changed[number] = value
        change, odd = f"value {number} is {value}", changed.reshape(tensor.shape)
    return f"{name}: {change}", {**tensors, name: odd}


def _odd_weights(source: Source, rng: np.random.Generator) -> tuple[str, bytes, str]:
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
        return f"npz, {name}: {change}", buffer.getvalue(), "w.npz"
    torch.save(contents[chosen], buffer)
    content, change = buffer.getvalue(), f"pickle {chosen} of {name}"
    if rng.random() < 0.5:
        more, content = mutated(content, content, rng)
        change += f", {more}"
    return change, content, "w.pth"


CELLS = ("", "x", "-1", "0", "1", "1.5", "nan", "inf", "99999999999999999999", "1e400", '"', "\t", "é", "1_0", " 1")


def _odd_table(source: Source, rng: np.random.Generator) -> Changed:
    """Change a cell, a row or a column of a table without its checksum."""
    rows = [line.split("\t")[:-1] for line in source.path.read_text(encoding="utf8").splitlines()]
    row, way = int(rng.integers(1, len(rows))), int(rng.integers(6))
    column = int(rng.integers(len(rows[0])))
    if way == 0:
        change = f"row {row} twice"
        rows.append(list(rows[row]))
    elif way == 1:
        change = f"row {row} missing"
        del rows[row]
    elif way == 2:
        change = f"{rows[0][column]} missing"
        rows = [[cell for place, cell in enumerate(line) if place != column] for line in rows]
    elif way == 3:
        change = f"row {row} cut"
        rows[row] = rows[row][:column]
    else:
        other = rows[int(rng.integers(1, len(rows)))][int(rng.integers(len(rows[0])))]
        before, rows[row][column] = rows[row][column], str(rng.choice([*CELLS, other]))
        change = f"{rows[0][column]} of row {row} is {rows[row][column]!r} instead of {before!r}"
    return change, "".join("\t".join(line) + "\n" for line in rows).encode()


def _odd_rows(source: Source, rng: np.random.Generator) -> Changed:
    """Change a column of a Parquet table without its checksum."""
    frame = pd.read_parquet(source.path)
    column = str(rng.choice(frame.columns))
    way = int(rng.integers(5))
    if way == 0:
        change, frame = "first row twice", pd.concat([frame, frame.iloc[[0]]])
    elif way == 1:
        change, frame = "missing", frame.drop(columns=column)
    elif way == 2:
        change, frame[column] = "with an x", frame[column].astype(str) + "x"
    elif way == 3:
        change = "first value is null"
        frame[column] = frame[column].astype(object).where(np.arange(len(frame)) != 0, None)
    elif column in ("variant", "query", "setting"):
        change, frame[column] = "is ?", "?"
    else:
        number = int(rng.choice([-1, 0, 10**6, 1 << 40]))
        change, frame.loc[frame.index[0], column] = f"first value is {number}", number
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return f"{column}: {change}", buffer.getvalue()


def _odd_about(source: Source, rng: np.random.Generator) -> Changed:
    """Change an entry of a record without its checksum."""
    about = json.loads(source.path.read_text(encoding="utf8"))
    about = {name: value for name, value in about.items() if name not in ("crc32", "version")}
    change, about = odd_json(about, rng, 1)
    return change, json.dumps(about).encode()


_KINDS = {"bundle": BUNDLE, "region weights": REGION_WEIGHTS}
_MAKERS: dict[str, Callable[[Source, np.random.Generator], Changed | tuple[str, bytes, str]]] = {
    ".h5": _odd_hdf5,
    ".tsv": _odd_table,
    "encoder": _odd_network,
    "cam": _odd_network,
    "bundle": _odd_network,
    "region weights": _odd_network,
    "weights": _odd_weights,
    ".parquet": _odd_rows,
    ".json": _odd_about,
}
