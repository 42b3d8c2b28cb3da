"""Outputs that appear whole or not at all, digests of files, and JSON or YAML mappings."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from novelseg.core.errors import InputError
from novelseg.core.extras import needs_extras
from novelseg.core.system import reading_refused, writing_refused


def _scratch_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


@contextmanager
def disk_full_as_input_error(target: Path) -> Iterator[None]:
    """Raise one :class:`InputError` if the system refuses to write a target: a full disk, a missing right."""
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
        raise (reading_refused(path, error) or InputError(f"{path}: cannot be read ({error})")) from None


def digest(path: Path) -> str:
    """Return the MD5 of a file's bytes in hexadecimal, as DVC does."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a mapping of names to values from a JSON file, or from a YAML file, which needs ruamel.yaml.

    Raises
    ------
    InputError
        If the file cannot be read, is neither JSON nor YAML, or contains anything else.
    """
    try:
        text = path.read_text(encoding="utf8")
        if path.suffix == ".json":
            values = json.loads(text)
        else:
            with needs_extras(f"{path}: a YAML file"):
                from novelseg.core.dialect import parse_yaml

            values = parse_yaml(text)
    except OSError as error:
        raise (reading_refused(path, error) or InputError(f"{path}: cannot be read ({error})")) from None
    except ValueError as error:
        raise InputError(f"{path}: is neither JSON nor YAML ({' '.join(str(error).split())}); correct it") from None
    if not isinstance(values, dict):
        raise InputError(
            f"{path}: contains data of type {type(values).__name__}; expected a mapping of names to values"
        )
    return values
