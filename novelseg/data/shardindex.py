"""From image shards to the arrays of the index: joined in the order of the lists, with the folds of the classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.core.labels import TRAIN
from novelseg.core.progress import say
from novelseg.data.index import Index
from novelseg.formats import hdf5
from novelseg.formats.images import IMAGES


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


def join_shards(images: list[Path]) -> tuple[dict[str, NDArray[Any]], dict[str, list[str]]]:
    """Join what image shards know, in the order of the lists.

    Returns
    -------
    arrays, attributes
        Datasets of the artifact ``index`` without ``fold``, and what the shards say of the whole data set.

    Raises
    ------
    InputError
        If the shards belong to different data sets.
    """
    columns: dict[str, list[NDArray[np.generic]]] = {}
    ids: list[str] = []
    shared: dict[str, list[str]] = {}
    for number, path in enumerate(images):
        with hdf5.opened(path, IMAGES) as file:
            attributes = {name: hdf5.attribute(file, name) for name in ("classes", "source", "lists", "list_digests")}
            if shared and attributes != shared:
                raise InputError(
                    f"{path}: its classes, source or lists differ from those of {images[0]}; rerun `images` for all"
                )
            shared = attributes
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
    return arrays, shared


def describe_folds(data: Index) -> None:
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
