"""Whether two artifact files hold the same content, whatever their container's bytes are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from safetensors import safe_open

from novelseg.core.errors import InputError
from novelseg.core.files import digest


def _hdf5(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        content |= {f"attribute {name}": value for name, value in file.attrs.items()}
        file.visititems(lambda name, item: content.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return content


def _safetensors(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="np") as file:
        content: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        return {"head": file.metadata(), **content}


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        alike = first.dtype == second.dtype and first.shape == second.shape
        if first.dtype == object:
            return bool(alike and first.tolist() == second.tolist())
        return bool(alike and np.ascontiguousarray(first).tobytes() == np.ascontiguousarray(second).tobytes())
    return bool(type(first) is type(second) and first == second)


def difference(first: Path, second: Path) -> str:
    """First part in which two files differ; empty if their content is the same, bit for bit.

    HDF5 files are compared dataset by dataset and attribute by attribute, weight files tensor by tensor with their
    heads, all others as bytes.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    try:
        if digest(first) == digest(second):
            return ""
        reader = {".h5": _hdf5, ".safetensors": _safetensors}.get(first.suffix)
        if reader is None:
            return "bytes"
        one, other = reader(first), reader(second)
    except OSError as error:
        raise InputError(f"{first} and {second}: cannot be compared ({error})") from None
    names = [name for name in sorted({*one, *other}) if not _equal(one.get(name), other.get(name))]
    return names[0] if names else ""
