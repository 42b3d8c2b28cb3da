"""Settings of the closed-form head; the defaults were chosen on pseudo-novel classes (decision 0016)."""

from __future__ import annotations

from dataclasses import dataclass

from novelseg.core.errors import check_ranges


@dataclass(frozen=True)
class ClosedFormSettings:
    """Settings of the closed-form head.

    Attributes
    ----------
    ridge
        Penalty of the discriminant, in units of the mean variance of a feature channel.
    discriminant_weight
        Factor of the discriminant. With n supports of a class it is multiplied by (n - 1)/n, because a discriminant
        that is fitted to a single picture fits its background rather than the class.
    scale
        Factor of cosine similarities.
    temperature
        Temperature of the soft maximum over the similarities to several prototypes.
    object_prototypes, background_prototypes
        Number of prototypes per support, for each class and for the background.
    tau_fg, tau_bg
        Query cells above this confidence of the discriminant give the query's own prototypes, in [0, 1].
    fallback_cells
        Number of most confident cells that are taken if none exceeds the threshold.
    affinity
        Temperature of the query's self-similarity, over which the scores are averaged; 0 for no averaging.
    reduction
        Side of the blocks of cells between which the self-similarity is computed.
    seed
        Seed of the first cluster centres.
    """

    ridge: float = 1.0
    discriminant_weight: float = 3.0
    scale: float = 10.0
    temperature: float = 0.03
    object_prototypes: int = 5
    background_prototypes: int = 10
    tau_fg: float = 0.75
    tau_bg: float = 0.6
    fallback_cells: int = 12
    affinity: float = 0.07
    reduction: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that all values are in range.

        Raises
        ------
        ValueError
            If a value is out of range; the message names the first one.
        """
        ranges = {
            "ridge": (1e-6, 1e6),
            "discriminant_weight": (0, 1e3),
            "scale": (1e-3, 1e3),
            "temperature": (1e-3, 1e3),
            "object_prototypes": (1, 1000),
            "background_prototypes": (1, 1000),
            "tau_fg": (0, 1),
            "tau_bg": (0, 1),
            "fallback_cells": (1, 10**6),
            "affinity": (0, 1e3),
            "reduction": (1, 64),
            "seed": (0, (1 << 63) - 1),
        }
        check_ranges(self, ranges)
