"""Format ``index``."""

from __future__ import annotations

from novelseg.formats.hdf5 import TEXT, Field, Spec

INDEX = Spec(
    "index",
    3,
    "index",
    "The data set without its pixels: where each image lies, what it holds, which classes are novel in which fold.",
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
        "source": "where images and masks came from: scenes, voc, voc+sbd or coco",
        "lists": "names of the training and the validation list",
        "list_digests": "MD5 of the ids of each list, one a line",
        "folds": "number of folds",
        "layout": "contiguous or fwb",
        "min_object_pixels": "an image counts as one of a class from this many pixels on",
        "novel_images": "keep or drop training images that hold novel classes too",
        "held_out": "fold whose classes are neither base nor novel in the others; −1 for none",
    },
)
