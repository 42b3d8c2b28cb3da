"""Records in JSON beside results, with a checksum: a key ``crc32`` at the top, of the text with zeros in its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from novelseg.core.errors import InputError
from novelseg.core.files import read_bytes
from novelseg.formats.checksums import BLANK, intact, seal

CHECK, VERSION = "crc32", 2
_MARK = f'\n "{CHECK}": "'.encode()  # one blank: only keys at the top are indented by one


def write_about(path: Path, values: dict[str, Any]) -> None:
    """Write a record; ``path`` is a scratch path that the caller renames."""
    text = (
        json.dumps({**values, "version": VERSION, CHECK: BLANK.decode()}, indent=1, sort_keys=True, allow_nan=False)
        + "\n"
    )
    path.write_bytes(seal(text.encode(), _MARK))


def read_about(path: Path, stage: str) -> dict[str, Any]:
    """Read a record; one of earlier code, without version and checksum, is read without the check.

    Raises
    ------
    InputError
        If the file is absent, cannot be read, is damaged or is not a record.
    """
    content = read_bytes(path, f"run the stage `{stage}`")
    checked = intact(content, _MARK)
    if checked is False:
        raise InputError(f"{path}: is damaged (its checksum differs); delete its folder and rerun `{stage}`")
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise InputError(f"{path}: the record cannot be read; delete its folder and rerun `{stage}`")
    if not checked and values.get("version") is not None:
        raise InputError(
            f"{path}: has no checksum, which this version always has; delete its folder and rerun `{stage}`"
        )
    return {name: value for name, value in values.items() if name not in (CHECK, "version")}
