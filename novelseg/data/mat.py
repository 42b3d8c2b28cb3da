"""Error handling for MATLAB files, the format of the annotations of BSDS500 and SBD."""

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
    """Raise one :class:`InputError` for the various errors of scipy and numpy on a damaged or foreign file.

    Raises
    ------
    InputError
        If the block fails to read the file.
    """
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; restore the data set") from None
    except (
        *(OSError, EOFError, ValueError, TypeError, KeyError, IndexError, NotImplementedError),
        *(zipfile.BadZipFile, zlib.error, MatReadError),
        *(UnboundLocalError, MemoryError),  # raised by scipy for invalid bytes
    ) as error:
        raise InputError(f"{path}: not a readable annotation file ({error}); restore the file") from None
