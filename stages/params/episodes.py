"""Section ``episodes``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limit

from stages.params.schema import Section


class Params(Section):
    """Episode lists."""

    count: Annotated[int, Limit(ge=1, description="Episodes of each seed (1,000; COCO 4,000).")]
    exclude_classes: Annotated[
        list[str], Limit(description="Novel classes that have too few images; the tables say so.")
    ]
