"""Recognition of the architecture of a weight file by the names and shapes of its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from novelseg.backbones.designs import VITS
from novelseg.backbones.resnet import BLOCKS
from novelseg.backbones.vit import vit_of
from novelseg.backbones.weights import plain_names, read_state
from novelseg.core.errors import InputError
from novelseg.formats.record import BackboneSpec

BASIC = ("resnet18", "resnet34")  # their blocks have two convolutions, those of the others three
STEMS = ("torchvision", "msra", "deep")


def recognise(path: Path, stem: str = "") -> BackboneSpec:
    """Return the settings of the backbone whose weights a file holds.

    Parameters
    ----------
    path
        Weight file of any layout that :func:`novelseg.backbones.weights.read_state` reads.
    stem
        ``torchvision``, ``msra`` or ``deep``. By default, ``deep`` is recognised by its weights; the other two have
        weights of equal names and shapes, and a file counts as ``msra`` if its name says so.

    Raises
    ------
    InputError
        If the file cannot be read or its architecture is unknown.
    """
    state = plain_names(read_state(path))
    if vit := vit_of(state):
        return BackboneSpec(vit)
    conv = state.get("conv1.weight")
    blocks = tuple(_count(state, f"layer{number}") for number in (1, 2, 3))
    basic = "layer1.0.conv3.weight" not in state
    arch = next((name for name, counts in BLOCKS.items() if counts[:3] == blocks and (name in BASIC) == basic), None)
    if arch is None or conv is None or conv.ndim != 4:
        names = ", ".join(list(state)[:3])
        raise InputError(
            f"{path}: weights of an unknown architecture (the first are {names}); expected a ResNet with the names of "
            f"torchvision ({', '.join(BLOCKS)}), or an official file of {', '.join(VITS)}"
        )
    own = "deep" if "conv2.weight" in state else "msra" if "msra" in path.name else "torchvision"
    return BackboneSpec(arch, stem or own, conv.shape[0])


def _count(state: Mapping[str, Tensor], layer: str) -> int:
    """Return the number of blocks of a layer."""
    pattern = re.compile(rf"{layer}\.(\d+)\.conv1\.weight")
    return sum(bool(pattern.fullmatch(name)) for name in state)
