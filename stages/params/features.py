"""Section ``features`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limit

from stages.params.schema import Section


class Params(Section):
    """Regions that enter the corpus."""

    min_region_area: Annotated[
        int,
        Limit(
            ge=1,
            description="Smallest background region, px; smaller ones are dropped and counted (256: 4 feature cells).",
        ),
    ]
