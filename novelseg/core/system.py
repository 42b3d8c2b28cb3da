"""Sentences for files that the system refuses to read or write: a missing right, a lock, a full disk."""

from __future__ import annotations

import errno
import os
import re
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
    **dict.fromkeys((errno.EACCES, errno.EPERM), "no right to read it; ask its owner for the right"),
    **dict.fromkeys((errno.EAGAIN, errno.EWOULDBLOCK), _LOCKED),
    **dict.fromkeys((errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP), _NO_LOCKS),
    errno.EISDIR: "it is a folder; give a file",
    errno.EIO: "the disk or the network reports a read error; check the disk, then restore the file from a copy",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "too many files are open; raise the limit (`ulimit -n`)"),
    errno.ENOMEM: "the memory is full; free some and run again",
}


def reading_refused(path: Path, error: BaseException) -> InputError | None:
    """Describe an error of the operating system, met when a file was opened or read, in one sentence.

    Returns
    -------
    The error to raise, with the system's reason and what to do; None if the system is not at fault, so that the
    content is. A missing file is described as missing; callers that know who writes it catch it first.
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
        return f"{where}: cannot be written ({error.strerror}); ask its owner for the right, or choose another folder"
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
    """Return the sentence for a missing right or a full disk at any file; None for another error."""
    if error.filename is None:
        return None
    if error.errno in NO_RIGHT:
        return f"{error.filename}: no right to use it ({error.strerror}); ask its owner, or choose another folder"
    if any(text in str(error) for text in DISK_FULL):
        return f"{error.filename}: no space left on device; make room and run again"
    return None
