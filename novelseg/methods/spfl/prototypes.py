"""Reader of prototype artifacts, separate from the clustering so that reading does not import faiss."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from novelseg.core.errors import InputError
from novelseg.formats import hdf5
from novelseg.formats.levels import LEVELS
from novelseg.formats.prototypes import PROTOTYPES


def read_prototypes(
    path: Path, fold: int, encoder: str, channels: int, device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """Read the foreground and background prototypes of each level.

    Parameters
    ----------
    path
        Prototype artifact.
    fold
        Fold that the prototypes must belong to.
    encoder, channels
        Digest of the encoder with which they must have been computed, and the number of its channels.
    device
        Device of the result.

    Returns
    -------
    list of tuple
        Foreground and background prototypes of each level, (K, C) float32 each, from fine to coarse.

    Raises
    ------
    InputError
        If the prototypes belong to another fold, or were computed with another encoder.
    """
    with hdf5.opened(path, PROTOTYPES) as file:
        hdf5.require(path, file, "fold", fold)
        if hdf5.attribute(file, "encoder") != encoder:
            raise InputError(
                f"{path}: computed with an encoder that is not the given one; rerun `features` and `prototypes`"
            )
        size = file["fg/level1/centres"].shape[1]
        if size != channels:
            raise file.wrong(f"its prototypes have {size} channels, the features {channels}")
        return [
            (
                torch.from_numpy(file[f"fg/level{level}/centres"][:]).to(device),
                torch.from_numpy(file[f"bg/level{level}/centres"][:]).to(device),
            )
            for level in LEVELS
        ]
