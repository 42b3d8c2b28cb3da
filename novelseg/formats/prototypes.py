"""Format ``prototypes``: prototypes of a fold."""

from __future__ import annotations

from novelseg.formats.hdf5 import Field, Spec

LEVELS = (1, 2, 3)  # fine to coarse
SIDES = ("fg", "bg")

PROTOTYPES = Spec(
    "prototypes",
    1,
    "prototypes",
    "Three levels of prototypes of a fold, foreground and background (A, Eq. 2).",
    {
        f"{side}/level{level}/{name}": Field(dims.format(side, level), dtype, unit, doc)
        for side in SIDES
        for level in LEVELS
        for name, dims, dtype, unit, doc in (
            ("centres", "K_{0}{1} D", "float32", "-", "k-means centres"),
            ("members", "K_{0}{1}", "int64", "vectors", "number of corpus vectors below each centre"),
            ("parent", "K_{0}{1}", "int32", "-", "centre of the next coarser level; −1 at the coarsest"),
        )
    },
    {
        "fold": "fold",
        "encoder": "digest of the encoder's weights",
        "metric": "cosine or euclidean",
        "inertia": "sum of squared distances to the centres, per side and level",
        "vectors": "number of vectors in each corpus",
    },
)
