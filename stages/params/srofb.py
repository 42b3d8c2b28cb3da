"""Section ``srofb`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit

from stages.params.schema import Section


class SrofbParams(Section):
    """Online classifier (SROFB), which is trained anew for each episode."""

    hidden: Annotated[int, Limit(ge=1, le=4096, description="Hidden units (256).")]
    dropout: Annotated[float, Limit(ge=0, lt=1, description="Dropout probability between the two layers (0.5).")]
    learning_rate: Annotated[float, Limit(gt=0, description="Learning rate of plain SGD (0.1).")]
    steps_one_shot: Annotated[int, Limit(ge=1, description="Full-batch steps with one support (10).")]
    steps_many_shots: Annotated[int, Limit(ge=1, description="Full-batch steps with more supports (100).")]
    tau_fg: Annotated[
        float,
        Limit(ge=0, le=1, description="Foreground confidence above which query cells are positives (0.7)."),
    ]
    tau_bg: Annotated[
        float,
        Limit(ge=0, le=1, description="Background confidence above which query cells are negatives (0.6)."),
    ]
    fallback_cells: Annotated[
        int,
        Limit(
            ge=1,
            description="Number of most confident cells to use where none passes a threshold (12); those of the "
            "foreground replace confident background.",
        ),
    ]
    class_balance: Annotated[
        Literal["balanced", "none"],
        Limit(description="balanced: each side has half of the loss; none: every cell counts alike, literally."),
    ]
    feature_norm: Annotated[
        float,
        Limit(
            ge=0,
            le=1e6,
            description="Mean norm of a support's cells, to which one factor per episode scales all features; 0: raw.",
        ),
    ]
    query_weight: Annotated[
        Literal["union", "image", "half"],
        Limit(description="union: all cells weigh alike; image: all images weigh alike; half: the query has half."),
    ]
    support_steps: Annotated[
        int, Limit(ge=0, le=10**5, description="Steps on the supports alone before the steps with the query.")
    ]
    seed: Annotated[int, Limit(ge=0, description="Seed of initial weights and dropout, combined with the episode.")]
