"""Keys that the sections of all trainings share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit

from stages.params.schema import Section


class ScheduleParams(Section):
    """Number of iterations, and a learning rate that falls in steps."""

    iterations: Annotated[int, Limit(ge=1, description="Iterations (A: 6,000).")]
    learning_rate: Annotated[float, Limit(gt=0, description="Initial learning rate (A: 0.001).")]
    decay_every: Annotated[
        int, Limit(ge=1, description="Iterations between two steps of the learning rate (A: 2,000).")
    ]
    decay: Annotated[
        float, Limit(gt=0, le=1, description="Factor by which each step multiplies the learning rate (A: 0.1).")
    ]
    seed: Annotated[int, Limit(ge=0, description="Seed of episodes, augmentation and new layers.")]
    log_every: Annotated[int, Limit(ge=1, description="Iterations averaged in one row of the log.")]

    @property
    def steady(self) -> int:
        """Number of first iterations at the initial rate, which the steps do not count."""
        return 0


class Optimisation(ScheduleParams):
    """SGD or AdamW with a step schedule."""

    optimiser: Annotated[
        Literal["sgd", "adamw"], Limit(description="Optimiser: sgd as in the paper, or adamw for vision transformers.")
    ]
    momentum: Annotated[float, Limit(ge=0, lt=1, description="Momentum of SGD (0.9), or the first β of AdamW.")]
    weight_decay: Annotated[
        float, Limit(ge=0, description="Weight decay (A: 0.0005 Baseline, 0.0001 joint), decoupled with AdamW.")
    ]
