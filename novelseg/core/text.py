"""Parts of error messages about unknown names and numbers out of range."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a question that suggests the known name most similar to an unknown one."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"did you mean '{close[0]}'?" if close else "there are no known names"


def check_ranges(settings: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Check that attributes are numbers within their ranges, ends included.

    Raises
    ------
    ValueError
        If an attribute is outside its range; the message names the first one.
    """
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}; expected {low:g} to {high:g}")
