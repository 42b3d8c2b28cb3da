"""Provenance records: one small JSON file per job that states what its outputs were made from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from novelseg.formats.record import fits


@dataclass(frozen=True)
class Record:
    """Provenance of one job's outputs.

    Attributes
    ----------
    stage
        Name of the stage.
    options
        Options of the job as text: fold, shot, shard, seed, variant.
    parameters
        Sections of ``params.yaml`` that the stage reads.
    code
        Digest of the first-party files that the stage imports.
    inputs, outputs
        MD5 of each file. The key of an artifact is its path in the project; that of a file or folder from outside
        the pipeline is the option that names it: ``weights``, ``maps``, ``root``.
    versions
        Versions of Python and of the packages that the stage's own files import; for information, never compared.
    """

    stage: str
    options: dict[str, str]
    parameters: dict[str, dict[str, Any]]
    code: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    versions: dict[str, str]


_TYPES = get_type_hints(Record)


def parse_record(text: str) -> Record | None:
    """Parse a record from JSON; return None if the text is not a record."""
    try:
        record = Record(**json.loads(text))
    except (ValueError, TypeError):
        return None
    valid = all(fits(getattr(record, name), hint) for name, hint in _TYPES.items()) and record.outputs
    return record if valid else None


def read_record(path: Path) -> Record | None:
    """Read a record; return None if the file is missing or is not a record."""
    try:
        return parse_record(path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
