"""A lock file that one process holds at a time, on every system that Python runs on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from novelseg.core.errors import InputError


@contextmanager
def exclusive(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file, made if need be, while the block runs; the system releases it however the process ends.

    Parameters
    ----------
    path
        The lock file; it stays where it is, empty.
    busy
        What to tell the user if another process holds it.

    Raises
    ------
    InputError
        If another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, fallback_to_soft=False)  # a soft lock would outlive a process that is killed
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(busy) from None
    try:
        yield
    finally:
        lock.release()
