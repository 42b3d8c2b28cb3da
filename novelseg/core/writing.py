"""Sentences for outputs that the system refuses to write: a full disk, a missing right, a path that cannot be."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from novelseg.core.errors import InputError

DISK_FULL = ("No space left on device", "Disk quota exceeded")
NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)


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
