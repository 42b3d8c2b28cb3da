"""Keep ``dvc.lock`` whole, and repair what a killed DVC has left.

DVC writes ``dvc.lock`` and ``.dvc/tmp/rwlock`` in place, so that a kill or a full disk can cut them short; DVC then
refuses to start. The everyday commands and Snakemake keep a copy of the last whole ``dvc.lock`` and put it back.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from novelseg.core.files import whole_file

LOCK_FILE = Path("dvc.lock")
COPY = Path(".cache/dvc.lock")
TORN = Path(".cache/dvc.lock.torn")
RUNNING = Path(".dvc/tmp/rwlock")
STEADY_S = 2.0  # a damaged file that does not change for so long is not being written
POLL_S = 0.1
CONFLICT = b"<<<<<<<"
ENTRY = {"path": str, "md5": str, "hash": str, "size": int, "nfiles": int}


def _fits(entry: Any) -> bool:
    if not isinstance(entry, dict) or "path" not in entry:
        return False
    return all(isinstance(entry.get(key, kind()), kind) for key, kind in ENTRY.items())


def _stage_fits(stage: Any) -> bool:
    if not isinstance(stage, dict) or not isinstance(stage.get("cmd"), (str, list)):
        return False
    params = stage.get("params", {})
    if not isinstance(params, dict) or not all(isinstance(values, dict) for values in params.values()):
        return False
    lists = [stage.get(key, []) for key in ("deps", "outs")]
    return all(isinstance(entries, list) and all(map(_fits, entries)) for entries in lists)


def is_whole(content: bytes) -> bool:
    """Return whether DVC accepts these bytes as ``dvc.lock``."""
    try:
        lock = YAML(typ="safe").load(content.decode("utf8"))
    except (YAMLError, ValueError):
        return False
    stages = lock.get("stages", {}) if isinstance(lock, dict) and lock.get("schema") == "2.0" else None
    return isinstance(stages, dict) and all(_stage_fits(stage) for stage in stages.values())


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _damaged(path: Path, whole: Callable[[bytes], bool]) -> bytes | None:
    """Return the content of a file that is not whole and that nobody is writing; else None."""
    content, steady = _content(path), 0.0
    while content is not None and not whole(content):
        if steady >= STEADY_S:
            return content
        time.sleep(POLL_S)
        now = _content(path)
        content, steady = now, steady + POLL_S if now == content else 0.0
    return None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _mend_lock() -> None:
    content = _content(LOCK_FILE)
    if content is None or content == _content(COPY):
        return
    if CONFLICT in content:  # of a merge, for people to resolve
        return
    torn = _damaged(LOCK_FILE, is_whole)
    if torn is None:
        with whole_file(COPY) as scratch:
            shutil.copyfile(LOCK_FILE, scratch)
        return
    with whole_file(TORN) as scratch:
        scratch.write_bytes(torn)
    fault = "dvc.lock was incomplete, as after a kill or on a full disk"
    if COPY.exists():
        with whole_file(LOCK_FILE) as scratch:
            shutil.copyfile(COPY, scratch)
        _say(f"{fault}; the state before that is back, and {TORN} holds the incomplete one")
    else:
        LOCK_FILE.unlink(missing_ok=True)
        _say(f"{fault}; it is {TORN} now, as there is no copy of the state before: `python -m workflow record`")


def _lists_commands(content: bytes) -> bool:
    try:
        running = json.loads(content)
    except ValueError:
        return False
    return isinstance(running, dict) and all(isinstance(running.get(key, {}), dict) for key in ("read", "write"))


def mend() -> None:
    """Put back the last whole ``dvc.lock`` if DVC was killed while it wrote the file; else keep a copy of it.

    A damaged list of running DVC commands, which DVC would refuse too, is removed.
    """
    if _damaged(RUNNING, _lists_commands) is not None:
        RUNNING.unlink(missing_ok=True)
        _say(f"{RUNNING} was incomplete, as after a kill or on a full disk, and is removed")
    _mend_lock()
