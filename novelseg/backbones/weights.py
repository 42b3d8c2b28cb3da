"""Strict loading of pretrained weights from all common file layouts."""

from __future__ import annotations

import pickle
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from novelseg.core.errors import InputError
from novelseg.core.files import reading_refused
from novelseg.formats.network import check_origin

M = TypeVar("M", bound=nn.Module)
# Exceptions raised for damaged or foreign files; torch's restricted unpickler raises others beside its own.
UNREADABLE = (
    SafetensorError,
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    EOFError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    ImportError,
    SyntaxError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
)
# Exceptions that a network raises when it is built from a header that makes no sense, or its state does not fit.
UNBUILDABLE = (RuntimeError, ValueError, TypeError, KeyError, OverflowError, MemoryError, AttributeError)
# Training programs store numbers of NumPy beside the weights, such as the best score; rebuilding them runs no code.
_NUMPY_SCALARS: list[Any] = [
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")),
    *(
        (type(np.float64(0)).__reduce__(np.float64(0))[0], f"numpy.{core}.multiarray.scalar")
        for core in ("core", "_core")
    ),
]
# Keys under which training programs store the state of a network.
NESTED = ("state_dict", "model", "model_state_dict", "network")
# Cut off: what follows the last layer of an encoder. Optional: counters that frozen BatchNorm never reads.
CUT_OFF = {"layer3": re.compile(r"^(layer4\.|fc\.)"), "layer4": re.compile(r"^fc\.")}
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
    readers: dict[str, Callable[[Path], Any]] = {".safetensors": load_file, ".npz": _read_npz}
    readers |= dict.fromkeys((".pth", ".pt"), _read_pickle)
    if path.suffix not in readers:
        raise InputError(f"{path}: expected a weight file that ends in .safetensors, .npz, .pth or .pt")
    try:
        with path.open("rb"):  # safetensors calls a file that may not be read a missing one
            pass
        check_origin(path)
        content = readers[path.suffix](path)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such weight file; set encoder.weights in params.yaml") from None
    except UNREADABLE as error:
        foreign = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        fault = InputError(
            f"{path}: holds a Python object ({foreign[1]}) beside tensors, which is not loaded because it could run "
            "code; save only the network's state_dict()"
            if foreign
            else f"{path}: not a readable weight file ({type(error).__name__}); fetch it again"
        )
        raise (reading_refused(path, error) or fault) from None
    return _as_state(path, content)


