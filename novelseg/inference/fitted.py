"""What a fitted closed-form segmenter keeps of its supports, as a part of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from novelseg.formats.record import from_json
from novelseg.methods.closed_form.head import Head
from novelseg.methods.closed_form.presence import MEASURES, Expectation
from novelseg.methods.closed_form.settings import ClosedFormSettings

MOST_CLASSES = 254  # numbers of an index mask without the background and void


@dataclass(frozen=True)
class FitRecord:
    """Record of a fit.

    Attributes
    ----------
    classes
        Names of the classes; None for a single class without a name.
    supports
        Number of supports.
    side
        Longest side at which the network saw them, px.
    counts
        Number of prototypes of the background and of each class.
    """

    supports: int
    side: int
    counts: list[int]
    classes: list[str] | None = None

    def __post_init__(self) -> None:
        """Check that the values are possible, and agree with each other.

        Raises
        ------
        ValueError
            If a value is impossible; the message names it.
        """
        if self.supports < 1 or self.side < 1:
            raise ValueError(f"'supports' is {self.supports}, and 'side' {self.side}; expected at least 1 of each")
        classes = [""] if self.classes is None else self.classes
        if not 1 <= len(classes) <= MOST_CLASSES or len(set(classes)) < len(classes):
            raise ValueError(f"'classes' has {len(classes)} names; expected 1 to {MOST_CLASSES} different ones")
        if len(self.counts) != 1 + len(classes) or min(self.counts) < 1:
            raise ValueError(f"'counts' is {self.counts}; expected {1 + len(classes)} numbers above 0")


@dataclass(frozen=True)
class Fitted:
    """A fitted head, its reference values for presence, and the record of its fit."""

    head: Head
    expectation: Expectation
    record: FitRecord


TENSORS = tuple(field.name for field in fields(Head) if field.name not in ("settings", "counts"))
EXPECTED = tuple(field.name for field in fields(Expectation))


def to_parts(fitted: Fitted) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the plain values and the tensors of a fitted head."""
    tensors = {name: getattr(fitted.head, name) for name in TENSORS}
    return asdict(fitted.record), {**tensors, **{name: getattr(fitted.expectation, name) for name in EXPECTED}}


def from_parts(values: Any, tensors: Mapping[str, Tensor], settings: ClosedFormSettings, channels: int) -> Fitted:
    """Build a fitted head, all of whose parts are checked.

    Parameters
    ----------
    values, tensors
        As :func:`to_parts` returns them.
    settings
        Settings of the head.
    channels
        Channels of the encoder's features.

    Raises
    ------
    ValueError
        If a value or tensor is missing, unexpected, impossible, or contradicts another one; the message names it.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"'fitted' is {values!r:.60}; expected a record")
    record = from_json(FitRecord, {name: value for name, value in values.items() if value is not None})
    classes = len(record.counts) - 1
    shapes = {
        "directions": (classes, channels),
        "offsets": (classes,),
        "weights": (classes,),
        "means": (classes + 1, channels),
        "prototypes": (sum(record.counts), channels),
        **dict.fromkeys(("reference", "median", "spread"), (classes, len(MEASURES))),
        "left_out": (classes,),
    }
    if "values" in tensors:  # before the reference for presence had a share of supports without their objects
        raise ValueError("its head was fitted by an earlier version, with another reference for presence")
    if differing := sorted(shapes.keys() ^ tensors.keys()):
        raise ValueError(f"'head.{differing[0]}' is missing or unexpected")
    for name, shape in shapes.items():
        value = tensors[name]
        if value.dtype != torch.float32 or tuple(value.shape) != shape:
            raise ValueError(f"'head.{name}' is {value.dtype} of shape {tuple(value.shape)}; expected float32, {shape}")
        if not value.isfinite().all():
            raise ValueError(f"'head.{name}' contains NaN or infinite values")
    head = Head(settings, **{name: tensors[name] for name in TENSORS}, counts=tuple(record.counts))
    return Fitted(head, Expectation(**{name: tensors[name] for name in EXPECTED}), record)
