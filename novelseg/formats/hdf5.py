"""HDF5 artifacts: written whole from a spec, checked against it on open, with checksums; equal data give equal bytes.

HDF5's own checksums protect every byte that is read: those of superblock, object headers and chunk indices
(file format of HDF5 1.10), and Fletcher-32 for each chunk of a dataset. Texts have a fixed length, because HDF5 keeps
texts of variable length outside of all checksums. What is read is verified by HDF5 as it is read, and no more is read
for it. Artifacts of the previous version have no checksums of chunks and are read without.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.core.files import reading_refused, whole_file
from novelseg.formats.record import fits, type_name

TEXT = "text"
CHUNK_BYTES = 1 << 18
MOST_SHARDS = 10**6
DEFLATE_LIMIT = 1100  # a dataset cannot hold more times the bytes that it occupies in the file
FINITE = -math.inf  # lower end of a field of floats that may be any number but not infinite or NaN
# Exceptions that h5py raises for a damaged file; those of the system are told apart by their error number.
_HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)
# Attributes of the artifacts that come in shards. Files of earlier code do not have them; unknown numbers are null.
SHARD_ATTRS = {
    "shard": "number of the shard, from 0; null if unknown",
    "shards": "number of shards of the data set; null if unknown",
}
_SHARD_TYPES = {"shard": int | None, "shards": int | None}


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
    low, high
        Range of the values, ends included, checked on open; None for no check.
    unique
        Whether values must differ from each other. Texts are never empty.
    """

    dims: str
    dtype: str
    unit: str
    doc: str
    compressed: bool = False
    low: float | None = None
    high: float | None = None
    unique: bool = False


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
    types
        Types of these attributes, as in a record (:mod:`novelseg.formats.record`); any for those that are left out.
    rule
        Returns a fault of an opened artifact beyond types and ranges as a phrase; empty if there is none.
    unchecked_version
        The version without checksums that is read too; None if there is none.
    """

    name: str
    version: int
    stage: str
    doc: str
    fields: Mapping[str, Field]
    attrs: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, Any] = field(default_factory=dict)
    rule: Callable[[Artifact], str] | None = None
    unchecked_version: int | None = None


def _kind_fits(dtype: np.dtype[Any], expected: str) -> bool:
    return dtype.kind in "OTUS" if expected == TEXT else dtype == np.dtype(expected)


def _shape_fault(spec: Spec, arrays: Mapping[str, Any]) -> str:
    """Return as a phrase how the dtypes and shapes of arrays differ from a spec; empty if they do not."""
    if set(arrays) != set(spec.fields):
        return f"datasets {sorted(set(arrays) ^ set(spec.fields))} differ from the spec"
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        field = spec.fields[name]
        dims = field.dims.split()
        if not _kind_fits(array.dtype, field.dtype) or len(array.shape) != len(dims):
            return f"{name} is {array.dtype} of shape {array.shape}; expected {field.dtype} ({field.dims})"
        for dim, length in zip(dims, array.shape, strict=True):
            base = dim.removesuffix("+1")
            size = length - (dim != base)
            expected = int(base) if base.isdigit() else sizes.setdefault(base, size)
            if size != expected or size < 0:
                return f"{name}: dimension {dim} is {size}; expected {expected}"
    return ""


def _not_finite(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "f" and not np.isfinite(array).all()


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
        Values of the further root attributes; JSON-serialisable. ``shard`` and ``shards`` may be left out if unknown.

    Raises
    ------
    ValueError
        If data and spec disagree, which is a mistake of the caller, not of a user.
    InputError
        If floats are not finite: what they were computed from, or with, is at fault.
    """
    if fault := _shape_fault(spec, arrays):
        raise ValueError(f"{spec.name}: {fault}")
    attrs = {**{name: None for name in SHARD_ATTRS if name in spec.attrs}, **attrs}
    if set(attrs) != set(spec.attrs):
        raise ValueError(f"{spec.name}: attributes {sorted(set(attrs) ^ set(spec.attrs))} differ from the spec")
    for name, array in arrays.items():
        if _not_finite(array):
            raise InputError(
                f"{path}: `{spec.stage}` computed values of '{name}' that are not finite; nothing was written: check "
                "the weights and inputs that it was given"
            )
    # Built in memory and written in one go, because HDF5's own writing can end without an error on a full disk.
    with h5py.File(path, "w", libver=("v110", "v110"), driver="core", backing_store=False) as file:
        _write_text(file.attrs, "artifact", spec.name)
        file.attrs["version"] = spec.version
        for name, value in sorted(attrs.items()):
            _write_text(file.attrs, name, json.dumps(value, sort_keys=True))
        for name in sorted(arrays):
            _write_dataset(file, name, arrays[name], spec.fields[name])
        file.flush()
        content = file.id.get_file_image()
    with whole_file(path) as scratch:
        scratch.write_bytes(content)


