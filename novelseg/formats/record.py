"""What lies beside a network's weights, as typed records; JSON in the file's head.

A record is read strictly: each field must be there and of its type. Keys that a reader does not ask for are left alone,
so that :class:`NetworkRecord` reads the head of every network, and a method adds fields in a record of its own.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

R = TypeVar("R")


@dataclass(frozen=True)
class BackboneSpec:
    """What rebuilds a backbone.

    Attributes
    ----------
    arch
        Name of the architecture.
    stem, width
        Of a ResNet: its stem, and channels of the 3×3 convolutions of its first stage. Other families ignore both.
    """

    arch: str
    stem: str = "torchvision"
    width: int = 64


@dataclass(frozen=True, kw_only=True)
class NetworkRecord:
    """What every trained network says of itself.

    Attributes
    ----------
    network
        Kind of network: ``encoder`` or ``cam``.
    stage, fold, shot, variant
        The job that trained it; shot and variant where it had them.
    classes
        Base classes that it learned from, in order.
    arch, stem, width
        See :class:`BackboneSpec`.
    precision
        ``fp32`` or ``bf16``.
    resolution
        Side and geometry of the training images, for protocols.
    iterations, seed
        Of its training.
    """

    network: str
    stage: str
    fold: int
    classes: list[str]
    arch: str
    stem: str
    width: int
    precision: str
    resolution: str
    iterations: int
    seed: int
    shot: int | None = None
    variant: str | None = None

    @property
    def backbone(self) -> BackboneSpec:
        """What rebuilds the backbone."""
        return BackboneSpec(self.arch, self.stem, self.width)


@dataclass(frozen=True, kw_only=True)
class EncoderRecord(NetworkRecord):
    """What an encoder of method A says of itself.

    Attributes
    ----------
    scale
        Factor of the cosine in matching.
    gamma
        Weights of the pseudo-label losses, where it was trained with them.
    """

    scale: float
    gamma: list[float] | None = None


def to_json(record: Any) -> dict[str, Any]:
    """A record as plain values, without what is None."""
    return {name: value for name, value in asdict(record).items() if value is not None}


def from_json(kind: type[R], values: Mapping[str, Any]) -> R:
    """Build a record from plain values.

    Raises
    ------
    ValueError
        Naming the field that is missing or of another type.
    """
    hints = get_type_hints(kind)
    found: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in values:
            if field.default is MISSING:
                raise ValueError(f"'{field.name}' is missing")
            continue
        value = values[field.name]
        if not _fits(value, hints[field.name]):
            raise ValueError(f"'{field.name}' is {value!r:.60}, expected {_named(hints[field.name])}")
        found[field.name] = value
    return kind(**found)


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(entry, get_args(hint)[0]) for entry in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _named(hint: Any) -> str:
    return str(hint) if get_args(hint) else str(hint.__name__)
