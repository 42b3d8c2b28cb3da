"""Section ``images``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit

from stages.core.params import Section


class Params(Section):
    """Where images and masks come from."""

    source: Annotated[Literal["scenes", "voc"], Limit(description="Built-in pictures, or a folder in VOC layout.")]
    root: Annotated[str, Limit(description="Raw folder; `$NOVELSEG_DATA` is replaced. Empty for scenes.")]
    train_list: Annotated[str, Limit(min_length=1, description="List of training images in `ImageSets/Segmentation`.")]
    val_list: Annotated[str, Limit(min_length=1, description="List of validation images, for episodes.")]
    shards: Annotated[
        int,
        Limit(ge=1, le=10000, description="Parts that the data set is cut into; each is one job and one file."),
    ]
