"""Download official data sets and pretrained weights, verify them by checksum, and unpack them.

Writes
    into the data folder ``--out``: ``VOC2012``, ``SBD``, ``COCO2014``, as the stage ``images`` reads them, or
    ``weights/NAME.safetensors``. The downloaded archives are kept in ``archives``.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

from safetensors.torch import save_file

from novelseg.backbones.weights import cut_after_layer3, read_state
from novelseg.core.errors import InputError
from novelseg.core.files import remove_scratch, whole_file
from novelseg.core.lock import exclusive
from novelseg.core.options import Help
from novelseg.core.progress import say
from novelseg.fetch.catalogue import CATALOGUE, Archive
from novelseg.fetch.download import download, wrong_digest
from novelseg.fetch.unpack import unpack


def _lock(out: Path) -> AbstractContextManager[None]:
    """Lock the data folder against other processes of this command."""
    return exclusive(out / ".fetch.lock", f"{out}: another process downloads to it; wait until it ends, or stop it")


def _verify(path: Path, archive: Archive) -> Path:
    """Return the path of an existing file after checking its digest."""
    try:
        digest = wrong_digest(path, archive.check)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); fix or remove it") from None
    if digest:
        raise InputError(f"{path}: has a wrong checksum ({digest}, expected {archive.check}); replace or remove it")
    return path


def _archive(archive: Archive, folder: Path, archives: Path | None) -> Path:
    """Return the user's copy of an archive, an earlier download, or a new download; each is verified."""
    for existing in (archives, folder):
        if existing and ((existing / archive.name).exists() or (existing / archive.name).is_symlink()):
            return _verify(existing / archive.name, archive)
    download(archive.url, folder / archive.name, archive.check)
    return folder / archive.name


def _convert(source: Path, archive: Archive, target: Path) -> None:
    """Write the weights that an encoder uses: those up to layer3."""
    state = {name: value.contiguous() for name, value in cut_after_layer3(read_state(source)).items()}
    about = {"source": archive.url, "check": archive.check, "cut": "after layer3"}
    with whole_file(target) as scratch:
        save_file(state, scratch, {"about": json.dumps(about, sort_keys=True)})
        scratch.chmod(0o644)


def run(
    *,
    what: Annotated[str, Help("data set or weight file to fetch", tuple(CATALOGUE))],
    out: Annotated[Path, Help("data folder to fetch into")],
    archives: Annotated[Path | None, Help("folder of official files that were downloaded before")] = None,
) -> None:
    """Download and unpack the files that the data folder does not contain yet."""
    if what not in CATALOGUE:
        raise InputError(f"--what is '{what}'; expected one of {', '.join(CATALOGUE)}")
    if archives and not archives.is_dir():
        raise InputError(f"--archives is {archives}, which is not a folder; give the folder of the official files")
    missing = [archive for archive in CATALOGUE[what] if not archive.is_installed(out / archive.target)]
    for archive in CATALOGUE[what]:
        if archive not in missing:
            say(f"{out / archive.target}: already exists")
        elif (out / archive.target).exists():
            raise InputError(f"{out / archive.target}: exists, but is incomplete; move it away first")
    if not missing:
        return
    try:
        with _lock(out):
            for archive in missing:
                _fetch(archive, out / archive.target, out / "archives", archives)
    except OSError as error:
        path, why = error.filename or out, error.strerror or error
        raise InputError(f"{path}: cannot be used ({why}); fix this, or give another folder as --out") from None


def _fetch(archive: Archive, target: Path, folder: Path, archives: Path | None) -> None:
    """Download an archive unless it exists, and unpack or convert it."""
    for path in remove_scratch(target):
        say(f"{path}: removed; it was left by a run that was killed")
    source = _archive(archive, folder, archives)
    if archive.paths:
        say(f"{target}: {unpack(source, target, archive.paths)} files")
    else:
        _convert(source, archive, target)
        say(f"{target}: written")
