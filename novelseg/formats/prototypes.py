"""Format ``prototypes``: prototypes of a fold."""

from __future__ import annotations

from novelseg.formats.hdf5 import FINITE, Artifact, Field, Spec

LEVELS = (1, 2, 3)  # fine to coarse
SIDES = ("fg", "bg")

MOST = 127  # prototypes per side and level: pseudo labels are bytes, 0…2K−1, and 255 is void


def _rule(file: Artifact) -> str:
    for level in LEVELS:
        counts = [len(file[f"{side}/level{level}/centres"]) for side in SIDES]
        if counts[0] != counts[1] or not 1 <= counts[0] <= MOST:
            return (
                f"level {level} has {counts[0]} foreground and {counts[1]} background prototypes; expected as many of "
                f"both, from 1 to {MOST}"
            )
    for side in SIDES:
        for level in LEVELS:
            parents = file[f"{side}/level{level}/parent"][:]
            coarser = len(file[f"{side}/level{level + 1}/centres"]) if level < LEVELS[-1] else 0
            if (coarser and ((parents < 0) | (parents >= coarser)).any()) or (not coarser and (parents != -1).any()):
                return f"dataset '{side}/level{level}/parent' names prototypes that do not exist"
    if file.attributes["metric"] not in ("cosine", "euclidean") or file.attributes["fold"] < 0:
        return "attribute 'metric' or 'fold' is unknown"
    return ""


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
    {"fold": int, "encoder": str, "metric": str, "inertia": dict[str, list[float]], "vectors": dict[str, int]},
    _rule,
    unchecked_version=1,
)
