"""Section ``foris`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit

from stages.params.schema import Section


class ForisParams(Section):
    """FoRIS (arXiv 2609.03384): prototypes of the foreground minus the hard background, gated, and a seed cluster."""

    positions: Annotated[
        int, Limit(ge=0, le=100_000, description="Directions of the positional bias to remove; 0: none (open).")
    ]
    blank: Annotated[
        Literal["black", "noise"], Limit(description="Picture without content that shows the positional bias (open).")
    ]
    bias_below: Annotated[
        float,
        Limit(ge=-1, le=1, description="Cosine of the object's and the query's mean below which it is removed (0.8)."),
    ]
    prototypes: Annotated[
        int, Limit(ge=1, le=1000, description="Number of prototypes of the object, over all supports (open).")
    ]
    temperature: Annotated[
        float, Limit(ge=1e-3, le=1000, description="Temperature of the soft maximum over the prototypes (0.07).")
    ]
    background_weight: Annotated[
        float, Limit(ge=0, le=1000, description="Factor of the similarity to the hard background (0.55).")
    ]
    hard_share: Annotated[
        float,
        Limit(ge=0, le=1, description="Share of background cells, the most similar ones, that are hard (open)."),
    ]
    threshold: Annotated[
        float,
        Limit(
            ge=-10,
            le=10,
            description="Middle of the gate: 0 the supports' background, 1 their object (open).",
        ),
    ]
    gate: Annotated[
        float, Limit(ge=1e-6, le=1000, description="Width of the gate, in units of that difference (open).")
    ]
    boost: Annotated[
        float, Limit(ge=0, le=1000, description="Relative gain of the gate in the seed cluster of the query (open).")
    ]
    distance: Annotated[
        float, Limit(ge=0, le=2, description="Cosine distance at which the clusters of the query stop merging (open).")
    ]
    region_tau: Annotated[
        float, Limit(ge=0, le=1, description="Contour strength of the cut of images, for `foris-regions` (ours).")
    ]
    seed: Annotated[int, Limit(ge=0, description="Seed of the first cluster centres.")]
