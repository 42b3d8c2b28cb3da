"""Section ``self_support``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limit

from stages.params.schema import Section


class SelfSupportParams(Section):
    """Self-support matching (Fan et al., ECCV 2022): the query's own confident cells join the prototypes."""

    tau_fg: Annotated[
        float, Limit(ge=0, le=1, description="Query cells above this foreground confidence are taken (0.7).")
    ]
    tau_bg: Annotated[
        float, Limit(ge=0, le=1, description="Query cells above this background confidence are taken (0.6).")
    ]
    fallback_cells: Annotated[
        int, Limit(ge=1, description="Most confident cells taken where none passes a threshold (12).")
    ]
    weight: Annotated[
        float, Limit(ge=0, le=1, description="Share of the query's own prototype beside the supports' (0.5).")
    ]
