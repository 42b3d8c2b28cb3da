"""Features of pictures, each computed once and kept in a folder, for benchmarks that are run again and again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.untrained import Pictures
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.core.files import whole_file
from novelseg.methods.bank import SupportBank


class Features:
    """Features of pictures, each computed once and kept in a folder.

    Parameters
    ----------
    pictures
        The pictures.
    extract
        The encoder.
    folder
        One file per picture; files that are there already are used, so that each encoder needs a folder of its own.
    """

    def __init__(self, pictures: Pictures, extract: FeatureExtractor, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._pictures, self._extract, self._folder = pictures, extract, folder

    def of(self, number: int) -> Tensor:
        """Return the features of a picture, (C, h, w)."""
        image = self._pictures.image
        return self.remember(f"{self._pictures.ids[number]}", lambda: self._extract([image(number)])[0].cpu())

    def remember(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """Return what a file of the folder holds, and compute it first if there is no such file."""
        path = self._folder / f"{name}.npy"
        if not path.exists():
            with whole_file(path) as scratch, scratch.open("wb") as file:
                np.save(file, compute().numpy())
        return torch.from_numpy(np.load(path))

    def unit(self, number: int) -> Tensor:
        """Return the features of a picture, (C, h, w), of unit length."""
        return F.normalize(self.of(number), dim=0)


class FolderBank(SupportBank):
    """Bank that takes features and regions from a folder, and evicts none of them.

    Parameters
    ----------
    pictures
        The pictures.
    extract
        The encoder, on the CPU.
    folder
        See :class:`Features`.
    """

    def __init__(self, pictures: Pictures, extract: FeatureExtractor, folder: Path) -> None:
        super().__init__(extract, pictures.size, pictures.image, pictures.mask, budget_mb=1)
        self._ids, self._stored = pictures.ids, Features(pictures, extract, folder)

    def load(self, images: set[int], label: str = "") -> None:  # noqa: ARG002 - the signature of all banks
        """Load the features of these images, and keep those of all others."""
        for image in sorted(images - self._features.keys()):
            self._features[image] = self._stored.of(image)

    def regions(self, image: int, tau: float) -> Tensor:
        """Return the region of each cell, as :meth:`SupportBank.regions` does."""
        return self._stored.remember(
            f"{self._ids[image]}-regions-{tau}", lambda: super(FolderBank, self).regions(image, tau)
        )
