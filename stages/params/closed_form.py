"""Section ``closed_form`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limit

from stages.params.schema import Section


class ClosedFormParams(Section):
    """Closed-form head: discriminant, several prototypes and self-support, averaged over similar cells; no training."""

    ridge: Annotated[
        float, Limit(ge=1e-6, le=1e6, description="Penalty of the discriminant, in mean channel variances (1).")
    ]
    discriminant_weight: Annotated[
        float,
        Limit(ge=0, le=1000, description="Factor of the discriminant; times (n - 1)/n with n supports of a class (3)."),
    ]
    scale: Annotated[float, Limit(ge=1e-3, le=1000, description="Factor of cosine similarities (10).")]
    temperature: Annotated[
        float, Limit(ge=1e-3, le=1000, description="Temperature of the soft maximum over prototypes (0.03).")
    ]
    object_prototypes: Annotated[
        int, Limit(ge=1, le=1000, description="Number of prototypes of the class per support (5).")
    ]
    background_prototypes: Annotated[
        int, Limit(ge=1, le=1000, description="Number of prototypes of the background per support (10).")
    ]
    tau_fg: Annotated[
        float, Limit(ge=0, le=1, description="Foreground confidence above which query cells are used (0.75).")
    ]
    tau_bg: Annotated[
        float, Limit(ge=0, le=1, description="Background confidence above which query cells are used (0.6).")
    ]
    fallback_cells: Annotated[
        int, Limit(ge=1, description="Number of most confident cells to use where none passes a threshold (12).")
    ]
    affinity: Annotated[
        float,
        Limit(ge=0, le=1000, description="Temperature of the query's self-similarity; 0: no averaging (0.07)."),
    ]
    reduction: Annotated[
        int, Limit(ge=1, le=64, description="Side of the blocks of the self-similarity, in cells (2).")
    ]
    seed: Annotated[int, Limit(ge=0, description="Seed of the first cluster centres.")]
