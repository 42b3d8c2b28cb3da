"""Join the image shards into the index of the data set, and assign the classes to folds.

Reads
    ``images`` (all shards).
Writes
    ``index`` (HDF5): the id, shard, row, size and pixel counts of every image, in the order of the lists; the fold of
    every class.
"""

from __future__ import annotations

from novelseg.core.errors import InputError
from novelseg.data.index import read_index
from novelseg.data.shardindex import class_folds, describe_folds, join_shards
from novelseg.formats import hdf5
from novelseg.formats.index import INDEX
from stages.options import ImageShards, Out
from stages.params.index import Params


def run(*, images: ImageShards, out: Out, params: Params) -> None:
    """Join the shards' tables in the order of the lists."""
    if params.held_out >= params.folds:
        raise InputError(f"index.held_out is {params.held_out}; expected one of folds 0…{params.folds - 1}, or −1")
    arrays, shared = join_shards(images)
    arrays["fold"] = class_folds(len(shared["classes"]), params.folds, params.layout)
    hdf5.write(out, INDEX, arrays, {**shared, **params.model_dump()})
    describe_folds(read_index(out))
