"""Section ``evaluate`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, WithJsonSchema, model_validator
from pydantic import Field as Limit

from novelseg.methods.variants import refined_names
from stages.params.schema import Section, one_of

REFINED = refined_names()


class Params(Section):
    """Choices at test time, and the number of examples that are kept beside the scores."""

    refinements: Annotated[
        list[Annotated[str, AfterValidator(one_of(REFINED)), WithJsonSchema({"enum": list(REFINED)})]],
        Limit(description="Variants with test-time refinement to score beside the others."),
    ]
    cam_fusion: Annotated[
        Literal["scores", "maps"],
        Limit(description="How the CAM prior combines several supports: the mean of their scores, or of their maps."),
    ]
    cam_threshold: Annotated[
        float,
        Limit(gt=0, lt=1, description="Threshold on the CAM prior's map where it is scored alone (`cam-map-only`)."),
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
