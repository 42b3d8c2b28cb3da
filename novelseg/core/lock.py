"""A lock file that one process holds at a time, on every system that Python runs on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from novelseg.core.errors import InputError
from novelseg.core.files import disk_full_as_input_error


@contextmanager
def exclusive(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file, created if needed, while the block runs; the system releases it however the process ends.

    Parameters
    ----------
    path
        The lock file; it stays where it is, empty.
    busy
        What to tell the user if another process holds it.

    Raises
    ------
    InputError
        If another process holds the lock, or the file cannot be written.
    """
    with disk_full_as_input_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whoever may write in the folder may take the lock. A soft lock would outlive a process that is killed.
        mode = 0o600 | path.parent.stat().st_mode & 0o066
        lock = FileLock(path, mode=mode, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(busy) from None
    except OSError as error:
        raise InputError(
            f"{path}: cannot be locked ({error.strerror}); ask its owner to run `chmod g+rw {path}`, or to remove it "
            "while no run is at work"
        ) from None
    try:
        yield
    finally:
        lock.release()
