"""Comparison of artifact files by content, whatever the bytes of their containers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from safetensors import safe_open

from novelseg.core.errors import InputError
from novelseg.core.files import digest


def _read_hdf5(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        content |= {f"attribute {name}": value for name, value in file.attrs.items()}
        file.visititems(lambda name, item: content.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return content


def _read_safetensors(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="np") as file:
        content: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        return {"head": file.metadata(), **content}


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        same_layout = first.dtype == second.dtype and first.shape == second.shape
        if first.dtype == object:
            return bool(same_layout and first.tolist() == second.tolist())
        return bool(same_layout and np.ascontiguousarray(first).tobytes() == np.ascontiguousarray(second).tobytes())
    return bool(type(first) is type(second) and first == second)


def difference(first: Path, second: Path) -> str:
    """Return the name of the first part in which two files differ; empty if their content is bit-identical.

    HDF5 files are compared dataset by dataset and attribute by attribute, weight files tensor by tensor with
    their headers, all others as bytes.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    try:
        if digest(first) == digest(second):
            return ""
        reader = {".h5": _read_hdf5, ".safetensors": _read_safetensors}.get(first.suffix)
        if reader is None:
            return "bytes"
        parts, others = reader(first), reader(second)
    except OSError as error:
        raise InputError(
            f"{first} and {second}: cannot be compared ({error}); make both readable, or make them again"
        ) from None
    names = [name for name in sorted({*parts, *others}) if not _equal(parts.get(name), others.get(name))]
    return names[0] if names else ""
