"""Settings of INSID3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from novelseg.core.settings import Range, Settings, Share

Blank = Literal["black", "noise"]


@dataclass(frozen=True)
class Insid3Settings(Settings):
    """INSID3 (arXiv 2603.28480): clusters of the query that resemble the supports and the best of them.

    Attributes
    ----------
    positions
        Number of directions of the positional bias that are removed for comparisons between images; 0 for none (500 of
        1,024).
    blank
        Picture without content that shows the bias (either).
    distance
        Cosine distance at which the clusters of the query's cells stop merging (0.4).
    keep
        Clusters whose product of similarity to the supports, similarity to the seed, and share of candidate cells is
        above this belong to the object (0.2).
    region_tau
        Contour strength at which the query's hierarchy is cut, in `insid3-regions` (ours).
    """

    positions: Annotated[int, Range(0, 100_000)] = 0
    blank: Blank = "black"
    distance: Annotated[float, Range(0, 2)] = 0.4
    keep: Annotated[float, Range(-1, 1)] = 0.2
    region_tau: Share = 0.3
