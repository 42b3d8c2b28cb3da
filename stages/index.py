"""Image shards → the index of the whole data set, and the folds.

Reads
    ``images`` (all shards).
Writes
    ``index`` (HDF5): id, place, size and pixel counts of every image, in the order of the lists; the fold of every
    class.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.core.labels import TRAIN
from novelseg.core.progress import say
from novelseg.data.index import Index, read_index
from novelseg.formats import hdf5
from novelseg.formats.images import IMAGES
from novelseg.formats.index import INDEX
from stages.options import ImageShards, Out
from stages.params.index import Params


def class_folds(classes: int, folds: int, layout: str) -> NDArray[np.int32]:
    """Fold in which each class is novel, (C,).

    Raises
    ------
    InputError
        If the classes do not divide evenly.
    """
    if classes % folds:
        raise InputError(
            f"index.folds is {folds}, but {classes} classes do not divide into it evenly; choose a divisor"
        )
    numbers = np.arange(classes, dtype=np.int32)
    return numbers // np.int32(classes // folds) if layout == "contiguous" else numbers % np.int32(folds)


def run(*, images: ImageShards, out: Out, params: Params) -> None:
    """Concatenate what the shards know, in the order of the lists."""
    if params.held_out >= params.folds:
        raise InputError(f"index.held_out is {params.held_out}; expected one of folds 0…{params.folds - 1}, or −1")
    columns: dict[str, list[NDArray[np.generic]]] = {}
    ids: list[str] = []
    shared: dict[str, list[str]] = {}
    for number, path in enumerate(images):
        with hdf5.opened(path, IMAGES) as file:
            found = {name: hdf5.attribute(file, name) for name in ("classes", "source", "lists", "list_digests")}
            if shared and found != shared:
                raise InputError(
                    f"{path}: its classes, source or lists differ from those of {images[0]}; rerun `images` for all"
                )
            shared = found
            ids += hdf5.texts(file, "id")
            count = len(file["split"])
            columns.setdefault("shard", []).append(np.full(count, number, np.int32))
            columns.setdefault("row", []).append(np.arange(count, dtype=np.int32))
            for name in ("position", "split", "height", "width", "pixels", "void"):
                columns.setdefault(name, []).append(file[name][:])
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    order = np.argsort(joined.pop("position"), kind="stable")
    arrays = {name: array[order] for name, array in joined.items()}
    arrays["id"] = np.array(ids, object)[order]
    arrays["fold"] = class_folds(len(shared["classes"]), params.folds, params.layout)
    hdf5.write(out, INDEX, arrays, {**shared, **params.model_dump()})
    _tell(read_index(out))


def _tell(data: Index) -> None:
    """Say what each fold trains on, and what either rule for images with novel objects does to it."""
    for fold in range(data.folds):
        if fold == data.held_out:
            say(f"fold {fold}: held out")
            continue
        kept, dropped = (len(replace(data, novel_images=rule).training_images(fold)) for rule in ("keep", "drop"))
        names = ", ".join(data.classes[label - 1] for label in data.novel(fold))
        say(
            f"fold {fold}: {kept} of {(data.split == TRAIN).sum()} training images hold base classes, {kept - dropped} "
            f"of them novel ones too ({data.novel_images}); novel: {names}"
        )
