"""Checksums inside files: eight hexadecimal digits of a CRC-32, computed with zeros in their own place.

HDF5 artifacts use HDF5's own checksums instead (:mod:`novelseg.formats.hdf5`). A CRC-32 detects every change of up to
four adjacent bytes and all but one in four thousand million of the others; it protects from damage, not from forgery.
"""

from __future__ import annotations

import zlib

BLANK = b"00000000"


def crc32(content: bytes | memoryview) -> bytes:
    """Return the CRC-32 of some bytes as eight hexadecimal digits."""
    return b"%08x" % zlib.crc32(content)


def _blank(content: bytes, mark: bytes) -> tuple[bytes, bytes] | None:
    """Return the digits after the last ``mark``, and the content with zeros in their place; None without a mark."""
    place = content.rfind(mark)
    if place < 0:
        return None
    start, stop = place + len(mark), place + len(mark) + len(BLANK)
    return content[start:stop], content[:start] + BLANK + content[stop:]


def seal(content: bytes, mark: bytes) -> bytes:
    """Put the checksum of some bytes behind the last ``mark`` in them, where zeros stand."""
    parts = _blank(content, mark)
    assert parts and parts[0] == BLANK, "the caller leaves room for the checksum"
    place = content.rfind(mark) + len(mark)
    return content[:place] + crc32(content) + content[place + len(BLANK) :]


def intact(content: bytes, mark: bytes) -> bool | None:
    """Return whether the checksum behind the last ``mark`` is that of the content; None if there is no mark."""
    parts = _blank(content, mark)
    return None if parts is None else crc32(parts[1]) == parts[0]
