"""SBD (Semantic Boundaries Dataset): class masks of 11,355 VOC images, as MATLAB files, without void borders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from novelseg.core.errors import InputError
from novelseg.data.mat import readable
from novelseg.data.pairs import read_ids

PLACES = ("", "dataset", "benchmark_RELEASE/dataset")  # as fetched, and as the archive has it


def home_of(root: Path) -> Path:
    """Folder that holds ``cls`` and the lists.

    Raises
    ------
    InputError
        If the folder is not SBD's.
    """
    for place in PLACES:
        if (root / place / "cls").is_dir():
            return root / place
    raise InputError(f"{root}: holds no folder cls; set images.sbd to SBD's folder (cls, train.txt, val.txt)")


def listed(root: Path) -> set[str]:
    """Ids of both of its lists.

    Raises
    ------
    InputError
        If the folder is not SBD's, or a list is missing.
    """
    home = home_of(root)
    found: set[str] = set()
    for name in ("train", "val"):
        path = home / f"{name}.txt"
        try:
            found |= set(read_ids(path))
        except FileNotFoundError:
            raise InputError(f"{path}: no such list; restore SBD") from None
    return found


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Class mask of an image, (H, W), 0 background.

    Raises
    ------
    InputError
        If the file is missing or cannot be read, or holds no map of labels 0…255.
    """
    with readable(path), path.open("rb") as file:
        labels = np.asarray(loadmat(file)["GTcls"]["Segmentation"].item())
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or labels.min(initial=0) < 0 or labels.max(initial=0) > 255:
        raise InputError(f"{path}: holds {labels.dtype} of shape {labels.shape}; expected one class number a pixel")
    return labels.astype(np.uint8)
