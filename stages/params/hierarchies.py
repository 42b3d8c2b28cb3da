"""Section ``hierarchies``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit

from stages.params.schema import Section


class Params(Section):
    """How the region hierarchy of an image is made."""

    method: Annotated[
        Literal["ucm", "felzenszwalb", "slic", "precomputed"],
        Limit(
            description="ucm: learned hierarchy, cut at regions.tau. The others are flat, whatever τ: scikit-image's "
            "felzenszwalb and slic, and label maps of your own (precomputed)."
        ),
    ]
    longest_side: Annotated[
        int, Limit(ge=16, le=1000, description="Images are made no larger than this before, px; precomputed: unused.")
    ]
    weights: Annotated[str, Limit(description="ucm: weight file of `python -m stages trainregions`.")]
    scale: Annotated[float, Limit(gt=0, le=1e6, description="felzenszwalb: scale; larger means larger regions.")]
    segments: Annotated[int, Limit(ge=1, le=20000, description="slic: about how many regions an image.")]
    maps: Annotated[
        str, Limit(description="precomputed: folder with ID.png (8 or 16 bit) or ID.npy, one region number a pixel.")
    ]
