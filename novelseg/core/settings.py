"""Settings of a method: a frozen dataclass whose fields state their ranges, and whose docstring states their meaning.

A refinement's section of ``params.yaml`` is made from its settings class, so that names, ranges and meanings are
written once. A docstring has the value of the method's paper in brackets; *open* means that the paper does not state
it, *ours* that the paper has no such setting.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Range:
    """Allowed values of a number, ends included: ``tau: Annotated[float, Range(0, 1)] = 0.7``."""

    low: float
    high: float


Share = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(1, 10**6)]
SeedNumber = Annotated[int, Range(0, (1 << 63) - 1)]


@dataclass(frozen=True)
class Settings:
    """Base of all settings: the fields are checked when an object is made.

    Raises
    ------
    ValueError
        If a number is out of its range, or a name is not among the allowed ones; the message names the first such
        field, its value and what is allowed.
    """

    def __post_init__(self) -> None:
        for name, allowed in limits(type(self)).items():
            value = getattr(self, name)
            if isinstance(allowed, Range):
                if not allowed.low <= value <= allowed.high:
                    raise ValueError(f"{name} is {value}; expected {allowed.low:.7g} to {allowed.high:.7g}")
            elif value not in allowed:
                raise ValueError(f"{name} is '{value}'; expected one of {', '.join(allowed)}")


def limits(kind: type[Settings]) -> Mapping[str, Range | tuple[str, ...]]:
    """Return what each field of a settings class may be: the range of a number, the names of a ``Literal``.

    A field with neither, such as a Boolean, is left out.
    """
    allowed: dict[str, Range | tuple[str, ...]] = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if get_origin(hint) is Literal:
            allowed[name] = get_args(hint)
        elif get_origin(hint) is Annotated:
            allowed[name] = next(extra for extra in get_args(hint) if isinstance(extra, Range))
    return allowed


def types_of(kind: type[Settings]) -> dict[str, Any]:
    """Return the type of each field of a settings class, without its range."""
    return get_type_hints(kind)


def meanings(kind: type[Settings]) -> dict[str, str]:
    """Return the description of each field of a settings class, from the section *Attributes* of its docstring.

    Fields that are described together (``tau_fg, tau_bg``) have the same description.
    """
    _, _, attributes = (inspect.getdoc(kind) or "").partition("Attributes\n----------\n")
    descriptions = {}
    for names, text in re.findall(r"^(\S.*)\n((?:    .*(?:\n|$))+)", attributes, re.MULTILINE):
        descriptions.update(dict.fromkeys(names.split(", "), " ".join(text.split())))
    return descriptions


def summary(kind: type[Settings]) -> str:
    """Return the first paragraph of a settings class's docstring, on one line."""
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())
