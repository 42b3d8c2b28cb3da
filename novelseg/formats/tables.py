"""Tables: TSV or Parquet (by suffix) with declared columns, checked on write and on read.

A TSV table ends with a column ``crc32``, the same checksum of the whole table in every row, so that programs that know
nothing of it still read the table. A table without the column, such as one written by earlier code or by hand, is read
without the check. A Parquet table has the checksum in its metadata.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.core.files import read_bytes, whole_file
from novelseg.formats.checksums import BLANK, crc32, intact, seal

CHECK = "crc32"
_CHECKED_HEAD = f"\t{CHECK}\n".encode()
_PARQUET_MARK = b"novelseg-crc32="
_INT64 = 1 << 63
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes
    ----------
    name
        Its name.
    dtype
        ``str``, ``int64`` or ``float64``. Floats are finite, or missing (NaN).
    doc
        Its meaning.
    low, high
        Smallest and largest value of a column of numbers; None for any.
    """

    name: str
    dtype: str
    doc: str
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True)
class TableSpec:
    """One kind of table.

    Attributes
    ----------
    name, version
        Its name and version.
    stage
        Stage that writes it.
    doc
        Description of it.
    columns
        Its columns.
    key
        Columns of which no two rows have the same values; empty if rows may be equal.
    rule
        Returns a fault of the whole table beyond types and ranges as a phrase; empty if there is none.
    """

    name: str
    version: int
    stage: str
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    rule: Callable[[pd.DataFrame], str] | None = None


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
    content = _to_parquet(frame) if path.suffix == ".parquet" else _to_tsv(frame)
    with whole_file(path) as scratch:
        scratch.write_bytes(content)


def _to_tsv(frame: pd.DataFrame) -> bytes:
    """Return the text of a table with its checksum in the last column."""
    digits = crc32(_tsv(frame))
    return _tsv(frame.assign(**{CHECK: digits.decode()}))


def _tsv(frame: pd.DataFrame) -> bytes:
    buffer = io.StringIO()
    frame.to_csv(buffer, sep="\t", index=False, lineterminator="\n")
    return buffer.getvalue().encode()


def _to_parquet(frame: pd.DataFrame) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    room = {b"novelseg": _PARQUET_MARK + BLANK}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), **room}), sink)
    return seal(sink.getvalue().to_pybytes(), _PARQUET_MARK)


def read(path: Path, spec: TableSpec) -> pd.DataFrame:
    """Read a table and check it: its checksum, its columns, and the type and range of every cell.

    Raises
    ------
    InputError
        If the file is absent, unreadable or damaged, has other columns, or a cell is not a number of the column's type.
    """
    content = read_bytes(path, f"run the stage `{spec.stage}`")
    frame = _from_parquet(path, spec, content) if path.suffix == ".parquet" else _from_tsv(path, spec, content)
    names = [column.name for column in spec.columns]
    if list(frame.columns) != names:
        raise InputError(
            f"{path}: has the columns {' '.join(', '.join(map(str, frame.columns)).split())[:100]}; expected the "
            f"columns {', '.join(names)}; give the output of `{spec.stage}`, or rerun it"
        )
    table = pd.DataFrame({column.name: _values(path, column, frame[column.name]) for column in spec.columns})
    if fault := _table_fault(table, spec):
        raise InputError(f"{path}: {fault}; correct the table, or rerun `{spec.stage}`")
    return table


def _table_fault(table: pd.DataFrame, spec: TableSpec) -> str:
    """Return as a phrase why rows contradict each other; empty if they do not."""
    repeated = table.duplicated(list(spec.key)).to_numpy() if spec.key else np.zeros(0, bool)
    if repeated.any():
        return f"row {int(repeated.argmax()) + 1} has the {', '.join(spec.key[-4:])} of an earlier row"
    return spec.rule(table) if spec.rule else ""


