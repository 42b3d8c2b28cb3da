"""Compare the artifacts of two runs bit for bit: numeric HDF5 datasets, tensors, and columns of tables.

``python -m benchmarks.same_bytes BEFORE AFTER`` prints how many arrays were compared and which differ. Rows of variants
that only one run has are not compared, but counted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from safetensors.numpy import load_file

SUFFIXES = (".h5", ".safetensors", ".tsv", ".parquet")


def _hdf5(path: Path) -> dict[str, Any]:
    """Return the numeric datasets of a file by name; the predictions of ``examples`` are split by variant."""
    arrays: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
        variants = json.loads(file.attrs["variants"]) if file.attrs["artifact"] == "examples" else []
    if variants:
        flat, offset = arrays.pop("predictions"), arrays.pop("predictions_offset")
        for row in range(len(offset) - 1):
            masks = flat[offset[row] : offset[row + 1]].reshape(len(variants), -1)
            arrays |= {f"predictions/{row}/{name}": mask for name, mask in zip(variants, masks, strict=True)}
    return {name: value for name, value in arrays.items() if value.dtype.kind in "iufb"}


def _table(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, sep="\t", keep_default_na=False)


def _arrays(path: Path) -> dict[str, Any]:
    """Return the arrays of a file by name: numeric datasets, tensors or columns."""
    if path.suffix == ".h5":
        return _hdf5(path)
    if path.suffix == ".safetensors":
        return dict(load_file(path))
    frame = _table(path)
    return {str(column): frame[column].to_numpy() for column in frame.columns}


def _shared_rows(before: Path, after: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Return the columns of two tables, restricted to variants that both have, and the number of rows left out."""
    frames = [_table(path) for path in (before, after)]
    if all("variant" in frame.columns for frame in frames):
        keys = [name for name in ("variant", "reference") if name in frames[0].columns]
        shared = set.intersection(*(set(map(tuple, frame[keys].to_numpy())) for frame in frames))
        common = [frame[[tuple(row) in shared for row in frame[keys].to_numpy()]] for frame in frames]
    else:
        common = frames
    left_out = sum(len(frame) for frame in frames) - sum(len(frame) for frame in common)
    first, second = ({str(name): frame[name].to_numpy() for name in frame.columns} for frame in common)
    return first, second, left_out


def _equal(a: Any, b: Any) -> bool:
    """Return whether both arrays exist and have the same type, shape and bits."""
    if a is None or b is None or a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind in "iufb":
        return np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()
    return list(a) == list(b)


def compare(before: Path, after: Path) -> Iterator[tuple[str, bool, int]]:
    """Yield the name of each array, whether it is equal in both, and, once per file, the number of rows left out."""
    for path in sorted(after.rglob("*")):
        if path.suffix in SUFFIXES and not (before / path.relative_to(after)).exists():
            yield f"{path.relative_to(after)}: only in {after}", False, 0
    for path in sorted(before.rglob("*")):
        if path.suffix not in SUFFIXES:
            continue
        other, left_out = after / path.relative_to(before), 0
        if not other.exists():
            yield f"{path.relative_to(before)}: only in {before}", False, 0
            continue
        if path.suffix in (".tsv", ".parquet"):
            first, second, left_out = _shared_rows(path, other)
        else:
            first, second = _arrays(path), _arrays(other)
            unshared = {name for name in first.keys() ^ second.keys() if name.startswith("predictions/")}
            first, second = ({name: arrays[name] for name in arrays.keys() - unshared} for arrays in (first, second))
            left_out = len(unshared)
        for name in sorted(first.keys() | second.keys()):
            a, b = first.get(name), second.get(name)
            yield f"{path.relative_to(before)}:{name}", _equal(a, b), left_out
            left_out = 0


def main() -> int:
    """Print every difference and the counts; return 1 if there is a difference, else 0."""
    parser = argparse.ArgumentParser(description="Compare the artifacts of two runs bit for bit.")
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args()
    rows = list(compare(options.before, options.after))
    for name, equal, _ in rows:
        if not equal:
            print(f"differs: {name}")
    different = sum(not equal for _, equal, _ in rows)
    left_out = sum(count for _, _, count in rows)
    print(
        f"{len(rows)} arrays compared, {different} differ; left out: {left_out} rows of variants that only one run has"
    )
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
