"""Section ``index``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit

from stages.params.schema import Section


class Params(Section):
    """Folds and the rules of the protocol that hold for every stage."""

    folds: Annotated[int, Limit(ge=2, le=20, description="Folds; each takes an equal part of the classes as novel.")]
    layout: Annotated[
        Literal["contiguous", "fwb"],
        Limit(description="Contiguous blocks of classes, or class number modulo folds (COCO's FWB folds)."),
    ]
    min_object_pixels: Annotated[
        int,
        Limit(
            ge=1,
            description="An image counts as one of a class from this many pixels on, px (2,048 at 500 px).",
        ),
    ]
    novel_images: Annotated[
        Literal["keep", "drop"],
        Limit(description="Training images that hold novel classes too: keep (the paper) or drop."),
    ]
    held_out: Annotated[
        int,
        Limit(
            ge=-1,
            description="Fold whose classes nobody knows, neither base nor novel in any other: what is chosen there "
            "is chosen on its base classes alone; −1 for none.",
        ),
    ]
