"""Section ``prototypes`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit
from pydantic import model_validator

from stages.params.schema import Section


class Params(Section):
    """K-means clustering at three levels."""

    clusters: Annotated[
        list[Annotated[int, Limit(ge=1, le=127)]],
        Limit(
            min_length=3,
            max_length=3,
            description="Clusters K per level, fine to coarse, of foreground and of background ([50, 25, 15]).",
        ),
    ]
    metric: Annotated[
        Literal["cosine", "euclidean"], Limit(description="cosine: vectors are scaled to unit length first.")
    ]
    restarts: Annotated[
        int, Limit(ge=1, le=100, description="K-means runs; the one with the least inertia is kept (10).")
    ]
    iterations: Annotated[int, Limit(ge=1, le=1000, description="Iterations per k-means run.")]
    max_vectors: Annotated[
        int,
        Limit(
            ge=256,
            description="Largest number of vectors for k-means; a larger corpus is sampled evenly, while members and "
            "inertia count all vectors. 500,000 vectors of 1,024 channels take 2 GB.",
        ),
    ]
    seed: Annotated[int, Limit(ge=0, description="Seed of the initial centres and of the sample.")]

    @model_validator(mode="after")
    def _falling(self) -> Params:
        if sorted(self.clusters, reverse=True) != self.clusters:
            raise ValueError(f"clusters is {self.clusters}; expected numbers that do not grow from fine to coarse")
        return self
