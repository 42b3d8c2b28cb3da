"""What is fuzzed: a reader, and the mutations that it must bear."""

from __future__ import annotations

import hashlib
import shutil
import traceback
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from novelseg.core.errors import InputError

REFUSED, SAME, OTHER = "refused", "same content", "other content"
TRACEBACK, MESSAGE, CRASH, HANG = "traceback", "message", "crash", "hang"
OUTCOMES = (REFUSED, SAME, OTHER, TRACEBACK, CRASH, HANG, MESSAGE)
FAULTS = (TRACEBACK, CRASH, HANG, MESSAGE)
LONGEST = 600  # characters of a message, without the folder of the file


@dataclass(frozen=True)
class Mutation:
    """A mutated file: what was changed, its bytes, and those of the valid file; ``file`` renames it if not empty."""

    change: str
    content: bytes
    original: bytes
    file: str = ""


@dataclass(frozen=True)
class Target:
    """A reader with its mutations.

    Attributes
    ----------
    name
        Its name in the table.
    file
        Name of the file that it reads.
    mutate
        Draws a mutation.
    read
        Takes the path of a file and returns a summary of what it accepted, equal for equal content; raises
        :class:`InputError` for what it refuses, and ``AssertionError`` for a result that no valid file gives.
    beside
        Files that must lie in the same folder.
    """

    name: str
    file: str
    mutate: Callable[[np.random.Generator], Mutation]
    read: Callable[[Path], str]
    beside: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a reader made of a mutation: one of ``OUTCOMES``, with the message, traceback or summary."""

    target: str
    number: int
    kind: str
    change: str = ""
    detail: str = ""
    original: str = ""


def draw(target: Target, seed: int, number: int) -> Mutation:
    """Return the mutation of a number, which depends on the reader's name, the seed and the number only."""
    return target.mutate(np.random.default_rng([seed, zlib.crc32(target.name.encode()), number]))


class Attempts:
    """Reads mutations in this process.

    Parameters
    ----------
    folder
        A folder for the files, one per reader.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._originals: dict[tuple[str, bytes], str] = {}

    def attempt(self, target: Target, seed: int, number: int) -> Outcome:
        """Draw a mutation and read it."""
        mutation = draw(target, seed, number)
        kind, detail = self._read(target, mutation.file or target.file, mutation.content)
        original = self._original(target, mutation.original) if kind == OTHER else ""
        if original == detail:
            kind = SAME
        return Outcome(target.name, number, kind, mutation.change, detail, original)

    def accepts_valid_files(self, target: Target, seed: int, count: int) -> bool:
        """Return whether the reader takes any of the files that the first mutations are made from."""
        originals = {draw(target, seed, number).original for number in range(count)}
        return any(self._read(target, target.file, content)[0] == OTHER for content in originals)

    def _original(self, target: Target, content: bytes) -> str:
        """Return what the reader makes of the valid file."""
        key = target.name, hashlib.md5(content).digest()
        if key not in self._originals:
            kind, detail = self._read(target, target.file, content)
            self._originals[key] = detail if kind == OTHER else f"{kind}: {detail}"
        return self._originals[key]

    def _read(self, target: Target, file: str, content: bytes) -> tuple[str, str]:
        folder = self._folder / target.name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        for path in target.beside:
            shutil.copyfile(path, folder / path.name)
        path = folder / file
        path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return OTHER, target.read(path)
        except InputError as error:
            text = str(error).replace(f"{folder}/", "")
            return (REFUSED if text.isprintable() and len(text) <= LONGEST else MESSAGE), text
        except Exception:  # noqa: BLE001 - whatever it is, it is counted and reported
            return TRACEBACK, traceback.format_exc()
        finally:
            path.unlink()
