"""The library on other systems: nothing needs POSIX to be imported, and one lock holds everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from novelseg.core.errors import InputError
from novelseg.core.files import whole_file, whole_folder
from novelseg.core.lock import exclusive
from workflow.checks import imported_names

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parent.parent
POSIX_ONLY = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog")

IMPORT_COMMANDS = f"""
import importlib, pkgutil, sys, warnings
warnings.simplefilter("ignore")  # filelock's, that it has no native lock
for name in {POSIX_ONLY}:
    sys.modules[name] = None
import novelseg.cli
for found in pkgutil.iter_modules(novelseg.cli.__path__, "novelseg.cli."):
    importlib.import_module(found.name)
import workflow.tracking
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, with the packages of this clone."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_commands_and_runs_start_without_what_only_posix_has() -> None:
    process = python(IMPORT_COMMANDS)
    assert process.returncode == 0, process.stderr


def test_no_module_imports_what_only_posix_has() -> None:
    modules = [path for top in ("novelseg", "stages", "workflow") for path in (ROOT / top).rglob("*.py")]
    assert len(modules) > 150
    for path in modules:
        assert not {name.split(".")[0] for name in imported_names(path)} & set(POSIX_ONLY), path


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    lock = tmp_path / "made if need be" / ".lock"
    with exclusive(lock, "somebody is at work"):
        with pytest.raises(InputError, match="somebody is at work"), exclusive(lock, "somebody is at work"):
            pass
        assert lock.read_bytes() == b""
    with exclusive(lock, "free again"):
        pass


def test_a_fault_in_the_block_frees_the_lock_and_passes_through(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="its own"), exclusive(tmp_path / ".lock", "busy"):
        raise TimeoutError("its own")
    with exclusive(tmp_path / ".lock", "free again"):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    code = f"""
import sys, time
from pathlib import Path
from novelseg.core.lock import exclusive
from workflow.checks import imported_names
with exclusive(Path({str(lock)!r}), "busy"):
    print("held", flush=True)
    time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another process"), exclusive(lock, "another process is at work"):
            pass
        process.kill()
    with exclusive(lock, "free"):
        pass


def test_what_is_flushed_is_open_for_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses to flush a file that is open for reading alone."""
    flushed = []

    def fsync(descriptor: int) -> None:
        os.pwrite(descriptor, b"", 0)  # fails where writing is not allowed
        flushed.append(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with whole_file(tmp_path / "file") as scratch:
        scratch.write_bytes(b"content")
    with whole_folder(tmp_path / "folder") as scratch:
        (scratch / "file").write_bytes(b"content")
    assert len(flushed) == 2
