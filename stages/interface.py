"""Interface of a stage, read from the signature of its ``run``: paths, parameter sections and options."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from novelseg.core.options import Option, options_of
from novelseg.core.settings import Settings
from stages.options import Execution
from stages.params.schema import Section, section_of

TOOLS = ("scenes", "pretrain", "trainregions", "scoreregions", "studies")


@dataclass(frozen=True)
class Interface:
    """Interface of a stage or tool.

    Attributes
    ----------
    name
        Name of the stage and of its module.
    run
        Function that does the work.
    sections
        Parameter sections by their name in ``params.yaml``.
    arguments
        Keyword of ``run`` for each section.
    options
        Options for all other keywords of ``run``.
    """

    name: str
    run: Callable[..., None]
    sections: dict[str, type[Section]]
    arguments: dict[str, str]
    options: dict[str, Option]

    def scientific(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the options on which a result can depend beyond rounding."""
        return {name: value for name, value in values.items() if not isinstance(self.options[name].help, Execution)}


def stage_module(name: str) -> ModuleType:
    """Import the module of a stage or tool."""
    return importlib.import_module(f"stages.tools.{name}" if name in TOOLS else f"stages.{name}")


def interface(name: str) -> Interface:
    """Return the interface of a stage or tool, from the signature of its ``run``.

    The type of a parameter section is either a :class:`Section`, which has the name of its module in ``params.yaml``,
    or a settings class of the library; that section has the name of the keyword.
    """
    run = stage_module(name).run
    sections: dict[str, type[Section]] = {}
    arguments: dict[str, str] = {}
    options: dict[str, Option] = {}
    for key, option in options_of(run).items():
        if inspect.isclass(option.kind) and issubclass(option.kind, Section):
            section = option.kind.__module__.rpartition(".")[2]
            sections[section], arguments[section] = option.kind, key
        elif inspect.isclass(option.kind) and issubclass(option.kind, Settings):
            sections[key], arguments[key] = section_of(option.kind), key
        else:
            options[key] = option
    return Interface(name, run, sections, arguments, options)
