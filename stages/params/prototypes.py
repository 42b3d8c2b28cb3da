"""Section ``prototypes``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit
from pydantic import model_validator

from stages.params.schema import Section


class Params(Section):
    """K-means at three levels."""

    clusters: Annotated[
        list[Annotated[int, Limit(ge=1, le=127)]],
        Limit(
            min_length=3,
            max_length=3,
            description="K of the levels, fine to coarse, on each side ([50, 25, 15]).",
        ),
    ]
    metric: Annotated[
        Literal["cosine", "euclidean"], Limit(description="Cosine: vectors are brought to unit length first.")
    ]
    restarts: Annotated[
        int, Limit(ge=1, le=100, description="K-means runs, of which the one of least inertia is kept (10).")
    ]
    iterations: Annotated[int, Limit(ge=1, le=1000, description="Iterations of a k-means run.")]
    max_vectors: Annotated[
        int,
        Limit(
            ge=256,
            description="Vectors that k-means sees at most: of a larger corpus an even sample; members and inertia are "
            "of all. 500,000 of 1,024 channels are 2 GB.",
        ),
    ]
    seed: Annotated[int, Limit(ge=0, description="Seed of the first centres and of the sample.")]

    @model_validator(mode="after")
    def _falling(self) -> Params:
        if sorted(self.clusters, reverse=True) != self.clusters:
            raise ValueError(f"clusters is {self.clusters}; expected K that does not grow from fine to coarse")
        return self
