"""Format ``hierarchies``: one shard of region hierarchies (ultrametric contour maps) of the training images."""

from __future__ import annotations

import numpy as np

from novelseg.formats.hdf5 import SHARD_ATTRS, TEXT, Artifact, Field, Ragged, Spec, ragged_fields

MOST_PIXELS = 1 << 28  # more than the stage `images` accepts


def _rule(file: Artifact) -> str:
    if (file["height"][:].astype(np.int64) * file["width"][:] > MOST_PIXELS).any():
        return f"an image is said to have more than {MOST_PIXELS} px"
    work = file["work_height"][:].astype(np.int64) * file["work_width"][:]
    if (Ragged.lengths(file, "basins") != work).any():
        return "the basins of an image do not have its working size"
    nodes = Ragged.lengths(file, "parents")
    if (nodes < 1).any() or (nodes != Ragged.lengths(file, "heights")).any():
        return "the tree of an image does not have as many heights as parents"
    return ""


HIERARCHIES = Spec(
    "hierarchies",
    3,
    "hierarchies",
    "One shard of region hierarchies (ultrametric contour maps) of the training images.",
    {
        "id": Field("T", TEXT, "-", "image id", unique=True),
        "row": Field("T", "int32", "-", "row in the image shard", low=0, unique=True),
        "height": Field("T", "int32", "px", "height of the image", low=1),
        "width": Field("T", "int32", "px", "width of the image", low=1),
        "work_height": Field("T", "int32", "px", "height at which the hierarchy was computed", low=1),
        "work_width": Field("T", "int32", "px", "width at which the hierarchy was computed", low=1),
        **ragged_fields("basins", "T", "uint16", "-", "leaf of the hierarchy at each pixel, row by row"),
        **ragged_fields("parents", "T", "int32", "-", "parent of each node; leaves first, the root is its own parent"),
        **ragged_fields(
            "heights", "T", "float32", "contour strength in [0, 1]", "level at which a node's children merge"
        ),
    },
    {
        "method": "method that made the hierarchies",
        "settings": "other settings, with the MD5 of any weights",
        **SHARD_ATTRS,
    },
    {"method": str},
    _rule,
    unchecked_version=2,
)
