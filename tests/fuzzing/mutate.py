"""Mutations of bytes and of JSON values, drawn from a generator."""

from __future__ import annotations

import copy
import json
import struct
import zlib
from typing import Any

import numpy as np

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def mutated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Return bytes with one to four random changes; ``other`` is a file of which a part may be taken."""
    for _ in range(int(rng.integers(1, 5))):
        data = _changed(bytearray(data), other, rng)
    return data


def _changed(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(0, len(data) + 1))
    length = int(rng.integers(1, 1 + min(64, max(1, len(data) - at))))
    kind = int(rng.integers(0, 9))
    if kind == 0 and data:  # one bit
        data[at % len(data)] ^= 1 << int(rng.integers(0, 8))
    elif kind == 1 and data:  # one byte
        data[at % len(data)] = int(rng.integers(0, 256))
    elif kind == 2:
        del data[at:]
    elif kind == 3:
        del data[at : at + length]
    elif kind == 4:
        data[at:at] = rng.bytes(length)
    elif kind == 5:
        data[at:at] = data[at : at + length]
    elif kind == 6:
        data[at : at + length] = bytes(length)
    elif kind == 7:  # a number where a length may stand
        number, order = int(rng.choice(NUMBERS)), str(rng.choice(["<", ">"]))
        field = struct.pack(f"{order}I", number) if rng.random() < 0.7 else struct.pack(f"{order}H", number & 0xFFFF)
        data[at : at + len(field)] = field
    else:
        start = int(rng.integers(0, len(other) + 1))
        data[at : at + length] = other[start : start + length]
    return bytes(data)


def mutated_png(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Return a PNG with changed chunks whose checksums are right, so that a reader gets to their content."""
    chunks = _chunks(data)
    for _ in range(int(rng.integers(1, 4))):
        number, kind = int(rng.integers(0, len(chunks))), int(rng.integers(0, 6))
        name, content = chunks[number]
        if kind == 0:
            chunks[number] = name, mutated(content, other, rng)
        elif kind == 1 and content and name == b"IDAT":
            pixels = zlib.decompress(content)
            chunks[number] = name, zlib.compress(mutated(pixels, other, rng))
        elif kind == 2:
            chunks.insert(int(rng.integers(0, len(chunks))), chunks[number])
        elif kind == 3 and len(chunks) > 1:
            del chunks[number]
        elif kind == 4:
            names = [b"tRNS", b"PLTE", b"eXIf", b"iCCP", b"zTXt", b"iTXt", b"acTL", b"fcTL", b"sBIT", b"gAMA", b"IDAT"]
            chunks.insert(int(rng.integers(0, len(chunks))), (names[int(rng.integers(0, len(names)))], rng.bytes(30)))
        else:
            head = bytearray(chunks[0][1].ljust(13, b"\0"))
            head[int(rng.integers(0, 13))] = int(rng.choice([0, 1, 2, 3, 4, 6, 8, 16, 255]))
            chunks[0] = chunks[0][0], bytes(head)
        if any(name == b"IDAT" and not _inflates(content) for name, content in chunks):
            break
    return PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def _inflates(content: bytes) -> bool:
    try:
        zlib.decompress(content)
    except zlib.error:
        return False
    return True


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], len(PNG_SIGNATURE)
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def mutated_mat(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Return a MATLAB file whose compressed variable is changed within and compressed again."""
    kind, length = struct.unpack_from("<II", data, 128)
    if kind != 15:
        return mutated(data, other, rng)
    content = zlib.compress(mutated(zlib.decompress(data[136 : 136 + length]), other, rng))
    return data[:128] + struct.pack("<II", 15, len(content)) + content


ODD: tuple[Any, ...] = (
    *(None, True, "", "x\u2028y", "\ud800", -1, 0, 1.5, 1e400, 10**30, float("nan"), [], {}, [[]], [0], "a\0b", "../x"),
    *([[0, 0, 1e9, 1, 2, 2]], {"size": [1, 1], "counts": [1]}, {"size": [2, 2], "counts": "0" * 50}, 2**63, [[1] * 7]),
)


def mutated_json(content: Any, rng: np.random.Generator) -> bytes:
    """Return the text of a JSON value in which a few values are replaced, removed, doubled or swapped."""
    content = copy.deepcopy(content)
    for _ in range(int(rng.integers(1, 4))):
        places = list(_places(content))
        if not places:
            break
        holder, key = places[int(rng.integers(0, len(places)))]
        kind = int(rng.integers(0, 5))
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif kind == 2:
            there, name = places[int(rng.integers(0, len(places)))]
            holder[key] = copy.deepcopy(there[name])
        else:
            holder[key] = ODD[int(rng.integers(0, len(ODD)))]
    return json.dumps(content).encode()


def _places(value: Any) -> Any:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from _places(value[key])
