"""Numbers as text."""

from __future__ import annotations


def fixed(value: float, form: str = ".1f") -> str:
    """Format a number; one that is rounded to zero has no sign.

    >>> fixed(-0.04), fixed(0.04, "+.1f"), fixed(-0.06, "+.1f")
    ('0.0', '0.0', '-0.1')
    """
    text = f"{value:{form}}"
    return text.lstrip("+-") if float(text) == 0 else text
