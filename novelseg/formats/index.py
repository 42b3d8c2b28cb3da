"""Format ``index``: classes, folds, lists and pixel counts of the data set, without the images."""

from __future__ import annotations

import numpy as np

from novelseg.formats.hdf5 import TEXT, Artifact, Field, Spec


def pixels_fault(file: Artifact) -> str:
    """Return as a phrase how pixel counts disagree with sizes, classes or lists; empty if they do not."""
    pixels, classes = file["pixels"][:], file.attributes["classes"]
    if pixels.shape[1] != len(classes) + 1 or len(set(classes)) < len(classes):
        return f"attribute 'classes' names {len(classes)} classes; expected each once, and those that are counted"
    if (pixels.sum(1) + file["void"][:] != file["height"][:].astype(np.int64) * file["width"][:]).any():
        return "the pixel counts of an image do not add up to its size"
    if len(file.attributes["lists"]) != 2 or len(file.attributes["list_digests"]) != 2:
        return "attributes 'lists' and 'list_digests' do not have two entries each"
    return ""


def _rule(file: Artifact) -> str:
    attributes = file.attributes
    places = np.stack([file["shard"][:], file["row"][:]], 1)
    if len(np.unique(places, axis=0)) < len(places):
        return "two images are said to lie in the same row of a shard"
    if len(file["fold"]) != len(attributes["classes"]) or (file["fold"][:] >= attributes["folds"]).any():
        return "dataset 'fold' does not give one of the folds for every class"
    if attributes["folds"] > len(attributes["classes"]):
        return f"attribute 'folds' is {attributes['folds']}, more than there are classes"
    if attributes["layout"] not in ("contiguous", "fwb") or attributes["novel_images"] not in ("keep", "drop"):
        return "attribute 'layout' or 'novel_images' is unknown"
    if not -1 <= attributes["held_out"] < attributes["folds"] or attributes["min_object_pixels"] < 0:
        return "attribute 'held_out' or 'min_object_pixels' is out of range"
    return pixels_fault(file)


INDEX = Spec(
    "index",
    4,
    "index",
    "The data set without its pixels: shard and content of each image, and the fold in which each class is novel.",
    {
        "id": Field("N", TEXT, "-", "image id, unique", unique=True),
        "split": Field("N", "uint8", "-", "0 training list, 1 validation list", low=0, high=1),
        "shard": Field("N", "int32", "-", "number of the image shard", low=0),
        "row": Field("N", "int32", "-", "row in that shard", low=0),
        "height": Field("N", "int32", "px", "height", low=1),
        "width": Field("N", "int32", "px", "width", low=1),
        "pixels": Field("N C+1", "int64", "px", "pixels of background (0) and of each class (1…C)", low=0),
        "void": Field("N", "int64", "px", "pixels with label 255", low=0),
        "fold": Field("C", "int32", "-", "fold in which class 1…C is novel", low=0),
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
    {
        **{"classes": list[str], "source": str, "lists": list[str], "list_digests": list[str]},
        **{"folds": int, "layout": str, "min_object_pixels": int, "novel_images": str, "held_out": int},
    },
    _rule,
    unchecked_version=3,
)
