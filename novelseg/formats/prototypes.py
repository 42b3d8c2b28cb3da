"""Format ``prototypes``: k-means centres of a fold's regions and objects at three levels."""

from __future__ import annotations

from novelseg.formats.hdf5 import FINITE, Artifact, Field, Spec
from novelseg.formats.levels import LEVELS, SIDES, TYPES, levels_fault


def _rule(file: Artifact) -> str:
    small = {name: file[name][:] for name in file.spec.fields if not name.endswith("centres")}
    return levels_fault(small, file.attributes)


PROTOTYPES = Spec(
    "prototypes",
    2,
    "prototypes",
    "Three levels of prototypes of a fold, foreground and background (A, Eq. 2).",
    {
        f"{side}/level{level}/{name}": Field(dims.format(side, level), dtype, unit, doc, low=low)
        for side in SIDES
        for level in LEVELS
        for name, dims, dtype, unit, doc, low in (
            ("centres", "K_{0}{1} D", "float32", "-", "k-means centres", FINITE),
            ("members", "K_{0}{1}", "int64", "vectors", "number of corpus vectors below each centre", 0),
            ("parent", "K_{0}{1}", "int32", "-", "centre of the next coarser level; −1 at the coarsest", -1),
        )
    },
    {
        "fold": "fold",
        "encoder": "digest of the encoder's weights",
        "metric": "cosine or euclidean",
        "inertia": "sum of squared distances to the centres, per side and level",
        "vectors": "number of vectors in each corpus",
    },
    TYPES,
    _rule,
    unchecked_version=1,
)
