"""Memory of parsed source files, by the digest of their bytes, so that each content is parsed once per project.

Every job and every command needs the digests of a hundred files or more; parsing them takes longer than all else that a
command without work does. An entry cannot be out of date, because its key is the content.
"""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from novelseg.core.errors import InputError
from novelseg.core.files import whole_file

MEMORY = Path(".cache/sources.json")
# Of what an entry is computed with: syntax trees differ between Python versions.
VERSION = f"1 {sys.version_info.major}.{sys.version_info.minor}"


class SourceMemory:
    """Entries of the present folder's project; each holds the imports and the digest of one content."""

    def __init__(self) -> None:
        self._entries: dict[str, Any] = {}
        self._new = False
        with suppress(OSError, ValueError):  # the entries are computed again from the files themselves
            content = json.loads(MEMORY.read_text(encoding="utf8"))
            if isinstance(content, dict) and content.get("version") == VERSION and isinstance(content["entries"], dict):
                self._entries = content["entries"]

    @staticmethod
    def key(content: bytes) -> str:
        """Return the key of a file's bytes."""
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    def get(self, key: str) -> tuple[dict[str, str], str, bool] | None:
        """Return imports, digest and emptiness of a content; None if it has not been parsed or its entry is damaged."""
        match self._entries.get(key):
            case [dict() as imports, str() as digest, bool() as empty]:
                return imports, digest, empty
        return None

    def put(self, key: str, imports: dict[str, str], digest: str, empty: bool) -> None:
        """Add an entry."""
        self._entries[key] = [imports, digest, empty]
        self._new = True

    def save(self) -> None:
        """Write new entries, if the project has a folder for them that may be written."""
        if self._new and MEMORY.parent.is_dir():
            with suppress(InputError, OSError), whole_file(MEMORY) as scratch:
                scratch.write_text(json.dumps({"version": VERSION, "entries": self._entries}), encoding="utf8")
        self._new = False
