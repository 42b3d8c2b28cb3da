"""Reader of BSDS500: images, and for each the label maps that several people drew.

Two layouts: the official one (``images/SPLIT/ID.jpg``, ``groundTruth/SPLIT/ID.mat``, also below ``BSDS500/data``), and
``SPLIT/images/ID.jpg`` with ``SPLIT/segmentations/ID.npz`` (array ``segmentation``, annotators × height × width).
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from stages.core.errors import InputError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Drawn:
    """Paths of one image and of its annotations."""

    name: str
    image: Path
    truth: Path


def find(root: Path, splits: list[str]) -> list[Drawn]:
    """All images of some splits, by name within each.

    Raises
    ------
    InputError
        If a split is unknown or absent, or an image has no annotations.
    """
    found: list[Drawn] = []
    for split in splits:
        if split not in SPLITS:
            raise InputError(f"split '{split}': expected {', '.join(SPLITS)}, joined by commas")
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
        for image in sorted(images.glob("*.jpg")):
            truth = truths / f"{image.stem}{suffix}"
            if not truth.exists():
                raise InputError(f"{truth}: no such file, though {image.name} is there; restore the data set")
            found.append(Drawn(image.stem, image, truth))
        if not found:
            raise InputError(f"{images}: holds no .jpg image; restore the data set")
    return found


def read_image(item: Drawn) -> NDArray[np.uint8]:
    """(H, W, 3) RGB."""
    try:
        with Image.open(item.image) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise InputError(f"{item.image}: does not decode ({error}); restore the file") from None


def read_truths(item: Drawn) -> list[NDArray[np.int64]]:
    """Label maps (H, W), one an annotator, each numbered 0…R−1 without gaps."""
    try:
        if item.truth.suffix == ".mat":
            cells = loadmat(item.truth)["groundTruth"].reshape(-1)
            maps = [np.asarray(cell["Segmentation"][0, 0]) for cell in cells]
        else:
            with np.load(item.truth) as file:
                maps = list(file["segmentation"])
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile, MatReadError) as error:
        raise InputError(f"{item.truth}: not a readable annotation file ({error}); restore the file") from None
    return [np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int64) for labels in maps]
