"""Small valid files that Pillow does not write."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _rows(values: np.ndarray, depth: int) -> bytes:
    if depth >= 8:
        wide = values.astype(">u2" if depth == 16 else "u1")
        return b"".join(b"\0" + row.tobytes() for row in wide)
    bits = (values[..., None] >> np.arange(depth)[::-1]) & 1  # (H, W, depth)
    return b"".join(b"\0" + np.packbits(row.reshape(-1)).tobytes() for row in bits.astype(np.uint8))


def png(values: np.ndarray, depth: int, colour: int, more: bytes = b"") -> bytes:
    """A PNG of a bit depth and colour type; a palette is of arbitrary colours; ``more`` stands before the pixels."""
    height, width = values.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    palette = chunk(b"PLTE", bytes((37 * n) % 251 for n in range(3 << depth))) if colour == 3 else b""
    pixels = chunk(b"IDAT", zlib.compress(_rows(values, depth)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + palette + more + pixels + chunk(b"IEND", b"")
