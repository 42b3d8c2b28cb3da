"""Weight files (safetensors) whose header holds the record that rebuilds the network and describes its training."""

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
    """One kind of weight file.

    Attributes
    ----------
    name, version
        Key of the header's entry, and the version in it.
    remedy
        What to do about a missing or wrong file, for messages.
    """

    name: str
    version: int
    remedy: str


NETWORK = Kind("novelseg-network", 5, "run the stage that trains it")


def save_network(path: Path, network: nn.Module, record: NetworkRecord) -> None:
    """Write the weights of a network with its record; ``path`` is a scratch path that the caller renames."""
    save_tensors(path, network.state_dict(), NETWORK, to_json(record))


def save_tensors(path: Path, tensors: dict[str, Tensor], kind: Kind, about: dict[str, Any]) -> None:
    """Write tensors, with their description in the header."""
    from safetensors.torch import save_file  # imported here so that readers of headers start without torch

    state = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    # One key: safetensors writes several in an order that differs from process to process.
    save_file(state, path, {kind.name: json.dumps({"version": kind.version, **about}, sort_keys=True)})
    path.chmod(0o644)  # safetensors makes files that only their owner can read, but a team shares them


def read_header(path: Path, kind: Kind) -> dict[str, Any]:
    """Read the description of a weight file from its header, without reading tensors.

    Raises
    ------
    InputError
        If the file is absent, damaged, or of another kind or version.
    """
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {kind.remedy}") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable {kind.name} file ({error}); delete it and {kind.remedy}") from None
    if kind.name not in header:
        raise InputError(f"{path}: expected a '{kind.name}' file; {kind.remedy}")
    try:
        about = json.loads(header[kind.name])
    except ValueError:
        about = None
    if not isinstance(about, dict):
        raise InputError(f"{path}: its header is not that of a {kind.name} file; {kind.remedy}")
    version = about.pop("version", None)
    if version != kind.version:
        raise InputError(
            f"{path}: {kind.name} is version {version}, this code reads version {kind.version}; {kind.remedy}"
        )
    return dict(about)


def read_record(
    path: Path, kind: type[N], network: str | None = None, fold: int | None = None, base: list[str] | None = None
) -> N:
    """Read the record of a network from the header of its weight file.

    Parameters
    ----------
    path
        The file.
    kind
        Class of the record; :class:`NetworkRecord` fits every network.
    network
        Kind of network that it must be; None for any.
    fold
        Fold that it must have been trained for; None for any.
    base
        Base classes that it must have been trained on, in order; None for any.

    Raises
    ------
    InputError
        If the file is absent, damaged, not written by this project, of another kind, or trained for another fold or
        on other base classes, so that it may have seen classes that are novel here.
    """
    header = read_header(path, NETWORK)
    if network is not None and header.get("network") != network:
        raise InputError(
            f"{path}: contains the network '{header.get('network')}', not '{network}'; give the weights of that one"
        )
    try:
        record = from_json(kind, header)
    except ValueError as error:
        raise InputError(f"{path}: its header is not that of a network ({error}); {NETWORK.remedy}") from None
    if fold is not None and record.fold != fold:
        raise InputError(f"{path}: trained for fold {record.fold}, not {fold}; give the network of fold {fold}")
    if base is not None and record.classes != base:
        raise InputError(
            f"{path}: trained on {', '.join(record.classes)}, but the base classes of fold {record.fold} in this "
            f"index are {', '.join(base)}; rerun the stage that trains it"
        )
    return record
