"""What every format writes and reads: a picture with the masks of its instances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.core.labels import VOID
from novelseg.data.pictures import MOST_PIXELS

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Instance:
    """An object, or all pixels of a class: its label and its mask within its bounding box.

    Attributes
    ----------
    label
        Number of the class, 1 … K; 255 marks pixels that are neither object nor background.
    left, top
        First column and row of the box, px.
    mask : (h, w) bool
        The pixels in the box. The first and last row and column contain at least one each.
    score
        How certain it is, 0 to 1; None if unknown.
    """

    label: int
    left: int
    top: int
    mask: Mask
    score: float | None = None

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, width and height, px."""
        height, width = self.mask.shape
        return self.left, self.top, width, height

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.mask))


@dataclass(frozen=True)
class LabelledPicture:
    """A picture and its instances, upright as viewers show it.

    Attributes
    ----------
    name
        Path below the folder of the pictures, with ``/`` between folders.
    width, height
        Size of the upright picture, px.
    instances
        Its objects. Where two overlap, the smaller one is in front.
    score
        How certain the result is as a whole, 0 to 1; None if unknown.
    path
        The file; None if it is not known.
    """

    name: str
    width: int
    height: int
    instances: Sequence[Instance] = field(default=())
    score: float | None = None
    path: Path | None = None

    @property
    def stem(self) -> str:
        """Name without the ending of the file."""
        return PurePosixPath(self.name).with_suffix("").as_posix()


def instance_of(mask: Mask, label: int, score: float | None = None) -> Instance | None:
    """Cut a mask of a whole picture, (H, W), to its bounding box; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return None
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    return Instance(label, int(left), int(top), mask[top:bottom, left:right].copy(), score)


def class_instances(labels: NDArray[np.uint8], scores: Sequence[float | None] = ()) -> list[Instance]:
    """Return one instance per class of an index mask.

    Parameters
    ----------
    labels : (H, W)
        Classes 1 … K, 0 background, 255 void.
    scores
        Scores of the classes 1 … K; empty if they are unknown.
    """
    known = dict(enumerate(scores, 1))
    numbers = [number for number in np.flatnonzero(np.bincount(labels.reshape(-1))).tolist() if number]
    instances = [instance_of(labels == number, number, known.get(number)) for number in numbers]
    return [instance for instance in instances if instance is not None]


def paint(picture: LabelledPicture, values: Iterable[int] | None = None) -> NDArray[np.int32]:
    """Paint the instances of a picture, (H, W), from large to small; void pixels lie behind all objects.

    Parameters
    ----------
    picture
        The picture.
    values
        What is painted for each instance; by default, its label.
    """
    canvas = np.zeros((picture.height, picture.width), np.int32)
    painted = [one.label for one in picture.instances] if values is None else list(values)
    order = sorted(
        zip(picture.instances, painted, strict=True), key=lambda pair: (pair[0].label != VOID, -pair[0].area)
    )
    for instance, value in order:
        left, top, width, height = instance.box
        canvas[top : top + height, left : left + width][instance.mask] = value
    return canvas


def index_mask(picture: LabelledPicture) -> NDArray[np.uint8]:
    """Return the classes of a picture's pixels, (H, W): 1 … K, 0 background, 255 void."""
    return paint(picture).astype(np.uint8)


def full_mask(picture: LabelledPicture, instance: Instance) -> Mask:
    """Return the mask of one instance on the whole picture, (H, W)."""
    mask = np.zeros((picture.height, picture.width), bool)
    left, top, width, height = instance.box
    mask[top : top + height, left : left + width] = instance.mask
    return mask


def check_size(width: object, height: object, where: str) -> tuple[int, int]:
    """Check the size of a picture as stated in a file, before a mask of that size is made.

    Raises
    ------
    InputError
        If it is not a pair of whole numbers from 1, or has too many pixels.
    """
    if type(width) is not int or type(height) is not int or width < 1 or height < 1:
        raise InputError(f"{where}: its size is {width!r:.40}×{height!r:.40}; expected whole numbers of at least 1 px")
    if width * height > MOST_PIXELS:
        raise InputError(f"{where}: has {width}×{height} px; expected at most {MOST_PIXELS / 1e6:g} million px")
    return width, height
