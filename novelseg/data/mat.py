"""MATLAB files, as BSDS500 and SBD are distributed in."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scipy.io.matlab import MatReadError

from novelseg.core.errors import InputError


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what scipy and numpy raise for a damaged or foreign annotation file into one sentence.

    Raises
    ------
    InputError
        If the block cannot read the file.
    """
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; restore the data set") from None
    except (
        *(OSError, EOFError, ValueError, TypeError, KeyError, IndexError, NotImplementedError),
        *(zipfile.BadZipFile, zlib.error, MatReadError),
        *(UnboundLocalError, MemoryError),  # what scipy comes to when the bytes say nonsense
    ) as error:
        raise InputError(f"{path}: not a readable annotation file ({error}); restore the file") from None
