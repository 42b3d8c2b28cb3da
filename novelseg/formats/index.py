"""Format ``index``: the data set without its pixels."""

from __future__ import annotations

from novelseg.formats.hdf5 import TEXT, Field, Spec

INDEX = Spec(
    "index",
    3,
    "index",
    "The data set without its pixels: shard and content of each image, and the fold in which each class is novel.",
    {
        "id": Field("N", TEXT, "-", "image id, unique"),
        "split": Field("N", "uint8", "-", "0 training list, 1 validation list"),
        "shard": Field("N", "int32", "-", "number of the image shard"),
        "row": Field("N", "int32", "-", "row in that shard"),
        "height": Field("N", "int32", "px", "height"),
        "width": Field("N", "int32", "px", "width"),
        "pixels": Field("N C+1", "int64", "px", "pixels of background (0) and of each class (1…C)"),
        "void": Field("N", "int64", "px", "pixels with label 255"),
        "fold": Field("C", "int32", "-", "fold in which class 1…C is novel"),
    },
    {
        "classes": "names of classes 1…C",
        "source": "origin of the images and masks: scenes, voc, voc+sbd or coco",
        "lists": "names of the training and the validation list",
        "list_digests": "MD5 of the ids of each list, one id per line",
        "folds": "number of folds",
        "layout": "contiguous or fwb",
        "min_object_pixels": "minimum pixels of a class for an image to count as one of that class",
        "novel_images": "treatment of training images that also contain novel classes: keep or drop",
        "held_out": "fold whose classes are neither base nor novel in the other folds; −1 for none",
    },
)
