"""Python commands of the tests, started in milliseconds: a process that has imported the packages forks for each.

Most of the seconds of a small pipeline run are imports of torch, Snakemake and DVC, anew for each of its jobs. A `Warm`
process has them imported (the packages alone, nothing of this repository). ``python``, ``snakemake``, ``dvc`` and
``novelseg`` of its folder, which the tests put first on the path, ask it for a fork that goes on in the caller's
folder, with the caller's environment, arguments and standard streams. Engines, jobs and processes are the real ones;
tests that watch processes (kills, signals, imports) use the plain interpreter.

Run as a script, this file is that process.
"""

from __future__ import annotations

import array
import atexit
import functools
import gc
import importlib
import marshal
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

PACKAGES = (
    "faiss", "h5py", "jinja2", "lightning_fabric", "matplotlib.figure", "PIL.Image", "pandas", "pydantic",
    "ruamel.yaml", "safetensors.torch", "scipy.ndimage", "skimage.measure", "torch.nn.functional", "yaml",
    "snakemake.cli", "snakemake.workflow", "snakemake.dag", "snakemake.scheduling.job_scheduler", "snakemake.storage",
    "smart_open", "configobj", "dulwich.ignore", "dulwich.index", "fsspec.implementations.memory", "scmrepo.git",
    "dvc.cachemgr", "dvc.cli", "dvc.data_cloud", "dvc.dvcfile", "dvc.fs", "dvc.lock", "dvc.rwlock", "dvc.scm",
    "dvc.commands.repro", "dvc.commands.status", "dvc.stage.run", "dvc_data.index", "dvc_data.hashfile.status",
    "dvc.repo", "dvc.repo.artifacts", "dvc.repo.commit", "dvc.repo.datasets", "dvc.repo.index", "dvc.repo.metrics",
    "dvc.repo.open_repo", "dvc.repo.params", "dvc.repo.plots", "dvc.repo.reproduce", "dvc.repo.stage",
    "dvc.repo.status",
)  # fmt: skip

PARSERS = {"snakemake.cli": "get_argument_parser", "dvc.cli.parser": "get_main_parser"}

# The caller's side, in a Python that starts without its site packages: pass everything on, wait, end as the fork ended.
CALLER = """#!{python} -IS
import marshal, os, signal, socket, sys
name = os.path.basename(sys.argv[0])
words = sys.argv[1:] if name == "python" else ["-m", name, *sys.argv[1:]]
if len(words) < 2 or words[0] != "-m":
    os.execv({python!r}, [{python!r}, *words])
asked = socket.socket(socket.AF_UNIX)
asked.connect({address!r})
content = marshal.dumps((os.getcwd(), words[1:], dict(os.environ)))
socket.send_fds(asked, [len(content).to_bytes(8, "big")], [0, 1, 2])
asked.sendall(content)
child = int.from_bytes(asked.recv(8), "big")
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: os.kill(child, number))
ended = int.from_bytes(asked.recv(8), "big", signed=True)
if ended < 0:
    if -ended != signal.SIGKILL:
        signal.signal(-ended, signal.SIG_DFL)
    os.kill(os.getpid(), -ended)
os._exit(ended)
"""


class Warm:
    """The process that forks; once ended, it counts with its forks among the children of this process.

    Attributes
    ----------
    folder
        Holds ``python``, ``snakemake``, ``dvc`` and ``novelseg``.
    """

    def __init__(self) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="warm-")
        self.folder = Path(self._scratch.name)
        address = str(self.folder / "socket")
        given = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        given["PYTHONWARNINGS"] = "default"
        command = [sys.executable, __file__, address]
        self._process = subprocess.Popen(command, cwd="/", env=given, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        for name in ("python", "snakemake", "dvc", "novelseg"):
            (self.folder / name).write_text(CALLER.format(python=sys.executable, address=address))
            (self.folder / name).chmod(0o755)

    def end(self) -> None:
        """End the process."""
        self._process.communicate()
        self._scratch.cleanup()


@functools.cache
def started() -> Warm:
    """Give the process of these tests; it starts when it is first needed."""
    return Warm()


def end() -> None:
    """End the process of these tests, if it has been started."""
    if started.cache_info().currsize:
        started().end()
        started.cache_clear()


class _Server:
    """Forks for each caller, until the tests close its standard input."""

    def __init__(self, address: str) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._ended, writing = os.pipe()  # gets a byte when a fork ends
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._shims = Path(address).parent
        self._callers: dict[int, socket.socket] = {}
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(address)
        self._listening.listen(64)
        self._watched = selectors.DefaultSelector()
        for source in (0, self._ended, self._listening):
            self._watched.register(source, selectors.EVENT_READ)

    def serve(self) -> str:
        """Serve; return in each fork, in the place of its caller, with the module to run."""
        os.write(1, b"ready\n")
        while True:
            for key, _ in self._watched.select():
                if key.fileobj == 0:
                    self._end()
                elif key.fileobj == self._ended:
                    self._report()
                elif key.fileobj is not self._listening:
                    self._gone(key.fileobj)
                elif (module := self._answer()) is not None:
                    return module

    def _end(self) -> None:
        for child in self._callers:
            os.kill(child, signal.SIGKILL)
        for child in self._callers:
            os.waitpid(child, 0)
        os._exit(0)

    def _report(self) -> None:
        os.read(self._ended, 4096)
        for child, caller in list(self._callers.items()):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                del self._callers[child]
                self._watched.unregister(caller)
                with suppress(OSError):
                    caller.sendall(os.waitstatus_to_exitcode(status).to_bytes(8, "big", signed=True))
                caller.close()

    def _gone(self, gone: object) -> None:
        """End the command of a caller that was killed."""
        child = next(child for child, caller in self._callers.items() if caller is gone)
        self._watched.unregister(self._callers[child])
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)

    def _answer(self) -> str | None:
        caller, _ = self._listening.accept()
        head, ancillary, *_ = caller.recvmsg(8, socket.CMSG_LEN(3 * array.array("i").itemsize))
        streams = array.array("i", ancillary[0][2])
        content = b""
        while len(content) < int.from_bytes(head, "big"):
            content += caller.recv(1 << 20)
        child = os.fork()
        if not child:
            caller.close()
            return self._become(streams, *marshal.loads(content))
        for stream in streams:
            os.close(stream)
        caller.sendall(child.to_bytes(8, "big"))
        self._callers[child] = caller
        self._watched.register(caller, selectors.EVENT_READ)
        return None

    def _become(self, streams: array.array[int], folder: str, words: list[str], environment: dict[str, str]) -> str:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        self._watched.close()
        for connection in (self._listening, *self._callers.values()):
            connection.close()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = None
        sys.argv = words
        sys.executable = str(self._shims / "python")
        sys.path[:0] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
        return words[0]


def _run(module: str) -> int:
    """Run a module as ``python -m`` does, after the script in ``$RUN_FIRST``; give its exit status."""
    try:
        if first := os.environ.get("RUN_FIRST"):
            runpy.run_path(first)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException:  # noqa: BLE001 - Python's own last words on whatever it was
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def main() -> None:
    """Import the packages and serve; in a fork, run its module."""
    del sys.path[0]  # the folder of the tests
    for package in PACKAGES:
        importlib.import_module(package)
    for module, name in PARSERS.items():  # which imports every command and plugin
        getattr(importlib.import_module(module), name)()
    gc.freeze()
    status = _run(_Server(sys.argv[1]).serve())
    # The end of Python, but for taking all modules apart, which costs a fork a second.
    ending: Any = threading
    ending._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
