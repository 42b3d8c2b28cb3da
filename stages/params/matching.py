"""Section ``matching`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit

from stages.params.schema import Section


class MatchingParams(Section):
    """Prototype matching and the geometry of training images, for F_p and F_s; the CAM prior has its own."""

    scale: Annotated[float, Limit(gt=0, description="Factor of the cosine similarity before the softmax (10).")]
    geometry: Annotated[
        Literal["resize", "crop"],
        Limit(description="Training images: resized to a square, or padded and randomly cropped."),
    ]
    size: Annotated[int, Limit(ge=33, le=1025, description="Side of a training image, px (the paper: 473).")]
    flip: Annotated[float, Limit(ge=0, le=1, description="Probability of mirroring a training image.")]
    episodes: Annotated[int, Limit(ge=1, description="Episodes per iteration (4).")]
