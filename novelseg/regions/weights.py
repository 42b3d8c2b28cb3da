"""Weight files of the region hierarchy (safetensors); a JSON file beside each states its origin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from novelseg.core.errors import InputError
from novelseg.regions.contours import RESPONSES, TEXTON_COUNT
from novelseg.regions.ucm import ArcNetwork, Model, feature_count

FORMAT, VERSION = "novelseg-regions", 1
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
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, {FORMAT: str(VERSION)})
    path.chmod(0o644)


def load_model(path: Path) -> Model:
    """Read a model.

    Raises
    ------
    InputError
        If the file does not exist, is damaged, or is of another kind or version.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            meta = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected weights of the region hierarchy") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable weight file ({error}); restore it from a copy") from None
    if meta.get(FORMAT) != str(VERSION):
        raise InputError(
            f"{path}: expected a '{FORMAT}' file of version {VERSION}; `python -m stages trainregions` writes one"
        )
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