def _write_text(attributes: h5py.AttributeManager, name: str, text: str) -> None:
    content = text.encode()
    attributes.create(name, np.bytes_(content), dtype=h5py.string_dtype("utf-8", max(1, len(content))))


def _fixed_length(name: str, texts: NDArray[Any]) -> NDArray[np.bytes_]:
    """Encode texts as UTF-8 of a fixed length, which HDF5 fills up with zero bytes."""
    encoded = [str(text).encode() for text in texts.tolist()]
    if any(b"\0" in text for text in encoded):
        raise ValueError(f"{name}: a text contains a zero byte")
    return np.array(encoded, h5py.string_dtype("utf-8", max([1, *map(len, encoded)])))


def _write_dataset(file: h5py.File, name: str, array: NDArray[Any], field: Field) -> None:
    data = _fixed_length(name, array) if field.dtype == TEXT else array
    options: dict[str, Any] = {}
    if array.size:
        # 64 bytes per text, whatever its length, so that chunks hold as many rows for every data set
        row = max(1, int(np.prod(array.shape[1:], dtype=np.int64))) * (64 if field.dtype == TEXT else data.itemsize)
        options = {"chunks": (max(1, min(len(array), CHUNK_BYTES // row)), *array.shape[1:]), "fletcher32": True}
        if not field.compressed:
            options |= {"compression": "gzip", "compression_opts": 4, "shuffle": field.dtype != TEXT}
    dataset = file.create_dataset(name, data=data, dtype=data.dtype, track_times=False, **options)
    _write_text(dataset.attrs, "unit", field.unit)
    _write_text(dataset.attrs, "doc", field.doc)
    _write_text(dataset.attrs, "dims", field.dims)


class Column:
    """One dataset of an open artifact; a failed read raises :class:`InputError` with the system's or HDF5's reason."""

    def __init__(self, artifact: Artifact, name: str, dataset: h5py.Dataset) -> None:
        self._artifact, self._name, self._dataset = artifact, name, dataset
        self.dtype: np.dtype[Any] = dataset.dtype
        self.shape: tuple[int, ...] = dataset.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, selection: Any) -> Any:
        """Read a selection; only the chunks that it touches are read and verified."""
        try:
            return self._dataset[selection]
        except _HDF5_ERRORS as error:
            raise self._artifact.fault(error, f"dataset '{self._name}'") from None

    def texts(self) -> list[str]:
        """Read all texts of the dataset."""
        values = self[:].tolist()
        try:
            return [value.decode() for value in values]
        except UnicodeDecodeError as error:
            raise self._artifact.fault(error, f"dataset '{self._name}'") from None

    @property
    def has_checksums(self) -> bool:
        """Whether HDF5 verifies every byte of the dataset that it reads."""
        return not self._dataset.size or (self._dataset.fletcher32 and self.dtype.kind != "O")

    @property
    def claims_too_much(self) -> bool:
        """Whether the dataset claims to hold more than its bytes in the file can."""
        return bool(self._dataset.nbytes > DEFLATE_LIMIT * self._dataset.id.get_storage_size())


class Artifact:
    """An open artifact. Its datasets are :class:`Column`, by name; ``attributes`` are its further root attributes."""

    def __init__(self, path: Path, spec: Spec, file: h5py.File) -> None:
        self.path, self.spec, self._file = path, spec, file
        self.attributes: dict[str, Any] = {}
        self._columns: dict[str, Column] = {}

    @property
    def filename(self) -> str:
        """Path of the file, for messages."""
        return str(self.path)

    def fault(self, error: BaseException, part: str) -> InputError:
        """Describe an error that occurred while a part of the file was read."""
        return _fault(self.path, self.spec, error, f" in its {part}")

    def wrong(self, phrase: str) -> InputError:
        """Describe content that is invalid although the file is undamaged."""
        return InputError(
            f"{self.path}: {phrase}; the file is not what `{self.spec.stage}` writes: rerun that stage, or give its "
            "output"
        )

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def check_head(self) -> None:
        """Read kind, version and attributes, and find the datasets.

        Raises
        ------
        InputError
            If anything is missing, or not as the spec says.
        """
        spec, path = self.spec, self.path
        raw = self._raw_attributes()
        kind, version = raw.get("artifact"), raw.get("version")
        kind = kind.decode(errors="replace") if isinstance(kind, bytes) else kind
        if kind != spec.name:
            raise InputError(
                f"{path}: expected the artifact '{spec.name}', found '{kind}'; give the output of `{spec.stage}`"
            )
        if version not in (spec.version, spec.unchecked_version):
            raise InputError(
                f"{path}: {spec.name} is version {version}, this code reads version {spec.version}; "
                f"rerun `{spec.stage}`"
            )
        checksums = version == spec.version
        optional = set() if checksums else SHARD_ATTRS.keys()
        for name in spec.attrs:
            try:
                value = json.loads(raw[name]) if name in raw or name not in optional else None
            except KeyError:
                raise InputError(
                    f"{path}: attribute '{name}' is missing; delete the file and rerun `{spec.stage}`"
                ) from None
            except (ValueError, TypeError) as error:
                raise self.fault(error, f"attribute '{name}'") from None
            expected = {**_SHARD_TYPES, **spec.types}.get(name, Any)
            if expected is not Any and not fits(value, expected):
                raise self.wrong(f"attribute '{name}' is {value!r:.60}, expected {type_name(expected)}")
            self.attributes[name] = value
        shard, shards = (self.attributes.get(name) for name in SHARD_ATTRS)
        if (shard is not None and shard < 0) or (shards is not None and not (shard or 0) < shards <= MOST_SHARDS):
            raise self.wrong(f"it says that it is shard {shard} of {shards}")
        self._find_datasets(checksums)

    def _raw_attributes(self) -> dict[str, Any]:
        try:
            return {name: _plain(value) for name, value in self._file.attrs.items()}
        except _HDF5_ERRORS as error:
            raise self.fault(error, "attributes") from None

    def _find_datasets(self, checksums: bool) -> None:
        spec = self.spec
        for name in spec.fields:
            try:
                dataset = self._file.get(name)
                if not isinstance(dataset, h5py.Dataset):
                    raise InputError(
                        f"{self.path}: dataset '{name}' is missing; delete the file and rerun `{spec.stage}`"
                    )
                column = self._columns[name] = Column(self, name, dataset)
                if checksums and not column.has_checksums:
                    raise InputError(
                        f"{self.path}: dataset '{name}' has no checksums, which {spec.name} version {spec.version} "
                        f"always has; rerun `{spec.stage}`"
                    )
                if column.claims_too_much:
                    raise self.wrong(f"dataset '{name}' claims the shape {column.shape}, more than the file can hold")
            except _HDF5_ERRORS as error:
                raise self.fault(error, f"dataset '{name}'") from None
        if fault := _shape_fault(spec, self._columns):
            raise self.wrong(fault)

    def check_values(self) -> None:
        """Check ranges, uniqueness, offsets of ragged data and the spec's rule.

        Raises
        ------
        InputError
            If a value is out of range or refers to nothing.
        """
        for name in self.spec.fields:
            if fault := self._value_fault(name):
                raise self.wrong(fault)
        if self.spec.rule and (fault := self.spec.rule(self)):
            raise self.wrong(fault)

    def _value_fault(self, name: str) -> str:
        field, column, base = self.spec.fields[name], self[name], name.removesuffix("_offset")
        if field.dtype == TEXT:
            texts = column.texts()
            if "" in texts or (field.unique and len(set(texts)) < len(texts)):
                return f"dataset '{name}' has an empty text or the same twice"
            return ""
        if base != name and base in self.spec.fields:
            offset = column[:]
            if offset[0] != 0 or offset[-1] != len(self[base]) or (np.diff(offset) < 0).any():
                return f"dataset '{name}' does not divide '{base}' into rows"
        if field.low is None and field.high is None and not field.unique:
            return ""
        values = column[:]
        low = -math.inf if field.low is None else field.low
        high = math.inf if field.high is None else field.high
        if _not_finite(values) or (values < low).any() or (values > high).any():
            return f"dataset '{name}' has values that are not numbers from {low:g} to {high:g}"
        if field.unique and len(np.unique(values)) < len(values):
            return f"dataset '{name}' has the same value twice"
        return ""


def _plain(value: Any) -> Any:
    """Return an attribute's value as Python's own type: text of a fixed length is bytes."""
    return value.item() if isinstance(value, np.generic) else value


def _fault(path: Path, spec: Spec, error: BaseException, part: str) -> InputError:
    """Describe an error of HDF5: the system's reason if it has one; otherwise the content is damaged."""
    if system := reading_refused(path, error):
        return system
    text = " ".join(str(error).split()).strip("'\"").replace("filter returned failure", "wrong checksum")
    reason = (re.findall(r"\(([^()]*(?:\([^()]*\))?[^()]*)\)", text) or [text])[-1]
    if "already open" in text:
        return InputError(f"{path}: another program is writing it ({reason}); close that program and run again")
    return InputError(f"{path}: is damaged{part} ({reason}); delete the file and rerun `{spec.stage}`")


@contextmanager
def opened(path: Path, spec: Spec, *, checked: bool = False) -> Iterator[Artifact]:
    """Open an artifact for reading, after checking it.

    Kind, version, attributes, dtypes and shapes are always checked, and the values of the small datasets unless the
    caller knows them ``checked``, because it opened the same file before. Large datasets are verified by their
    checksums where they are read.

    Raises
    ------
    InputError
        If the file is absent, cannot be read, is damaged, of another kind or version, or has impossible values.
    """
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the stage `{spec.stage}`") from None
    except _HDF5_ERRORS as error:
        raise _unopened(path, spec, error) from None
    with file:
        artifact = Artifact(path, spec, file)
        artifact.check_head()
        if not checked:
            artifact.check_values()
        yield artifact


def _unopened(path: Path, spec: Spec, error: BaseException) -> InputError:
    """Describe why a file cannot be opened; it is called damaged only if the system lets every byte of it be read."""
    fault = _fault(path, spec, error, "")
    if "is damaged" not in str(fault):
        return fault
    try:
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass
    except OSError as refused:
        return reading_refused(path, refused) or fault
    reason = str(fault).partition("is damaged (")[2].partition("); delete")[0]
    return InputError(f"{path}: not a readable HDF5 file ({reason}); delete it and rerun `{spec.stage}`")


def attribute(file: Artifact, name: str) -> Any:
    """Return a further root attribute."""
    return file.attributes[name]


def require(path: Path, file: Artifact, name: str, value: Any) -> None:
    """Check that a root attribute of a file has the expected value.

    Raises
    ------
    InputError
        If the attribute has another value.
    """
    actual = attribute(file, name)
    if actual != value:
        raise InputError(f"{path}: made with {name} {actual}, not {value}; give files of the same {name}")


def texts(file: Artifact, name: str) -> list[str]:
    """Read a text dataset as a list."""
    return file[name].texts()


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
    def get(file: Artifact, name: str, row: int) -> NDArray[Any]:
        """Read one array, flat, without reading the others."""
        start, stop = file[f"{name}_offset"][row : row + 2]
        values: NDArray[Any] = file[name][start:stop]
        return values

    @staticmethod
    def lengths(file: Artifact, name: str) -> NDArray[np.int64]:
        """Return the number of values in each row, (N,)."""
        lengths: NDArray[np.int64] = np.diff(file[f"{name}_offset"][:])
        return lengths


def ragged_fields(
    name: str, dim: str, dtype: str, unit: str, doc: str, *, compressed: bool = False
) -> dict[str, Field]:
    """Return the fields of a ragged dataset for a spec; ``dim`` names the dimension of its rows."""
    return {
        name: Field(f"{name}_total", dtype, unit, doc, compressed),
        f"{name}_offset": Field(f"{dim}+1", "int64", "position", f"row n of `{name}` is [offset[n], offset[n + 1])"),
    }
