"""Installation of official archives and weight files into a data folder."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path

from novelseg.backbones.designs import VITS
from novelseg.core.errors import InputError
from novelseg.core.files import remove_scratch, whole_file
from novelseg.core.lock import exclusive
from novelseg.core.progress import say
from novelseg.fetch.catalogue import CATALOGUE, Archive
from novelseg.fetch.download import download, wrong_digest
from novelseg.fetch.unpack import unpack
from novelseg.formats.record import BackboneSpec


def install(what: str, out: Path, archives: Path | None = None, *, quiet: bool = False) -> list[Path]:
    """Download, verify and unpack or convert the files of a data set or a weight file, unless they are installed.

    Parameters
    ----------
    what
        A key of :data:`novelseg.fetch.catalogue.CATALOGUE`.
    out
        Data folder.
    archives
        Folder of official files that were downloaded before.
    quiet
        Whether to say nothing about what is installed already.

    Returns
    -------
    list of Path
        The installed files or folders.

    Raises
    ------
    InputError
        If a file cannot be downloaded, verified, unpacked or written; what is complete is kept.
    """
    missing = [archive for archive in CATALOGUE[what] if not archive.is_installed(out / archive.target)]
    for archive in CATALOGUE[what]:
        if archive not in missing and not quiet:
            say(f"{out / archive.target}: already exists")
        elif archive in missing and (out / archive.target).exists():
            raise InputError(f"{out / archive.target}: exists, but is incomplete; move it away first")
    if missing:
        try:
            with _lock(out):
                for archive in missing:
                    _install(archive, out / archive.target, out / "archives", archives)
        except OSError as error:
            path, why = error.filename or out, error.strerror or error
            raise InputError(f"{path}: cannot be used ({why}); fix this, or give another folder") from None
    return [out / archive.target for archive in CATALOGUE[what]]


def _lock(out: Path) -> AbstractContextManager[None]:
    """Lock the data folder against other processes that download."""
    return exclusive(out / ".fetch.lock", f"{out}: another process downloads to it; wait until it ends, or stop it")


def _install(archive: Archive, target: Path, folder: Path, archives: Path | None) -> None:
    for path in remove_scratch(target):
        say(f"{path}: removed; it was left by a run that was killed")
    source = _archive(archive, folder, archives)
    if archive.paths:
        say(f"{target}: {unpack(source, target, archive.paths)} files")
    else:
        _convert(source, archive, target)
        say(f"{target}: written")


def _archive(archive: Archive, folder: Path, archives: Path | None) -> Path:
    """Return the user's copy of an archive, an earlier download, or a new download; each is verified."""
    for existing in (archives, folder):
        if existing and ((existing / archive.name).exists() or (existing / archive.name).is_symlink()):
            return _verify(existing / archive.name, archive)
    download(archive.url, folder / archive.name, archive.check)
    return folder / archive.name


def _verify(path: Path, archive: Archive) -> Path:
    """Return the path of an existing file after checking its digest."""
    try:
        digest = wrong_digest(path, archive.check)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); fix or remove it") from None
    if digest:
        raise InputError(f"{path}: has a wrong checksum ({digest}, expected {archive.check}); replace or remove it")
    return path


def _convert(source: Path, archive: Archive, target: Path) -> None:
    """Write the weights that an encoder uses: those of a ResNet up to its last layer, or all of a vision transformer.

    A vision transformer's are first loaded strictly, since not all of their checksums are published.
    """
    from safetensors.torch import save_file

    from novelseg.backbones.registry import new_backbone
    from novelseg.backbones.weights import cut_after, read_state

    if target.stem in VITS:
        new_backbone(BackboneSpec(target.stem)).load_pretrained(source)
        if not archive.check:
            say(
                f"{source}: no checksum is published; the names and shapes of its weights are those expected, and all "
                "values are finite"
            )
    state = {name: value.contiguous() for name, value in cut_after(archive.last, read_state(source)).items()}
    cut = "nothing" if target.stem in VITS else f"after {archive.last}"
    about = {"source": archive.url, "check": archive.check, "cut": cut}
    with whole_file(target) as scratch:
        save_file(state, scratch, {"about": json.dumps(about, sort_keys=True)})
        scratch.chmod(0o644)
