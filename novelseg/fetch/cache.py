"""Pretrained weights by name, downloaded once into the user's cache folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from novelseg.backbones.designs import GATED, VITS, refuse_missing
from novelseg.core.errors import InputError
from novelseg.fetch.catalogue import CATALOGUE

WEIGHTS = (*(name for name, archives in CATALOGUE.items() if archives[0].target.startswith("weights/")), *GATED)


def cache_folder() -> Path:
    """Return the folder for downloaded weights.

    ``$NOVELSEG_CACHE``, else ``novelseg`` in the user's cache folder: ``$XDG_CACHE_HOME`` or ``~/.cache``,
    ``~/Library/Caches`` on macOS, ``%LOCALAPPDATA%`` on Windows.
    """
    if own := os.environ.get("NOVELSEG_CACHE"):
        return Path(own)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "novelseg"
    if sys.platform == "win32" and (base := os.environ.get("LOCALAPPDATA")):
        return Path(base) / "novelseg"
    home = Path("~/Library/Caches" if sys.platform == "darwin" else "~/.cache")
    try:
        return home.expanduser() / "novelseg"
    except RuntimeError:
        raise InputError("the home folder is unknown; set NOVELSEG_CACHE to a folder for downloaded weights") from None


def cached_weights(name: str) -> Path:
    """Return the weight file of a name in :data:`WEIGHTS`, after downloading and verifying it at the first use.

    Raises
    ------
    InputError
        If the file cannot be downloaded, or the cache folder cannot be written; if the weights are gated, and the user
        has not put the file into the cache folder.
    """
    folder = cache_folder()
    if name in GATED:
        refuse_missing(name, folder / "weights" / VITS[name].file)
        return folder / "weights" / VITS[name].file
    target = folder / CATALOGUE[name][0].target
    if target.exists():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "permission is missing")
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise InputError(
            f"{folder}: cannot be written ({why}); set NOVELSEG_CACHE to a folder for downloaded weights, or give a "
            "weight file instead of a name"
        ) from None
    from novelseg.fetch.install import install  # imports packages that only downloads need

    return install(name, folder, quiet=True)[0]
