"""Provenance records: what a job's outputs were made from, as one small JSON file per job."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Record:
    """Provenance of one job's outputs.

    Attributes
    ----------
    stage
        Name of the stage.
    options
        Fold, shot, shard, seed, variant: what the job was asked for, as text.
    parameters
        The sections of ``params.yaml`` that the stage reads.
    code
        Digest of the stage's first-party code (first-party files that it imports).
    inputs, outputs
        MD5 of each file. An artifact is named by its path in the project; what is given from outside the pipeline, a
        file or a folder, by the option that gives it: ``weights``, ``maps``, ``root``.
    versions
        Of Python and of the packages that the stage loaded: for people, never compared.
    """

    stage: str
    options: dict[str, str]
    parameters: dict[str, dict[str, Any]]
    code: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    versions: dict[str, str]


def parse_record(text: str) -> Record | None:
    """A record from its JSON; None if that is no record."""
    try:
        made = Record(**json.loads(text))
    except (ValueError, TypeError):
        return None
    texts = isinstance(made.stage, str) and isinstance(made.code, str)
    mappings = (made.options, made.parameters, made.inputs, made.outputs, made.versions)
    return made if texts and all(isinstance(entry, dict) for entry in mappings) and made.outputs else None


def read_record(path: Path) -> Record | None:
    """Read a record; None where there is none, or none that can be read."""
    try:
        return parse_record(path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
