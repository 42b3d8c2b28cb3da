"""Chosen files of an archive, unpacked to chosen paths, all or none; no path leaves the target, no file is replaced.

The extraction filters of :mod:`tarfile` do not fit: they check members under their own names, and not those of a zip.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from novelseg.core.errors import InputError
from novelseg.core.files import whole_folder
from novelseg.core.progress import track, track_bytes

CHUNK = 1 << 20
DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, gzip.BadGzipFile, EOFError),
    *(NotImplementedError, RuntimeError),  # what zipfile raises for a method it lacks, and for encrypted files
)


@dataclass(frozen=True)
class _Member:
    """A member of an archive.

    Attributes
    ----------
    name
        Path in the archive.
    plain
        Whether it is a file, not a link or a device.
    folder
        Whether it is a folder.
    open
        Opens its content.
    """

    name: str
    plain: bool
    folder: bool
    open: Callable[[], IO[bytes]]


class _Stream:
    """A file, read forward, of which the pieces come from an iterator."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left = pieces, b""

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes, fewer at the end."""
        while len(self._left) < size and (piece := next(self._pieces, b"")):
            self._left += piece
        data, self._left = self._left[:size], self._left[size:]
        return data


def _of_zip(archive: zipfile.ZipFile, label: str) -> Iterator[_Member]:
    infos = archive.infolist()
    for info in track(infos, len(infos), label, "file"):
        plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
        yield _Member(info.filename, plain, info.is_dir(), partial(archive.open, info))


def _of_tar(archive: tarfile.TarFile) -> Iterator[_Member]:
    for info in archive:
        yield _Member(info.name, info.isreg(), info.isdir(), partial(_content, archive, info))


def _content(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(info)
    if content is None:
        raise tarfile.ReadError(f"'{info.name}' has no content")
    return content


@contextmanager
def _opened(archive: Path) -> Iterator[Iterator[_Member]]:
    """Open a zip or a tar and yield its members in their order; progress is shown."""
    label = f"unpacking {archive.name}"
    with archive.open("rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as opened_zip:
                yield _of_zip(opened_zip, label)
            return
        file.seek(0)
        pieces = track_bytes(iter(lambda: file.read(CHUNK), b""), archive.stat().st_size, label)
        with tarfile.open(fileobj=_Stream(pieces), mode="r|*") as opened_tar:  # type: ignore[call-overload]
            yield _of_tar(opened_tar)


def _could_leave(name: str, place: str | None) -> bool:
    """Whether a member could be written outside the target on any system: Windows has drives and another separator."""
    return name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name or ":" in (place or "")


def _place(name: str, places: Mapping[str, str]) -> str | None:
    """Return the path of a member below the target; None for a member that is not chosen."""
    for prefix, place in places.items():
        if name == prefix or (prefix.endswith("/") and name.startswith(prefix)):
            return place + name.removeprefix(prefix)
    return None


def unpack(archive: Path, target: Path, places: Mapping[str, str]) -> int:
    """Unpack chosen members of a zip or tar, compressed or not, into a new folder.

    Parameters
    ----------
    archive
        The file.
    target
        The folder; must not exist.
    places
        Member, or folder of members (ending in ``/``) → its path below the target.

    Returns
    -------
    int
        Number of files written.

    Raises
    ------
    InputError
        If the target exists, the disk is full, or the archive is damaged, lacks one of the members, or contains a path
        that could leave the target, a link instead of a file, or a name twice. Nothing is left then. A tar that ends
        early between two members cannot be told from a whole one; the caller checks its digest.
    """
    if target.exists():
        raise InputError(f"{target}: is there already and is not overwritten; move it away first")
    written: set[str] = set()
    used: set[str] = set()  # keys of ``places`` that the archive has
    try:
        with whole_folder(target, sync=False) as scratch, _opened(archive) as members:
            for member in members:
                name = PurePosixPath(member.name).as_posix()
                place = None if member.folder else _place(name, places)
                if _could_leave(member.name, place):
                    raise InputError(
                        f"{archive}: contains '{member.name}', which could leave the folder; nothing was unpacked"
                    )
                if place is None:
                    continue
                if not member.plain:
                    raise InputError(f"{archive}: '{member.name}' is no plain file; nothing was unpacked")
                if place in written:
                    raise InputError(f"{archive}: contains '{member.name}' twice; nothing was unpacked")
                written.add(place)
                used |= {prefix for prefix in places if name.startswith(prefix)}
                path = scratch / place
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    file = path.open("xb")
                except (FileExistsError, NotADirectoryError, IsADirectoryError):
                    raise InputError(
                        f"{archive}: contains '{member.name}' as file and as folder; nothing was unpacked"
                    ) from None
                with file, member.open() as source:
                    shutil.copyfileobj(source, file, CHUNK)
            missing = [prefix for prefix in places if prefix not in used]
            if missing:
                raise InputError(f"{archive}: lacks '{missing[0]}'; expected the official archive")
    except DAMAGED as error:
        raise InputError(f"{archive}: is damaged ({error}); fetch it again; nothing was unpacked") from None
    return len(written)
