"""Mutations of bytes and of JSON values, drawn from a generator.

Every mutation comes with a phrase that says what was changed.
"""

from __future__ import annotations

import copy
import struct
import zlib
from typing import Any

import numpy as np

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


Changed = tuple[str, bytes]


def mutated(data: bytes, other: bytes, rng: np.random.Generator) -> Changed:
    """Return bytes with one to four random changes; ``other`` is a file of which a part may be taken."""
    changes = []
    for _ in range(int(rng.integers(1, 5))):
        change, data = _changed(bytearray(data), other, rng)
        changes.append(change)
    return ", ".join(changes), data


def _changed(data: bytearray, other: bytes, rng: np.random.Generator) -> Changed:
    at = int(rng.integers(0, len(data) + 1))
    length = int(rng.integers(1, 1 + min(int(rng.choice([64, 4096])), max(1, len(data) - at))))
    kind = int(rng.integers(0, 9))
    if kind == 0 and data:
        change = "one bit"
        data[at % len(data)] ^= 1 << int(rng.integers(0, 8))
    elif kind == 1 and data:
        change = "one byte"
        data[at % len(data)] = int(rng.integers(0, 256))
    elif kind == 2:
        change = "end lost"
        del data[at:]
    elif kind == 3:
        change = f"{length} bytes lost"
        del data[at : at + length]
    elif kind == 4:
        change = f"{length} bytes inserted"
        data[at:at] = rng.bytes(length)
    elif kind == 5:
        change = f"{length} bytes repeated"
        data[at:at] = data[at : at + length]
    elif kind == 6:
        change = f"{length} bytes blanked"
        data[at : at + length] = bytes(length)
    elif kind == 7:  # a number where a length may stand
        number, order = int(rng.choice(NUMBERS)), str(rng.choice(["<", ">"]))
        change = f"number {number}"
        field = struct.pack(f"{order}I", number) if rng.random() < 0.7 else struct.pack(f"{order}H", number & 0xFFFF)
        data[at : at + len(field)] = field
    else:
        start = int(rng.integers(0, len(other) + 1))
        change = f"{length} bytes of another file, from {start},"
        data[at : at + length] = other[start : start + length]
    return f"{change} at {at}", bytes(data)


def mutated_png(data: bytes, other: bytes, rng: np.random.Generator) -> Changed:
    """Return a PNG with changed chunks whose checksums are right, so that a reader gets to their content."""
    chunks, changes = _chunks(data), []
    for _ in range(int(rng.integers(1, 4))):
        number, kind = int(rng.integers(0, len(chunks))), int(rng.integers(0, 6))
        name, content = chunks[number]
        if kind == 0:
            change, content = mutated(content, other, rng)
            chunks[number] = name, content
            changes.append(f"{name.decode()}: {change}")
        elif kind == 1 and content and name == b"IDAT":
            change, pixels = mutated(zlib.decompress(content), other, rng)
            chunks[number] = name, zlib.compress(pixels)
            changes.append(f"pixels: {change}")
        elif kind == 2:
            chunks.insert(int(rng.integers(0, len(chunks))), chunks[number])
            changes.append(f"{name.decode()} twice")
        elif kind == 3 and len(chunks) > 1:
            del chunks[number]
            changes.append(f"{name.decode()} lost")
        elif kind == 4:
            names = [b"tRNS", b"PLTE", b"eXIf", b"iCCP", b"zTXt", b"iTXt", b"acTL", b"fcTL", b"sBIT", b"gAMA", b"IDAT"]
            name = names[int(rng.integers(0, len(names)))]
            chunks.insert(int(rng.integers(0, len(chunks))), (name, rng.bytes(30)))
            changes.append(f"{name.decode()} of 30 random bytes")
        else:
            head, at = bytearray(chunks[0][1].ljust(13, b"\0")), int(rng.integers(0, 13))
            head[at] = int(rng.choice([0, 1, 2, 3, 4, 6, 8, 16, 255]))
            chunks[0] = chunks[0][0], bytes(head)
            changes.append(f"byte {at} of the first chunk is {head[at]}")
        if any(name == b"IDAT" and not _inflates(content) for name, content in chunks):
            break
    whole = PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
    return "; ".join(changes) or "nothing", whole


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


def mutated_mat(data: bytes, other: bytes, rng: np.random.Generator) -> Changed:
    """Return a MATLAB file whose compressed variable is changed within and compressed again."""
    kind, length = struct.unpack_from("<II", data, 128)
    if kind != 15:
        return mutated(data, other, rng)
    change, variable = mutated(zlib.decompress(data[136 : 136 + length]), other, rng)
    content = zlib.compress(variable)
    return f"variable: {change}", data[:128] + struct.pack("<II", 15, len(content)) + content


ODD: tuple[Any, ...] = (
    *(None, True, "", "x", "x\u2028y", "\ud800", -1, 0, 1, 1.5, 1e9, 10**9, 1e400, 10**30, 2**63, float("nan")),
    *([], {}, [[]], [0], [1, 2], [None], {"a": 1}, "a\0b", "../x", [[1] * 7], [[0, 0, 1e9, 1, 2, 2]]),
    *({"size": [1, 1], "counts": [1]}, {"size": [2, 2], "counts": "0" * 50}),
)


def odd_json(content: Any, rng: np.random.Generator, most: int = 3) -> tuple[str, Any]:
    """Return a copy of a JSON value in which one to ``most`` values are replaced, removed, doubled or swapped."""
    content, changes = copy.deepcopy(content), []
    for _ in range(int(rng.integers(1, most + 1))):
        places = list(_places(content, ""))
        if not places:
            break
        holder, key, path = places[int(rng.integers(0, len(places)))]
        kind = int(rng.integers(0, 5))
        if kind == 0:
            del holder[key]
            changes.append(f"{path} missing")
        elif kind == 1 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
            changes.append(f"{path} twice")
        elif kind == 2:
            there, name, origin = places[int(rng.integers(0, len(places)))]
            holder[key] = copy.deepcopy(there[name])
            changes.append(f"{path} is {origin}")
        else:
            holder[key] = ODD[int(rng.integers(0, len(ODD)))]
            changes.append(f"{path} is {holder[key]!r}")
    return ", ".join(changes) or "nothing", content


def _places(value: Any, path: str) -> Any:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        inner = f"{path}.{key}".lstrip(".")
        yield value, key, inner
        yield from _places(value[key], inner)
