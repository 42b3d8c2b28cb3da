"""Outputs that appear whole or not at all, digests of files, and sentences for what the system refuses."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from novelseg.core.errors import InputError

DISK_FULL = ("No space left on device", "Disk quota exceeded")
NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)

# Libraries hide the system's error number in their messages: HDF5 writes "errno = 13", safetensors "(os error 13)".
_ERROR_NUMBER = re.compile(r"\b(?:errno = |os error )(\d+)")
_LOCKED = "another program has locked it; close that program, or set HDF5_USE_FILE_LOCKING=FALSE if only readers use it"
_NO_LOCKS = "the file system does not support locks; set HDF5_USE_FILE_LOCKING=FALSE and run again"
# Error number → what happened and what to do about it.
_SYSTEM_FAULTS = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "permission is missing; ask its owner for it"),
    **dict.fromkeys((errno.EAGAIN, errno.EWOULDBLOCK), _LOCKED),
    **dict.fromkeys((errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP), _NO_LOCKS),
    errno.EISDIR: "it is a folder; give a file",
    errno.EIO: "the disk or the network reports a read error; check the disk, then restore the file from a copy",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "too many files are open; raise the limit (`ulimit -n`)"),
    errno.ENOMEM: "the memory is full; free some and run again",
}


def reading_refused(path: Path, error: BaseException) -> InputError | None:
    """Describe in one sentence an error of the operating system that occurred when a file was opened or read.

    Returns
    -------
    The error to raise, with the system's reason and what to do; None if the file's content is at fault instead. A
    missing file is described as missing; callers that know which stage writes it catch that error first.
    """
    number = getattr(error, "errno", None)
    if number is None and (hidden := _ERROR_NUMBER.search(str(error))):
        number = int(hidden[1])
    if isinstance(error, MemoryError):
        number = errno.ENOMEM
    if not number:
        return None
    if number in (errno.ENOENT, errno.ENOTDIR):
        return InputError(f"{path}: no such file; give the path of an existing one")
    reason = _SYSTEM_FAULTS.get(number, f"{os.strerror(number)}; make it readable and run again")
    return InputError(f"{path}: cannot be read: {reason}")


def _reason(error: OSError, where: Path | str) -> str:
    if error.errno in NO_RIGHT:
        return f"{where}: cannot be written ({error.strerror}); ask its owner for permission, or choose another folder"
    return f"{where}: cannot be written ({error.strerror}); check the path"


def check_writable(target: Path) -> None:
    """Refuse a target in a folder that may not be written, before work is done for it.

    Raises
    ------
    InputError
        If the nearest folder above the target that exists may not be written.
    """
    folder = next(parent for parent in target.absolute().parents if parent.exists())
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(_reason(PermissionError(errno.EACCES, "Permission denied"), folder))


def writing_refused(error: Exception, target: Path) -> InputError | None:
    """Return the sentence for an error that arose while a target was written; None if it has another cause.

    Libraries report a full disk by various errors, which have the system's text in common.
    """
    if any(text in str(error) for text in DISK_FULL):
        return InputError(f"{target}: no space left on device; make room and run again; no incomplete output was kept")
    if not isinstance(error, OSError) or error.errno in (None, errno.ENOENT):
        return None
    where = error.filename or (target.parent if str(target.parent) in str(error) else None)
    if not isinstance(where, str | Path):
        return None
    beside = Path(where)
    own = beside.parent == target.parent or beside == target.parent or beside in target.parents
    return InputError(_reason(error, beside.parent if beside.name.endswith(".tmp") else beside)) if own else None


def system_refused(error: OSError) -> str | None:
    """Return the sentence about a missing permission or a full disk, for any file; None for another error."""
    if error.filename is None:
        return None
    if error.errno in NO_RIGHT:
        return f"{error.filename}: permission is missing ({error.strerror}); ask its owner, or choose another folder"
    if any(text in str(error) for text in DISK_FULL):
        return f"{error.filename}: no space left on device; make room and run again"
    return None


def _scratch_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


@contextmanager
def disk_full_as_input_error(target: Path) -> Iterator[None]:
    """Raise one :class:`InputError` if a target cannot be written: the disk is full, or permission is missing."""
    try:
        yield
    except Exception as error:
        if refused := writing_refused(error, target):
            raise refused from None
        raise


def _sync(path: Path) -> None:
    """Wait until a file is on the disk; network file systems report a full disk only then."""
    with path.open("r+b") as file:  # Windows flushes only what is open for writing
        os.fsync(file.fileno())


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield a scratch path beside ``target``; rename it to ``target`` if the block succeeds, else remove it."""
    scratch = _scratch_name(target)
    with disk_full_as_input_error(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield scratch
            _sync(scratch)
            scratch.replace(target)
        finally:
            scratch.unlink(missing_ok=True)


def _replace_folder(scratch: Path, target: Path) -> None:
    names = {path.name for path in scratch.iterdir()}
    if target.exists() and {path.name for path in target.iterdir()} <= names:
        shutil.rmtree(target)
    if not target.exists():
        scratch.replace(target)
        return
    for name in sorted(names):
        if (target / name).is_dir():
            shutil.rmtree(target / name)
        (scratch / name).replace(target / name)


@contextmanager
def whole_folder(target: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a scratch folder beside ``target``; move its content to ``target`` if the block succeeds, else remove it.

    Files of other names in ``target`` are kept, because it may be a folder of the user's. With ``sync``, each file is
    flushed to the disk first.
    """
    scratch = _scratch_name(target)
    with disk_full_as_input_error(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            yield scratch
            for path in scratch.rglob("*") if sync else ():
                if path.is_file():
                    _sync(path)
            _replace_folder(scratch, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def remove_scratch(target: Path) -> list[Path]:
    """Remove and return the scratch files and folders that killed runs left beside a target.

    The caller ensures that no run is writing the target.
    """
    leftovers = sorted(target.parent.glob(f".{target.name}.*.tmp"))
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return leftovers


def read_bytes(path: Path, absent: str) -> bytes:
    """Read a whole file.

    Parameters
    ----------
    path
        The file.
    absent
        What to do if there is no such file, for the message.

    Raises
    ------
    InputError
        If the file is absent or the system refuses to read it.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file; {absent}") from None
    except OSError as error:
        raise (
            reading_refused(path, error) or InputError(f"{path}: cannot be read ({error}); make it readable")
        ) from None


def digest(path: Path) -> str:
    """Return the MD5 of a file's bytes in hexadecimal, as DVC does."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
