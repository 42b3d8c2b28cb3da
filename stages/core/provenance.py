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
    "pycocotools": "pycocotools",
}
# Options that say where and how a stage runs and is watched, not what it computes.
HARDWARE = frozenset({"device", "devices", "threads", "workers", "compiled", "memory_mb", "batch", "live"})

# Folders in the project whose files are made by other stages, and have records of their own.
ARTIFACTS = frozenset({"artifacts", "report"})


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
        MD5 of each file. An artifact is named by its path in the project; what is given from outside the pipeline, a
        file or a folder, by the option that gives it: ``weights``, ``maps``, ``root``.
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
        scientific = {key: value for key, value in options.items() if key not in HARDWARE | {"out"}}
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


def parse_record(text: str) -> Record | None:
    """A record from its JSON; None if that is no record."""
    try:
        made = Record(**json.loads(text))
    except (ValueError, TypeError):
        return None
    texts = isinstance(made.stage, str) and isinstance(made.code, str)
    mappings = (made.options, made.parameters, made.inputs, made.outputs, made.versions)
    return made if texts and all(isinstance(entry, dict) for entry in mappings) and made.outputs else None


def read_record(path: Path) -> Record | None:
    """Read a record; None where there is none, or none that can be read."""
    try:
        return parse_record(path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
