"""Settings of the closed-form head; the defaults were chosen on pseudo-novel classes (decision 0016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from novelseg.core.settings import Count, Range, SeedNumber, Settings, Share


@dataclass(frozen=True)
class ClosedFormSettings(Settings):
    """Closed-form head: discriminant, several prototypes and self-support, averaged over similar cells; no training.

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
    object_prototypes
        Number of prototypes per support for each class.
    background_prototypes
        Number of prototypes per support for the background.
    tau_fg
        Query cells above this confidence of the discriminant give the query's own prototypes of the class.
    tau_bg
        Query cells above this confidence of the discriminant give the query's own prototypes of the background.
    fallback_cells
        Number of most confident cells that are taken if none exceeds the threshold.
    affinity
        Temperature of the query's self-similarity, over which the scores are averaged; 0 for no averaging.
    reduction
        Side of the blocks between which the self-similarity is computed, cells.
    seed
        Seed of the first cluster centres.
    """

    ridge: Annotated[float, Range(1e-6, 1e6)] = 1.0
    discriminant_weight: Annotated[float, Range(0, 1000)] = 3.0
    scale: Annotated[float, Range(1e-3, 1000)] = 10.0
    temperature: Annotated[float, Range(1e-3, 1000)] = 0.03
    object_prototypes: Annotated[int, Range(1, 1000)] = 5
    background_prototypes: Annotated[int, Range(1, 1000)] = 10
    tau_fg: Share = 0.75
    tau_bg: Share = 0.6
    fallback_cells: Count = 12
    affinity: Annotated[float, Range(0, 1000)] = 0.07
    reduction: Annotated[int, Range(1, 64)] = 2
    seed: SeedNumber = 0
