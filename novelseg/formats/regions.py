"""Format ``regions``: one shard of label maps that give the region of every pixel of the training images."""

from __future__ import annotations

import numpy as np

from novelseg.formats.hdf5 import SHARD_ATTRS, TEXT, Artifact, Field, Ragged, Spec, ragged_fields


def _rule(file: Artifact) -> str:
    if (Ragged.lengths(file, "labels") != file["height"][:].astype(np.int64) * file["width"][:]).any():
        return "the label map of an image does not have its size"
    return "" if 0 <= file.attributes["tau"] <= 1 else "attribute 'tau' is not from 0 to 1"


REGIONS = Spec(
    "regions",
    2,
    "regions",
    "One shard of region label maps: the hierarchies cut at one contour strength.",
    {
        "id": Field("T", TEXT, "-", "image id", unique=True),
        "row": Field("T", "int32", "-", "row in the image shard", low=0, unique=True),
        "height": Field("T", "int32", "px", "height", low=1),
        "width": Field("T", "int32", "px", "width", low=1),
        "count": Field(
            "T", "int32", "regions", "number of regions of the image, numbered 0…count−1", low=1, high=1 << 16
        ),
        **ragged_fields("labels", "T", "uint16", "-", "number of the region at each pixel, row by row"),
    },
    {"tau": "contour strength of the cut", **SHARD_ATTRS},
    {"tau": float},
    _rule,
    unchecked_version=1,
)
