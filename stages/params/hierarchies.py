"""Section ``hierarchies`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit

from stages.params.schema import Section


class Params(Section):
    """Region hierarchies of the training images."""

    method: Annotated[
        Literal["ucm", "felzenszwalb", "slic", "precomputed"],
        Limit(
            description="ucm: learned hierarchy, cut at regions.tau. The others are flat and ignore τ: scikit-image's "
            "felzenszwalb and slic, and your own label maps (precomputed)."
        ),
    ]
    longest_side: Annotated[
        int,
        Limit(ge=16, le=1000, description="Longest side to which images are reduced first, px; not for precomputed."),
    ]
    weights: Annotated[str, Limit(description="ucm: weight file of `python -m stages trainregions`.")]
    scale: Annotated[
        float, Limit(gt=0, le=1e6, description="felzenszwalb: scale; a larger value gives larger regions.")
    ]
    segments: Annotated[int, Limit(ge=1, le=20000, description="slic: approximate number of regions per image.")]
    maps: Annotated[
        str, Limit(description="precomputed: folder with ID.png (8 or 16 bit) or ID.npy, one region number per pixel.")
    ]
