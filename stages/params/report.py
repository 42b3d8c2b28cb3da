"""Section ``report``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limit

from stages.params.schema import Section


class Params(Section):
    """Tables and pictures."""

    protocol: Annotated[str, Limit(min_length=1, description="Name of the protocol, written beside each result.")]
    images: Annotated[int, Limit(ge=0, le=100, description="Training images of each fold shown with pseudo labels.")]
    episodes: Annotated[int, Limit(ge=0, le=100, description="Episodes shown, of each fold and shot.")]
    crops: Annotated[
        int, Limit(ge=0, le=20, description="Nearest regions shown of each prototype; 0 leaves the gallery out.")
    ]
    gallery_images: Annotated[
        int,
        Limit(
            ge=1,
            description="Training images of each fold, the first ones, that the gallery is of.",
        ),
    ]
    studies: Annotated[
        str, Limit(description="Folder of `python -m workflow study`, whose curves are shown; empty: none.")
    ]
    bootstrap: Annotated[int, Limit(ge=100, le=100000, description="Bootstrap samples of the intervals.")]
    seed: Annotated[int, Limit(ge=0, description="Seed of the bootstrap.")]
