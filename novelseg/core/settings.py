"""Settings of a method: a frozen dataclass whose fields state their ranges and whose docstring states their meaning.

``params.yaml`` has a section for such a class, with the same names, ranges and meanings; they are written here only.
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
        If a field is out of its range, or is none of its allowed names; the message names the first one.
    """

    def __post_init__(self) -> None:
        for name, allowed in limits(type(self)).items():
            value = getattr(self, name)
            if isinstance(allowed, Range):
                if not allowed.low <= value <= allowed.high:
                    raise ValueError(f"{name} is {value}; expected {allowed.low:g} to {allowed.high:g}")
            elif value not in allowed:
                raise ValueError(f"{name} is '{value}'; expected one of {', '.join(allowed)}")


def limits(kind: type[Settings]) -> Mapping[str, Range | tuple[str, ...]]:
    """Return the range of each number of a settings class, and the allowed names of each ``Literal``."""
    found: dict[str, Range | tuple[str, ...]] = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if get_origin(hint) is Literal:
            found[name] = get_args(hint)
        elif get_origin(hint) is Annotated:
            found[name] = next(extra for extra in get_args(hint) if isinstance(extra, Range))
    return found


def types_of(kind: type[Settings]) -> dict[str, Any]:
    """Return the type of each field of a settings class, without its range."""
    return get_type_hints(kind)


def meanings(kind: type[Settings]) -> dict[str, str]:
    """Return what each field of a settings class means, from the section *Attributes* of its docstring.

    Names that share an entry (``tau_fg, tau_bg``) share its text.
    """
    _, _, attributes = (inspect.getdoc(kind) or "").partition("Attributes\n----------\n")
    found = {}
    for names, text in re.findall(r"^(\S.*)\n((?:    .*(?:\n|$))+)", attributes, re.MULTILINE):
        found.update(dict.fromkeys(names.split(", "), " ".join(text.split())))
    return found


def summary(kind: type[Settings]) -> str:
    """Return the first paragraph of a settings class's docstring, on one line."""
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())
