"""Strict loading of pretrained weights from all common file layouts (A1)."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from novelseg.core.errors import InputError

# Exceptions raised for damaged or foreign files; torch's restricted unpickler raises others beside its own.
UNREADABLE = (
    SafetensorError,
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    IndexError,
    EOFError,
    pickle.UnpicklingError,
)
# Ignored: the layers that the encoder cuts off. Optional: counters that frozen BatchNorm never reads.
IGNORED = re.compile(r"^(layer4\.|fc\.)")
OPTIONAL = re.compile(r"num_batches_tracked$")
# A deep stem written as one Sequential: conv, norm, relu, conv, norm, relu, conv, followed by bn1.
SEQUENTIAL_STEM = {
    "conv1.0": "conv1",
    "conv1.1": "bn1",
    "conv1.3": "conv2",
    "conv1.4": "bn2",
    "conv1.6": "conv3",
    "bn1": "bn3",
}


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict from ``.safetensors``, ``.npz``, ``.pth`` or ``.pt``; nothing in it is executed.

    Raises
    ------
    InputError
        If the file does not exist, is damaged or has another suffix.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: torch.from_numpy(file[name].astype(np.float32)) for name in file.files}
        if path.suffix in (".pth", ".pt"):
            state = torch.load(path, map_location="cpu", weights_only=True)
            return dict(state.get("state_dict", state))
    except FileNotFoundError:
        raise InputError(f"{path}: no such weight file; set encoder.weights in params.yaml") from None
    except UNREADABLE as error:
        raise InputError(f"{path}: not a readable weight file ({type(error).__name__}); fetch it again") from None
    raise InputError(f"{path}: expected a weight file that ends in .safetensors, .npz, .pth or .pt")


def _plain_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes of wrappers and flatten a Sequential deep stem."""
    state = {re.sub(r"^(module\.|backbone\.)+", "", name): value for name, value in state.items()}
    if "conv1.0.weight" not in state:
        return state
    renamed = {}
    for name, value in state.items():
        stem = max((old for old in SEQUENTIAL_STEM if name.startswith(old + ".")), key=len, default=None)
        renamed[SEQUENTIAL_STEM[stem] + name[len(stem) :] if stem else name] = value
    return renamed


def cut_after_layer3(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of a state dict that the encoder uses."""
    return {name: value for name, value in state.items() if not IGNORED.match(name)}


def load_strictly(model: nn.Module, path: Path) -> None:
    """Load a weight file into a ResNet; only the layers that the encoder cuts off may be left over.

    Raises
    ------
    InputError
        If keys are missing, unexpected or of another shape; the message lists them.
    """
    state = cut_after_layer3(_plain_names(read_state(path)))
    expected = model.state_dict()
    faults = [f"missing {name}" for name in expected if name not in state and not OPTIONAL.search(name)]
    faults += [f"unexpected {name}" for name in state if name not in expected]
    faults += [
        f"{name} is {tuple(value.shape)}, not {tuple(expected[name].shape)}"
        for name, value in state.items()
        if name in expected and value.shape != expected[name].shape
    ]
    if faults:
        listed = "; ".join(faults[:4]) + (f"; and {len(faults) - 4} more" if len(faults) > 4 else "")
        raise InputError(
            f"{path}: the weights do not fit encoder.arch, encoder.stem and encoder.width: {listed}; set these to the "
            "architecture of the file, or give another file"
        )
    model.load_state_dict({**{name: expected[name] for name in expected if OPTIONAL.search(name)}, **state})
