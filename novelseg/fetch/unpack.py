"""Archives: chosen files, to chosen places, whole or not at all; no path leaves the target, no file is replaced."""

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
    name: str
    plain: bool  # a file, not a link or a device
    folder: bool
    open: Callable[[], IO[bytes]]


class _Stream:
    """Pieces as a file that is read forward."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left = pieces, b""

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer at the end."""
        while len(self._left) < size and (piece := next(self._pieces, b"")):
            self._left += piece
        given, self._left = self._left[:size], self._left[size:]
        return given


def _of_zip(archive: zipfile.ZipFile, label: str) -> Iterator[_Member]:
    infos = archive.infolist()
    for info in track(infos, len(infos), label, "file"):
        plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
        yield _Member(info.filename, plain, info.is_dir(), partial(archive.open, info))


def _of_tar(archive: tarfile.TarFile) -> Iterator[_Member]:
    for info in archive:
        yield _Member(info.name, info.isreg(), info.isdir(), partial(_content, archive, info))


def _content(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    found = archive.extractfile(info)
    if found is None:
        raise tarfile.ReadError(f"'{info.name}' has no content")
    return found


@contextmanager
def _opened(archive: Path) -> Iterator[Iterator[_Member]]:
    """Members of a zip or a tar, in its order, with progress."""
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


def _place(name: str, places: Mapping[str, str]) -> str | None:
    """Where a member goes below the target; None for one that is not wanted."""
    for prefix, place in places.items():
        if name == prefix or (prefix.endswith("/") and name.startswith(prefix)):
            return place + name.removeprefix(prefix)
    return None


def unpack(archive: Path, target: Path, places: Mapping[str, str]) -> int:
    """Unpack chosen members of a zip or (compressed) tar into a new folder.

    Parameters
    ----------
    archive
        The file.
    target
        The folder; must not exist.
    places
        Member, or folder of members (ending in ``/``) → its place below the target.

    Returns
    -------
    int
        Files written.

    Raises
    ------
    InputError
        If the target exists; if the archive is damaged, lacks one of the places, holds a path that leads outside, a
        link where a file should be, or a name twice; if the disk is too small. Nothing is left then. A tar that ends
        early between two members looks whole: its digest is the caller's to check.
    """
    if target.exists():
        raise InputError(f"{target}: is there already and is not overwritten; move it away first")
    seen: set[str] = set()
    found: set[str] = set()
    try:
        with whole_folder(target, sync=False) as scratch, _opened(archive) as members:
            for member in members:
                parts = PurePosixPath(member.name).parts
                if member.name.startswith("/") or ".." in parts or "\\" in member.name:
                    raise InputError(
                        f"{archive}: holds '{member.name}', which would land outside; nothing was unpacked"
                    )
                place = None if member.folder else _place("/".join(parts), places)
                if place is None:
                    continue
                if not member.plain:
                    raise InputError(f"{archive}: '{member.name}' is no plain file; nothing was unpacked")
                if place in seen:
                    raise InputError(f"{archive}: holds '{member.name}' twice; nothing was unpacked")
                seen.add(place)
                found |= {prefix for prefix in places if "/".join(parts).startswith(prefix)}
                path = scratch / place
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    file = path.open("xb")
                except (FileExistsError, NotADirectoryError, IsADirectoryError):
                    raise InputError(
                        f"{archive}: holds '{member.name}' as file and as folder; nothing was unpacked"
                    ) from None
                with file, member.open() as source:
                    shutil.copyfileobj(source, file, CHUNK)
            lacking = [prefix for prefix in places if prefix not in found]
            if lacking:
                raise InputError(f"{archive}: holds no '{lacking[0]}'; expected the official archive")
    except DAMAGED as error:
        raise InputError(f"{archive}: is damaged ({error}); fetch it again; nothing was unpacked") from None
    return len(seen)
