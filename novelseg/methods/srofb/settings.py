"""Settings of SROFB: the paper's values where it gives any; :class:`SrofbSettings` names the deviations."""

from __future__ import annotations

from dataclasses import dataclass

from novelseg.core.errors import check_ranges

CLASS_BALANCES, QUERY_WEIGHTS = ("balanced", "none"), ("union", "image", "half")


@dataclass(frozen=True)
class SrofbSettings:
    """Settings of the online classifier (A, Sec. 3.4).

    The paper has neither ``class_balance`` nor ``feature_norm``, ``query_weight``, ``support_steps`` and
    ``fallback_cells``; its literal reading is ``none``, 0, ``union`` and 0. The defaults deviate in the first two,
    which were chosen on pseudo-novel classes, and in the last.

    Attributes
    ----------
    hidden
        Number of hidden units.
    dropout
        Share of hidden units that are dropped in each step, in [0, 1).
    learning_rate
        Learning rate of plain SGD.
    steps_one_shot, steps_many_shots
        Number of full-batch steps with one support, and with several.
    tau_fg, tau_bg
        Query cells above this confidence become foreground and background examples, in [0, 1].
    fallback_cells
        Number of most confident cells that are used if none exceeds the threshold; those of the foreground replace
        confident background.
    class_balance
        ``balanced``: each side contributes half of the loss; ``none``: all cells have the same weight.
    feature_norm
        All features of an episode are multiplied by one number, so that the mean norm of a support's cells is this; 0
        for features as they are. The step of plain SGD grows with the square of the norm, which differs from encoder
        to encoder.
    query_weight
        ``union``: the cells of all images have the same weight; ``image``: each image has the same weight; ``half``:
        the query has half of the weight. With one support, ``image`` is ``half``.
    support_steps
        Steps on the supports alone before the steps with the query; the classifier that learns from the supports only
        does not take them.
    seed
        Seed of initial weights and dropout, combined with the episode's own key.
    """

    hidden: int = 256
    dropout: float = 0.5
    learning_rate: float = 0.1
    steps_one_shot: int = 10
    steps_many_shots: int = 100
    tau_fg: float = 0.7
    tau_bg: float = 0.6
    fallback_cells: int = 12
    class_balance: str = "balanced"
    feature_norm: float = 8.0
    query_weight: str = "union"
    support_steps: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that all values are in range.

        Raises
        ------
        ValueError
            If a value is out of range; the message names the first one.
        """
        ranges = {
            "hidden": (1, 4096),
            "dropout": (0, 0.999),
            "learning_rate": (1e-12, 1e6),
            "steps_one_shot": (1, 10**5),
            "steps_many_shots": (1, 10**5),
            "tau_fg": (0, 1),
            "tau_bg": (0, 1),
            "fallback_cells": (1, 10**6),
            "feature_norm": (0, 1e6),
            "support_steps": (0, 10**5),
            "seed": (0, 1 << 63),
        }
        check_ranges(self, ranges)
        for name, allowed in (("class_balance", CLASS_BALANCES), ("query_weight", QUERY_WEIGHTS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is '{getattr(self, name)}'; expected one of {', '.join(allowed)}")
