"""Rules for the prototypes of a fold, which apply in their own file and in a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = (1, 2, 3)  # fine to coarse
SIDES = ("fg", "bg")
MOST = 127  # prototypes per side and level: pseudo labels are bytes, 0…2K−1, and 255 is void
DTYPES = {"centres": "float32", "members": "int64", "parent": "int32"}  # of the arrays of a side and level
TYPES: dict[str, Any] = {
    **{"fold": int, "encoder": str, "metric": str, "inertia": dict[str, list[float]], "vectors": dict[str, int]},
}


def levels_fault(arrays: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any]) -> str:
    """Return as a phrase why prototypes contradict each other; empty if they do not.

    Parameters
    ----------
    arrays
        ``fg/level1/members`` and so on, of the right types and lengths; centres may be left out.
    attributes
        Attributes of the right types.
    """
    for level in LEVELS:
        counts = [len(arrays[f"{side}/level{level}/members"]) for side in SIDES]
        if counts[0] != counts[1] or not 1 <= counts[0] <= MOST:
            return (
                f"level {level} has {counts[0]} foreground and {counts[1]} background prototypes; expected as many of "
                f"both, from 1 to {MOST}"
            )
    for name, keys in (("inertia", "three numbers"), ("vectors", "a number")):
        if attributes[name].keys() != {*SIDES}:
            return f"attribute '{name}' does not give {keys} for each side"
    for side in SIDES:
        if fault := _side_fault(arrays, side, attributes["vectors"][side]):
            return fault
    if any(len(attributes["inertia"][side]) != len(LEVELS) for side in SIDES):
        return "attribute 'inertia' does not give three numbers for each side"
    if attributes["metric"] not in ("cosine", "euclidean") or attributes["fold"] < 0:
        return "attribute 'metric' or 'fold' is unknown"
    return ""


def _side_fault(arrays: Mapping[str, NDArray[Any]], side: str, vectors: int) -> str:
    """Check that parents exist, and that every centre has the members of those below it."""
    below = np.array([vectors])
    for level in reversed(LEVELS):  # from the coarsest on, whose members are all vectors
        name = f"{side}/level{level}"
        parents, members = arrays[f"{name}/parent"], arrays[f"{name}/members"].astype(np.int64)
        coarsest = level == LEVELS[-1]
        if (coarsest and (parents != -1).any()) or (not coarsest and ((parents < 0) | (parents >= len(below))).any()):
            return f"dataset '{name}/parent' names prototypes that do not exist"
        sums = np.zeros(len(below), np.int64)
        np.add.at(sums, np.zeros(len(members), int) if coarsest else parents, members)
        if (members < 0).any() or (sums != below).any():
            return f"dataset '{name}/members' does not add up to the members of the next coarser level"
        below = members
    return ""
