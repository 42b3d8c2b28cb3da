"""Format ``images``: one shard of the data set, with encoded images and masks and their pixel counts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from novelseg.formats.hdf5 import SHARD_ATTRS, TEXT, Artifact, Field, Ragged, Spec, ragged_fields
from novelseg.formats.index import pixels_fault


def list_digest(ids: Iterable[str]) -> str:
    """Return the MD5 of the ids of a list, one id per line."""
    return hashlib.md5("".join(f"{image_id}\n" for image_id in ids).encode()).hexdigest()


def _rule(file: Artifact) -> str:
    if (Ragged.lengths(file, "image") == 0).any() or (Ragged.lengths(file, "mask") == 0).any():
        return "an image or mask has no bytes"
    if (np.diff(file["position"][:]) <= 0).any():
        return "dataset 'position' does not rise"
    return pixels_fault(file)


IMAGES = Spec(
    "images",
    3,
    "images",
    "One shard of the data set: encoded images and index masks, validated, with pixel counts.",
    {
        "id": Field("N", TEXT, "-", "image id", unique=True),
        "position": Field("N", "int32", "-", "position in the training list followed by the validation list", low=0),
        "split": Field("N", "uint8", "-", "0 training list, 1 validation list", low=0, high=1),
        "height": Field("N", "int32", "px", "height", low=1),
        "width": Field("N", "int32", "px", "width", low=1),
        "pixels": Field("N C+1", "int64", "px", "pixels of background (0) and of each class (1…C)", low=0),
        "void": Field("N", "int64", "px", "pixels with label 255", low=0),
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
        **SHARD_ATTRS,
    },
    {"classes": list[str], "source": str, "lists": list[str], "list_digests": list[str]},
    _rule,
    unchecked_version=2,
)
