"""HDF5 artifacts, written whole from a spec and checked against it on open; equal data give equal bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.core.files import whole_file

TEXT = "text"
CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class Field:
    """One dataset of an artifact.

    Attributes
    ----------
    dims
        Names of its dimensions, separated by spaces.
    dtype
        NumPy dtype, or ``text``.
    unit, doc
        Unit and meaning.
    compressed
        Whether the values are already compressed, as JPEG and PNG bytes are; others are compressed on writing.
    """

    dims: str
    dtype: str
    unit: str
    doc: str
    compressed: bool = False


@dataclass(frozen=True)
class Spec:
    """One kind of HDF5 file.

    Attributes
    ----------
    name, version
        Root attributes ``artifact`` and ``version``.
    stage
        Stage that writes the file.
    doc
        Description of the file.
    fields
        Datasets, by path in the file.
    attrs
        Descriptions of the further root attributes, by name; the values are JSON.
    """

    name: str
    version: int
    stage: str
    doc: str
    fields: Mapping[str, Field]
    attrs: Mapping[str, str] = field(default_factory=dict)


def _check(spec: Spec, arrays: Mapping[str, NDArray[Any]]) -> None:
    if set(arrays) != set(spec.fields):
        raise ValueError(f"{spec.name}: datasets {sorted(set(arrays) ^ set(spec.fields))} differ from the spec")
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        field = spec.fields[name]
        dims = field.dims.split()
        kind_fits = array.dtype.kind in "OTU" if field.dtype == TEXT else array.dtype == np.dtype(field.dtype)
        if not kind_fits or array.ndim != len(dims):
            raise ValueError(
                f"{spec.name}/{name}: {array.dtype} of shape {array.shape}; expected {field.dtype} ({field.dims})"
            )
        for dim, length in zip(dims, array.shape, strict=True):
            base = dim.removesuffix("+1")
            size = length - (dim != base)
            expected = int(base) if base.isdigit() else sizes.setdefault(base, size)
            if size != expected:
                raise ValueError(f"{spec.name}/{name}: dimension {dim} is {size}; expected {expected}")


def write(path: Path, spec: Spec, arrays: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any]) -> None:
    """Write an artifact; the file appears whole or not at all.

    Parameters
    ----------
    path
        Target.
    spec
        Spec of the artifact; exactly its datasets and attributes must be given.
    arrays
        Datasets by name.
    attrs
        Values of the further root attributes; JSON-serialisable.

    Raises
    ------
    ValueError
        If data and spec disagree, which is a mistake of the caller, not of a user.
    """
    _check(spec, arrays)
    if set(attrs) != set(spec.attrs):
        raise ValueError(f"{spec.name}: attributes {sorted(set(attrs) ^ set(spec.attrs))} differ from the spec")
    # Built in memory and written in one go, because HDF5's own writing can end without an error on a full disk.
    with h5py.File(path, "w", libver=("v110", "v110"), driver="core", backing_store=False) as file:
        file.attrs["artifact"] = spec.name
        file.attrs["version"] = spec.version
        for name, value in sorted(attrs.items()):
            file.attrs[name] = json.dumps(value, sort_keys=True)
        for name in sorted(arrays):
            _write_dataset(file, name, arrays[name], spec.fields[name])
        file.flush()
        content = file.id.get_file_image()
    with whole_file(path) as scratch:
        scratch.write_bytes(content)


def _write_dataset(file: h5py.File, name: str, array: NDArray[Any], field: Field) -> None:
    dtype = h5py.string_dtype() if field.dtype == TEXT else array.dtype
    row = max(1, int(np.prod(array.shape[1:], dtype=np.int64))) * (64 if field.dtype == TEXT else array.dtype.itemsize)
    options: dict[str, Any] = {}
    if array.size:
        options = {"chunks": (max(1, min(len(array), CHUNK_BYTES // row)), *array.shape[1:])}
        if not field.compressed:
            options |= {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    data = array.astype(object) if field.dtype == TEXT else array
    dataset = file.create_dataset(name, data=data, dtype=dtype, track_times=False, **options)
    dataset.attrs["unit"] = field.unit
    dataset.attrs["doc"] = field.doc
    dataset.attrs["dims"] = field.dims


@contextmanager
def opened(path: Path, spec: Spec) -> Iterator[h5py.File]:
    """Open an artifact for reading, after checking its kind and version.

    Raises
    ------
    InputError
        If the file is absent, damaged, of another kind or of another version.
    """
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the stage `{spec.stage}`") from None
    except OSError:
        raise InputError(f"{path}: not a readable HDF5 file; delete it and rerun `{spec.stage}`") from None
    with file:
        kind, version = file.attrs.get("artifact"), file.attrs.get("version")
        if kind != spec.name:
            raise InputError(
                f"{path}: expected the artifact '{spec.name}', found '{kind}'; give the output of `{spec.stage}`"
            )
        if version != spec.version:
            raise InputError(
                f"{path}: {spec.name} is version {version}, this code reads version {spec.version}; "
                f"rerun `{spec.stage}`"
            )
        absent = [name for name in spec.fields if name not in file]
        if absent:
            raise InputError(f"{path}: dataset '{absent[0]}' is missing; delete the file and rerun `{spec.stage}`")
        yield file


def attribute(file: h5py.File, name: str) -> Any:
    """Read a further root attribute."""
    return json.loads(file.attrs[name])


def require(path: Path, file: h5py.File, name: str, value: Any) -> None:
    """Check that a root attribute of a file has the expected value.

    Raises
    ------
    InputError
        If the attribute has another value.
    """
    actual = attribute(file, name)
    if actual != value:
        raise InputError(f"{path}: made with {name} {actual}, not {value}; give files of the same {name}")


def texts(file: h5py.File, name: str) -> list[str]:
    """Read a text dataset as a list."""
    return [str(value) for value in file[name].asstr()[:]]


class Ragged:
    """N arrays of different lengths, end to end in a dataset ``<name>``, with N + 1 positions in ``<name>_offset``."""

    @staticmethod
    def pack(name: str, parts: list[NDArray[Any]], dtype: str) -> dict[str, NDArray[Any]]:
        """Flatten each array and lay them end to end."""
        offset = np.zeros(len(parts) + 1, np.int64)
        np.cumsum([part.size for part in parts], out=offset[1:])
        flat = np.concatenate([part.reshape(-1) for part in parts]) if parts else np.zeros(0, dtype)
        return {name: flat.astype(dtype, copy=False), f"{name}_offset": offset}

    @staticmethod
    def get(file: h5py.File, name: str, row: int) -> NDArray[Any]:
        """Read one array, flat, without reading the others."""
        start, stop = file[f"{name}_offset"][row : row + 2]
        values: NDArray[Any] = file[name][start:stop]
        return values


def ragged_fields(
    name: str, dim: str, dtype: str, unit: str, doc: str, *, compressed: bool = False
) -> dict[str, Field]:
    """Return the fields of a ragged dataset for a spec; ``dim`` names the dimension of its rows."""
    return {
        name: Field(f"{name}_total", dtype, unit, doc, compressed),
        f"{name}_offset": Field(f"{dim}+1", "int64", "position", f"row n of `{name}` is [offset[n], offset[n + 1])"),
    }
