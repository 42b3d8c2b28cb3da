"""Settings of SROFB: the paper's values where it states any; :class:`SrofbSettings` names the deviations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from novelseg.core.settings import Count, Range, SeedNumber, Settings, Share


@dataclass(frozen=True)
class SrofbSettings(Settings):
    """Online classifier (SROFB; A, Sec. 3.4), a small classifier that is trained for each episode.

    The paper has none of ``class_balance``, ``feature_norm``, ``query_weight``, ``support_steps`` and
    ``fallback_cells``; the values in brackets are what its text amounts to. The defaults of ``class_balance`` and
    ``feature_norm`` differ from that; they were chosen on pseudo-novel classes.

    Attributes
    ----------
    hidden
        Number of hidden units (256).
    dropout
        Share of hidden units that are dropped in each step (0.5).
    learning_rate
        Learning rate of plain SGD (0.1).
    steps_one_shot
        Number of full-batch steps with one support (10).
    steps_many_shots
        Number of full-batch steps with several supports (100).
    tau_fg
        Query cells above this confidence become foreground examples (0.7).
    tau_bg
        Query cells above this confidence become background examples (0.6).
    fallback_cells
        Number of most confident cells that are used if none exceeds the threshold (ours); those of the foreground
        replace confident background.
    class_balance
        balanced: each side contributes half of the loss; none: all cells have the same weight (none).
    feature_norm
        All features of an episode are multiplied by one number, so that the mean norm of a support's cells is this; 0
        for features as they are (0). The step of plain SGD grows with the square of the norm, which differs from
        encoder to encoder.
    query_weight
        union: the cells of all images have the same weight; image: each image has the same weight; half: the query has
        half of the weight (union). With one support, image is half.
    support_steps
        Steps on the supports alone before the steps with the query (0); the classifier that learns from the supports
        only does not take them.
    seed
        Seed of initial weights and dropout, combined with the episode's own key.
    """

    hidden: Annotated[int, Range(1, 4096)] = 256
    dropout: Annotated[float, Range(0, 0.999)] = 0.5
    learning_rate: Annotated[float, Range(1e-12, 1e6)] = 0.1
    steps_one_shot: Annotated[int, Range(1, 10**5)] = 10
    steps_many_shots: Annotated[int, Range(1, 10**5)] = 100
    tau_fg: Share = 0.7
    tau_bg: Share = 0.6
    fallback_cells: Count = 12
    class_balance: Literal["balanced", "none"] = "balanced"
    feature_norm: Annotated[float, Range(0, 1e6)] = 8.0
    query_weight: Literal["union", "image", "half"] = "union"
    support_steps: Annotated[int, Range(0, 10**5)] = 0
    seed: SeedNumber = 0
