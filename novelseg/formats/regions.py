"""Format ``regions``: region label maps."""

from __future__ import annotations

from novelseg.formats.hdf5 import TEXT, Field, Spec, ragged_fields

REGIONS = Spec(
    "regions",
    1,
    "regions",
    "One shard of region label maps: the hierarchies cut at one contour strength.",
    {
        "id": Field("T", TEXT, "-", "image id"),
        "row": Field("T", "int32", "-", "row in the image shard"),
        "height": Field("T", "int32", "px", "height"),
        "width": Field("T", "int32", "px", "width"),
        "count": Field("T", "int32", "regions", "number of regions of the image, numbered 0…count−1"),
        **ragged_fields("labels", "T", "uint16", "-", "number of the region at each pixel, row by row"),
    },
    {"tau": "contour strength of the cut"},
)
