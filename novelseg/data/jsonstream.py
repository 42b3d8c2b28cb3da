"""Elements of the arrays of a JSON file, one in memory at a time: COCO's annotations are half a gigabyte of text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from novelseg.core.errors import InputError
from novelseg.data.rawfiles import check_regular, encoding_fault

CHUNK = 1 << 20
TOKEN = 10  # characters of the longest word or escape that a chunk may end within
OPEN = ("", *"+-.eE0123456789")  # what may follow a number that is not whole yet
BLANK = re.compile(r"[ \t\n\r]*")


class _Text:
    """A text file of which only what has not been decoded yet is in memory."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._decoder = file, json.JSONDecoder()
        self._text, self._at, self._ended = "", 0, False

    def _more(self) -> bool:
        read = self._file.read(max(CHUNK, len(self._text) - self._at))  # doubles for an element longer than a chunk
        self._text, self._at, self._ended = self._text[self._at :] + read, 0, not read
        return bool(read)

    def peek(self) -> str:
        """Next character that is not blank; empty at the end."""
        while True:
            blank = BLANK.match(self._text, self._at)
            self._at = blank.end() if blank else self._at
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def take(self, wanted: str) -> bool:
        """Skip the next character if it is ``wanted``, and return whether it was."""
        skipped = self.peek() == wanted
        self._at += skipped
        return skipped

    def expect(self, wanted: str) -> None:
        """Step over a character that must be next."""
        if not self.take(wanted):
            raise ValueError(f"'{wanted}' expected, found '{self.peek()}'" if self.peek() else "the file ends early")

    def value(self) -> Any:
        """Return the next complete value."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                unfinished = error.pos >= len(self._text) - TOKEN or error.msg.startswith("Unterminated string")
                if self._ended or not unfinished:
                    raise ValueError("the file ends early" if unfinished else error.msg) from None
            else:
                # A number may go on in the next chunk, or go on here with what only that one makes sense of.
                if self._ended or self._text[end : end + 1] not in OPEN:
                    self._at = end
                    return value
            self._more()


def elements(path: Path, *keys: str) -> Iterator[tuple[str, Any]]:
    """Elements of the arrays that a JSON object holds under ``keys``, in the order of the file, with their key.

    Reading ends with the last of these arrays: what comes behind it is not looked at, be it broken or the same key
    again.

    Raises
    ------
    InputError
        If the file is absent, is not a JSON object, or lacks one of the arrays.
    """
    left = set(keys)
    try:
        check_regular(path, "expected COCO's annotations")
        with path.open(encoding="utf-8-sig") as file:
            text = _Text(file)
            text.expect("{")
            seen: set[str] = set()
            ended = text.take("}")
            while left and not ended:
                key = text.value()
                if not isinstance(key, str) or key in seen:
                    raise ValueError(f"the key {key!r} " + ("occurs twice" if isinstance(key, str) else "is not text"))
                seen.add(key)
                text.expect(":")
                if text.peek() == "[":
                    yield from ((key, element) for element in _array(text) if key in left)
                    left.discard(key)
                else:
                    text.value()
                ended = bool(left) and text.take("}")
                if left and not ended:
                    text.expect(",")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected COCO's annotations") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected COCO's annotations") from None
    except RecursionError:
        raise InputError(f"{path}: not COCO's annotations: nested too deeply; fetch the file again") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: {encoding_fault(error)}; expected COCO's annotations; save it as UTF-8, or fetch it again"
        ) from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); fetch the file again") from None
    if left:
        raise InputError(f"{path}: the list '{min(left)}' is missing; expected COCO's instance annotations")


def _array(text: _Text) -> Iterator[Any]:
    text.expect("[")
    if text.take("]"):
        return
    while True:
        yield text.value()
        if text.take("]"):
            return
        text.expect(",")
