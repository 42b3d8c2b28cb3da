"""All refinements: their settings, and the functions that build them.

A refiner's module is imported only when it is built, so that listing names does not load torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelseg.core.errors import InputError
from novelseg.core.mappings import read_mapping
from novelseg.core.settings import Settings
from novelseg.formats.record import from_json
from novelseg.methods.closed_form.settings import ClosedFormSettings
from novelseg.methods.foris.settings import ForisSettings
from novelseg.methods.fssdino.settings import FssdinoSettings
from novelseg.methods.insid3.settings import Insid3Settings
from novelseg.methods.self_support.settings import SelfSupportSettings
from novelseg.methods.srofb.settings import SrofbSettings
from novelseg.methods.variants import CLOSED_FORM, MATCHING, VARIANTS

if TYPE_CHECKING:
    from novelseg.methods.contract import Refiner


@dataclass(frozen=True)
class RefinerSettings:
    """Settings of all refinements, and options that affect results only by rounding.

    Attributes
    ----------
    srofb, self_support, closed_form, fssdino, insid3, foris
        Settings of each method.
    half
        Whether products with features are computed in bfloat16.
    batch
        Maximum number of episodes that are refined at once; 0 for a default.
    """

    srofb: SrofbSettings = field(default_factory=SrofbSettings)
    self_support: SelfSupportSettings = field(default_factory=SelfSupportSettings)
    closed_form: ClosedFormSettings = field(default_factory=ClosedFormSettings)
    fssdino: FssdinoSettings = field(default_factory=FssdinoSettings)
    insid3: Insid3Settings = field(default_factory=Insid3Settings)
    foris: ForisSettings = field(default_factory=ForisSettings)
    half: bool = False
    batch: int = 0


# Section of a file of settings → class of the settings.
SETTINGS: Mapping[str, type[Settings]] = {
    "srofb": SrofbSettings,
    "self_support": SelfSupportSettings,
    "closed_form": ClosedFormSettings,
    "fssdino": FssdinoSettings,
    "insid3": Insid3Settings,
    "foris": ForisSettings,
}


def settings_from(values: Mapping[str, Any]) -> RefinerSettings:
    """Build the settings of the refinements from plain values.

    Parameters
    ----------
    values
        One mapping per key of :data:`SETTINGS`. Missing settings have their defaults; other keys are ignored.

    Raises
    ------
    ValueError
        If a setting is unknown, of another type or out of range.
    """
    settings: dict[str, Any] = {}
    for section, kind in SETTINGS.items():
        section_values = values.get(section, {})
        names = [entry.name for entry in fields(kind)]
        unknown = sorted(set(section_values) - set(names))
        if unknown:
            raise ValueError(f"'{section}' has no setting '{unknown[0]}'; expected one of {', '.join(names)}")
        settings[section] = from_json(kind, section_values)
    return RefinerSettings(**settings)


def settings_to_json(settings: RefinerSettings) -> dict[str, dict[str, Any]]:
    """Convert the settings of the refinements to plain values, one mapping per key of :data:`SETTINGS`."""
    return {section: asdict(getattr(settings, section)) for section in SETTINGS}


def read_settings(path: Path | None) -> RefinerSettings:
    """Read the settings of the refinements from a YAML or JSON file with one section per refinement.

    The format is that of ``params.yaml``; other sections are ignored. Missing settings, or all without a file, have
    their defaults.

    Raises
    ------
    InputError
        If the file cannot be read, or a setting is unknown, of another type or out of range.
    """
    values = read_mapping(path) if path else {}
    try:
        return settings_from(values)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: {error}; correct the settings") from None


def _srofb(settings: RefinerSettings, with_query: bool) -> Refiner:
    from novelseg.methods.srofb.refiner import SrofbRefiner

    return SrofbRefiner(settings.srofb, with_query=with_query, half=settings.half, batch=settings.batch)


def _self_support(settings: RefinerSettings) -> Refiner:
    from novelseg.methods.self_support.refiner import SelfSupportRefiner

    return SelfSupportRefiner(settings.self_support)


def _closed_form(settings: RefinerSettings) -> Refiner:
    from novelseg.methods.closed_form.refiner import ClosedFormRefiner

    return ClosedFormRefiner(settings.closed_form)


def _fssdino(settings: RefinerSettings, regions: bool) -> Refiner:
    from novelseg.methods.fssdino.refiner import FssdinoRefiner

    return FssdinoRefiner(settings.fssdino, regions=regions)


def _insid3(settings: RefinerSettings, regions: bool) -> Refiner:
    from novelseg.methods.insid3.refiner import Insid3Refiner

    return Insid3Refiner(settings.insid3, regions=regions)


def _foris(settings: RefinerSettings, regions: bool) -> Refiner:
    from novelseg.methods.foris.refiner import ForisRefiner

    return ForisRefiner(settings.foris, regions=regions)


def _chain(settings: RefinerSettings, names: tuple[str, ...]) -> Refiner:
    from novelseg.methods.chain import Chain

    return Chain([REFINERS[name](settings) for name in names])


# Refinement → the function that builds its refiner.
REFINERS: Mapping[str, Callable[[RefinerSettings], Refiner]] = {
    "self-support": _self_support,
    CLOSED_FORM: _closed_form,
    "srofb-support-only": lambda settings: _srofb(settings, with_query=False),
    "srofb": lambda settings: _srofb(settings, with_query=True),
    "self-support+srofb": lambda settings: _chain(settings, ("self-support", "srofb")),
    "closed-form+srofb": lambda settings: _chain(settings, (CLOSED_FORM, "srofb")),
    "fssdino": lambda settings: _fssdino(settings, regions=False),
    "fssdino-regions": lambda settings: _fssdino(settings, regions=True),
    "insid3": lambda settings: _insid3(settings, regions=False),
    "insid3-regions": lambda settings: _insid3(settings, regions=True),
    "foris": lambda settings: _foris(settings, regions=False),
    "foris-regions": lambda settings: _foris(settings, regions=True),
}
SEGMENTER_VARIANTS = (MATCHING, *REFINERS)  # of any encoder: matching alone, or a refinement


def refiners_of(network: str, names: tuple[str, ...] | list[str], settings: RefinerSettings) -> dict[str, Refiner]:
    """Build the refiners of the variants of a network that ``names`` lists, by variant, in the order of the tables."""
    variants = [v for v in VARIANTS if v.network == network and v.refiner and v.name in names]
    return {variant.name: REFINERS[variant.refiner](settings) for variant in variants}
