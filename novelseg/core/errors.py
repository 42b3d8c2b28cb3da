"""The exception for errors that a user can fix, and parts of its messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Faulty input, described in one sentence: the file, key or number, what was expected, and what to do.

    The command line prints the sentence and exits with code 2; it writes no output. Characters that cannot be printed,
    which damaged files and file names bring along, are shown as escapes.
    """

    def __str__(self) -> str:
        """Return the sentence; line breaks remain, since some messages are lists."""
        text = super().__str__()
        if text.isprintable():
            return text
        return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a question that suggests the known name most similar to an unknown one."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"did you mean '{close[0]}'?" if close else "there are no known names"
