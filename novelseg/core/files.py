"""Outputs appear whole or not at all."""

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

FULL = ("No space left on device", "Disk quota exceeded")


def _scratch_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


@contextmanager
def disk_full_as_input_error(target: Path) -> Iterator[None]:
    """Turn what the libraries say of a full disk, each in its own way, into one sentence."""
    try:
        yield
    except Exception as error:
        if any(text in str(error) for text in FULL):
            raise InputError(
                f"{target}: no space left on device; make room and run again, nothing half-written is kept"
            ) from None
        raise


def _settle(path: Path) -> None:
    """Wait until a file is on the disk: network file systems tell of a full disk only then."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Give a scratch name beside ``target``; move it there when the block ends well, remove it otherwise."""
    scratch = _scratch_name(target)
    with disk_full_as_input_error(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield scratch
            _settle(scratch)
            scratch.replace(target)
        finally:
            scratch.unlink(missing_ok=True)


def _replace_folder(scratch: Path, target: Path) -> None:
    made = {path.name for path in scratch.iterdir()}
    if target.exists() and {path.name for path in target.iterdir()} <= made:
        shutil.rmtree(target)
    if not target.exists():
        scratch.replace(target)
        return
    for name in sorted(made):
        if (target / name).is_dir():
            shutil.rmtree(target / name)
        (scratch / name).replace(target / name)


@contextmanager
def whole_folder(target: Path, *, settle: bool = True) -> Iterator[Path]:
    """Give a scratch folder beside ``target``; swap it in when the block ends well, remove it otherwise.

    Files of other names that lie in ``target`` stay: it may be a folder of the user's. ``settle`` waits until each file
    is on the disk.
    """
    scratch = _scratch_name(target)
    with disk_full_as_input_error(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            yield scratch
            for path in scratch.rglob("*") if settle else ():
                if path.is_file():
                    _settle(path)
            _replace_folder(scratch, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def remove_scratch(target: Path) -> list[Path]:
    """Remove what killed runs have left of a file or folder; the caller knows that none is at work."""
    found = sorted(target.parent.glob(f".{target.name}.*.tmp"))
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return found


def digest(path: Path) -> str:
    """MD5 of a file's bytes, as DVC writes it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a JSON file, or a YAML file where PyYAML is installed, that holds names with values.

    Raises
    ------
    InputError
        If it cannot be read, is neither, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf8")
        if path.suffix == ".json":
            values = json.loads(text)
        else:
            import yaml  # of the pipeline; a lean install reads JSON

            values = yaml.safe_load(text)
    except ModuleNotFoundError:
        raise InputError(f"{path}: reading YAML needs PyYAML; run `pip install pyyaml`, or give a .json file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a readable file") from None
    except Exception as error:
        if not isinstance(error, ValueError) and type(error).__module__.partition(".")[0] != "yaml":
            raise
        raise InputError(f"{path}: is neither JSON nor YAML ({' '.join(str(error).split())}); correct it") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds {type(values).__name__}; expected names with values")
    return values
