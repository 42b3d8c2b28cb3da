"""Section ``episodes`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limit

from stages.params.schema import Section


class Params(Section):
    """Lists of test episodes."""

    count: Annotated[int, Limit(ge=1, description="Episodes per seed (1,000; COCO 4,000).")]
    exclude_classes: Annotated[
        list[str],
        Limit(description="Novel classes left out because they have too few images; the tables name them."),
    ]
