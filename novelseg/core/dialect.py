"""YAML in one dialect: version 1.2, read by the library and the settings with which DVC reads it.

PyYAML reads version 1.1, in which ``0500`` is 320, ``8:20`` is 500, ``no`` is false and ``1e-05`` is a text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from novelseg.core.errors import InputError
from novelseg.core.files import reading_refused

DEEPEST = 40  # levels of nesting; the reader in C needs stack for each and would end the process


def _depth(text: str) -> int:
    """Return how deeply mappings and lists are nested, counted up to ``DEEPEST`` + 1."""
    depth = deepest = 0
    for event in YAML(typ="safe").parse(text):
        kind = type(event).__name__
        depth += kind.endswith("StartEvent") and kind.startswith(("Mapping", "Sequence"))
        depth -= kind.endswith("EndEvent") and kind.startswith(("Mapping", "Sequence"))
        deepest = max(deepest, depth)
        if deepest > DEEPEST:
            break
    return deepest


def _describe(error: YAMLError) -> str:
    """Return a fault as a phrase with its line."""
    if isinstance(error, DuplicateKeyError):
        key = str(error.problem).partition('"')[2].partition('"')[0]
        where = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        return f"key '{key}' is written twice{where}; keep one"
    if isinstance(error, MarkedYAMLError):
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        words = " ".join(filter(None, [error.context, error.problem]))
        return f"not valid YAML: {where}{' '.join(words.split())}"
    return f"not valid YAML: {' '.join(str(error).split())}"


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML document.

    Raises
    ------
    ValueError
        If the text is not YAML 1.2, repeats a key, holds a value that is not of its type, or is nested too deep; the
        message is a phrase.
    """
    try:
        depth = _depth(text)
        value = YAML(typ="safe").load(text) if depth <= DEEPEST else None
    except YAMLError as error:
        raise ValueError(_describe(error)) from None
    except (ValueError, AttributeError, TypeError, LookupError, ArithmeticError) as error:
        # A tag that does not fit its value, or a number of too many digits.
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from None
    if depth > DEEPEST:
        raise ValueError(f"nested more than {DEEPEST} levels deep")
    return value


def load_yaml(path: Path) -> Any:
    """Return the value of a YAML file in UTF-8.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If the file cannot be read, is not in UTF-8, or is not valid YAML 1.2.
    """
    try:
        text = path.read_bytes().decode("utf8")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise (
            reading_refused(path, error) or InputError(f"{path}: cannot be read ({error}); make it readable")
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not in UTF-8 (byte {error.start + 1}); save it as UTF-8") from None
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
