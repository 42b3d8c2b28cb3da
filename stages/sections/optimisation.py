"""What the sections ``baseline`` and ``train`` share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limit

from stages.core.params import Section


class Optimisation(Section):
    """SGD with a step schedule."""

    iterations: Annotated[int, Limit(ge=1, description="Iterations (6,000).")]
    learning_rate: Annotated[float, Limit(gt=0, description="First learning rate (0.001).")]
    decay_every: Annotated[int, Limit(ge=1, description="Iterations after which the rate falls to a tenth (2,000).")]
    momentum: Annotated[float, Limit(ge=0, lt=1, description="Momentum of SGD (0.9).")]
    weight_decay: Annotated[float, Limit(ge=0, description="Weight decay of SGD (0.0005 Baseline, 0.0001 joint).")]
    seed: Annotated[int, Limit(ge=0, description="Seed of episodes, augmentation and new layers.")]
    log_every: Annotated[int, Limit(ge=1, description="Iterations that one row of the log averages over.")]
