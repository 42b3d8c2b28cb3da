"""Section ``evaluate``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit
from pydantic import model_validator

from stages.core.params import Section

Refined = Literal["spfl+srofb-support-only", "spfl+srofb"]


class Params(Section):
    """What is decided at test time alone, and what is kept beside the scores."""

    refinements: Annotated[
        list[Refined],
        Limit(description="Ways in which SROFB is scored: on the supports alone, with the query's sure cells too."),
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

    @model_validator(mode="after")
    def _distinct(self) -> Params:
        if len(set(self.refinements)) != len(self.refinements):
            raise ValueError(f"refinements is {self.refinements}; expected each entry once")
        return self
