"""Section ``insid3`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit

from stages.params.schema import Section


class Insid3Params(Section):
    """INSID3 (arXiv 2603.28480): clusters of the query that resemble the supports and the best of them."""

    positions: Annotated[
        int,
        Limit(ge=0, le=100_000, description="Directions of the positional bias to remove; 0: none (500 of 1,024)."),
    ]
    blank: Annotated[
        Literal["black", "noise"], Limit(description="Picture without content that shows the positional bias (either).")
    ]
    distance: Annotated[
        float, Limit(ge=0, le=2, description="Cosine distance at which the clusters of the query stop merging (0.4).")
    ]
    keep: Annotated[
        float,
        Limit(
            ge=-1, le=1, description="Product of similarities and share of candidates above which clusters stay (0.2)."
        ),
    ]
    region_tau: Annotated[
        float, Limit(ge=0, le=1, description="Contour strength of the cut of the query, for `insid3-regions` (ours).")
    ]
