"""Section ``index`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit

from stages.params.schema import Section


class Params(Section):
    """Folds, and the rules of the protocol that apply to every stage."""

    folds: Annotated[
        int, Limit(ge=2, le=20, description="Number of folds; each has an equal part of the classes as novel.")
    ]
    layout: Annotated[
        Literal["contiguous", "fwb"],
        Limit(description="Classes of a fold: a contiguous block, or class number modulo `folds` (COCO's FWB folds)."),
    ]
    min_object_pixels: Annotated[
        int,
        Limit(
            ge=1,
            description="An image counts for a class if it has at least this many pixels of it, px (2,048 at 500 px).",
        ),
    ]
    novel_images: Annotated[
        Literal["keep", "drop"],
        Limit(description="Training images that also contain novel classes: keep (the paper) or drop."),
    ]
    held_out: Annotated[
        int,
        Limit(
            ge=-1,
            description="Fold whose classes are neither base nor novel in any other fold, so that settings chosen on "
            "the other folds depend only on its base classes; −1 for none.",
        ),
    ]
