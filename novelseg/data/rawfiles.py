"""Reading of whole files that somebody else has made: regular files of moderate size, and text in UTF-8."""

from __future__ import annotations

import stat
from pathlib import Path

from novelseg.core.errors import InputError

MOST_BYTES = 360_000_000  # per file; longer ones, such as films, are not read


def check_regular(path: Path, remedy: str) -> int:
    """Return the size of a regular file in bytes; others are refused, since reading a pipe may never end.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If it is something else.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise InputError(f"{path}: cannot be read ({_reason(error)}); {remedy}") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise InputError(f"{path}: cannot be read (it is {kind}, not a file); {remedy}")
    return status.st_size


def read_bytes(path: Path, remedy: str) -> bytes:
    """Read the bytes of a file.

    Parameters
    ----------
    path
        The file.
    remedy
        What to do about a file that cannot be read, for messages.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If it is not a regular file, is longer than ``MOST_BYTES``, or cannot be read.
    """
    size = check_regular(path, remedy)
    if size > MOST_BYTES:
        raise InputError(f"{path}: is {size / 1e6:.0f} MB long; expected at most {MOST_BYTES / 1e6:.0f} MB; {remedy}")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({_reason(error)}); {remedy}") from None


def _reason(error: OSError | ValueError) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def read_text(path: Path, expected: str) -> str:
    """Read a text file in UTF-8, with or without a byte order mark; lines end with a line feed, whatever the system.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If the file cannot be read, or is in another encoding; the message says what was ``expected``.
    """
    try:
        text = read_bytes(path, f"expected {expected}").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {encoding_fault(error)}; expected {expected}; save it as UTF-8") from None
    if "\0" in text:
        raise InputError(f"{path}: {NOT_TEXT}; expected {expected}; save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


NOT_TEXT = "not a text file in UTF-8, but UTF-16 or binary"


def encoding_fault(error: UnicodeDecodeError) -> str:
    """Return what a file is that is not text in UTF-8, as far as its first bytes show it."""
    data = error.object
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:64]:
        return NOT_TEXT
    return f"not a text file in UTF-8 (byte {data[error.start]:#04x} at position {error.start})"
