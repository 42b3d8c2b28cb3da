"""Reader of region corpora, one shard at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.formats import hdf5
from novelseg.formats.features import FEATURES
from novelseg.methods.spfl.clustering import Corpus

NAMES = {"bg": "background-region", "fg": "foreground-object"}  # names of the corpora in messages


def read_corpus(paths: list[Path], side: str, fold: int) -> tuple[Corpus, str]:
    """Open the corpus of one side, whose vectors are read when needed.

    Parameters
    ----------
    paths
        Feature artifacts, one per shard.
    side
        ``fg`` for the objects, ``bg`` for the background regions.
    fold
        Fold with whose encoder the features must have been computed.

    Returns
    -------
    corpus
        The corpus, with one block per shard.
    encoder
        Digest of the encoder that computed the features.

    Raises
    ------
    InputError
        If a shard belongs to another fold, or shards belong to different encoders.
    """
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
