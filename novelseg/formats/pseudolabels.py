"""Format ``pseudolabels``: one shard of the training images' pseudo-label maps at three levels, for a fold."""

from __future__ import annotations

import numpy as np

from novelseg.formats.hdf5 import SHARD_ATTRS, TEXT, Artifact, Field, Ragged, Spec, ragged_fields
from novelseg.formats.levels import LEVELS, MOST


def _rule(file: Artifact) -> str:
    if (Ragged.lengths(file, "labels") != 3 * file["height"][:].astype(np.int64) * file["width"][:]).any():
        return "the label maps of an image do not have its size at three levels"
    clusters = file.attributes["clusters"]
    if len(clusters) != len(LEVELS) or not all(1 <= count <= MOST for count in clusters):
        return f"attribute 'clusters' is {clusters}, expected three numbers from 1 to {MOST}"
    return "attribute 'fold' is negative" if file.attributes["fold"] < 0 else ""


PSEUDOLABELS = Spec(
    "pseudolabels",
    2,
    "pseudolabels",
    "One shard of pseudo-label maps of a fold at three levels (A, Eq. 3): fg 0…K−1, bg K…2K−1, 255 ignored.",
    {
        "id": Field("T", TEXT, "-", "image id", unique=True),
        "row": Field("T", "int32", "-", "row in the image shard", low=0, unique=True),
        "height": Field("T", "int32", "px", "height", low=1),
        "width": Field("T", "int32", "px", "width", low=1),
        **ragged_fields("labels", "T", "uint8", "-", "levels 1, 2, 3, each row by row at image resolution"),
    },
    {
        **{"fold": "fold", "encoder": "digest of the encoder's weights", "clusters": "K of levels 1, 2, 3"},
        **SHARD_ATTRS,
    },
    {"fold": int, "encoder": str, "clusters": list[int]},
    _rule,
    unchecked_version=1,
)
