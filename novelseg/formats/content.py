"""Comparison of artifact files by content, whatever the bytes of their containers.

Checksums, version numbers and the numbers of shards do not count as content: an artifact of the previous version is
equal to one of this version with the same values.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open

from novelseg.core.errors import InputError
from novelseg.core.files import digest

_NO_CONTENT = {"version", "shard", "shards", "crc32", "head_crc32", "tensors_crc32"}


def _plain(value: Any) -> Any:
    """Return texts of fixed and of variable length as the same Python texts."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "SO":
        return [_plain(entry) for entry in value.tolist()]
    return value.decode() if isinstance(value, bytes) else value


def _read_hdf5(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        attributes = {name: value for name, value in file.attrs.items() if name not in _NO_CONTENT}
        content |= {f"attribute {name}": _plain(value) for name, value in attributes.items()}

        def add(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                content[name] = _plain(item[()])

        file.visititems(add)
    return content


def _read_safetensors(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="np") as file:
        content: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        head = {name: _without_checksums(json.loads(text)) for name, text in (file.metadata() or {}).items()}
        return {"head": head, **content}


def _without_checksums(values: Any) -> Any:
    known = isinstance(values, dict)
    return {name: value for name, value in values.items() if name not in _NO_CONTENT} if known else values


def _read_table(path: Path) -> dict[str, Any]:
    if path.suffix == ".parquet":
        frame = pd.read_parquet(path)
    else:
        frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    return {f"column {name}": frame[name].tolist() for name in frame.columns if name not in _NO_CONTENT}


def _read_json(path: Path) -> dict[str, Any]:
    return {"record": _without_checksums(json.loads(path.read_text(encoding="utf8")))}


_READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".h5": _read_hdf5,
    ".safetensors": _read_safetensors,
    ".tsv": _read_table,
    ".parquet": _read_table,
    ".json": _read_json,
}


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        same_layout = first.dtype == second.dtype and first.shape == second.shape
        return bool(same_layout and np.ascontiguousarray(first).tobytes() == np.ascontiguousarray(second).tobytes())
    return bool(type(first) is type(second) and first == second)


def difference(first: Path, second: Path) -> str:
    """Return the name of the first part in which two files differ; empty if their content is bit-identical.

    HDF5 files are compared dataset by dataset and attribute by attribute, weight files tensor by tensor with
    their headers, tables column by column, records in JSON by value, all others as bytes.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    try:
        if digest(first) == digest(second):
            return ""
        reader = _READERS.get(first.suffix)
        if reader is None:
            return "bytes"
        parts, others = reader(first), reader(second)
    except (OSError, ValueError, SafetensorError, RuntimeError, KeyError) as error:
        fault = InputError(
            f"{first} and {second}: cannot be compared ({error}); make both readable, or make them again"
        )
        raise fault from None
    names = [name for name in sorted({*parts, *others}) if not _equal(parts.get(name), others.get(name))]
    return names[0] if names else ""
