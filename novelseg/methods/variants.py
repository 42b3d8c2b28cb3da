"""The table of all variants, in the order of the result tables.

Evaluation, comparisons and report read this table. It has names only, so that the code of a refinement does not become
part of the code of every stage that lists variants.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MATCHING, CLOSED_FORM = "matching", "closed-form"
HEADS = ("fssdino", "insid3", "foris")  # each with its own clusters, and with regions instead


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
        Key of :data:`novelseg.methods.refiners.REFINERS`; empty for the network's own prediction.
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
