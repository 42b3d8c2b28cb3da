"""Settings of self-support matching; the defaults are those of Fan et al."""

from __future__ import annotations

from dataclasses import dataclass

from novelseg.core.settings import Count, Settings, Share


@dataclass(frozen=True)
class SelfSupportSettings(Settings):
    """Self-support matching (Fan et al., ECCV 2022), which adds the query's confident cells to the prototypes.

    Attributes
    ----------
    tau_fg
        Query cells above this confidence count as foreground (0.7).
    tau_bg
        Query cells above this confidence count as background (0.6).
    fallback_cells
        Number of most confident cells that are used if none exceeds the threshold (12).
    weight
        Weight of the query's own prototype in the mean with the supports' (0.5).
    """

    tau_fg: Share = 0.7
    tau_bg: Share = 0.6
    fallback_cells: Count = 12
    weight: Share = 0.5
