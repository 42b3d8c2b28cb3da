"""The learned weights of the region hierarchy as a file: safetensors, with a JSON file beside it that says whence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from stages.core.errors import InputError
from stages.ops.contours import RESPONSES, WORDS
from stages.ops.ucm import ArcNetwork, Model

FORMAT, VERSION = "novelseg-regions", 1


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
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, {FORMAT: str(VERSION)})
    path.chmod(0o644)


def load_model(path: Path) -> Model:
    """Read a model.

    Raises
    ------
    InputError
        If the file is absent, damaged, or of another kind or version.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            meta = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; set hierarchies.weights to one made by `trainregions`") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable weight file ({error}); restore it") from None
    if meta.get(FORMAT) != str(VERSION):
        raise InputError(
            f"{path}: expected a '{FORMAT}' file of version {VERSION}; set hierarchies.weights to one made by "
            "`trainregions`"
        )
    try:
        stages = len(arrays["cuts"]) + 1
        networks = []
        for stage in range(stages):
            layers = range(sum(name.startswith(f"{stage}.") and name.endswith(".weight") for name in arrays))
            networks.append(
                ArcNetwork(
                    arrays[f"{stage}.mean"],
                    arrays[f"{stage}.deviation"],
                    [arrays[f"{stage}.{layer}.weight"] for layer in layers],
                    [arrays[f"{stage}.{layer}.bias"] for layer in layers],
                )
            )
        textons = arrays["textons"].reshape(WORDS, RESPONSES)
        return Model(textons, networks, arrays["cuts"].tolist(), arrays["levels"])
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: lacks what a region model needs ({error}); make it again") from None
