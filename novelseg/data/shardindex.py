"""Construction of the index: image shards joined in the order of the lists, and the folds of the classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.core.labels import TRAIN, VAL
from novelseg.core.progress import say
from novelseg.data.index import Index
from novelseg.formats import hdf5
from novelseg.formats.images import IMAGES, list_digest
from novelseg.formats.shards import in_order


def class_folds(classes: int, folds: int, layout: str) -> NDArray[np.int32]:
    """Return the fold in which each class is novel, (C,).

    Raises
    ------
    InputError
        If the number of classes is not a multiple of the number of folds.
    """
    if classes % folds:
        raise InputError(
            f"index.folds is {folds}, but {classes} classes do not divide evenly into {folds} folds; "
            f"choose a divisor of {classes}"
        )
    numbers = np.arange(classes, dtype=np.int32)
    return numbers // np.int32(classes // folds) if layout == "contiguous" else numbers % np.int32(folds)


def join_shards(images: list[Path]) -> tuple[dict[str, NDArray[Any]], dict[str, list[str]]]:
    """Join the contents of image shards, in the order of the lists; the order of the paths does not matter.

    Returns
    -------
    arrays, attributes
        Datasets of the artifact ``index`` without ``fold``, and the attributes that all shards share.

    Raises
    ------
    InputError
        If the shards belong to different data sets, or are not all shards of one, each once.
    """
    columns: dict[str, list[NDArray[np.generic]]] = {}
    ids: list[str] = []
    shared: dict[str, list[str]] = {}
    images = in_order(images, IMAGES)
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
    order = np.argsort(position := joined.pop("position"), kind="stable")
    arrays = {name: array[order] for name, array in joined.items()}
    arrays["id"] = np.array(ids, object)[order]
    _require_lists(images, position[order], arrays["id"], arrays["split"], shared)
    return arrays, shared


def _require_lists(
    images: list[Path],
    positions: NDArray[Any],
    ids: NDArray[Any],
    split: NDArray[Any],
    shared: dict[str, list[str]],
) -> None:
    """Check that the images are those of the lists whose digests the shards hold, all of them."""
    where = f"{images[0].parent}: {len(images)} shards with {len(ids)} images"
    gaps = np.flatnonzero(positions != np.arange(len(positions)))
    if gaps.size:
        raise InputError(
            f"{where}, but the image at position {gaps[0]} of the lists is in none of them or in two; give all shards, "
            "each once"
        )
    for number, name, md5 in zip((TRAIN, VAL), shared["lists"], shared["list_digests"], strict=True):
        if list_digest(ids[split == number].tolist()) != md5:
            raise InputError(
                f"{where}: those of the list '{name}' are not the images that it had when the shards were made; give "
                "all shards, or rerun `images` for all"
            )


def describe_folds(data: Index) -> None:
    """Print the number of training images of each fold, and how many of them also contain novel classes."""
    for fold in range(data.folds):
        if fold == data.held_out:
            say(f"fold {fold}: held out")
            continue
        rules = (replace(data, novel_images=rule) for rule in ("keep", "drop"))
        with_novel, without_novel = (len(variant.training_images(fold)) for variant in rules)
        names = ", ".join(data.classes[label - 1] for label in data.novel(fold))
        say(
            f"fold {fold}: {with_novel} of {(data.split == TRAIN).sum()} training images contain base classes, "
            f"{with_novel - without_novel} of them also novel ones (novel_images: {data.novel_images}); novel: {names}"
        )
