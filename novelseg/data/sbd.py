"""Reader of SBD (Semantic Boundaries Dataset): class masks of 11,355 VOC images in MATLAB files.

The masks have no void borders.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.data.mat import read_mat, readable
from novelseg.data.pairs import read_ids

SUBFOLDERS = ("", "dataset", "benchmark_RELEASE/dataset")  # as fetched, and as in the archive


def home_of(root: Path) -> Path:
    """Return the folder that contains ``cls`` and the lists.

    Raises
    ------
    InputError
        If the folder is not that of SBD.
    """
    for subfolder in SUBFOLDERS:
        if (root / subfolder / "cls").is_dir():
            return root / subfolder
    raise InputError(f"{root}: contains no folder cls; set images.sbd to the folder of SBD (cls, train.txt, val.txt)")


def listed_ids(root: Path) -> set[str]:
    """Read the ids of SBD's two lists.

    Raises
    ------
    InputError
        If the folder is not that of SBD, or a list is missing.
    """
    home = home_of(root)
    ids: set[str] = set()
    for name in ("train", "val"):
        path = home / f"{name}.txt"
        try:
            ids |= set(read_ids(path))
        except FileNotFoundError:
            raise InputError(f"{path}: no such list; restore it, or download SBD again with `novelseg fetch`") from None
    return ids


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Read the class mask of an image, (H, W), 0 background.

    Raises
    ------
    InputError
        If the file is missing, cannot be read, or does not contain a map of labels 0…255.
    """
    with readable(path):
        labels = read_mat(path, "GTcls").field("Segmentation").numbers()
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or ((labels < 0) | (labels > 255)).any():
        raise InputError(
            f"{path}: contains {labels.dtype} of shape {labels.shape}; expected one class number per pixel"
        )
    return labels.astype(np.uint8)
