"""Snakemake in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from novelseg.core.errors import InputError


def _require_cache() -> None:
    """Refuse a home folder in which Snakemake cannot keep its cache, since it would end in a traceback.

    Raises
    ------
    InputError
        If the folder cannot be made or written.
    """
    top = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    try:
        (top / "snakemake").mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(top / "snakemake", os.W_OK) else "Permission denied"
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        raise InputError(
            f"Snakemake cannot write its cache in {top} ({reason}); set XDG_CACHE_HOME to a folder that may be written"
        )


def snakemake(
    words: list[str], *, captured: bool, folder: Path = Path(), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a folder, the project's by default; what it prints is text in UTF-8, whatever the terminal's.

    Raises
    ------
    InputError
        If Snakemake cannot write its cache.
    """
    _require_cache()
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *words],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=captured,
        encoding="utf8",
        errors="replace",
        check=False,
    )
