"""Section ``report`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limit

from stages.params.schema import Section


class Params(Section):
    """Tables and pictures of the report."""

    protocol: Annotated[str, Limit(min_length=1, description="Name of the protocol, written beside each result.")]
    images: Annotated[
        int, Limit(ge=0, le=100, description="Training images per fold to show with their pseudo labels.")
    ]
    episodes: Annotated[int, Limit(ge=0, le=100, description="Episodes per fold and shot to show.")]
    crops: Annotated[
        int, Limit(ge=0, le=20, description="Nearest regions per prototype in the gallery; 0 for no gallery.")
    ]
    gallery_images: Annotated[
        int,
        Limit(
            ge=1,
            description="Number of training images per fold, in order, from which the gallery takes regions.",
        ),
    ]
    studies: Annotated[
        str, Limit(description="Folder of studies (`python -m workflow study`) whose curves to show; empty for none.")
    ]
    bootstrap: Annotated[int, Limit(ge=100, le=100000, description="Bootstrap samples for the intervals.")]
    seed: Annotated[int, Limit(ge=0, description="Seed of the bootstrap.")]
