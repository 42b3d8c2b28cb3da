"""Region corpora → three levels of prototypes of a fold, foreground and background (A5, Eq. 2).

Reads
    ``features`` (all shards of the fold).
Writes
    ``prototypes`` (HDF5): centres, members, parents and inertia of each level and side.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.core.options import Help
from novelseg.core.random import key_to_seed
from novelseg.formats import hdf5
from novelseg.formats.features import FEATURES
from novelseg.formats.prototypes import PROTOTYPES, SIDES
from novelseg.methods.spfl.clustering import Corpus, three_levels
from stages.options import Fold, Out
from stages.params.prototypes import Params

NAMES = {"bg": "background-region", "fg": "foreground-object"}


def _corpus(paths: list[Path], side: str, fold: int) -> tuple[Corpus, str]:
    """The vectors of a side, a shard at a time, and the digest of the encoder that made them."""
    count, encoders = 0, set()
    for path in paths:
        with hdf5.opened(path, FEATURES) as file:
            hdf5.require(path, file, "fold", fold)
            count += len(file[f"{side}/vectors"])
            encoders.add(hdf5.attribute(file, "encoder"))
    if len(encoders) > 1:
        raise InputError(
            f"{paths[0].parent}: its shards come from {len(encoders)} different encoders; rerun `features`"
        )

    def blocks() -> Iterator[NDArray[np.float32]]:
        for path in paths:
            with hdf5.opened(path, FEATURES) as file:
                yield file[f"{side}/vectors"][:]

    return Corpus(NAMES[side], count, blocks), encoders.pop()


def run(
    *,
    features: Annotated[list[Path], Help("shards of the fold's features, all of them")],
    out: Out,
    fold: Fold,
    params: Params,
) -> None:
    """Cluster R_fg and R_bg separately; one shard's vectors and the sample are in memory at a time."""
    arrays: dict[str, NDArray[Any]] = {}
    inertia: dict[str, list[float]] = {}
    sizes: dict[str, int] = {}
    encoder = ""
    for side in SIDES:
        corpus, encoder = _corpus(features, side, fold)
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
