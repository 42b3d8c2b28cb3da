"""Prototypes as they are read from an artifact; who only reads them needs no faiss."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from novelseg.core.errors import InputError
from novelseg.formats import hdf5
from novelseg.formats.prototypes import LEVELS, PROTOTYPES


def read_prototypes(path: Path, fold: int, encoder: str, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Foreground and background centres of each level."""
    with hdf5.opened(path, PROTOTYPES) as file:
        hdf5.require(path, file, "fold", fold)
        if hdf5.attribute(file, "encoder") != encoder:
            raise InputError(f"{path}: made with another encoder than the one given; rerun `features` and `prototypes`")
        return [
            (
                torch.from_numpy(file[f"fg/level{level}/centres"][:]).to(device),
                torch.from_numpy(file[f"bg/level{level}/centres"][:]).to(device),
            )
            for level in LEVELS
        ]
