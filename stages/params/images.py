"""Section ``images`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit
from pydantic import model_validator

from novelseg.core.errors import nearest
from stages.params.schema import Section

MOST_SHARDS = 300  # a job that reads the shards of several folds names them all in its command of at most 128 KiB

SCENE_LISTS = ("train", "val")  # of the built-in pictures


class Params(Section):
    """Source of images and masks."""

    source: Annotated[
        Literal["scenes", "voc", "coco"],
        Limit(description="Built-in pictures, a folder in VOC's layout, or one in COCO's."),
    ]
    root: Annotated[str, Limit(description="Folder of the raw data; `~` and `$NAME` are expanded. Empty for scenes.")]
    sbd: Annotated[
        str,
        Limit(
            description="Folder of SBD: its masks are used where VOC has none, and the lists `trainaug` and "
            "`voc_sbd_noval` are generated. Empty for none."
        ),
    ]
    classes: Annotated[
        list[Annotated[str, Limit(min_length=1)]],
        Limit(
            max_length=254,
            description="voc: names of the labels 1, 2, …; empty for VOC's twenty classes. coco: categories to read, "
            "all others being background; empty for all.",
        ),
    ]
    train_list: Annotated[
        str,
        Limit(min_length=1, description="Training images: a list in `ImageSets/Segmentation`, or COCO's `train2014`."),
    ]
    val_list: Annotated[str, Limit(min_length=1, description="Validation images, for episodes.")]
    exclude: Annotated[
        list[Annotated[str, Limit(min_length=1)]],
        Limit(description="Ids, in quotes, of images to leave out of both lists, such as broken files."),
    ]
    shards: Annotated[
        int,
        Limit(ge=1, le=MOST_SHARDS, description="Parts of the data set; each is one job and one file."),
    ]

    @model_validator(mode="after")
    def _fitting(self) -> Params:
        if self.sbd and self.source != "voc":
            raise ValueError(f"sbd is '{self.sbd}', but source is {self.source}; SBD needs source voc: set sbd to ''")
        if self.classes and self.source == "scenes":
            raise ValueError(f"classes is {self.classes}; expected [], since the built-in pictures have fixed classes")
        if self.exclude and self.source == "scenes":
            raise ValueError(f"exclude is {self.exclude}; expected [], since the built-in pictures are all valid")
        for key, name in (("train_list", self.train_list), ("val_list", self.val_list)):
            if self.source == "scenes" and name not in SCENE_LISTS:
                raise ValueError(
                    f"{key} is '{name}', but the built-in pictures have the lists {' and '.join(SCENE_LISTS)}; "
                    f"{nearest(name, SCENE_LISTS)}"
                )
        for key, names in (("classes", self.classes), ("exclude", self.exclude)):
            if len(set(names)) != len(names):
                raise ValueError(f"{key} is {names}; expected each name once")
        return self
