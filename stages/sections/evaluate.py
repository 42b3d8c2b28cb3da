"""Section ``evaluate``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limit

from stages.core.params import Section


class Params(Section):
    """What evaluation keeps beside the scores."""

    examples: Annotated[
        int,
        Limit(ge=0, le=200, description="Episodes of the first seed whose predictions are kept for the report."),
    ]
