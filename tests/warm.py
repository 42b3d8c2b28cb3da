"""Python commands of the tests, started in milliseconds: a process that has imported the packages forks for each.

Most of the seconds of a small pipeline run are imports of torch, Snakemake and DVC, anew for each of its jobs. A `Warm`
process has them imported (the packages alone, nothing of this repository), parses each text of YAML once per command,
and compiles each text of Python once. ``python``, ``snakemake``, ``dvc`` and ``novelseg`` of its folder, which the
tests put first on the path, ask it for a fork that goes on in the caller's folder, with the caller's environment,
arguments and standard streams. Engines, jobs and processes are the real ones; tests that watch processes (kills,
signals, imports) use the plain interpreter.

Run as a script, this file is that process.
"""

from __future__ import annotations

import array
import atexit
import fcntl
import functools
import gc
import hashlib
import importlib
import marshal
import os
import pickle
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

PACKAGES = (
    "cv2", "dvclive", "faiss", "filelock", "h5py", "jinja2", "kornia", "lightning_fabric", "matplotlib.figure",
    "matplotlib.backends.backend_svg", "PIL.Image", "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "pandas",
    "pyarrow.dataset", "pyarrow.parquet", "pydantic", "ruamel.yaml", "safetensors.torch", "scipy.ndimage",
    "skimage.measure", "torch.nn.functional", "yaml",
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
    """The process that forks; once ended, it counts with its forks among the children of the process that started it.

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


class Shared:
    """The warm process of all processes of a suite, which the first of them that needs it starts.

    Parameters
    ----------
    common
        Folder that these processes share: a link ``warm`` leads to the warm process's own folder, and a lock is held by
        all who use it, so that the one that has started it ends it after the others.
    """

    def __init__(self, common: Path) -> None:
        self._link, self._lock, self._own = common / "warm", (common / "warm.lock").open("w"), None
        while True:
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            if self._link.exists():  # and does so until this lock is given back
                break
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if not self._link.exists():
                self._own = Warm()
                self._link.unlink(missing_ok=True)
                self._link.symlink_to(self._own.folder)
        self.folder = self._link.readlink()

    def end(self) -> None:
        """Use it no more; whoever has started it waits for the others and ends it."""
        if self._own:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._own.end()
        self._lock.close()


_common: list[Path] = []


def share(common: Path) -> None:
    """Name the folder that all processes of this suite share, before the first of them needs a warm process."""
    _common[:] = [common]


@functools.cache
def started() -> Warm | Shared:
    """Give the warm process of this suite, or outside a suite of this process; it starts when it is first needed."""
    return Shared(_common[0]) if _common else Warm()


def end() -> None:
    """Let go of the warm process, if this process has used it."""
    if started.cache_info().currsize:
        started().end()
        started.cache_clear()


@functools.cache
def parse_each_text_once() -> None:
    """Let DVC keep what it has parsed and validated; it reads dvc.lock and params.yaml a dozen times per command."""
    import dvc.utils.serialize
    import dvc.utils.serialize._yaml as plain
    import dvc.utils.strictyaml as strict

    parse, validate = plain.parse_yaml, strict.validate
    parsed: dict[str, bytes] = {}
    valid: dict[tuple[str, int], Any] = {}  # the schema, by the text and itself

    def parse_once(text: str, path: str, typ: str = "safe") -> Any:
        if typ == "safe" and text in parsed:
            return pickle.loads(parsed[text])
        data = parse(text, path, typ)
        if typ == "safe":
            parsed[text] = pickle.dumps(data)
        return data

    def validate_once(data: Any, schema: Any, text: str | None = None, *words: Any, **more: Any) -> Any:
        """Validate what was loaded from a text: the loader uses nothing but the faults."""
        if text is None:
            return validate(data, schema, text, *words, **more)
        if (text, id(schema)) not in valid:
            validate(data, schema, text, *words, **more)
            valid[text, id(schema)] = schema
        return data

    for module in (dvc.utils.serialize, plain, strict):
        module.parse_yaml = parse_once
    strict.validate = validate_once


def compile_each_text_once(folder: Path) -> None:
    """Keep compiled modules in a folder, by their text: each test has a copy of the code of its own."""
    files: Any = SourceFileLoader
    compiled, internals = files.source_to_code, importlib.import_module("_imp")

    def source_to_code(loader: SourceFileLoader, data: Any, path: Any, **more: Any) -> Any:
        if not isinstance(data, bytes):
            return compiled(loader, data, path, **more)
        kept = folder / hashlib.md5(data).hexdigest()
        if kept.exists():
            code = marshal.loads(kept.read_bytes())
            internals._fix_co_filename(code, str(path))
            return code
        code = compiled(loader, data, path, **more)
        scratch = kept.with_suffix(f".{os.getpid()}-{threading.get_ident()}")  # several modules may have one text
        scratch.write_bytes(marshal.dumps(code))
        scratch.replace(kept)
        return code

    folder.mkdir()
    files.source_to_code = source_to_code


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
        shutil.rmtree(self._shims, ignore_errors=True)  # also if the one that has started this process was killed
        os._exit(0)

    def _report(self) -> None:
        os.read(self._ended, 4096)
        for child, caller in list(self._callers.items()):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                del self._callers[child]
                with suppress(KeyError):  # the caller has gone before
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
        streams = array.array("i", ancillary[0][2] if ancillary else b"")
        content, size = b"", int.from_bytes(head, "big")
        while len(content) < size and (more := caller.recv(1 << 20)):
            content += more
        if not size or len(content) < size:  # the caller was killed before it had asked
            for stream in streams:
                os.close(stream)
            caller.close()
            return None
        child = os.fork()
        if not child:
            caller.close()
            return self._become(streams, *marshal.loads(content))
        for stream in streams:
            os.close(stream)
        with suppress(OSError):  # a caller that was killed meanwhile is found gone next
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
    parse_each_text_once()
    compile_each_text_once(Path(sys.argv[1]).parent / "code")
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
