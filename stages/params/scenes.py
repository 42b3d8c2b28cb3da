"""Section ``scenes`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limit

from stages.params.schema import Section


class Scenes(Section):
    """Built-in pictures, which are used if ``images.source`` is ``scenes``."""

    seed: Annotated[int, Limit(ge=0, description="Seed of all pictures.")]
    train: Annotated[int, Limit(ge=1, description="Pictures in the training list.")]
    val: Annotated[int, Limit(ge=1, description="Pictures in the validation list.")]
    size: Annotated[int, Limit(ge=32, le=1024, description="Longest side, px.")]
