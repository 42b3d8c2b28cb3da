"""Command-line options, derived from the signature of the function that they are passed to.

``size: Annotated[int, Help("side of a tile, px")] = 64`` becomes ``--size``, with its help, type and default.
"""

from __future__ import annotations

import argparse
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Help:
    """Help text of an option, and its allowed values; an empty tuple allows all values of the type."""

    text: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Option:
    """Option of a command, derived from one parameter of a function.

    Attributes
    ----------
    kind
        Type of the value.
    default
        Default value; ``inspect.Parameter.empty`` for a required option.
    help
        Help text and allowed values.
    """

    kind: Any
    default: Any
    help: Help


def options_of(function: Callable[..., Any]) -> dict[str, Option]:
    """Return the options of a function, by parameter name."""
    hints = get_type_hints(function, include_extras=True)
    options = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kind, description = hints[name], Help("")
        if get_origin(kind) is Annotated:
            kind, description = get_args(kind)
        options[name] = Option(kind, parameter.default, description)
    return options


def _number(text: str) -> float:
    """Parse a finite number."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not finite")
    return value


def add_option(parser: argparse.ArgumentParser, name: str, option: Option) -> None:
    """Add an option to a parser."""
    flag, required = "--" + name.replace("_", "-"), option.default is inspect.Parameter.empty
    shared: dict[str, Any] = {"required": required, "help": option.help.text.replace("%", "%%")}
    if not required:
        shared["default"] = option.default
        if option.default not in (None, "") and option.default is not False:
            shared["help"] += " (default: %(default)s)"
    if option.kind is bool:
        action = argparse.BooleanOptionalAction if option.default else "store_true"
        parser.add_argument(flag, action=action, default=option.default, help=shared["help"])
        return
    if option.help.choices:
        shared["choices"] = option.help.choices
    if option.kind in (list[Path], list[Path] | None):
        parser.add_argument(flag, nargs="+", type=Path, metavar="PATH", **shared)
        return
    kind = Path if option.kind in (Path, Path | None) else option.kind
    parse = _number if kind is float else kind
    metavar = {Path: "PATH", int: "N", float: "X"}.get(kind)
    if metavar and not option.help.choices:
        shared["metavar"] = metavar
    parser.add_argument(flag, type=parse, **shared)
