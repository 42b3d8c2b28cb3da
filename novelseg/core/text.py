"""Sentences about names and numbers that do not fit."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name an unknown one may have meant."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"the nearest known key is '{close[0]}'" if close else "no key is known here"


def check_ranges(settings: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse attributes that lie outside their range, ends included, or are no numbers.

    Raises
    ------
    ValueError
        Naming the first one.
    """
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}; expected {low:g} to {high:g}")