def _read_npz(path: Path) -> dict[str, Tensor]:
    with np.load(path, allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def _read_pickle(path: Path) -> Any:
    if zipfile.is_zipfile(path):  # torch does not look at the checksums of its zip files
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(damaged)
    with torch.serialization.safe_globals(_NUMPY_SCALARS):
        return torch.load(path, map_location="cpu", weights_only=True)


def _as_state(path: Path, content: Any) -> dict[str, Tensor]:
    """Return the tensors by name that a weight file holds, at the top or under a usual key.

    Raises
    ------
    InputError
        If it holds anything else.
    """
    nested = [key for key in NESTED if isinstance(content, Mapping) and isinstance(content.get(key), Mapping)]
    state = content[nested[0]] if nested else content
    if not isinstance(state, Mapping) or not state:
        raise InputError(
            f"{path}: holds {_kind(state)}; expected tensors by name, at the top or under one of "
            f"{', '.join(repr(key) for key in NESTED)}; save the network's state_dict()"
        )
    for name, value in state.items():
        if not isinstance(name, str):
            raise InputError(
                f"{path}: its tensors have keys such as {name!r:.60}; expected the names of weights; save the "
                "network's state_dict()"
            )
        plain = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
        if not plain or value.is_quantized:
            raise InputError(
                f"{path}: the entry {name!r:.60} is {_kind(value)}; expected only tensors by name; save the network's "
                "state_dict()"
            )
    return dict(state)


def _kind(value: Any) -> str:
    """Return what a value is, for messages."""
    if isinstance(value, Tensor):
        layout = "" if value.layout == torch.strided else f", {str(value.layout).removeprefix('torch.')}"
        return f"a tensor of shape {tuple(value.shape)}{layout}"
    return "nothing" if value is None else f"a {type(value).__name__}" + (" without entries" if value == {} else "")


def plain_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes of wrappers and flatten a Sequential deep stem."""
    state = {re.sub(r"^(module\.|backbone\.)+", "", name): value for name, value in state.items()}
    if "conv1.0.weight" not in state:
        return state
    renamed = {}
    for name, value in state.items():
        stem = max((old for old in SEQUENTIAL_STEM if name.startswith(old + ".")), key=len, default=None)
        renamed[SEQUENTIAL_STEM[stem] + name[len(stem) :] if stem else name] = value
    return renamed


def cut_after(last: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of a state dict that an encoder uses if it ends after ``layer3`` or ``layer4``."""
    return {name: value for name, value in state.items() if not CUT_OFF[last].match(name)}


def load_strictly(model: nn.Module, path: Path) -> None:
    """Load a weight file into a ResNet; only layers that the encoder cuts off may be in the file unused.

    Raises
    ------
    InputError
        If keys are missing, unexpected or of another shape; the message lists them.
    """
    last = "layer4" if any(name.startswith("layer4.") for name in model.state_dict()) else "layer3"
    state = cut_after(last, plain_names(read_state(path)))
    if last == "layer4" and not any(name.startswith("layer4.") for name in state):
        raise InputError(
            f"{path}: the file ends after layer3, and cam.features is layer4; give a file that holds layer4, such as "
            "that of `novelseg fetch --what resnet50-layer4`, or set cam.features to layer3"
        )
    fit_strictly(model, state, path, "encoder.arch, encoder.stem and encoder.width")


def fit_strictly(model: nn.Module, state: dict[str, Tensor], path: Path, settings: str) -> None:
    """Load the state that a weight file holds; every key must be there, known, and of the right shape.

    Parameters
    ----------
    model
        Network to load into.
    state
        Content of the file, under the network's own names.
    path
        The file, for messages.
    settings
        The parameters that choose the network, for messages.

    Raises
    ------
    InputError
        If keys are missing, unexpected or of another shape, or values are not finite or otherwise impossible.
    """
    expected = model.state_dict()
    if faults := misfits(expected, state):
        raise InputError(
            f"{path}: the weights do not fit {settings}: {fault_phrase(faults)}; set "
            f"{'these' if ',' in settings else 'it'} to the architecture of the file, or give another file"
        )
    if fault := value_fault(expected, state):
        raise InputError(f"{path}: {fault}; fetch the file again, or give another one")
    model.load_state_dict({**{name: expected[name] for name in expected if OPTIONAL.search(name)}, **state})


def first_line(error: BaseException) -> str:
    """Return the message of an error as one short line."""
    return " ".join(str(error).split())[:300]


def fault_phrase(faults: list[str]) -> str:
    """Return the first four faults as one phrase, with the number of the others."""
    return "; ".join(faults[:4]) + (f"; and {len(faults) - 4} more" if len(faults) > 4 else "")


def misfits(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Return how names and shapes of a state differ from those of a network."""
    faults = [f"missing {name}" for name in expected if name not in state and not OPTIONAL.search(name)]
    faults += [f"unexpected {name}" for name in state if name not in expected]
    faults += [
        f"{name} is {tuple(value.shape)}, not {tuple(expected[name].shape)}"
        for name, value in state.items()
        if name in expected and value.shape != expected[name].shape
    ]
    return faults


def value_fault(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Return a phrase about the first weight whose values are impossible in a network; empty if there is none.

    Weights must be floating-point numbers, finite in the network's own precision, and variances not negative; counters
    must be integers.
    """
    for name, value in state.items():
        kind = expected[name].dtype
        if kind.is_floating_point != value.is_floating_point() or value.is_complex():
            wanted = "floating-point numbers" if kind.is_floating_point else "integers"
            return f"the weight {name} is of type {str(value.dtype).removeprefix('torch.')}; expected {wanted}"
        if kind.is_floating_point and not torch.isfinite(value.to(kind)).all():
            return f"the weight {name} contains NaN or infinite values: the weights themselves are faulty"
        if name.endswith("running_var") and (value < 0).any():
            return f"the weight {name} contains negative variances: the weights themselves are faulty"
    return ""


def build_and_load(build: Callable[[], M], state: Mapping[str, Tensor]) -> M:
    """Build a network and load its state, after checking that the state is one of this network.

    The network is first built without memory, so that a header that asks for a huge one costs nothing.

    Raises
    ------
    ValueError
        If names, shapes, types or values do not fit.
    """
    with torch.device("meta"):
        expected = build().state_dict()
    faults = misfits(expected, state)
    absent = [name for name in expected if name not in state]
    if faults or absent:
        raise ValueError(fault_phrase(faults or [f"missing {name}" for name in absent]))
    for name, value in state.items():
        if value.dtype != expected[name].dtype:
            raise ValueError(f"{name} is of type {value.dtype}, not {expected[name].dtype}")
    if fault := value_fault(expected, state):
        raise ValueError(fault)
    network = build()
    network.load_state_dict(dict(state))
    return network
