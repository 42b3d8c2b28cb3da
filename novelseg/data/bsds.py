"""Reader of BSDS500: images, each with the label maps that several annotators drew.

Two layouts are read: the official one (``images/SPLIT/ID.jpg``, ``groundTruth/SPLIT/ID.mat``, also below
``BSDS500/data``), and ``SPLIT/images/ID.jpg`` with ``SPLIT/segmentations/ID.npz`` (array ``segmentation``,
annotators × height × width).
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.data.mat import read_mat, readable
from novelseg.data.npy import read_npy
from novelseg.data.pictures import decode, rgb
from novelseg.data.rawfiles import check_regular, read_bytes

SPLITS = ("train", "val", "test")
MOST_ANNOTATORS = 100  # per image; BSDS500 has up to nine


@dataclass(frozen=True)
class Annotation:
    """Paths of one image and of the file with its annotations."""

    name: str
    image: Path
    truth: Path


def find(root: Path, split: str) -> list[Annotation]:
    """List the annotated images of a split, ordered by name.

    Raises
    ------
    InputError
        If the split is unknown or absent, or an image has no annotation file.
    """
    if split not in SPLITS:
        raise InputError(f"split '{split}': expected one of {', '.join(SPLITS)}")
    official = [root, root / "BSDS500/data", root / "BSR/BSDS500/data"]
    candidates = [
        (root / split / "images", root / split / "segmentations", ".npz"),
        *((data / "images" / split, data / "groundTruth" / split, ".mat") for data in official),
    ]
    folders = next((entry for entry in candidates if entry[0].is_dir()), None)
    if folders is None:
        raise InputError(
            f"{root}: no images of the split '{split}'; expected BSDS500 as it is distributed "
            "(images/SPLIT, groundTruth/SPLIT) or SPLIT/images and SPLIT/segmentations"
        )
    images, truths, suffix = folders
    annotations = [
        Annotation(image.stem, image, truths / f"{image.stem}{suffix}") for image in sorted(images.glob("*.jpg"))
    ]
    if not annotations:
        raise InputError(f"{images}: contains no .jpg image; restore the data set")
    for item in annotations:
        if not item.truth.exists():
            raise InputError(f"{item.truth}: no such file, although {item.image.name} exists; restore the data set")
    return annotations


def read(item: Annotation) -> tuple[NDArray[np.uint8], list[NDArray[np.int64]]]:
    """Read an image and its annotations.

    Returns
    -------
    image : (H, W, 3) uint8
        RGB.
    truths : list of (H, W) int64
        One label map per annotator, each numbered 0…R−1 without gaps.

    Raises
    ------
    InputError
        If a file cannot be read, or the annotations are not label maps of the image's size.
    """
    image = read_image(item)
    with readable(item.truth):
        if item.truth.suffix == ".mat":
            cells = read_mat(item.truth, "groundTruth").cells()
            maps = [cell.field("Segmentation").numbers() for cell in cells]
        else:
            maps = list(_npz_maps(item.truth, image.shape[:2]))
    wrong = [part for part in maps if part.dtype.kind not in "iu" or part.shape != image.shape[:2]]
    if wrong or not maps:
        content = f"{wrong[0].dtype} of shape {wrong[0].shape}" if wrong else "no annotation"
        raise InputError(
            f"{item.truth}: contains {content}; expected integers of shape {image.shape[:2]}; restore the file"
        )
    return image, [np.unique(part, return_inverse=True)[1].reshape(part.shape).astype(np.int64) for part in maps]


def _npz_maps(path: Path, size: tuple[int, ...]) -> NDArray[Any]:
    """Read the array ``segmentation``, (annotators, H, W)."""

    def check(dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        if dtype.kind not in "iu" or shape[1:] != size or shape[0] > MOST_ANNOTATORS:
            raise InputError(
                f"{path}: contains {dtype} of shape {shape}; expected integers of shape (annotators, {size[0]}, "
                f"{size[1]}), with at most {MOST_ANNOTATORS} annotators; restore the file"
            )

    check_regular(path, "restore the file")
    with zipfile.ZipFile(path) as archive, archive.open("segmentation.npy") as file:
        return read_npy(file, check)


def read_image(item: Annotation) -> NDArray[np.uint8]:
    """Read an image as RGB, (H, W, 3)."""
    try:
        data = read_bytes(item.image, "restore the file")
    except FileNotFoundError:
        raise InputError(f"{item.image}: no such file; restore the data set") from None
    return rgb(decode(data, str(item.image), "restore the file"))
