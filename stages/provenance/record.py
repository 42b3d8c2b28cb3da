"""What an artifact was made from: one small JSON record per job, in a folder beside the artifacts'.

A stage process writes it last, after its outputs are whole. It holds nothing that differs between two machines that do
the same: no time, no host, no absolute path.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from novelseg.core.files import whole_file
from novelseg.formats.provenance import Record
from stages.provenance.code import code_digest
from stages.provenance.digests import Digests

# Packages that a result can depend on, by the name they are imported as.
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
# Folders in the project whose files are made by other stages, and have records of their own.
ARTIFACTS = frozenset({"artifacts", "report"})


def artifact_files(path: Path | str) -> list[str]:
    """A file of the project's artifacts as its path there, a folder of them file by file; empty for all else."""
    inside = os.path.relpath(path).replace(os.sep, "/")
    if inside.split("/")[0] not in ARTIFACTS:
        return []
    if not os.path.isdir(path):  # noqa: PTH112  (strings, not paths: an engine asks for thousands whenever it starts)
        return [inside]
    return [file.as_posix() for file in sorted(Path(inside).rglob("*")) if file.is_file() and file.name[0] != "."]


def _inputs(options: dict[str, Any], digests: Digests) -> dict[str, str]:
    """Digest of each input: an artifact by its path, what is given from outside by the option's name."""
    found: dict[str, str] = {}
    for option, value in options.items():
        for path in value if isinstance(value, list) else [value] if isinstance(value, Path) else []:
            names = artifact_files(path)
            found |= {name: digests.of(name) or "" for name in names} if names else {option: digests.of(path) or ""}
    return found


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """Versions of Python and of those packages among these that matter, as far as they tell."""
    found, wanted = {"python": platform.python_version()}, set(names)
    for name, package in PACKAGES.items():
        if name in wanted:
            with suppress(importlib.metadata.PackageNotFoundError):  # installed under another name, a GPU build say
                found[name] = importlib.metadata.version(package)
    return found


def files_of(out: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of an output, or of every file of an output folder."""
    files = [path for path in out.rglob("*") if path.is_file()] if out.is_dir() else [out] if out.exists() else []
    return {path.as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


class Recorder:
    """Provenance of a stage's run: made before it, written after it; an earlier record is gone meanwhile.

    Inputs are digested, and the code read, before the work: a change meanwhile shows as a difference later.
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
        self._made: dict[str, Any] = {
            "stage": stage,
            "options": {key: str(value) for key, value in scientific.items() if isinstance(value, (int, str))},
            "parameters": json.loads(json.dumps(parameters)),
            "code": code_digest(stage),
            "inputs": _inputs(scientific, digests),
        }
        self._before = files_of(self._out)

    def write(self) -> None:
        """Digest what the run has written, and write the record."""
        after = files_of(self._out)
        written = sorted(file for file, stat in after.items() if self._before.get(file) != stat)
        outputs = {file: self._digests.of(file) or "" for file in written}
        record = Record(**self._made, outputs=outputs, versions=versions_of(sys.modules))
        with whole_file(self._path) as scratch:
            scratch.write_text(json.dumps(asdict(record), indent=1, sort_keys=True) + "\n", encoding="utf8")
