"""Section ``fssdino`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limit

from stages.params.schema import Section


class FssdinoParams(Section):
    """FSSDINO (arXiv 2602.07550): several prototypes for class and background, and the query's Gram matrix."""

    object_prototypes: Annotated[
        int, Limit(ge=1, le=1000, description="Number of prototypes of the class, over all supports (5).")
    ]
    background_prototypes: Annotated[
        int, Limit(ge=1, le=1000, description="Number of prototypes of the background, over all supports (5).")
    ]
    gram_temperature: Annotated[
        float,
        Limit(ge=0, le=1000, description="Temperature of the softmax over the Gram matrix; 0: no refinement (open)."),
    ]
    reduction: Annotated[int, Limit(ge=1, le=64, description="Side of the blocks of the Gram matrix, in cells (1).")]
    region_tau: Annotated[
        float,
        Limit(ge=0, le=1, description="Contour strength of the cut of supports, for `fssdino-regions` (ours)."),
    ]
    seed: Annotated[int, Limit(ge=0, description="Seed of the first cluster centres.")]
