"""The table of all variants, in the order of the result tables, and the refinements that they use.

Evaluation, comparisons, report and segmenter read this table. A refiner is imported only when it is built, so that
listing names does not load torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelseg.core.errors import InputError
from novelseg.core.mappings import read_mapping
from novelseg.formats.record import from_json
from novelseg.methods.closed_form.settings import ClosedFormSettings
from novelseg.methods.foris.settings import ForisSettings
from novelseg.methods.fssdino.settings import FssdinoSettings
from novelseg.methods.insid3.settings import Insid3Settings
from novelseg.methods.self_support.settings import SelfSupportSettings
from novelseg.methods.srofb.settings import SrofbSettings

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
SETTINGS: Mapping[str, type[Any]] = {
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
        One mapping per key of :data:`SETTINGS`. Missing settings have the papers' values; other keys are ignored.

    Raises
    ------
    ValueError
        If a setting is unknown, of another type or out of range.
    """
    settings = {}
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

    The format is that of ``params.yaml``; other sections are ignored. Missing settings have the papers' values, and so
    have all settings without a file.

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


MATCHING, CLOSED_FORM = "matching", "closed-form"


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
HEADS = ("fssdino", "insid3", "foris")  # each with its own clusters, and with regions instead


SEGMENTER_VARIANTS = (MATCHING, *REFINERS)  # of any encoder: matching alone, or a refinement


@dataclass(frozen=True)
class Variant:
    """One variant, a row of every result table.

    Attributes
    ----------
    name
        Name in tables and parameters.
    network
        Network that predicts: ``pretrained``, ``baseline``, ``spfl-single-level``, ``spfl`` or ``cam``.
    refiner
        Key of :data:`REFINERS`; empty for the network's own prediction.
    compared_with
        Names of the variants with which it is compared on the same episodes.
    """

    name: str
    network: str
    refiner: str = ""
    compared_with: tuple[str, ...] = ()


SPFL, REFINED, CAM, MAP = "spfl", "spfl+srofb", "cam", "cam-map-only"
PRETRAINED, PRETRAINED_REFINED = "pretrained", "pretrained+srofb"


def _head_variants(network: str, others: tuple[str, ...]) -> Iterator[Variant]:
    """Yield the training-free heads on a network, compared with its other variants and with their own first form."""
    for head in HEADS:
        first = f"{network}+{head}"
        yield Variant(first, network, head, (network, *others))
        yield Variant(f"{first}-regions", network, f"{head}-regions", (network, *others, first))


VARIANTS = (
    Variant(PRETRAINED, PRETRAINED),
    Variant("pretrained+self-support", PRETRAINED, "self-support", (PRETRAINED,)),
    Variant("pretrained+closed-form", PRETRAINED, "closed-form", (PRETRAINED, "pretrained+self-support")),
    Variant("pretrained+srofb-support-only", PRETRAINED, "srofb-support-only", (PRETRAINED,)),
    Variant(
        PRETRAINED_REFINED,
        PRETRAINED,
        "srofb",
        (PRETRAINED, "pretrained+srofb-support-only", "pretrained+self-support", "pretrained+closed-form"),
    ),
    *_head_variants(PRETRAINED, ("pretrained+self-support", "pretrained+closed-form", PRETRAINED_REFINED)),
    Variant("baseline", "baseline", compared_with=(PRETRAINED,)),
    Variant("spfl-single-level", "spfl-single-level", compared_with=("baseline",)),
    Variant(SPFL, SPFL, compared_with=("baseline", "spfl-single-level")),
    Variant("spfl+self-support", SPFL, "self-support", (SPFL,)),
    Variant("spfl+closed-form", SPFL, "closed-form", (SPFL, "spfl+self-support")),
    Variant("spfl+srofb-support-only", SPFL, "srofb-support-only", (SPFL,)),
    Variant(REFINED, SPFL, "srofb", (SPFL, "spfl+srofb-support-only", "spfl+self-support", "spfl+closed-form")),
    Variant("spfl+self-support+srofb", SPFL, "self-support+srofb", (SPFL, "spfl+self-support", REFINED)),
    Variant("spfl+closed-form+srofb", SPFL, "closed-form+srofb", (SPFL, "spfl+closed-form", REFINED)),
    *_head_variants(SPFL, ("spfl+self-support", "spfl+closed-form", REFINED)),
    Variant(MAP, CAM),
    Variant(CAM, CAM, compared_with=(MAP, PRETRAINED_REFINED, "baseline", REFINED)),
)
NAMES = tuple(variant.name for variant in VARIANTS)


def refined_names(network: str = "") -> tuple[str, ...]:
    """Return the names of the variants that have a refiner, of one network or of all."""
    return tuple(v.name for v in VARIANTS if v.refiner and (not network or v.network == network))


def refiners_of(network: str, names: tuple[str, ...] | list[str], settings: RefinerSettings) -> dict[str, Refiner]:
    """Build the refiners of the variants of a network that ``names`` lists, by variant, in the order of the tables."""
    variants = [v for v in VARIANTS if v.network == network and v.refiner and v.name in names]
    return {variant.name: REFINERS[variant.refiner](settings) for variant in variants}
