"""Format ``features``: corpora of pooled features."""

from __future__ import annotations

from novelseg.formats.hdf5 import TEXT, Field, Spec

FEATURES = Spec(
    "features",
    1,
    "features",
    "One shard of the corpora R_bg and R_fg of a fold: one masked-average-pooled vector per region (A, Eq. 1).",
    {
        "bg/vectors": Field("R D", "float32", "-", "pooled features of background regions"),
        "bg/image": Field("R", TEXT, "-", "image id"),
        "bg/region": Field("R", "int32", "-", "region number in the image's label map"),
        "bg/area": Field("R", "int64", "px", "background pixels of the region"),
        "bg/box": Field("R 4", "int32", "px", "top, left, bottom, right; ends exclusive"),
        "fg/vectors": Field("O D", "float32", "-", "pooled features of (image, base class) masks"),
        "fg/image": Field("O", TEXT, "-", "image id"),
        "fg/class": Field("O", "int32", "-", "class 1…C"),
        "fg/area": Field("O", "int64", "px", "pixels of the class"),
        "fg/box": Field("O 4", "int32", "px", "top, left, bottom, right; ends exclusive"),
    },
    {
        "fold": "fold",
        "encoder": "digest of the encoder's weights",
        "dropped_regions": "number of background regions smaller than `min_region_area`",
        "dropped_pixels": "number of pixels in those regions",
    },
)
