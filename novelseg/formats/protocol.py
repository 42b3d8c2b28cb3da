"""Columns that state the protocol of a result; every row of a result table has them."""

from __future__ import annotations

from novelseg.formats.tables import Column

PROTOCOL = (
    Column("protocol", "str", "name of the protocol and preset"),
    Column("source", "str", "origin of the images and masks: scenes, voc, voc+sbd or coco"),
    Column("classes", "str", "number of classes and the MD5 of their names in label order, one name per line"),
    Column("train_list", "str", "training list and the MD5 of its ids, one id per line"),
    Column("val_list", "str", "validation list and the MD5 of its ids"),
    Column("novel_images", "str", "treatment of training images that also contain novel classes: keep or drop"),
    Column("folds", "str", "number of folds, the layout of the classes in them, and the held-out fold, if any"),
    Column("min_object_pixels", "int64", "minimum pixels of a class for an image to count as one of that class"),
    Column(
        "resolution",
        "str",
        "side and geometry of a training image (tests use the images' own size); for the CAM prior, of its network; "
        "for a vision transformer, also its features and the longest side of an image",
    ),
    Column("weights", "str", "MD5 of the pretrained weights"),
)
PROTOCOL_NAMES = tuple(column.name for column in PROTOCOL)


FROZEN = "none (frozen encoder)"  # resolution of an encoder that is not trained


def missing_rows(resolution: str) -> str:
    """Return a sentence on the rows that a table lacks because nothing was trained; empty if something was."""
    if not resolution.startswith(FROZEN):
        return ""
    return (
        "The encoder is frozen (encoder.train: none): there is no Baseline and no joint training, hence no rows of "
        "theirs."
    )


def caution(source: str) -> str:
    """Return a sentence on what numbers from this ``source`` cannot show; empty for photographs."""
    if source != "scenes":
        return ""
    return (
        "Built-in drawings: the numbers show that the pipeline works; they are not comparable with published numbers, "
        "and an order of variants on drawings need not hold on photographs."
    )
