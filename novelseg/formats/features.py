"""Format ``features``: one shard of a fold's corpora, the pooled features of all regions and objects."""

from __future__ import annotations

from novelseg.formats.hdf5 import SHARD_ATTRS, TEXT, Artifact, Field, Spec


def _rule(file: Artifact) -> str:
    for side in ("bg", "fg"):
        top, left, bottom, right = file[f"{side}/box"][:].T
        if (top > bottom).any() or (left > right).any():
            return f"dataset '{side}/box' has a box that ends before it begins"
    return "attribute 'fold' is negative" if file.attributes["fold"] < 0 else ""


FEATURES = Spec(
    "features",
    2,
    "features",
    "One shard of the corpora R_bg and R_fg of a fold: one masked-average-pooled vector per region (A, Eq. 1).",
    {
        "bg/vectors": Field("R D", "float32", "-", "pooled features of background regions"),
        "bg/image": Field("R", TEXT, "-", "image id"),
        "bg/region": Field("R", "int32", "-", "region number in the image's label map", low=0, high=65535),
        "bg/area": Field("R", "int64", "px", "background pixels of the region", low=1),
        "bg/box": Field("R 4", "int32", "px", "top, left, bottom, right; ends exclusive", low=0),
        "fg/vectors": Field("O D", "float32", "-", "pooled features of (image, base class) masks"),
        "fg/image": Field("O", TEXT, "-", "image id"),
        "fg/class": Field("O", "int32", "-", "class 1…C", low=0),
        "fg/area": Field("O", "int64", "px", "pixels of the class", low=1),
        "fg/box": Field("O 4", "int32", "px", "top, left, bottom, right; ends exclusive", low=0),
    },
    {
        "fold": "fold",
        "encoder": "digest of the encoder's weights",
        "dropped_regions": "number of background regions smaller than `min_region_area`",
        "dropped_pixels": "number of pixels in those regions",
        **SHARD_ATTRS,
    },
    {"fold": int, "encoder": str, "dropped_regions": int, "dropped_pixels": int},
    _rule,
    unchecked_version=1,
)
