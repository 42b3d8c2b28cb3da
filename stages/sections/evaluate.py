"""Section ``evaluate``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit

from stages.core.params import Section


class Params(Section):
    """What is decided at test time alone, and what is kept beside the scores."""

    refinements: Annotated[
        list[Literal["spfl+srofb-support-only", "spfl+srofb"]],
        Limit(
            description="What SROFB's classifier learns from: the supports alone, or the query's confident cells too. "
            "With several supports each takes a hundred steps an episode."
        ),
    ]
    cam_fusion: Annotated[
        Literal["scores", "maps"],
        Limit(description="Several supports of the CAM prior: mean of their scores, or of the maps that each gives."),
    ]
    cam_threshold: Annotated[
        float, Limit(gt=0, lt=1, description="Of the CAM prior's map, where it is scored without the other branch.")
    ]
    examples: Annotated[
        int,
        Limit(ge=0, le=200, description="Episodes of the first seed whose predictions are kept for the report."),
    ]
