"""Reader of MATLAB 5 files, the format of the annotations of BSDS500 and SBD.

It reads what these annotations consist of: structures, cells and numeric arrays, compressed or not. Every length is
checked against the bytes that are there, so that a damaged file ends in a sentence; scipy's reader can end the process.
"""

from __future__ import annotations

import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.data.rawfiles import read_bytes

HEAD, VERSION = 128, 0x0100
ENDIAN = {b"IM": "<", b"MI": ">"}
MATRIX, COMPRESSED, INT8, INT32, UINT32 = 14, 15, 1, 5, 6  # types of elements
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CELL, STRUCT, NUMERIC = 1, 2, range(6, 16)  # classes of arrays
CLASSES = {3: "object", 4: "text", 5: "sparse matrix"}
MOST_BYTES = 1 << 29  # of a variable, decompressed: the masks of an image of 90 million px several times
MOST_DIMENSIONS = 8
# Errors of this reader, and of an archive of NumPy's arrays.
DAMAGED = (
    *(OSError, EOFError, ValueError, KeyError, RuntimeError, struct.error),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile),
)
COMPLEX = 0x0800  # flag of an array


@dataclass(frozen=True)
class Array:
    """An array in a file, of which only the header has been read.

    Attributes
    ----------
    order
        Byte order, ``<`` or ``>``.
    kind, flags
        Class of the array, and its flags.
    shape
        Its dimensions.
    name
        Its name; empty within another array.
    content
        The bytes that follow.
    """

    order: str
    kind: int
    flags: int
    shape: tuple[int, ...]
    name: bytes
    content: memoryview

    def cells(self) -> list[Array]:
        """Return the elements of a cell array, in MATLAB's order."""
        self._expect(self.kind == CELL, "a cell array")
        at, arrays = 0, []
        for _ in range(math.prod(self.shape)):
            kind, data, at = _element(self.content, at, self.order)
            arrays.append(_array(kind, data, self.order))
        return arrays

    def field(self, name: str) -> Array:
        """Return a field of a single structure."""
        self._expect(self.kind == STRUCT and math.prod(self.shape) == 1, "a single structure")
        kind, data, at = _element(self.content, 0, self.order)
        if kind != INT32 or len(data) != 4:
            raise ValueError("the length of a structure's field names is missing")
        (width,) = struct.unpack(f"{self.order}i", data)
        kind, data, at = _element(self.content, at, self.order)
        if kind != INT8 or width < 1 or len(data) % width:
            raise ValueError("a structure's field names are malformed")
        names = [bytes(data[start : start + width]).split(b"\0")[0] for start in range(0, len(data), width)]
        if names.count(name.encode()) != 1:
            raise ValueError(f"it has no field {name}")
        for _ in range(names.index(name.encode()) + 1):
            kind, data, at = _element(self.content, at, self.order)
        return _array(kind, data, self.order)

    def numbers(self) -> NDArray[Any]:
        """Return a numeric array, in the type in which its numbers are stored."""
        self._expect(self.kind in NUMERIC and not self.flags & COMPLEX, "an array of real numbers")
        kind, data, _ = _element(self.content, 0, self.order)
        if kind not in NUMBERS:
            raise ValueError(f"its numbers have the unknown type {kind}")
        dtype = np.dtype(self.order + NUMBERS[kind])
        if len(data) != dtype.itemsize * math.prod(self.shape):
            raise ValueError(f"it contains {len(data)} bytes of numbers; expected an array of shape {self.shape}")
        return np.frombuffer(data, dtype).reshape(self.shape, order="F").astype(dtype.newbyteorder("="))

    def _expect(self, fits: bool, what: str) -> None:
        if not fits:
            raise ValueError(f"it holds {CLASSES.get(self.kind, 'another array')} where {what} is expected")


def _element(data: memoryview, at: int, order: str) -> tuple[int, memoryview, int]:
    """Return the type and the content of the element at a position, and the position of the next."""
    if at + 8 > len(data):
        raise ValueError("it ends early")
    kind, length = struct.unpack_from(f"{order}II", data, at)
    if kind >> 16:  # a small element: length and type share four bytes, and the content has the other four
        kind, length = kind & 0xFFFF, kind >> 16
        if length > 4:
            raise ValueError("a small element has more than four bytes")
        return kind, data[at + 4 : at + 4 + length], at + 8
    start = at + 8
    if start + length > len(data):
        raise ValueError("it ends early")
    padding = 0 if kind == COMPRESSED else -length % 8
    return kind, data[start : start + length], start + length + padding


def _array(kind: int, data: memoryview, order: str) -> Array:
    """Read the header of an array."""
    if kind != MATRIX:
        raise ValueError(f"it has an element of type {kind} where an array is expected")
    kind, flags, at = _element(data, 0, order)
    if kind != UINT32 or len(flags) != 8:
        raise ValueError("the flags of an array are malformed")
    (flag,) = struct.unpack_from(f"{order}I", flags)
    kind, sizes, at = _element(data, at, order)
    if kind != INT32 or len(sizes) % 4 or not 8 <= len(sizes) <= 4 * MOST_DIMENSIONS:
        raise ValueError("the dimensions of an array are malformed")
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    kind, name, at = _element(data, at, order)
    # A cell needs eight bytes and a number one, so that a valid array has no more elements than bytes.
    if kind != INT8 or min(shape) < 0 or math.prod(shape) > len(data):
        raise ValueError("the header of an array is malformed")
    return Array(order, flag & 0xFF, flag, shape, bytes(name), data[at:])


def _variables(data: bytes) -> dict[str, Array]:
    order = ENDIAN.get(data[126:128])
    if len(data) < HEAD or order is None:
        raise ValueError("not a file of MATLAB 5")
    if struct.unpack_from(f"{order}H", data, 124)[0] != VERSION:
        raise ValueError("not a file of MATLAB 5, perhaps of MATLAB 7.3")
    view, at, arrays = memoryview(data), HEAD, {}
    while at < len(data):
        kind, content, at = _element(view, at, order)
        if kind == COMPRESSED:
            kind, content, _ = _element(_decompressed(content), 0, order)
        array = _array(kind, content, order)
        arrays[array.name.decode("latin-1")] = array
    return arrays


def _decompressed(content: memoryview) -> memoryview:
    stream = zlib.decompressobj()
    data = stream.decompress(content, MOST_BYTES)
    if not stream.eof:
        raise ValueError(
            "a compressed variable ends early" if not stream.unconsumed_tail else "a variable is too large"
        )
    return memoryview(data)


def read_mat(path: Path, name: str) -> Array:
    """Read a variable of a MATLAB 5 file; use it within :func:`readable`.

    Raises
    ------
    InputError
        If there is no such file, or it cannot be read.
    ValueError, KeyError, zlib.error
        If it is damaged, or has no such variable.
    """
    try:
        return _variables(read_bytes(path, "restore the file"))[name]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; restore the data set") from None


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise one :class:`InputError` for the errors of a damaged or foreign annotation file.

    Raises
    ------
    InputError
        If the block fails to read the file.
    """
    try:
        yield
    except MemoryError:
        raise InputError(f"{path}: not a readable annotation file (it is too large); restore the file") from None
    except DAMAGED as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: not a readable annotation file ({reason}); restore the file") from None
