"""Section ``features``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limit

from stages.params.schema import Section


class Params(Section):
    """Which regions enter the corpus."""

    min_region_area: Annotated[
        int,
        Limit(
            ge=1,
            description="Background regions under this are dropped and counted, px (256: four feature cells).",
        ),
    ]
