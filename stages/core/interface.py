"""What a stage's ``run`` signature says: which paths, which parameter sections, which options.

The command line, the engines' rules and ``dvc.yaml`` all follow from it.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from stages.core.params import Section


@dataclass(frozen=True)
class Interface:
    """A stage as its signature tells it.

    Attributes
    ----------
    name
        Name of the stage and of its module.
    run
        The function.
    sections
        Parameter sections by their name in ``params.yaml``.
    arguments
        Keyword of ``run`` for each section.
    options
        Every other keyword, with its type and default (``inspect.Parameter.empty`` where it must be given).
    """

    name: str
    run: Callable[..., None]
    sections: dict[str, type[Section]]
    arguments: dict[str, str]
    options: dict[str, tuple[Any, Any]]


def stage_module(name: str) -> ModuleType:
    """Import the module of a stage."""
    return importlib.import_module(f"stages.{name}")


def interface(name: str) -> Interface:
    """Read the signature of a stage's ``run``."""
    run = stage_module(name).run
    hints = get_type_hints(run)
    sections: dict[str, type[Section]] = {}
    arguments: dict[str, str] = {}
    options: dict[str, tuple[Any, Any]] = {}
    for key, parameter in inspect.signature(run).parameters.items():
        kind = hints[key]
        if inspect.isclass(kind) and issubclass(kind, Section):
            section = kind.__module__.rpartition(".")[2]
            sections[section], arguments[section] = kind, key
        else:
            options[key] = (kind, parameter.default)
    return Interface(name, run, sections, arguments, options)


def is_path_list(kind: object) -> bool:
    """Whether an option takes one or more paths."""
    return kind == list[Path]
