"""Settings of self-support matching; the defaults are those of Fan et al."""

from __future__ import annotations

from dataclasses import dataclass

from novelseg.core.text import check_ranges


@dataclass(frozen=True)
class SelfSupportSettings:
    """Settings of self-support matching (Fan et al., ECCV 2022).

    Attributes
    ----------
    tau_fg, tau_bg
        Query cells above this confidence count as foreground and as background, in [0, 1].
    fallback_cells
        Most confident cells that are taken where none passes a threshold.
    weight
        Share of the query's own prototype beside the supports', in [0, 1].
    """

    tau_fg: float = 0.7
    tau_bg: float = 0.6
    fallback_cells: int = 12
    weight: float = 0.5

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises
        ------
        ValueError
            Naming the first one.
        """
        check_ranges(self, {"tau_fg": (0, 1), "tau_bg": (0, 1), "fallback_cells": (1, 10**6), "weight": (0, 1)})
