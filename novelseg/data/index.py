"""The index in memory: the classes of each image, and the base and novel classes of each fold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.core.labels import TRAIN, VAL, VOID
from novelseg.formats import hdf5
from novelseg.formats.index import INDEX

ATTRIBUTES = (
    "classes",
    "source",
    "lists",
    "list_digests",
    "folds",
    "layout",
    "min_object_pixels",
    "novel_images",
    "held_out",
)


@dataclass(frozen=True)
class Index:
    """Description of a data set without its pixels; arrays have one row per image, N in all, unless noted."""

    ids: list[str]
    split: NDArray[np.uint8]
    shard: NDArray[np.int32]
    row: NDArray[np.int32]
    height: NDArray[np.int32]
    width: NDArray[np.int32]
    pixels: NDArray[np.int64]  # (N, C + 1)
    class_fold: NDArray[np.int32]  # (C,)
    classes: list[str]
    source: str
    lists: list[str]
    list_digests: list[str]
    folds: int
    layout: str
    min_object_pixels: int
    novel_images: str
    held_out: int

    def novel(self, fold: int) -> NDArray[np.int64]:
        """Return the novel classes of a fold, as labels 1…C.

        Raises
        ------
        InputError
            If the fold does not exist or is held out.
        """
        if not 0 <= fold < self.folds:
            raise InputError(
                f"fold {fold} does not exist; this data set has folds 0…{self.folds - 1} (plan.folds, index.folds)"
            )
        if fold == self.held_out:
            raise InputError(
                f"fold {fold} is held out (index.held_out); remove it from plan.folds, or hold out another"
            )
        return np.flatnonzero(self.class_fold == fold) + 1

    def base(self, fold: int) -> NDArray[np.int64]:
        """Return the base classes of a fold, as labels 1…C."""
        return np.setdiff1d(np.arange(1, len(self.classes) + 1), self.unknown(fold))

    def unknown(self, fold: int) -> NDArray[np.int64]:
        """Return the classes hidden from training: the novel classes, and those of the held-out fold."""
        return np.union1d(self.novel(fold), np.flatnonzero(self.class_fold == self.held_out) + 1)

    def training_images(self, fold: int) -> NDArray[np.int64]:
        """Return the training images with a base class and, under ``novel_images: drop``, without a hidden class."""
        base = self.pixels[:, self.base(fold)].any(axis=1)
        unknown = self.pixels[:, self.unknown(fold)].any(axis=1)
        selected = (self.split == TRAIN) & base & ~(unknown & (self.novel_images == "drop"))
        return np.flatnonzero(selected)

    def names(self, labels: NDArray[np.int64]) -> list[str]:
        """Return the names of classes."""
        return [self.classes[label - 1] for label in labels]

    def base_names(self, fold: int) -> list[str]:
        """Return the names of the base classes of a fold, as stored in the records of trained networks."""
        return self.names(self.base(fold))

    def size(self, image: int) -> tuple[int, int]:
        """Return the height and width of an image, px."""
        return int(self.height[image]), int(self.width[image])

    def validation_images(self) -> NDArray[np.int64]:
        """Return the images of the validation list."""
        return np.flatnonzero(self.split == VAL)

    def holds(self, images: NDArray[np.int64], label: int) -> NDArray[np.int64]:
        """Return those of ``images`` that contain at least ``min_object_pixels`` of a class."""
        matching: NDArray[np.int64] = images[self.pixels[images, label] >= self.min_object_pixels]
        return matching

    def base_labels(self, mask: NDArray[np.uint8], fold: int) -> NDArray[np.uint8]:
        """Reduce a mask to the base labels of a fold and 255; all other labels become background (0)."""
        table = np.zeros(256, np.uint8)
        known = np.append(self.base(fold), VOID)
        table[known] = known
        return table[mask]


def read_index(path: Path) -> Index:
    """Read an index artifact."""
    with hdf5.opened(path, INDEX) as file:
        return Index(
            ids=hdf5.texts(file, "id"),
            **{name: file[name][:] for name in ("split", "shard", "row", "height", "width", "pixels")},
            class_fold=file["fold"][:],
            **{name: hdf5.attribute(file, name) for name in ATTRIBUTES},
        )
