"""Settings of SROFB; the defaults are the paper's values."""

from __future__ import annotations

from dataclasses import dataclass

from novelseg.core.text import check_ranges


@dataclass(frozen=True)
class SrofbSettings:
    """Settings of the online classifier (A, Sec. 3.4).

    Attributes
    ----------
    hidden
        Hidden units.
    dropout
        Share of hidden units that is dropped in a step, in [0, 1).
    learning_rate
        Rate of plain SGD.
    steps_one_shot, steps_many_shots
        Full-batch steps with one support, and with more.
    tau_fg, tau_bg
        Query cells above this confidence become positives and negatives, in [0, 1].
    fallback_cells
        Most confident cells that are taken where none passes a threshold.
    class_balance
        ``balanced``: each side gets half of the loss; ``none``: every cell counts alike.
    seed
        Of first weights and dropout, together with the episode.
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
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises
        ------
        ValueError
            Naming the first one.
        """
        ranges = {
            "hidden": (1, 4096),
            "dropout": (0, 0.999),
            "learning_rate": (1e-12, 1e6),
            "steps_one_shot": (1, 10**6),
            "steps_many_shots": (1, 10**6),
            "tau_fg": (0, 1),
            "tau_bg": (0, 1),
            "fallback_cells": (1, 10**6),
            "seed": (0, 1 << 63),
        }
        check_ranges(self, ranges)
        if self.class_balance not in ("balanced", "none"):
            raise ValueError(f"class_balance is '{self.class_balance}'; expected balanced or none")
