"""Typed records of trained networks, stored as JSON in the header of the weight file.

A record is read strictly: each field must be present and of its type. Keys without a field are ignored, so that
:class:`NetworkRecord` reads the header of every network, and a method adds fields in a record of its own.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

R = TypeVar("R")


PRETRAINED = "pretrained"  # stage in the record of weights that the pipeline has not trained


@dataclass(frozen=True)
class BackboneSpec:
    """Settings that rebuild a backbone.

    Attributes
    ----------
    arch
        Name of the architecture.
    stem, width
        For a ResNet, its stem and the channels of the 3×3 convolutions of its first stage.
    last
        For a ResNet, the layer that yields the features: ``layer3`` or ``layer4``. Other families ignore stem, width
        and last.
    layers, norm
        For a vision transformer, the numbers of the blocks whose outputs are the features, concatenated in this order
        (none: the last block), and whether the last LayerNorm is applied to each.
    side
        For a vision transformer, the longest side of an image in the network, px; larger images are reduced to it. A
        ResNet ignores layers, norm and side.
    """

    arch: str
    stem: str = "torchvision"
    width: int = 64
    last: str = "layer3"
    layers: tuple[int, ...] = ()
    norm: bool = True
    side: int = 512


def facts_of(spec: BackboneSpec) -> dict[str, Any]:
    """Return the fields of a network's record that describe its backbone; None for defaults of the newer settings."""
    facts = {"arch": spec.arch, "stem": spec.stem, "width": spec.width, "layers": list(spec.layers) or None}
    default = BackboneSpec(spec.arch)
    newer = {name: getattr(spec, name) for name in ("norm", "side")}
    return facts | {name: None if value == getattr(default, name) else value for name, value in newer.items()}


@dataclass(frozen=True, kw_only=True)
class NetworkRecord:
    """Record of a trained network.

    Attributes
    ----------
    network
        Kind of network: ``encoder`` or ``cam``.
    stage, fold, shot, variant
        Job that trained the network; shot and variant are None where the job has none.
    classes
        Base classes that it was trained on, in order; empty for the stage ``pretrained``, which trains nothing.
    arch, stem, width
        See :class:`BackboneSpec`.
    precision
        ``fp32`` or ``bf16``.
    resolution
        Side and geometry of the training images, as reported with results.
    iterations, seed
        Number of training iterations, and seed of the training.
    layers, norm, side
        See :class:`BackboneSpec`; None where they have its defaults, as in all records of ResNets.
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
    layers: list[int] | None = None
    norm: bool | None = None
    side: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges of the fields.

        Raises
        ------
        ValueError
            If a field is out of range; the message names it.
        """
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"'precision' is '{self.precision}'; expected fp32 or bf16")
        for name in ("fold", "width", "iterations", "seed"):
            if getattr(self, name) < (name == "width"):
                raise ValueError(f"'{name}' is {getattr(self, name)}; expected a larger number")
        if (not self.classes and self.stage != PRETRAINED) or len(set(self.classes)) < len(self.classes):
            raise ValueError("'classes' is empty or names a class twice")

    @property
    def backbone(self) -> BackboneSpec:
        """Settings that rebuild the backbone."""
        given = {name: getattr(self, name) for name in ("norm", "side") if getattr(self, name) is not None}
        return BackboneSpec(self.arch, self.stem, self.width, layers=tuple(self.layers or ()), **given)


@dataclass(frozen=True, kw_only=True)
class EncoderRecord(NetworkRecord):
    """Record of an encoder of method A.

    Attributes
    ----------
    scale
        Factor of the cosine in matching.
    gamma
        Weights of the pseudo-label losses; None if it was trained without them.
    """

    scale: float
    gamma: list[float] | None = None

    def __post_init__(self) -> None:
        """Check the ranges of the fields; see :meth:`NetworkRecord.__post_init__`."""
        super().__post_init__()
        if not 0 < self.scale < math.inf:
            raise ValueError(f"'scale' is {self.scale}; expected a finite number above 0")


def to_json(record: Any) -> dict[str, Any]:
    """Convert a record to plain values, without the fields that are None."""
    return {name: value for name, value in asdict(record).items() if value is not None}


def from_json(kind: type[R], values: Mapping[str, Any]) -> R:
    """Build a record from plain values.

    Raises
    ------
    ValueError
        If a field is missing or of another type; the message names it.
    """
    hints = get_type_hints(kind)
    arguments: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in values:
            if field.default is MISSING:
                raise ValueError(f"'{field.name}' is missing")
            continue
        value = values[field.name]
        if not fits(value, hints[field.name]):
            raise ValueError(f"'{field.name}' is {value!r:.60}; expected {type_name(hints[field.name])}")
        arguments[field.name] = value
    return kind(**arguments)


def fits(value: Any, hint: Any) -> bool:
    """Return whether a plain value is of a type: a class, a list or dict, a union, a literal; floats are finite."""
    if hint is Any:
        return True
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return any(fits(value, option) for option in get_args(hint))
    if get_origin(hint) is list:
        return isinstance(value, list) and all(fits(entry, get_args(hint)[0]) for entry in value)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(fits(entry, get_args(hint)[1]) for entry in value.values())
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def type_name(hint: Any) -> str:
    """Return the name of a type for a message."""
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(get_args(hint))
    return str(hint) if get_args(hint) else str(hint.__name__)
