"""MD5 of files and folders, each computed once and remembered by inode, size and time.

The memory is a log of lines, one an answer, that any process may append to; a line that is lost or torn costs one more
hashing and nothing else. It is kept where its folder exists, which the engines make, and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from novelseg.core.files import digest, whole_file

MEMORY = Path(".cache/digests.tsv")
FIELDS = 3  # path, signature, digest


def _walk(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Relative name and stat of every file of a folder, hidden ones left out, sorted by name."""
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = os.path.join(place, name)  # noqa: PTH118  (a hundred thousand files: pathlib takes ten times as long)
            if os.path.exists(path):  # noqa: PTH110  (a dangling link holds nothing)
                yield os.path.relpath(path, folder).replace(os.sep, "/"), os.stat(path)  # noqa: PTH116


def _signature(path: str) -> str | None:
    """What changes whenever a file, or a file of a folder, is written; None where nothing is."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISDIR(found.st_mode):
        return f"{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"
    listing = hashlib.md5()
    for name, file in _walk(path):
        listing.update(f"{name}\0{file.st_ino}:{file.st_size}:{file.st_mtime_ns}\n".encode())
    return f"folder:{listing.hexdigest()}"


class Digests:
    """Digests of what lies on this disk.

    Parameters
    ----------
    memory
        The log; created when first needed, if its folder exists.
    """

    def __init__(self, memory: Path = MEMORY) -> None:
        self._memory = memory
        self._known: dict[str, tuple[str, str]] = {}
        self._lines, self._read = 0, 0
        self.catch_up()

    def catch_up(self) -> None:
        """Read what other processes have appended."""
        if not self._memory.exists() or self._memory.stat().st_size == self._read:
            return
        with self._memory.open("rb") as log:
            log.seek(self._read)
            added = log.read()
        self._read += len(added)
        for line in added.decode(errors="replace").splitlines():
            fields = line.split("\t")
            self._lines += 1
            if len(fields) == FIELDS and len(fields[2]) == 32:
                self._known[fields[0]] = (fields[1], fields[2])

    def of(self, path: Path | str) -> str | None:
        """MD5 of a file's bytes, as DVC writes it, or of a folder's names and bytes; None where there is none."""
        signature = _signature(str(path))
        if signature is None:
            return None
        known = self._known.get(str(path))
        if known and known[0] == signature:
            return known[1]
        found = self._folder(Path(path)) if signature.startswith("folder:") else digest(Path(path))
        self._remember(str(path), signature, found)
        return found

    def known(self, path: Path | str) -> str | None:
        """The digest if it is remembered and still holds, without reading the file."""
        signature, known = _signature(str(path)), self._known.get(str(path))
        return known[1] if known and known[0] == signature else None

    def learn(self, path: Path | str, md5: str) -> None:
        """Remember a digest that somebody else computed of the file as it is now."""
        signature = _signature(str(path))
        if signature is not None and self._known.get(str(path)) != (signature, md5):
            self._remember(str(path), signature, md5)

    def redate(self, path: Path | str, time_ns: int) -> None:
        """Give a file, and the link that stands for it, another time, without forgetting its digest."""
        known = self.known(path)
        os.utime(path, ns=(time_ns, time_ns))
        os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)
        if known:
            self.learn(path, known)

    def compact(self) -> None:
        """Drop lines that later ones replace, once they are the most."""
        self.catch_up()
        if self._lines > 2 * len(self._known) + 100:
            with whole_file(self._memory) as scratch:
                lines = ["\t".join([path, *known]) for path, known in self._known.items()]
                scratch.write_text("".join(f"{line}\n" for line in lines), encoding="utf8")
            self._lines, self._read = len(self._known), self._memory.stat().st_size

    def _folder(self, folder: Path) -> str:
        content = hashlib.md5()
        for name, _ in _walk(str(folder)):
            content.update(f"{name}\0{digest(folder / name)}\n".encode())
        return content.hexdigest()

    def _remember(self, path: str, signature: str, md5: str) -> None:
        self._known[path] = (signature, md5)
        self._lines += 1
        # One write to a file opened for appending: lines of several processes do not mix. Where there is no folder for
        # it, or the disk is full, the answer is known to this process alone.
        with suppress(OSError), self._memory.open("ab", buffering=0) as log:
            log.write(f"{path}\t{signature}\t{md5}\n".encode())


@cache
def _shared(memory: Path) -> Digests:
    """The process's digests of a memory, whose log it reads once and then only where it has grown."""
    return Digests(memory)


def digest_once(path: Path) -> str:
    """MD5 of a file, from the memory of the working folder if it has one.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    memory = _shared(MEMORY.absolute())
    memory.catch_up()
    found = memory.of(path)
    if found is None:
        raise FileNotFoundError(path)
    return found
