"""Unpack selected files of an archive to given paths: all or none, only inside the target, and without overwriting.

The extraction filters of :mod:`tarfile` cannot be used: they check a member's own name, but members are renamed here,
and they do not apply to zip files.
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
    *(NotImplementedError, RuntimeError),  # raised by zipfile for unknown compression methods and encrypted files
)


@dataclass(frozen=True)
class _Member:
    """A member of an archive.

    Attributes
    ----------
    name
        Path in the archive.
    is_file
        Whether it is a regular file, not a link or a device.
    is_folder
        Whether it is a folder.
    open
        Function that opens its content.
    """

    name: str
    is_file: bool
    is_folder: bool
    open: Callable[[], IO[bytes]]


class _Stream:
    """File-like object that reads from an iterator of chunks, forward only."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._buffer = pieces, b""

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes, fewer at the end."""
        while len(self._buffer) < size and (piece := next(self._pieces, b"")):
            self._buffer += piece
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data


def _zip_members(archive: zipfile.ZipFile, label: str) -> Iterator[_Member]:
    infos = archive.infolist()
    for info in track(infos, len(infos), label, "file"):
        is_file = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
        yield _Member(info.filename, is_file, info.is_dir(), partial(archive.open, info))


def _tar_members(archive: tarfile.TarFile) -> Iterator[_Member]:
    for info in archive:
        yield _Member(info.name, info.isreg(), info.isdir(), partial(_content, archive, info))


def _content(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(info)
    if content is None:
        raise tarfile.ReadError(f"'{info.name}' has no content")
    return content


@contextmanager
def _open_members(archive: Path) -> Iterator[Iterator[_Member]]:
    """Open a zip or tar file and yield an iterator over its members, which reports progress."""
    label = f"unpacking {archive.name}"
    with archive.open("rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as zip_file:
                yield _zip_members(zip_file, label)
            return
        file.seek(0)
        pieces = track_bytes(iter(lambda: file.read(CHUNK), b""), archive.stat().st_size, label)
        with tarfile.open(fileobj=_Stream(pieces), mode="r|*") as tar_file:  # type: ignore[call-overload]
            yield _tar_members(tar_file)


def _is_unsafe(name: str, path: str | None) -> bool:
    """Return whether a member could be written outside the target, also on Windows with its drives and backslashes."""
    return name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name or ":" in (path or "")


def _target_path(name: str, paths: Mapping[str, str]) -> str | None:
    """Return the path of a member relative to the target, or None if the member is not selected."""
    for prefix, path in paths.items():
        if name == prefix or (prefix.endswith("/") and name.startswith(prefix)):
            return path + name.removeprefix(prefix)
    return None


def unpack(archive: Path, target: Path, paths: Mapping[str, str]) -> int:
    """Unpack selected members of a zip or tar file, compressed or not, into a new folder.

    Parameters
    ----------
    archive
        Zip or tar file. Its digest must have been checked: a tar file that ends early, between two members, looks
        complete.
    target
        Folder to create; must not exist.
    paths
        Member, or folder of members (ending in ``/``) → path relative to the target.

    Returns
    -------
    int
        Number of files written.

    Raises
    ------
    InputError
        If the target exists, the disk is full, or the archive is damaged, lacks one of the members, or contains a path
        that could leave the target, a link instead of a file, or a name twice. No file is kept then.
    """
    if target.exists():
        raise InputError(f"{target}: already exists and is not overwritten; move it away first")
    written: set[str] = set()
    used: set[str] = set()  # keys of ``paths`` that the archive contains
    try:
        with whole_folder(target, sync=False) as scratch, _open_members(archive) as members:
            for member in members:
                name = PurePosixPath(member.name).as_posix()
                path = None if member.is_folder else _target_path(name, paths)
                if _is_unsafe(member.name, path):
                    raise InputError(
                        f"{archive}: contains '{member.name}', which could be written outside the target; use the "
                        "official archive"
                    )
                if path is None:
                    continue
                if not member.is_file:
                    raise InputError(f"{archive}: '{member.name}' is not a regular file; use the official archive")
                if path in written:
                    raise InputError(f"{archive}: contains '{member.name}' twice; use the official archive")
                written.add(path)
                used |= {prefix for prefix in paths if name.startswith(prefix)}
                try:
                    (scratch / path).parent.mkdir(parents=True, exist_ok=True)
                    file = (scratch / path).open("xb")
                except (FileExistsError, NotADirectoryError, IsADirectoryError):
                    raise InputError(
                        f"{archive}: contains '{member.name}' both as a file and as a folder; use the official archive"
                    ) from None
                with file, member.open() as source:
                    shutil.copyfileobj(source, file, CHUNK)
            missing = [prefix for prefix in paths if prefix not in used]
            if missing:
                raise InputError(f"{archive}: does not contain '{missing[0]}'; use the official archive")
    except DAMAGED as error:
        raise InputError(f"{archive}: is damaged ({error}); download it again") from None
    return len(written)
