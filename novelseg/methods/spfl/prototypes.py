"""Reading of prototypes from an artifact, in a module of its own, so that reading does not load faiss."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from novelseg.core.errors import InputError
from novelseg.formats import hdf5
from novelseg.formats.prototypes import LEVELS, PROTOTYPES


def read_prototypes(
    path: Path, fold: int, encoder: str, channels: int, device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """Read the foreground and background centres of each level.

    Parameters
    ----------
    path
        The artifact.
    fold
        Fold that they must belong to.
    encoder, channels
        Digest of the encoder that they must have been computed with, and number of its channels.
    device
        Device of the centres.

    Raises
    ------
    InputError
        If they belong to another fold, or were computed with another encoder.
    """
    with hdf5.opened(path, PROTOTYPES) as file:
        hdf5.require(path, file, "fold", fold)
        if hdf5.attribute(file, "encoder") != encoder:
            raise InputError(
                f"{path}: computed with another encoder than the one given; rerun `features` and `prototypes`"
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
