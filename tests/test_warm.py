"""The process that forks commands of the tests outlives callers that are killed."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.warm import started

NAP = """
import os, time
from pathlib import Path

Path("begun").write_text(str(os.getpid()))
Path("begun").rename("pid")
time.sleep(60)
"""


def lives(pid: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.processes
def test_a_killed_caller_ends_its_own_command_only(tmp_path: Path) -> None:
    python, limit = started().folder / "python", time.monotonic() + 30
    (tmp_path / "nap.py").write_text(NAP, encoding="utf8")
    with subprocess.Popen([python, "-m", "nap"], cwd=tmp_path) as caller:
        while not (tmp_path / "pid").exists():
            assert caller.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.01)
        caller.kill()
    while lives(int((tmp_path / "pid").read_text(encoding="utf8"))):
        assert time.monotonic() < limit
        time.sleep(0.01)
    with socket.socket(socket.AF_UNIX) as silent:  # a caller that was killed before it had asked
        silent.connect(str(python.with_name("socket")))
    with socket.socket(socket.AF_UNIX) as halfway:  # and one that was killed while it asked
        halfway.connect(str(python.with_name("socket")))
        socket.send_fds(halfway, [(9).to_bytes(8, "big")], [0, 1, 2])
    subprocess.run([python, "-m", "platform"], cwd=tmp_path, check=True, capture_output=True)
