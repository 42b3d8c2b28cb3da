"""Cluster the region corpora of a fold into three levels of prototypes, foreground and background (A, Eq. 2).

Reads
    ``features`` (all shards of the fold).
Writes
    ``prototypes`` (HDF5): the centres, members, parents and inertia of each level and side.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from numpy.typing import NDArray

from novelseg.core.options import Help
from novelseg.core.random import key_to_seed
from novelseg.formats import hdf5
from novelseg.formats.levels import SIDES
from novelseg.formats.prototypes import PROTOTYPES
from novelseg.methods.spfl.clustering import three_levels
from novelseg.methods.spfl.shards import read_corpus
from stages.options import Fold, Out
from stages.params.prototypes import Params


def run(
    *,
    features: Annotated[list[Path], Help("all feature shards of the fold")],
    out: Out,
    fold: Fold,
    params: Params,
) -> None:
    """Cluster R_fg and R_bg separately, with one shard's vectors and the sample in memory at a time."""
    arrays: dict[str, NDArray[Any]] = {}
    inertia: dict[str, list[float]] = {}
    sizes: dict[str, int] = {}
    encoder = ""
    for side in SIDES:
        corpus, encoder = read_corpus(features, side, fold)
        sizes[side] = corpus.count
        levels = three_levels(
            corpus,
            params.clusters,
            metric=params.metric,
            restarts=params.restarts,
            iterations=params.iterations,
            seed=key_to_seed(params.seed, side),
            most=params.max_vectors,
        )
        inertia[side] = [level.inertia for level in levels]
        for number, level in enumerate(levels, 1):
            for name in ("centres", "members", "parent"):
                arrays[f"{side}/level{number}/{name}"] = getattr(level, name)
    attrs = {"fold": fold, "encoder": encoder, "metric": params.metric, "inertia": inertia, "vectors": sizes}
    hdf5.write(out, PROTOTYPES, arrays, attrs)
