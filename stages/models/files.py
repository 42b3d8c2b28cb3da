"""Trained networks as files: safetensors, whose metadata say how to rebuild the network and how it was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from stages.core.errors import InputError

FORMAT, VERSION = "novelseg-network", 3


def save_network(path: Path, network: nn.Module, about: dict[str, Any]) -> None:
    """Write weights with everything needed to rebuild the network.

    Parameters
    ----------
    path
        Target; the caller makes it appear whole.
    network
        Trained network.
    about
        ``network`` (its kind), ``stage``, ``arch``, ``stem``, ``width``, ``precision``, ``resolution`` and what else
        should lie beside the weights.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    # One key: safetensors writes several in an order that differs from process to process.
    save_file(state, path, {FORMAT: json.dumps({"version": VERSION, **about}, sort_keys=True)})
    path.chmod(0o644)  # safetensors makes files that only their owner can read; a team shares these


def read_about(path: Path, network: str | None = None, fold: int | None = None) -> dict[str, Any]:
    """What was written beside a network's weights.

    Parameters
    ----------
    path
        The file.
    network
        Kind that it must be of; any if None.
    fold
        Fold that it must have been trained for; any if None.

    Raises
    ------
    InputError
        If the file is absent, damaged, not written by this project, of another kind, or trained for another fold: it
        has seen the novel classes of the one given.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the stage that trains it") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable weight file ({error}); delete it and rerun its stage") from None
    if FORMAT not in meta:
        raise InputError(f"{path}: expected a '{FORMAT}' file; rerun the stage that trains it")
    about = json.loads(meta[FORMAT])
    if about.pop("version") != VERSION:
        raise InputError(
            f"{path}: {FORMAT} is of another version, this code reads {VERSION}: rerun the stage that trains it"
        )
    if network is not None and about["network"] != network:
        raise InputError(f"{path}: holds the network '{about['network']}', not '{network}'; give the file of that one")
    if fold is not None and about["fold"] != fold:
        raise InputError(f"{path}: trained for fold {about['fold']}, not {fold}; give the one of fold {fold}")
    return dict(about)
