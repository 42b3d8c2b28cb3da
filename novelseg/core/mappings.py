"""Reading of mappings of names to values from JSON or YAML files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from novelseg.core.errors import InputError
from novelseg.core.extras import needs_extras
from novelseg.core.files import reading_refused


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
        raise (
            reading_refused(path, error) or InputError(f"{path}: cannot be read ({error}); make it readable")
        ) from None
    except ValueError as error:
        raise InputError(f"{path}: is neither JSON nor YAML ({' '.join(str(error).split())}); correct it") from None
    if not isinstance(values, dict):
        raise InputError(
            f"{path}: contains data of type {type(values).__name__}; expected a mapping of names to values"
        )
    return values
