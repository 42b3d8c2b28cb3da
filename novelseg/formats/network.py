"""Trained networks as files: safetensors, whose metadata say how to rebuild the network and how it was trained."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safetensors import SafetensorError, safe_open

from novelseg.core.errors import InputError
from novelseg.formats.record import NetworkRecord, from_json, to_json

if TYPE_CHECKING:
    from torch import Tensor, nn

N = TypeVar("N", bound=NetworkRecord)


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    name, version
        As written in its head.
    remedy
        What to do where a file is missing or wrong.
    """

    name: str
    version: int
    remedy: str


NETWORK = Kind("novelseg-network", 5, "run the stage that trains it")


def save_network(path: Path, network: nn.Module, record: NetworkRecord) -> None:
    """Write weights with the record that rebuilds the network; the caller makes the file appear whole."""
    save_tensors(path, network.state_dict(), NETWORK, to_json(record))


def save_tensors(path: Path, tensors: dict[str, Tensor], kind: Kind, about: dict[str, Any]) -> None:
    """Write tensors, and in the file's head what they are."""
    from safetensors.torch import save_file  # who reads heads alone starts without torch

    state = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    # One key: safetensors writes several in an order that differs from process to process.
    save_file(state, path, {kind.name: json.dumps({"version": kind.version, **about}, sort_keys=True)})
    path.chmod(0o644)  # safetensors makes files that only their owner can read; a team shares these


def read_head(path: Path, kind: Kind) -> dict[str, Any]:
    """What a file says that it is, its tensors unread.

    Raises
    ------
    InputError
        If the file is absent, damaged, of another kind or version.
    """
    try:
        with safe_open(path, framework="np") as file:
            meta = file.metadata() or {}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {kind.remedy}") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable {kind.name} file ({error}); delete it and {kind.remedy}") from None
    if kind.name not in meta:
        raise InputError(f"{path}: expected a '{kind.name}' file; {kind.remedy}")
    try:
        about = json.loads(meta[kind.name])
    except ValueError:
        about = None
    if not isinstance(about, dict):
        raise InputError(f"{path}: its head is not that of a {kind.name} file; {kind.remedy}")
    if about.pop("version", None) != kind.version:
        raise InputError(f"{path}: {kind.name} is of another version, this code reads {kind.version}: {kind.remedy}")
    return dict(about)


def read_record(
    path: Path, kind: type[N], network: str | None = None, fold: int | None = None, base: list[str] | None = None
) -> N:
    """Read the record that lies beside a network's weights.

    Parameters
    ----------
    path
        The file.
    kind
        Class of the record; :class:`NetworkRecord` for what all networks have.
    network
        Kind of network that it must be; any if None.
    fold
        Fold that it must have been trained for; any if None.
    base
        Classes that it must have learned from, in order; any if None.

    Raises
    ------
    InputError
        If the file is absent, damaged, not written by this project, of another kind, or trained for another fold or
        with other base classes: it may have seen what is novel here.
    """
    head = read_head(path, NETWORK)
    if network is not None and head.get("network") != network:
        raise InputError(
            f"{path}: holds the network '{head.get('network')}', not '{network}'; give the file of that one"
        )
    try:
        record = from_json(kind, head)
    except ValueError as error:
        raise InputError(f"{path}: its head is not that of a network ({error}); {NETWORK.remedy}") from None
    if fold is not None and record.fold != fold:
        raise InputError(f"{path}: trained for fold {record.fold}, not {fold}; give the one of fold {fold}")
    if base is not None and record.classes != base:
        raise InputError(
            f"{path}: learned from {', '.join(record.classes)}, but the base classes of fold {record.fold} in this "
            f"index are {', '.join(base)}; run the stage that trains it again"
        )
    return record
