"""Run lengths of masks: plain ones in rows or columns, COCO's compressed text, and Label Studio's bits.

Each form is computed from the transitions between background and object within the bounding box, so that neither time
nor memory depends on the size of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from novelseg.exchange.record import Instance, Mask

Runs = NDArray[np.int64]
WORD_BITS, SIZE_BITS = 8, (3, 4, 8, 16)  # of Label Studio: bits of a value, and of the length of a block
CHANNELS = 4  # per pixel in Label Studio: red, green, blue, alpha
HEAD_BITS = 32 + 5 + 4 * len(SIZE_BITS)


def row_runs(mask: Mask) -> Runs:
    """Return the lengths of alternating runs of a mask, row by row; the first is background and may be 0."""
    flat = mask.reshape(-1)
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate([[0] if flat[0] else [], [0], starts, [flat.size]]).astype(np.int64)
    return np.diff(bounds)


def mask_from_row_runs(runs: Sequence[int] | Runs, width: int, height: int) -> Mask:
    """Return the mask of runs in rows, (height, width).

    Raises
    ------
    ValueError
        If a run is negative, or they do not cover the mask.
    """
    return np.repeat(_values(runs, width * height), np.asarray(runs, np.int64)).reshape(height, width)


def mask_from_column_runs(runs: Sequence[int] | Runs, width: int, height: int) -> Mask:
    """Return the mask of runs in columns, (height, width); raises like :func:`mask_from_row_runs`."""
    flat = np.repeat(_values(runs, width * height), np.asarray(runs, np.int64))
    return np.ascontiguousarray(flat.reshape(width, height).T)


def _values(runs: Sequence[int] | Runs, pixels: int) -> Mask:
    lengths = list(map(int, runs))
    if any(length < 0 for length in lengths):
        raise ValueError("a run length is negative")
    if sum(lengths) != pixels:
        raise ValueError(f"its run lengths cover {sum(lengths)} px; expected {pixels}")
    values: Mask = np.arange(len(lengths)) % 2 == 1
    return values


def picture_runs(instance: Instance, width: int, height: int, *, columns: bool) -> Runs:
    """Return the runs of an instance on its whole picture, row by row or column by column, from background on.

    Parameters
    ----------
    instance
        The instance.
    width, height
        Size of the picture, px.
    columns
        Whether pixels are counted down the columns, as in COCO.
    """
    # (lines, pixels of a line): a line is a row or a column.
    lines = instance.mask.T if columns else instance.mask
    first, offset, length = (instance.left, instance.top, height) if columns else (instance.top, instance.left, width)
    edges = np.diff(lines.astype(np.int8), axis=1, prepend=0, append=0)
    line, start = np.nonzero(edges == 1)
    end = np.nonzero(edges == -1)[1]  # as many per line as starts, in the same order
    begins = (first + line) * length + offset + start
    ends = (first + line) * length + offset + end
    joined = np.concatenate([[True], begins[1:] != ends[:-1]])  # runs that go on in the next line are one
    bounds = np.stack([begins[joined], ends[np.concatenate([joined[1:], [True]])]], 1).reshape(-1)
    bounds = np.concatenate([[0], bounds, [width * height]])
    return np.diff(bounds[:-1] if bounds[-1] == bounds[-2] else bounds).astype(np.int64)


def brush_bytes(instance: Instance, width: int, height: int) -> bytes:
    """Return the bytes of Label Studio's run lengths of an instance on its whole picture.

    The picture is a row of 8-bit values, four per pixel, 255 on the object and 0 elsewhere. The bits are: number of
    values (32 bits); bits of a value minus one (5); bits of a block's length minus one, for four kinds of blocks (4
    each); then blocks of one repeated value, each with a 1, its kind (2 bits), its length minus one, and the value.
    """
    runs = CHANNELS * picture_runs(instance, width, height, columns=False)
    values = np.where(np.arange(len(runs)) % 2 == 1, 255, 0)
    longest = 1 << SIZE_BITS[-1]
    whole = -(-runs // longest)  # blocks of each run; 0 for an empty first run
    lengths = np.full(int(whole.sum()), longest, np.int64)
    last = np.cumsum(whole)[whole > 0] - 1
    lengths[last] = ((runs[whole > 0] - 1) % longest) + 1
    values = np.repeat(values, whole)
    kind = np.searchsorted([1 << bits for bits in SIZE_BITS], lengths)  # the smallest that holds the length
    size = np.array(SIZE_BITS)[kind]
    used = 1 + 2 + size + WORD_BITS
    block = ((((1 << 2) | kind) << size | (lengths - 1)) << WORD_BITS) | values
    most = 1 + 2 + SIZE_BITS[-1] + WORD_BITS
    place = np.arange(most)
    bits = ((block << (most - used))[:, None] >> (most - 1 - place)) & 1
    head = f"{CHANNELS * width * height:032b}{WORD_BITS - 1:05b}" + "".join(f"{bits - 1:04b}" for bits in SIZE_BITS)
    return np.packbits(np.concatenate([np.array(list(head), np.uint8), bits[place < used[:, None]]])).tobytes()


def mask_from_brush(data: bytes, width: int, height: int) -> Mask:
    """Return the mask of Label Studio's run lengths, (height, width): pixels whose last channel exceeds 127.

    Raises
    ------
    ValueError
        If the bits end early, or are of another size.
    """
    array = np.unpackbits(np.frombuffer(data, np.uint8))
    text = (array + 48).tobytes().decode("ascii")
    at = 0

    def number(bits: int) -> int:
        nonlocal at
        at += bits
        if at > len(text):
            raise ValueError("its run lengths end early")
        return int(text[at - bits : at], 2)

    count, word = number(32), number(5) + 1
    sizes = [number(4) + 1 for _ in range(4)]
    if count != CHANNELS * width * height:
        raise ValueError(f"its run lengths hold {count} values; expected {CHANNELS} for each of {width}×{height} px")
    if word != WORD_BITS:
        raise ValueError(f"its values have {word} bits; expected {WORD_BITS}")
    lengths: list[int] = []
    values: list[int] = []
    done = 0
    while done < count:
        repeated = number(1)
        length = number(sizes[number(2)]) + 1
        done += length
        if repeated:
            lengths.append(length)
            values.append(number(word))
        else:
            at += length * word
            if at > len(text):
                raise ValueError("its run lengths end early")
            lengths += [1] * length
            values += np.packbits(array[at - length * word : at]).tolist()
    if done != count:
        raise ValueError(f"its run lengths hold {done} values; expected {count}")
    return _every_fourth(np.array(values, np.uint8) > 127, np.array(lengths, np.int64)).reshape(height, width)


def _every_fourth(values: Mask, lengths: Runs) -> Mask:
    """Expand runs and return the last of each pixel's channels, without the other three in memory."""
    ends = np.cumsum(lengths)
    return np.repeat(values, np.diff(ends // CHANNELS, prepend=0))
