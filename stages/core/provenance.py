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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stages.core.code import code_digest
from stages.core.digests import Digests
from stages.core.files import whole_file

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
}
# Options that say where and how fast a stage runs, not what it computes.
HARDWARE = frozenset({"device", "devices", "threads", "workers", "cache_mb"})

# Folders in the project whose files are made by other stages, and have records of their own.
FILE_BY_FILE = frozenset({"artifacts", "report"})


@dataclass(frozen=True)
class Record:
    """Provenance of one job's outputs.

    Attributes
    ----------
    stage
        Name of the stage.
    options
        Fold, shot, shard, seed, variant: what the job was asked for, as text.
    parameters
        The sections of ``params.yaml`` that the stage reads.
    code
        Digest of the stage's first-party code (`stages.core.code`).
    inputs, outputs
        MD5 of each file. In the project folder a file's name is its path there; elsewhere, its last part.
    versions
        Of Python and of the packages that the stage loaded: for people, never compared.
    """

    stage: str
    options: dict[str, str]
    parameters: dict[str, dict[str, Any]]
    code: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    versions: dict[str, str]


def named(paths: Iterable[Path | str]) -> dict[str, str]:
    """Name each input: in the project by its path, folders of artifacts file by file; elsewhere by its last part."""
    found: dict[str, str] = {}
    for path in map(str, paths):
        # Strings, not paths: an engine asks for thousands of them whenever it starts.
        inside = os.path.relpath(path).replace(os.sep, "/")
        if inside.startswith("../"):
            found[path.rstrip("/").rpartition("/")[2]] = path
        elif inside.split("/")[0] in FILE_BY_FILE and os.path.isdir(path):  # noqa: PTH112
            files = [file for file in sorted(Path(inside).rglob("*")) if file.is_file()]
            found |= {file.as_posix(): str(file) for file in files if not file.name.startswith(".")}
        else:
            found[inside] = path
    return found


def inputs_now(paths: Iterable[Path | str], digests: Digests) -> dict[str, str]:
    """Digest of each input, by its name."""
    return {name: digests.of(path) or "" for name, path in named(paths).items()}


def versions_now() -> dict[str, str]:
    """Versions of Python and of the loaded packages that matter."""
    loaded = {name: importlib.metadata.version(package) for name, package in PACKAGES.items() if name in sys.modules}
    return {"python": platform.python_version(), **loaded}


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
        paths = [value for key, value in options.items() if key != "out" and isinstance(value, Path)]
        lists = [path for value in options.values() if isinstance(value, list) for path in value]
        plain = {key: str(value) for key, value in options.items() if isinstance(value, (int, str))}
        self._made: dict[str, Any] = {
            "stage": stage,
            "options": {key: value for key, value in plain.items() if key not in HARDWARE},
            "parameters": json.loads(json.dumps(parameters)),
            "code": code_digest(stage),
            "inputs": inputs_now([*paths, *lists], digests),
        }
        self._before = files_of(self._out)

    def write(self) -> None:
        """Digest what the run has written, and write the record."""
        after = files_of(self._out)
        written = sorted(file for file, stat in after.items() if self._before.get(file) != stat)
        outputs = {file: self._digests.of(file) or "" for file in written}
        record = Record(**self._made, outputs=outputs, versions=versions_now())
        with whole_file(self._path) as scratch:
            scratch.write_text(json.dumps(asdict(record), indent=1, sort_keys=True) + "\n", encoding="utf8")


def read_record(path: Path) -> Record | None:
    """Read a record; None where there is none, or none that can be read."""
    try:
        return Record(**json.loads(path.read_text(encoding="utf8")))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None
