"""Columns that say under which protocol a result was made; each row of a result table has them."""

from __future__ import annotations

from novelseg.formats.tables import Column

PROTOCOL = (
    Column("protocol", "str", "name of the protocol and preset"),
    Column("source", "str", "where images and masks came from: scenes, voc, voc+sbd or coco"),
    Column("classes", "str", "number of classes and the MD5 of their names in label order, one a line"),
    Column("train_list", "str", "training list and the MD5 of its ids, one a line"),
    Column("val_list", "str", "validation list and the MD5 of its ids"),
    Column("novel_images", "str", "training images that hold novel classes too: keep or drop"),
    Column("folds", "str", "number of folds, how the classes are laid into them, and which is held out, if any"),
    Column("min_object_pixels", "int64", "an image counts as one of a class from this many pixels on"),
    Column(
        "resolution",
        "str",
        "side of a training image and its geometry, tests at the images' own size; in rows of the CAM prior its own",
    ),
    Column("weights", "str", "MD5 of the pretrained weights"),
)
