"""Download official data sets and pretrained weights, verify them by checksum, and unpack them.

Writes
    into the data folder ``--out``: ``VOC2012``, ``SBD``, ``COCO2014``, as the stage ``images`` reads them, or
    ``weights/NAME.safetensors``. The downloaded archives are kept in ``archives``. The weights of DINOv3 are not
    downloaded: their owners give them to those who accept their licence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from novelseg.backbones.designs import GATED, VITS, refuse_missing
from novelseg.core.errors import InputError
from novelseg.core.options import Help
from novelseg.core.progress import say
from novelseg.fetch.catalogue import CATALOGUE
from novelseg.fetch.install import install


def run(
    *,
    what: Annotated[str, Help("data set or weight file to fetch", (*CATALOGUE, *GATED))],
    out: Annotated[Path, Help("data folder to fetch into")],
    archives: Annotated[Path | None, Help("folder of official files that were downloaded before")] = None,
) -> None:
    """Download and unpack the files that the data folder does not contain yet."""
    if what in GATED:
        path = out / "weights" / VITS[what].file
        refuse_missing(what, path)
        say(f"{path}: already exists")
        return
    if what not in CATALOGUE:
        raise InputError(f"--what is '{what}'; expected one of {', '.join(CATALOGUE)}")
    if archives and not archives.is_dir():
        raise InputError(f"--archives is {archives}, which is not a folder; give the folder of the official files")
    install(what, out, archives)
