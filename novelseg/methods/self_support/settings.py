"""Settings of self-support matching; the defaults are those of Fan et al."""

from __future__ import annotations

from dataclasses import dataclass

from novelseg.core.errors import check_ranges


@dataclass(frozen=True)
class SelfSupportSettings:
    """Settings of self-support matching (Fan et al., ECCV 2022).

    Attributes
    ----------
    tau_fg, tau_bg
        Query cells above this confidence count as foreground and as background, in [0, 1].
    fallback_cells
        Number of most confident cells that are used if none exceeds the threshold.
    weight
        Weight of the query's own prototype in the mean with the supports', in [0, 1].
    """

    tau_fg: float = 0.7
    tau_bg: float = 0.6
    fallback_cells: int = 12
    weight: float = 0.5

    def __post_init__(self) -> None:
        """Check that all values are in range.

        Raises
        ------
        ValueError
            If a value is out of range; the message names the first one.
        """
        check_ranges(self, {"tau_fg": (0, 1), "tau_bg": (0, 1), "fallback_cells": (1, 10**6), "weight": (0, 1)})
