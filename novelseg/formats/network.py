"""Weight files (safetensors) whose header holds the record that rebuilds the network and describes its training.

The record includes two checksums: of the header, so that a reader of records need not read the tensors, and of the
tensors. Files of the previous version have none and are read without.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safetensors import SafetensorError, safe_open

from novelseg.core.errors import InputError
from novelseg.core.files import digest, read_bytes, reading_refused
from novelseg.formats.checksums import BLANK, crc32, intact, seal
from novelseg.formats.record import NetworkRecord, from_json, to_json

if TYPE_CHECKING:
    from torch import Tensor, nn

N = TypeVar("N", bound=NetworkRecord)
# The record is JSON text inside the header's JSON, hence the backslashes; no text in the record can contain them.
HEAD_MARK, TENSORS_MARK = b'\\"head_crc32\\": \\"', b'\\"tensors_crc32\\": \\"'
CHECKSUMS = {"head_crc32": BLANK.decode(), "tensors_crc32": BLANK.decode()}


@dataclass(frozen=True)
class Kind:
    """One kind of weight file.

    Attributes
    ----------
    name, version
        Key of the header's entry, and the version in it.
    remedy
        What to do about a missing or wrong file, for messages.
    unchecked_version
        The version without checksums that is read too.
    """

    name: str
    version: int
    remedy: str
    unchecked_version: int


NETWORK = Kind("novelseg-network", 6, "run the stage that trains it", 5)


def save_network(path: Path, network: nn.Module, record: NetworkRecord) -> None:
    """Write the weights of a network with its record; ``path`` is a scratch path that the caller renames."""
    save_tensors(path, network.state_dict(), NETWORK, to_json(record))


def save_tensors(path: Path, tensors: dict[str, Tensor], kind: Kind, about: dict[str, Any]) -> None:
    """Write tensors, with their description and checksums in the header."""
    from safetensors.torch import save  # imported here so that readers of headers start without torch

    state = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_sealed(path, save(state, header_of(kind, about)))


def header_of(kind: Kind, about: dict[str, Any]) -> dict[str, str]:
    """Return the header of a file, with room for its checksums."""
    # One key: safetensors writes several in an order that differs from process to process.
    return {kind.name: json.dumps({**about, "version": kind.version, **CHECKSUMS}, sort_keys=True)}


def write_sealed(path: Path, content: bytes) -> None:
    """Write the bytes of a safetensors file with its checksums."""
    path.write_bytes(sealed(content))
    path.chmod(0o644)  # a team shares the files, whatever its members' umask


def sealed(content: bytes) -> bytes:
    """Return the bytes of a safetensors file, whose header is of :func:`header_of`, with its checksums."""
    start = _data_start(content)
    data = memoryview(content)[start:]
    head = content[:start].replace(TENSORS_MARK + BLANK, TENSORS_MARK + crc32(data))
    return b"".join((seal(head, HEAD_MARK), data))


def _data_start(content: bytes) -> int:
    """Return where the tensors begin: after the length of the header and the header."""
    return 8 + int(struct.unpack("<Q", content[:8])[0])


def _read_head(path: Path, kind: Kind) -> bytes:
    """Read the length of the header and the header, after safetensors has accepted the file."""
    try:
        with path.open("rb"):  # safetensors calls a file that may not be read a missing one
            pass
        with safe_open(path, framework="np"):
            pass
        with path.open("rb") as file:
            length = file.read(8)
            return length + file.read(struct.unpack("<Q", length)[0])
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file; {kind.remedy}") from None
    except (SafetensorError, OSError, ValueError, MemoryError) as error:
        fault = InputError(f"{path}: not a readable {kind.name} file ({error}); delete it and {kind.remedy}")
        raise (reading_refused(path, error) or fault) from None


def read_header(path: Path, kind: Kind) -> dict[str, Any]:
    """Read the description of a weight file from its header, without reading tensors.

    Raises
    ------
    InputError
        If the file is absent, damaged, or of another kind or version.
    """
    head = _read_head(path, kind)
    meta = json.loads(head[8:]).get("__metadata__") or {}
    return _about(path, kind, meta, head)


def _about(path: Path, kind: Kind, meta: Mapping[str, str], head: bytes) -> dict[str, Any]:
    """Return the description in a header whose checksum is right."""
    if kind.name not in meta:
        raise InputError(f"{path}: expected a '{kind.name}' file; {kind.remedy}")
    try:
        about = json.loads(meta[kind.name])
    except (ValueError, RecursionError):
        about = None
    if isinstance(about, int):  # the first version of region weights was a bare number
        about = {"version": about}
    if not isinstance(about, dict):
        raise InputError(f"{path}: its header is not that of a {kind.name} file; {kind.remedy}")
    version = about.pop("version", None)
    if version not in (kind.version, kind.unchecked_version):
        raise InputError(
            f"{path}: {kind.name} is version {version}, this code reads version {kind.version}; {kind.remedy}"
        )
    if version == kind.version:
        if not CHECKSUMS.keys() <= about.keys():
            raise InputError(f"{path}: has no checksums, which {kind.name} version {version} always has; {kind.remedy}")
        if not intact(head, HEAD_MARK):
            raise _damaged(path, kind, "header")
    return {name: value for name, value in about.items() if name not in CHECKSUMS}


def _damaged(path: Path, kind: Kind, part: str) -> InputError:
    return InputError(
        f"{path}: its {part} is damaged (its checksum differs); delete the file and {kind.remedy}, or restore a copy"
    )


def read_sealed(path: Path, kind: Kind) -> tuple[dict[str, Any], bytes]:
    """Read a weight file whole: its description, and its bytes, which the checksums fit.

    Raises
    ------
    InputError
        If the file is absent, damaged, or of another kind or version.
    """
    about = read_header(path, kind)
    content = read_bytes(path, kind.remedy)
    start = _data_start(content)
    head = content[:start]
    place = head.rfind(TENSORS_MARK)
    if intact(head, HEAD_MARK) and place >= 0:
        stated = head[place + len(TENSORS_MARK) :][: len(BLANK)]
        if stated != crc32(memoryview(content)[start:]):
            raise _damaged(path, kind, "content")
    return about, content


def check_origin(path: Path) -> None:
    """Check a weight file against the MD5 in the JSON file beside it, if there is one that states it.

    The weights that this project ships, and those that ``pretrain`` and ``trainregions`` write, have such a file.

    Raises
    ------
    InputError
        If the MD5 differs.
    """
    stated = _origin(path).get("md5")
    if not isinstance(stated, str):
        return
    try:
        actual = digest(path)
    except OSError:
        return  # the file itself is read by the caller
    if stated != actual:
        raise InputError(
            f"{path}: differs from the file that {path.with_suffix('.json').name} beside it describes (MD5 {actual}, "
            f"expected {stated}); restore both, or remove that description"
        )


def stated_source(path: Path) -> str:
    """Return the origin of the training images that the JSON file beside a weight file states; empty without one."""
    source = _origin(path).get("source")
    return source if isinstance(source, str) else ""


def _origin(path: Path) -> dict[str, Any]:
    """Return the content of the JSON file beside a weight file; empty if no origin is stated."""
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def read_tensors(path: Path, kind: Kind) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a weight file: its description and its tensors; errors are those of :func:`read_sealed`."""
    from safetensors.torch import load

    about, content = read_sealed(path, kind)
    try:
        return about, load(content)
    except (SafetensorError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a readable {kind.name} file ({error}); {kind.remedy}") from None


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
