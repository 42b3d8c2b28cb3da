"""Settings of FSSDINO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from novelseg.core.settings import Range, SeedNumber, Settings, Share


@dataclass(frozen=True)
class FssdinoSettings(Settings):
    """FSSDINO (arXiv 2602.07550): several prototypes for class and background, and the query's Gram matrix.

    Attributes
    ----------
    object_prototypes
        Number of prototypes of the class: clusters of the cells of all supports (5).
    background_prototypes
        Number of prototypes of the background: clusters of the cells of all supports (5).
    gram_temperature
        Temperature of the softmax over the query's Gram matrix, by which the scores are averaged; 0 for no refinement
        (open).
    reduction
        Side of the blocks between which the Gram matrix is computed, cells (1).
    region_tau
        Contour strength at which the supports' hierarchies are cut, in `fssdino-regions` (ours).
    seed
        Seed of the first cluster centres.
    """

    object_prototypes: Annotated[int, Range(1, 1000)] = 5
    background_prototypes: Annotated[int, Range(1, 1000)] = 5
    gram_temperature: Annotated[float, Range(0, 1000)] = 0.07
    reduction: Annotated[int, Range(1, 64)] = 2
    region_tau: Share = 0.3
    seed: SeedNumber = 0
