"""Section ``regions`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limit

from stages.params.schema import Section


class Params(Section):
    """Threshold at which the region hierarchies are cut into regions."""

    tau: Annotated[float, Limit(ge=0, le=1, description="Contour strength of the cut (τ; the paper's MCG: 0.45).")]
