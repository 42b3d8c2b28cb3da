"""Section ``images``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit
from pydantic import model_validator

from stages.params.schema import Section

MOST_SHARDS = 300  # a job that reads all of several folds names them in its command, which has 128 KiB at most


class Params(Section):
    """Where images and masks come from."""

    source: Annotated[
        Literal["scenes", "voc", "coco"],
        Limit(description="Built-in pictures, a folder in VOC layout, or one in COCO's."),
    ]
    root: Annotated[str, Limit(description="Raw folder; `$NOVELSEG_DATA` is replaced. Empty for scenes.")]
    sbd: Annotated[
        str,
        Limit(
            description="SBD's folder: its masks are used where VOC has none, and the lists `trainaug` and "
            "`voc_sbd_noval` are generated. Empty for none."
        ),
    ]
    classes: Annotated[
        list[Annotated[str, Limit(min_length=1)]],
        Limit(
            max_length=254,
            description="Class names: of labels 1, 2, … (voc; empty for VOC's twenty), or the categories to be read, "
            "the others being background (coco; empty for all).",
        ),
    ]
    train_list: Annotated[
        str,
        Limit(min_length=1, description="Training images: a list in `ImageSets/Segmentation`, or COCO's `train2014`."),
    ]
    val_list: Annotated[str, Limit(min_length=1, description="Validation images, for episodes.")]
    exclude: Annotated[
        list[Annotated[str, Limit(min_length=1)]],
        Limit(description="Ids, in quotes, of images that are left out of both lists, such as broken files."),
    ]
    shards: Annotated[
        int,
        Limit(ge=1, le=MOST_SHARDS, description="Parts that the data set is cut into; each is one job and one file."),
    ]

    @model_validator(mode="after")
    def _fitting(self) -> Params:
        if self.sbd and self.source != "voc":
            raise ValueError(f"sbd is '{self.sbd}', source {self.source}; SBD's masks belong to VOC's images: empty it")
        if self.classes and self.source == "scenes":
            raise ValueError("classes names some, but the built-in pictures have their own; empty it")
        if self.exclude and self.source == "scenes":
            raise ValueError("exclude names some, but the built-in pictures are drawn whole; empty it")
        for key, given in (("classes", self.classes), ("exclude", self.exclude)):
            if len(set(given)) != len(given):
                raise ValueError(f"{key} is {given}; expected each name once")
        return self
