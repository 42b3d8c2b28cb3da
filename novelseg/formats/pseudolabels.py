"""Format ``pseudolabels``: pseudo-label maps."""

from __future__ import annotations

from novelseg.formats.hdf5 import TEXT, Field, Spec, ragged_fields

PSEUDOLABELS = Spec(
    "pseudolabels",
    1,
    "pseudolabels",
    "One shard of pseudo-label maps of a fold at three levels (A, Eq. 3): fg 0…K−1, bg K…2K−1, 255 ignored.",
    {
        "id": Field("T", TEXT, "-", "image id"),
        "row": Field("T", "int32", "-", "row in the image shard"),
        "height": Field("T", "int32", "px", "height"),
        "width": Field("T", "int32", "px", "width"),
        **ragged_fields("labels", "T", "uint8", "-", "levels 1, 2, 3, each row by row at image resolution"),
    },
    {"fold": "fold", "encoder": "digest of the encoder's weights", "clusters": "K of levels 1, 2, 3"},
)
