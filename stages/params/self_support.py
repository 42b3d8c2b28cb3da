"""Section ``self_support`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limit

from stages.params.schema import Section


class SelfSupportParams(Section):
    """Self-support matching (Fan et al., ECCV 2022), which adds the query's confident cells to the prototypes."""

    tau_fg: Annotated[
        float, Limit(ge=0, le=1, description="Foreground confidence above which query cells are used (0.7).")
    ]
    tau_bg: Annotated[
        float, Limit(ge=0, le=1, description="Background confidence above which query cells are used (0.6).")
    ]
    fallback_cells: Annotated[
        int, Limit(ge=1, description="Number of most confident cells to use where none passes a threshold (12).")
    ]
    weight: Annotated[
        float, Limit(ge=0, le=1, description="Weight of the query's own prototype against that of the supports (0.5).")
    ]
