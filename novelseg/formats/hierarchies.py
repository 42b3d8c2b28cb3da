"""Format ``hierarchies``: region hierarchies."""

from __future__ import annotations

from novelseg.formats.hdf5 import TEXT, Field, Spec, ragged_fields

HIERARCHIES = Spec(
    "hierarchies",
    2,
    "hierarchies",
    "One shard of region hierarchies (ultrametric contour maps) of the training images.",
    {
        "id": Field("T", TEXT, "-", "image id"),
        "row": Field("T", "int32", "-", "row in the image shard"),
        "height": Field("T", "int32", "px", "height of the image"),
        "width": Field("T", "int32", "px", "width of the image"),
        "work_height": Field("T", "int32", "px", "height at which the hierarchy was computed"),
        "work_width": Field("T", "int32", "px", "width at which the hierarchy was computed"),
        **ragged_fields("basins", "T", "uint16", "-", "leaf of the hierarchy at each pixel, row by row"),
        **ragged_fields("parents", "T", "int32", "-", "parent of each node; leaves first, the root is its own parent"),
        **ragged_fields(
            "heights", "T", "float32", "contour strength in [0, 1]", "level at which a node's children merge"
        ),
    },
    {
        "method": "method that made the hierarchies",
        "settings": "other settings, with the MD5 of any weights",
    },
)
