"""Reader of region corpora, one shard at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.formats import hdf5
from novelseg.formats.features import FEATURES
from novelseg.formats.shards import in_order
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

    The order of the paths does not matter: the vectors are in the order of the shards' numbers.

    Raises
    ------
    InputError
        If a shard is missing, given twice or of another fold, or shards belong to different encoders.
    """
    count, encoders, channels = 0, set(), set()
    paths = in_order(paths, FEATURES)
    for path in paths:
        with hdf5.opened(path, FEATURES) as file:
            hdf5.require(path, file, "fold", fold)
            count += len(file[f"{side}/vectors"])
            channels.add(file[f"{side}/vectors"].shape[1])
            encoders.add(hdf5.attribute(file, "encoder"))
    if len(encoders) > 1 or len(channels) > 1:
        different = max(len(encoders), len(channels))
        raise InputError(f"{paths[0].parent}: its shards come from {different} different encoders; rerun `features`")

    def blocks() -> Iterator[NDArray[np.float32]]:
        for path in paths:
            with hdf5.opened(path, FEATURES, checked=True) as file:
                vectors = file[f"{side}/vectors"][:]
                if not np.isfinite(vectors).all():
                    raise file.wrong(f"dataset '{side}/vectors' has values that are not finite")
                yield vectors

    return Corpus(NAMES[side], count, blocks), encoders.pop()
