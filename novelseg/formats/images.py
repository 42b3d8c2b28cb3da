"""Format ``images``: encoded images and masks."""

from __future__ import annotations

from novelseg.formats.hdf5 import TEXT, Field, Spec, ragged_fields

IMAGES = Spec(
    "images",
    2,
    "images",
    "One shard of the data set: encoded images and index masks, validated, with pixel counts.",
    {
        "id": Field("N", TEXT, "-", "image id"),
        "position": Field("N", "int32", "-", "position in the training list followed by the validation list"),
        "split": Field("N", "uint8", "-", "0 training list, 1 validation list"),
        "height": Field("N", "int32", "px", "height"),
        "width": Field("N", "int32", "px", "width"),
        "pixels": Field("N C+1", "int64", "px", "pixels of background (0) and of each class (1…C)"),
        "void": Field("N", "int64", "px", "pixels with label 255"),
        **ragged_fields("image", "N", "uint8", "byte", "encoded image (JPEG or PNG)", compressed=True),
        **ragged_fields(
            "mask", "N", "uint8", "byte", "encoded index mask (PNG; background 0, void 255)", compressed=True
        ),
    },
    {
        "classes": "names of classes 1…C",
        "source": "origin of the images and masks: scenes, voc, voc+sbd or coco",
        "lists": "names of the training and the validation list",
        "list_digests": "MD5 of the ids of each list, one id per line",
    },
)
