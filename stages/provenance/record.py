"""Provenance records: one small JSON file per job, in a folder beside the artifacts'.

A stage writes its record last, after its outputs are complete. A record holds no time, host or absolute path, so that
the same job on two machines gives the same record.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from novelseg.core.files import whole_file
from novelseg.formats.provenance import Record
from stages.provenance.code import code_digest, packages
from stages.provenance.digests import Digests

# Packages on which a result can depend, by the name of their import.
PACKAGES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "torch": "torch",
    "h5py": "h5py",
    "faiss": "faiss-cpu",
    "skimage": "scikit-image",
    "cv2": "opencv-python-headless",
    "higra": "higra",
    "pandas": "pandas",
    "PIL": "pillow",
    "kornia": "kornia",
    "pycocotools": "pycocotools",
}
# Folders of the project whose files stages write, each with a record of its own.
ARTIFACTS = frozenset({"artifacts", "report"})


def artifact_files(path: Path | str) -> list[str]:
    """Return the artifacts at a path: the file, or all files in a folder; none if the path is not an artifact."""
    inside = os.path.relpath(path).replace(os.sep, "/")
    if inside.split("/")[0] not in ARTIFACTS:
        return []
    if not os.path.isdir(path):  # noqa: PTH112  (strings are faster than paths; an engine checks thousands at start)
        return [inside]
    return [file.as_posix() for file in sorted(Path(inside).rglob("*")) if file.is_file() and file.name[0] != "."]


def _inputs(options: dict[str, Any], digests: Digests) -> dict[str, str]:
    """Return the digest of each input: of an artifact by its path, of an outside file or folder by its option.

    Several outside files of one option are numbered, so that the record holds all of them, in order.
    """
    md5s: dict[str, str] = {}
    for option, value in options.items():
        paths = value if isinstance(value, list) else [value] if isinstance(value, Path) else []
        for number, path in enumerate(paths):
            names = artifact_files(path)
            key = option if len(paths) == 1 else f"{option} {number}"
            md5s |= {name: digests.of(name) or "" for name in names} if names else {key: digests.of(path) or ""}
    return md5s


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python and of those packages in ``names`` on which a result can depend."""
    versions, imported = {"python": platform.python_version()}, set(names)
    for name, package in PACKAGES.items():
        if name in imported:
            with suppress(importlib.metadata.PackageNotFoundError):  # installed under another name, such as a GPU build
                versions[name] = importlib.metadata.version(package)
    return versions


def files_of(out: Path) -> dict[str, tuple[int, int]]:
    """Return the inode and modification time (ns) of an output file, or of every file in an output folder."""
    files = [path for path in out.rglob("*") if path.is_file()] if out.is_dir() else [out] if out.exists() else []
    return {path.as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


class Recorder:
    """Provenance of one run of a stage: created before the run, written after it; an earlier record is removed first.

    Inputs and code are digested before the run, so that a change during it shows as a difference later.
    """

    def __init__(
        self,
        path: Path,
        stage: str,
        options: dict[str, Any],
        parameters: dict[str, dict[str, Any]],
        digests: Digests,
    ) -> None:
        path.unlink(missing_ok=True)
        self._path, self._digests, self._out = path, digests, Path(options["out"])
        scientific = {key: value for key, value in options.items() if key != "out"}
        self._facts: dict[str, Any] = {
            "stage": stage,
            "options": {key: str(value) for key, value in scientific.items() if isinstance(value, (int, str))},
            "parameters": json.loads(json.dumps(parameters)),
            "code": code_digest(stage),
            "inputs": _inputs(scientific, digests),
        }
        self._before = files_of(self._out)

    def write(self) -> list[str]:
        """Digest the files that the run has written, write the record, and return the files."""
        after = files_of(self._out)
        written = sorted(file for file, stat in after.items() if self._before.get(file) != stat)
        outputs = {file: self._digests.of(file) or "" for file in written}
        record = Record(**self._facts, outputs=outputs, versions=versions_of(packages(self._facts["stage"])))
        with whole_file(self._path) as scratch:
            scratch.write_text(json.dumps(asdict(record), indent=1, sort_keys=True) + "\n", encoding="utf8")
        return written
