"""Typed parameter sections; every value is in ``params.yaml``, and none has a default in code."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Collection
from dataclasses import fields, is_dataclass
from datetime import date
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo

from novelseg.core.dialect import load_yaml
from novelseg.core.errors import InputError, nearest
from novelseg.core.settings import Range, Settings, limits, meanings, summary, types_of

T = TypeVar("T")


class Section(BaseModel):
    """Base of all parameter sections: unknown keys are refused, types are strict, and values are frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    settings: ClassVar[type[Settings] | None] = None

    def for_stage(self) -> Section | Settings:
        """Return the values in the form in which a stage receives them.

        These are the settings, if the section was made from a settings class, and otherwise the section itself.
        """
        return self.to(self.settings) if self.settings else self

    def to(self, kind: type[T]) -> T:
        """Return a settings dataclass of the library whose fields are keys of this section.

        Raises
        ------
        InputError
            If the library allows less than the section and refuses a value.
        """
        assert is_dataclass(kind)
        try:
            settings: T = kind(**{field.name: getattr(self, field.name) for field in fields(kind)})
        except ValueError as error:
            section = type(self).__module__.rpartition(".")[2]
            raise InputError(f"section '{section}': {error}") from None
        return settings


S = TypeVar("S", bound=Section)


def section_of(settings: type[Settings]) -> type[Section]:
    """Make the section of a settings class: the same keys, types, ranges and descriptions, but no default values."""
    allowed, texts = limits(settings), meanings(settings)
    values: dict[str, Any] = {}
    for name, kind in types_of(settings).items():
        span = allowed.get(name)
        low, high = (span.low, span.high) if isinstance(span, Range) else (None, None)
        values[name] = (Annotated[kind, Field(description=texts[name], ge=low, le=high)], ...)
    section: type[Section] = create_model(settings.__name__, __base__=Section, __doc__=summary(settings), **values)
    section.settings = settings
    return section


def one_of(known: Collection[str]) -> Callable[[str], str]:
    """Return a validator that accepts only the known names."""

    def check(value: str) -> str:
        if value not in known:
            raise ValueError(f"'{value}' is not known")
        return value

    return check


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a parameter file as nested mappings of plain values.

    Raises
    ------
    InputError
        If the file is absent, is not YAML, repeats a key, or is not a mapping.
    """
    try:
        values = load_yaml(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; `python -m workflow use demo` writes one") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected sections with keys, found {type(values).__name__}")
    return values


def describe(field: FieldInfo) -> str:
    """Describe the type and range of a parameter as a phrase, such as ``integer ≥ 1``."""
    annotated: Any = field.rebuild_annotation()
    return _phrase(TypeAdapter(annotated).json_schema())


_SINGULAR = {
    "integer": "integer",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
}
LARGEST = (1 << 63) - 1
_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "of {} or more characters",
}


def _phrase(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return f"always {schema['const']}"
    if "anyOf" in schema:
        return " or ".join(_phrase(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        low, high = schema.get("minItems"), schema.get("maxItems")
        count = f"{low} " if low is not None and low == high else f"{low} or more " if low else ""
        return f"list of {count}({_phrase(schema['items'])})"
    # No section accepts an integer beyond 2^63, so this bound is not mentioned.
    bounds = [text.format(schema[key]) for key, text in _BOUNDS.items() if schema.get(key, LARGEST) != LARGEST]
    return " ".join([_SINGULAR[schema["type"]], " and ".join(bounds)]).strip()


def check_section(kind: type[S], name: str, values: object, source: Path) -> S:
    """Validate one section.

    Parameters
    ----------
    kind
        The section's class.
    name
        Its name in the file.
    values
        The file's value under that name.
    source
        The file, for messages.

    Raises
    ------
    InputError
        If the section is faulty; the message names section, key, value and allowed range of the first few faults.
    """
    if not isinstance(values, dict):
        raise InputError(f"{source}: section '{name}' is {_short(values)}; expected keys with values")
    large = next((f"{name}.{key}" for key, value in values.items() if _too_large(value)), "")
    if large:
        raise InputError(f"{source}: {large} holds an integer beyond 2^63; expected a smaller one")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        # A value that fits no type of a union has one error for each type, which read the same.
        faults = "; ".join(list(dict.fromkeys(_fault(kind, name, fault) for fault in error.errors()))[:3])
        raise InputError(f"{source}: {faults}") from None


# Bounded text of a value, which may be long, or contain itself through an alias.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 3, 12, 12
_SHORT.maxstring, _SHORT.maxlong, _SHORT.maxother = 80, 80, 80


def _short(value: object) -> str:
    return _SHORT.repr(value)


def _too_large(value: object) -> bool:
    values = value if isinstance(value, list) else [value]
    return any(isinstance(number, int) and not -(1 << 63) <= number < 1 << 63 for number in values)


# What YAML reads without quotes as something else than text.
_KINDS = ((bool, "true or false"), ((int, float), "a number"), (date, "a date"), (NoneType, "nothing"))


def _fault(kind: type[Section], section: str, fault: Any) -> str:
    key, *rest = fault["loc"] or ("",)
    name = f"{section}.{key}" + "".join(f"[{index}]" for index in rest if isinstance(index, int))
    if fault["type"] in ("extra_forbidden", "invalid_key"):
        return f"unknown key '{str(key)[:80]}' in section '{section}'; {nearest(str(key), list(kind.model_fields))}"
    if fault["type"] == "missing":
        return f"{name} is missing; expected {describe(kind.model_fields[str(key)])}"
    if fault["type"] == "value_error" and not fault["loc"]:
        return f"section '{section}': {fault['ctx']['error']}"
    value, expected = fault["input"], describe(kind.model_fields[str(key)])
    read_as = next((text for kinds, text in _KINDS if isinstance(value, kinds)), "")
    hint = f", which YAML reads as {read_as}: write it in quotes" if fault["type"] == "string_type" and read_as else ""
    finite = "a finite value, " if fault["type"] == "finite_number" else ""
    return f"{name} is {_short(value)}{hint}; expected {finite}{expected}"


def load_sections(path: Path, kinds: dict[str, type[Section]]) -> dict[str, Section]:
    """Read the named sections of a parameter file and ignore the others."""
    values = read_yaml(path)
    absent = [name for name in kinds if name not in values]
    if absent:
        raise InputError(f"{path}: section '{absent[0]}' is missing; `python -m workflow use NAME` writes all of them")
    return {name: check_section(kind, name, values[name], path) for name, kind in kinds.items()}
