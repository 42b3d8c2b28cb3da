"""Tables: TSV or Parquet (by suffix) with declared columns, checked on write and on read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from novelseg.core.errors import InputError
from novelseg.core.files import whole_file


@dataclass(frozen=True)
class Column:
    """One column: its name, dtype (``str``, ``int64`` or ``float64``) and meaning."""

    name: str
    dtype: str
    doc: str


@dataclass(frozen=True)
class TableSpec:
    """One kind of table: its name and version, the stage that writes it, its description and its columns."""

    name: str
    version: int
    stage: str
    doc: str
    columns: tuple[Column, ...]


def write(path: Path, spec: TableSpec, frame: pd.DataFrame) -> None:
    """Write a table, whole or not at all; floats keep all their digits.

    Raises
    ------
    ValueError
        If the columns are not those of the spec.
    """
    names = [column.name for column in spec.columns]
    if list(frame.columns) != names:
        raise ValueError(f"{spec.name}: columns {list(frame.columns)}; expected {names}")
    frame = frame.astype({column.name: column.dtype for column in spec.columns})
    with whole_file(path) as scratch:
        if path.suffix == ".parquet":
            frame.to_parquet(scratch, index=False)
        else:
            frame.to_csv(scratch, sep="\t", index=False, lineterminator="\n")


def read(path: Path, spec: TableSpec) -> pd.DataFrame:
    """Read a table and check its columns.

    Raises
    ------
    InputError
        If the file is absent, unreadable, or has other columns.
    """
    types = {column.name: column.dtype for column in spec.columns}
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:  # text stays text: an image may be called 007 or NA
            text = {name: kind for name, kind in types.items() if kind == "str"}
            empty = {name: [""] for name, kind in types.items() if kind == "float64"}
            frame = pd.read_csv(path, sep="\t", dtype=text, keep_default_na=False, na_values=empty)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the stage `{spec.stage}`") from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not a readable table ({error}); delete it and rerun `{spec.stage}`") from None
    if list(frame.columns) != list(types):
        raise InputError(f"{path}: expected the columns {', '.join(types)}; delete it and rerun `{spec.stage}`")
    return frame.astype(types)
