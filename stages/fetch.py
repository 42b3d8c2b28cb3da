"""Official archives → raw data and pretrained weights, checked and unpacked.

Writes
    below the data folder ``--out``: ``VOC2012``, ``SBD``, ``COCO2014`` (as the stage `images` reads them) or
    ``weights/NAME.safetensors``; the archives stay in ``archives``. Not a pipeline stage: what it brings is an input.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file

from stages.core.download import digest_fits, download
from stages.core.errors import InputError
from stages.core.files import remove_scratch, whole_file
from stages.core.params import nearest
from stages.core.progress import say
from stages.core.unpack import unpack
from stages.data.catalogue import CATALOGUE, Archive
from stages.models.weights import cut_after_layer3, read_state


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the data folder for one fetch; the kernel lets go of it however the process ends."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".fetch.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{out}: another process is fetching into it; wait for it, or end it") from None
        yield


def _archive(archive: Archive, folder: Path, given: Path | None) -> Path:
    """The user's own copy of an archive, checked, or a fetched one."""
    own = given / archive.name if given else None
    if own and (own.exists() or own.is_symlink()):
        try:
            found = digest_fits(own, archive.check)
        except OSError as error:
            raise InputError(f"{own}: cannot be read ({error.strerror}); mend it, or take it away") from None
        if found:
            raise InputError(f"{own}: is another file ({found}, expected {archive.check}); replace it, or take it away")
        return own
    target = folder / archive.name
    if not target.exists():
        download(archive.url, target, archive.check)
    elif found := digest_fits(target, archive.check):
        raise InputError(f"{target}: is another file ({found}, expected {archive.check}); delete it")
    return target


def _convert(source: Path, archive: Archive, target: Path) -> None:
    """Keep what the encoder uses of a weight file."""
    state = {name: value.contiguous() for name, value in cut_after_layer3(read_state(source)).items()}
    about = {"source": archive.url, "check": archive.check, "cut": "after layer3"}
    with whole_file(target) as scratch:
        save_file(state, scratch, {"about": json.dumps(about, sort_keys=True)})
        scratch.chmod(0o644)


def run(*, what: str, out: Path, archives: Path | None = None) -> None:
    """Fetch and unpack what is not there yet; ``archives`` is a folder of files that the user already has."""
    if what not in CATALOGUE:
        raise InputError(
            f"--what is '{what}'; expected one of {', '.join(CATALOGUE)} ({nearest(what, list(CATALOGUE))})"
        )
    if archives and not archives.is_dir():
        raise InputError(f"--archives is {archives}, which is no folder; give the one that holds the official files")
    for archive in CATALOGUE[what]:
        target = out / archive.target
        try:
            with _alone(out):
                _bring(archive, target, out / "archives", archives)
        except OSError as error:
            raise InputError(f"{target}: cannot be written ({error.strerror}); give another folder as --out") from None


def _bring(archive: Archive, target: Path, folder: Path, given: Path | None) -> None:
    """Make one target, unless it is there."""
    if archive.there(target):
        say(f"{target}: is there already")
        return
    for path in remove_scratch(target):
        say(f"{path}: left by a run that was killed, removed")
    source = _archive(archive, folder, given)
    if archive.places:
        say(f"{target}: {unpack(source, target, archive.places)} files")
    else:
        _convert(source, archive, target)
        say(f"{target}: written")