def _from_tsv(path: Path, spec: TableSpec, content: bytes) -> pd.DataFrame:
    head, _, first = content.partition(b"\n")
    if f"{head.decode(errors='replace')}\n".endswith(_CHECKED_HEAD.decode()):
        digits = first.partition(b"\n")[0].rpartition(b"\t")[2]
        content = content.replace(_CHECKED_HEAD, b"\n", 1).replace(b"\t" + digits + b"\n", b"\n")
        if first and crc32(content) != digits:
            raise InputError(
                f"{path}: was damaged or edited (its checksum differs); rerun `{spec.stage}`, or remove the column "
                f"'{CHECK}' to use it as it is"
            )
    try:  # text stays text: an image may be called 007 or NA
        if b"\0" in content:
            raise csv.Error("it contains zero bytes, as after a crash of the system")
        text = io.StringIO(content.decode("utf-8-sig"), newline="")
        rows = [row for row in csv.reader(text, delimiter="\t", strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not a readable table ({reason}); rerun `{spec.stage}`, or correct it") from None
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise InputError(
                f"{path}: row {number} has {len(row)} cells, the header {len(rows[0])}; rerun `{spec.stage}`, or "
                "correct it"
            )
    return pd.DataFrame(rows[1:], columns=rows[0] if rows else [])


def _from_parquet(path: Path, spec: TableSpec, content: bytes) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if intact(content, _PARQUET_MARK) is False:
        raise InputError(f"{path}: is damaged (its checksum differs); delete its folder and rerun `{spec.stage}`")
    try:
        states_checksum = b"novelseg" in (pq.ParquetFile(io.BytesIO(content)).metadata.metadata or {})
        frame: pd.DataFrame = pd.read_parquet(io.BytesIO(content))
    except (ValueError, OSError, TypeError, KeyError, MemoryError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: not a readable table ({reason}); delete its folder and rerun `{spec.stage}`"
        ) from None
    if states_checksum and intact(content, _PARQUET_MARK) is None:
        raise InputError(f"{path}: is damaged (its checksum is gone); delete its folder and rerun `{spec.stage}`")
    return frame


def _values(path: Path, column: Column, cells: pd.Series[Any]) -> NDArray[Any] | list[Any]:
    """Convert the cells of a column to its type.

    Raises
    ------
    InputError
        If a cell is of another type or out of range; the message names its row.
    """
    if cells.dtype == column.dtype == "int64":  # Parquet's columns have types, and may be long
        numbers: NDArray[Any] = cells.to_numpy()
        outside = np.zeros(len(numbers), bool)
        outside |= numbers < column.low if column.low is not None else False
        outside |= numbers > column.high if column.high is not None else False
        if outside.any():
            row = int(outside.argmax())
            raise _cell_fault(path, column, row, numbers[row])
        return numbers
    convert = {"str": _text, "int64": _integer, "float64": _float}[column.dtype]
    values: list[Any] = []
    for row, cell in enumerate(cells.tolist()):
        value: Any = convert(cell)
        low, high = column.low, column.high
        if value is None or (low is not None and value < low) or (high is not None and value > high):
            raise _cell_fault(path, column, row, cell)
        values.append(value)
    return values if column.dtype == "str" else np.array(values, column.dtype)


def _cell_fault(path: Path, column: Column, row: int, cell: Any) -> InputError:
    wanted = {"str": "text", "int64": "an integer", "float64": "a finite number"}[column.dtype]
    least = f" of at least {column.low}" if column.low is not None else ""
    least += f" and at most {column.high}" if column.high is not None else ""
    return InputError(
        f"{path}: row {row + 1} has {cell!r:.60} in the column '{column.name}'; expected {wanted}{least}; correct the "
        "table, or rerun the stage that writes it"
    )


def _text(cell: Any) -> str | None:
    return cell if isinstance(cell, str) else None


def _integer(cell: Any) -> int | None:
    if isinstance(cell, str):
        digits = cell.removeprefix("-")
        cell = int(cell) if digits.isascii() and digits.isdecimal() and len(digits) < 20 else None
    return cell if isinstance(cell, int) and not isinstance(cell, bool) and -_INT64 <= cell < _INT64 else None


def _float(cell: Any) -> float | None:
    if cell == "":
        return math.nan
    if isinstance(cell, str) and not _NUMBER.fullmatch(cell):
        return None
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) or (not isinstance(cell, str) and math.isnan(value)) else None
