"""MD5 digests of files and folders, computed once and cached by inode, size and time.

The cache is a log with one line per digest, to which any process may append. A lost or incomplete line only costs
another computation. The log is kept if its folder exists, which the engines create, and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from novelseg.core.errors import InputError
from novelseg.core.files import digest, whole_file

MEMORY = Path(".cache/digests.tsv")
FIELDS = 3  # path, signature, digest


def _walk(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the relative name and stat of every file in a folder, except hidden ones, sorted by name.

    Links to a folder that contains them, which would lead in circles, and broken links, pipes and sockets are left out.
    """
    for parent, folders, names in os.walk(folder, followlinks=True):
        visible = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in visible if not _leads_back(folder, os.path.join(parent, name))]  # noqa: PTH118
        for name in sorted(name for name in names if not name.startswith(".")):
            path = os.path.join(parent, name)  # noqa: PTH118  (pathlib is ten times slower for 100,000 files)
            if os.path.isfile(path):  # noqa: PTH113
                yield os.path.relpath(path, folder).replace(os.sep, "/"), os.stat(path)  # noqa: PTH116


def _leads_back(folder: str, path: str) -> bool:
    """Return whether a folder is a link to one of the folders on the way to it from ``folder``, or above that."""
    if not os.path.islink(path):  # noqa: PTH114
        return False
    target, above = Path(path).resolve(), Path(path).parent
    way = [above, *(parent for parent in above.parents if parent.is_relative_to(folder))]
    return any(Path(step).resolve().is_relative_to(target) for step in way)


def _key(path: Path | str) -> str:
    """Return a path as it stands in the log, where it must not break lines or fields."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def _signature(path: str) -> str | None:
    """Return a text that changes whenever a file, or a file in a folder, is written; None if there is neither."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISDIR(status.st_mode):
        return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
    listing = hashlib.md5()
    for name, file in _walk(path):
        listing.update(f"{name}\0{file.st_ino}:{file.st_size}:{file.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return f"folder:{listing.hexdigest()}"


class Digests:
    """Cached digests of files and folders on this machine.

    Parameters
    ----------
    memory
        The log, which is created with the first digest if its folder exists.
    """

    def __init__(self, memory: Path = MEMORY) -> None:
        self._memory = memory
        self._known: dict[str, tuple[str, str]] = {}
        self._lines, self._read = 0, 0
        self.catch_up()

    def catch_up(self) -> None:
        """Read the lines that other processes have appended."""
        if not self._memory.exists() or self._memory.stat().st_size == self._read:
            return
        with self._memory.open("rb") as log:
            log.seek(self._read)
            appended = log.read()
        self._read += len(appended)
        for line in appended.decode(errors="replace").splitlines():
            fields = line.split("\t")
            self._lines += 1
            if len(fields) == FIELDS and len(fields[2]) == 32:
                self._known[fields[0]] = (fields[1], fields[2])

    def of(self, path: Path | str) -> str | None:
        """Return the MD5 of a file's bytes, as in DVC, or of a folder's names and bytes; None if there is neither."""
        signature = _signature(str(path))
        if signature is None:
            return None
        known = self._known.get(_key(path))
        if known and known[0] == signature:
            return known[1]
        md5 = self._folder(Path(path)) if signature.startswith("folder:") else digest(Path(path))
        self._remember(_key(path), signature, md5)
        return md5

    def known(self, path: Path | str) -> str | None:
        """Return the digest if it is cached and still valid, without reading the file; else None."""
        signature, known = _signature(str(path)), self._known.get(_key(path))
        return known[1] if known and known[0] == signature else None

    def learn(self, path: Path | str, md5: str) -> None:
        """Store the digest of a file in its present state, computed elsewhere."""
        signature = _signature(str(path))
        if signature is not None and self._known.get(_key(path)) != (signature, md5):
            self._remember(_key(path), signature, md5)

    def redate(self, path: Path | str, time_ns: int) -> None:
        """Set the time of a file, and of the link to it, and keep its cached digest valid."""
        known = self.known(path)
        for follow in (True, False):
            try:
                os.utime(path, ns=(time_ns, time_ns), follow_symlinks=follow)
            except PermissionError:  # a colleague's file: who may write it may set it to the present time
                os.utime(path, follow_symlinks=follow)
        if known:
            self.learn(path, known)

    def compact(self) -> None:
        """Rewrite the log without replaced lines, once these are the majority."""
        self.catch_up()
        if self._lines > 2 * len(self._known) + 100:
            lines = ["\t".join([path, *known]) for path, known in self._known.items()]
            with suppress(OSError, InputError):  # a folder of somebody else's: the log stays as it is
                with whole_file(self._memory) as scratch:
                    scratch.write_text("".join(f"{line}\n" for line in lines), encoding="utf8")
                self._lines, self._read = len(self._known), self._memory.stat().st_size

    def _folder(self, folder: Path) -> str:
        content = hashlib.md5()
        for name, _ in _walk(str(folder)):
            content.update(f"{name}\0{digest(folder / name)}\n".encode(errors="surrogateescape"))
        return content.hexdigest()

    def _remember(self, path: str, signature: str, md5: str) -> None:
        self._known[path] = (signature, md5)
        self._lines += 1
        # A single write to a file in append mode keeps the lines of several processes apart. Without the folder, or on
        # a full disk, only this process knows the digest.
        with suppress(OSError), self._memory.open("ab", buffering=0) as log:
            log.write(f"{path}\t{signature}\t{md5}\n".encode())


@cache
def _shared(memory: Path) -> Digests:
    """Return this process's only instance for a log, which is then read once and later only where it has grown."""
    return Digests(memory)


def digest_once(path: Path) -> str:
    """Return the MD5 of a file, from the working folder's log of digests where the log has it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    memory = _shared(MEMORY.absolute())
    memory.catch_up()
    md5 = memory.of(path)
    if md5 is None:
        raise FileNotFoundError(path)
    return md5
