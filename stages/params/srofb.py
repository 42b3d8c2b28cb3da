"""Section ``srofb``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit

from stages.params.schema import Section


class SrofbParams(Section):
    """The online classifier."""

    hidden: Annotated[int, Limit(ge=1, le=4096, description="Hidden units (256).")]
    dropout: Annotated[float, Limit(ge=0, lt=1, description="Dropout between the two layers (0.5).")]
    learning_rate: Annotated[float, Limit(gt=0, description="Rate of plain SGD (0.1).")]
    steps_one_shot: Annotated[int, Limit(ge=1, description="Full-batch steps with one support (10).")]
    steps_many_shots: Annotated[int, Limit(ge=1, description="Full-batch steps with more supports (100).")]
    tau_fg: Annotated[
        float,
        Limit(ge=0, le=1, description="Query cells above this foreground confidence are positives (0.7)."),
    ]
    tau_bg: Annotated[
        float,
        Limit(ge=0, le=1, description="Query cells above this background confidence are negatives (0.6)."),
    ]
    fallback_cells: Annotated[
        int, Limit(ge=1, description="Most confident cells taken where none passes a threshold (12).")
    ]
    class_balance: Annotated[
        Literal["balanced", "none"],
        Limit(description="Each side gets half of the loss, or every cell counts alike."),
    ]
    seed: Annotated[int, Limit(ge=0, description="Seed of first weights and dropout, together with the episode.")]
