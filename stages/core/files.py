"""Outputs appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _scratch_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Give a scratch name beside ``target``; move it there when the block ends well, remove it otherwise."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = _scratch_name(target)
    try:
        yield scratch
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
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a scratch folder beside ``target``; swap it in when the block ends well, remove it otherwise.

    Files of other names that lie in ``target`` stay: it may be a folder of the user's.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = _scratch_name(target)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        yield scratch
        _replace_folder(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def digest(path: Path) -> str:
    """MD5 of a file's bytes, as DVC writes it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
