"""Strict reader of NumPy's ``.npy`` files that hold numbers; nothing is allocated before the header is checked."""

from __future__ import annotations

import ast
import math
import re
import struct
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"\x93NUMPY"
LONGEST_HEAD = 10_000  # bytes
NUMBERS = re.compile(r"[<>|=]?([iu][1248]|f[248]|b1)")

Check = Callable[[np.dtype[Any], tuple[int, ...]], None]


def read_npy(file: IO[bytes], check: Check) -> NDArray[Any]:
    """Read an array of numbers.

    Parameters
    ----------
    file
        Stream of the file.
    check
        Called with the type and the shape before the numbers are read; it raises an error to refuse them.

    Raises
    ------
    ValueError
        If the file is malformed, or does not end where its numbers do.
    """
    descr, order, shape = _head(file)
    if not isinstance(descr, str) or not NUMBERS.fullmatch(descr):
        raise ValueError(f"its type is {descr!r:.40}; expected integers")
    dtype = np.dtype(descr)
    check(dtype, shape)
    size = dtype.itemsize * math.prod(shape)
    data = file.read(size + 1)  # one more, so that an archive checks its checksum
    if len(data) < size:
        raise ValueError(f"it ends after {len(data)} of {size} bytes")
    if len(data) > size:
        raise ValueError(f"it has more than the {size} bytes of its numbers")
    array: NDArray[Any] = np.frombuffer(data, dtype, math.prod(shape)).reshape(shape, order=order)
    return array


def _head(file: IO[bytes]) -> tuple[Any, Any, tuple[int, ...]]:
    """Return the type, the order (``C`` or ``F``) and the shape."""
    start = file.read(8)
    if len(start) < 8 or not start.startswith(MAGIC) or start[6] not in (1, 2, 3):
        raise ValueError("it is not a NumPy file")
    layout = "<H" if start[6] == 1 else "<I"
    (length,) = struct.unpack(layout, file.read(struct.calcsize(layout)).ljust(struct.calcsize(layout), b"\0"))
    if not 0 < length <= LONGEST_HEAD:
        raise ValueError(f"its header is {length} bytes long")
    text = file.read(length).decode("latin-1")
    try:
        head = ast.literal_eval(text.strip())
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise ValueError("its header is malformed") from None
    if not isinstance(head, dict) or head.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header is malformed")
    shape = head["shape"]
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"its shape is {shape!r:.40}")
    return head["descr"], "F" if head["fortran_order"] else "C", shape
