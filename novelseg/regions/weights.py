"""Weight files of the region hierarchy (safetensors); a JSON file beside each states its origin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from novelseg.core.errors import InputError
from novelseg.formats.network import Kind, check_origin, header_of, read_sealed, write_sealed
from novelseg.regions.contours import RESPONSES, TEXTON_COUNT
from novelseg.regions.ucm import ArcNetwork, Model, feature_count

REGION_WEIGHTS = Kind("novelseg-regions", 2, "`python -m stages trainregions` writes one", 1)
BSDS500 = Path(__file__).with_name("bsds500.safetensors")  # learned from BSDS500's training and validation images


def save_model(path: Path, model: Model) -> None:
    """Write a model to a file, not atomically: pass a scratch path and rename it afterwards."""
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
        If the file does not exist, is damaged, or is of another kind or version.
    """
    _, content = read_sealed(path, REGION_WEIGHTS)
    check_origin(path)
    try:
        arrays = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a readable weight file ({error}); restore it from a copy") from None
    try:
        return _model(arrays)
    except ValueError as error:
        raise InputError(
            f"{path}: incomplete or damaged region weights ({error}); restore the file from a copy, or learn it again "
            "with `python -m stages trainregions`"
        ) from None


def _model(arrays: dict[str, NDArray[Any]]) -> Model:
    """Build a model from its arrays.

    Raises
    ------
    ValueError
        If an array is missing or superfluous, contradicts the shapes of the others, or contains infinite values or NaN.
    """

    unused = set(arrays)

    def take(name: str, *shape: int) -> NDArray[Any]:
        """Return an array of the given shape, in which −1 stands for any length."""
        if name not in arrays:
            raise ValueError(f"{name} is missing")
        array = arrays[name]
        unused.discard(name)
        if len(array.shape) != len(shape) or any(
            -1 != expected != actual for expected, actual in zip(shape, array.shape, strict=True)
        ):
            raise ValueError(f"{name} has the shape {array.shape}; expected {shape}, where -1 is any length")
        if array.dtype.kind != "f":
            raise ValueError(f"{name} is of type {array.dtype}, expected floating-point numbers")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} contains infinite values or NaN")
        return array

    cuts, levels = take("cuts", -1), take("levels", 2, -1)
    if (np.diff(levels) < 0).any():
        raise ValueError("levels decrease; expected increasing values")
    networks = []
    for stage in range(len(cuts) + 1):
        layers = sum(name.startswith(f"{stage}.") and name.endswith(".weight") for name in arrays)
        size = feature_count(stage)
        mean, deviation = take(f"{stage}.mean", size), take(f"{stage}.deviation", size)
        if (deviation <= 0).any():
            raise ValueError(f"{stage}.deviation contains numbers that are not above 0")
        weights, biases = [], []
        for layer in range(max(1, layers)):
            outputs = 1 if layer == layers - 1 else -1
            weights.append(take(f"{stage}.{layer}.weight", -1, size, outputs))
            members, _, size = weights[-1].shape
            biases.append(take(f"{stage}.{layer}.bias", members, 1, size))
        networks.append(ArcNetwork(mean, deviation, weights, biases))
    textons = take("textons", TEXTON_COUNT, RESPONSES)
    if unused:
        raise ValueError(f"'{min(unused)}' is not an array of this model")
    return Model(textons, networks, cuts.tolist(), levels)
