"""Section ``hierarchies``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit

from stages.core.params import Section


class Params(Section):
    """How the region hierarchy of an image is made."""

    method: Annotated[Literal["lab-gradient"], Limit(description="Contour cue and merging rule.")]
    longest_side: Annotated[int, Limit(ge=16, le=1000, description="Images are made no larger than this before, px.")]
