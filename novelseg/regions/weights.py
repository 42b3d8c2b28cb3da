"""The learned weights of the region hierarchy as a file: safetensors, with a JSON file beside it that says whence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from novelseg.core.errors import InputError
from novelseg.formats.network import Kind, check_origin, header_of, read_sealed, write_sealed
from novelseg.regions.contours import RESPONSES, WORDS
from novelseg.regions.ucm import ArcNetwork, Model, features_of

REGION_WEIGHTS = Kind("novelseg-regions", 2, "`python -m stages trainregions` writes one", 1)
BSDS500 = Path(__file__).with_name("bsds500.safetensors")  # learned from BSDS500's training and validation images


def save_model(path: Path, model: Model) -> None:
    """Write a model; the caller makes the file appear whole."""
    arrays: dict[str, NDArray[Any]] = {
        "textons": model.textons,
        "cuts": np.array(model.cuts, np.float64),
        "levels": model.levels,
    }
    for stage, network in enumerate(model.networks):
        assert isinstance(network, ArcNetwork)
        arrays[f"{stage}.mean"], arrays[f"{stage}.deviation"] = network.mean, network.deviation
        for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
            arrays[f"{stage}.{layer}.weight"], arrays[f"{stage}.{layer}.bias"] = weight, bias
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_sealed(path, save(contiguous, header_of(REGION_WEIGHTS, {})))


def load_model(path: Path) -> Model:
    """Read a model.

    Raises
    ------
    InputError
        If the file is absent, damaged, or of another kind or version.
    """
    _, content = read_sealed(path, REGION_WEIGHTS)
    check_origin(path)
    try:
        arrays = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a readable weight file ({error}); restore it") from None
    try:
        return _model(arrays)
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: not a whole region model ({error}); restore it or make it again") from None


def _model(arrays: dict[str, NDArray[Any]]) -> Model:
    """Put a model together, each array of the shape that the others ask for.

    Raises
    ------
    KeyError, ValueError
        If an array is missing, has another shape, or holds what is no number.
    """

    left = set(arrays)

    def take(name: str, *shape: int) -> NDArray[Any]:
        array = arrays[name]
        left.discard(name)
        if len(array.shape) != len(shape) or any(
            -1 != want != have for want, have in zip(shape, array.shape, strict=True)
        ):
            raise ValueError(f"{name} is of shape {array.shape}, expected {shape}")
        if array.dtype.kind != "f":
            raise ValueError(f"{name} is of type {array.dtype}, expected floating-point numbers")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are no numbers")
        return array

    cuts, levels = take("cuts", -1), take("levels", 2, -1)
    if (np.diff(levels) < 0).any():
        raise ValueError("levels fall, expected rising ones")
    networks = []
    for stage in range(len(cuts) + 1):
        layers = sum(name.startswith(f"{stage}.") and name.endswith(".weight") for name in arrays)
        size = features_of(stage)
        mean, deviation = take(f"{stage}.mean", size), take(f"{stage}.deviation", size)
        weights, biases = [], []
        for layer in range(max(1, layers)):
            outputs = 1 if layer == layers - 1 else -1
            weights.append(take(f"{stage}.{layer}.weight", -1, size, outputs))
            members, _, size = weights[-1].shape
            biases.append(take(f"{stage}.{layer}.bias", members, 1, size))
        networks.append(ArcNetwork(mean, deviation, weights, biases))
    textons = take("textons", WORDS, RESPONSES)
    if left:
        raise ValueError(f"'{min(left)}' belongs to no stage")
    return Model(textons, networks, cuts.tolist(), levels)
