"""COCO's run lengths as compressed text, in both directions."""

from __future__ import annotations

from collections.abc import Iterable


def coco_text(runs: Iterable[int]) -> str:
    """Return COCO's compressed text of run lengths.

    A character holds five bits of a number, least significant first, and whether it goes on. From the fourth number on,
    the difference from the number before the previous one is written.
    """
    lengths = list(map(int, runs))
    text = []
    for number, length in enumerate(lengths):
        value = length - (lengths[number - 2] if number > 2 else 0)
        while True:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text.append(chr(48 + bits + 32 * more))
            if not more:
                break
    return "".join(text)


def coco_runs(text: str) -> list[int]:
    """Return the run lengths of COCO's compressed text; see :func:`coco_text`.

    Raises
    ------
    ValueError
        If the text ends in the middle of a number, contains an invalid character, or has a number of more than 60 bits.
    """
    lengths: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"its run lengths contain the invalid character {character!r}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            if shift > 60:
                raise ValueError("its run lengths contain a number that is too large")
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise ValueError("its run lengths end in the middle of a number")
    return lengths
