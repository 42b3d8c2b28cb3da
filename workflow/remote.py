"""Access to DVC through its Python interface; no other module imports DVC."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.exceptions import DownloadError, DvcException
from dvc.repo import Repo, lock_repo
from dvc.repo.stage import StageInfo
from dvc.scm import SCMError
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import dumps_yaml, load_yaml, parse_yaml
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree

from novelseg.core.errors import InputError
from novelseg.core.files import whole_file
from stages.provenance.digests import Digests
from workflow.faults import refusal
from workflow.lockfile import LOCK_FILE

FETCH_REFUSED = (
    "nothing was put in place, since the remote does not have what dvc.lock names; remove damaged objects there, and "
    "push again from a machine that has the files:"
)


NO_GIT = (
    "there is no git repository here, which DVC needs: run `git init`, or `dvc config --local core.no_scm true` to do "
    "without"
)


@contextmanager
def _repository() -> Iterator[Any]:
    try:
        with Repo() as repo:
            yield repo
    except InputError:
        raise
    except Exception as error:
        if isinstance(error, SCMError) and "is not a git repository" in str(error):
            raise InputError(f"DVC: {NO_GIT}") from error
        text = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"DVC: {text}") from error


def cache_folder() -> Path:
    """Return the folder in which DVC keeps objects on this machine."""
    with _repository() as repo:
        return Path(repo.cache.local.path)


def _name_outputs(repo: Any) -> None:
    """Let targets name outputs, or files in them, and no stages.

    To see whether a target is a stage, DVC reads ``dvc.yaml`` and ``dvc.lock`` anew for each, which takes most of the
    time of a command with many targets.
    """

    def collect(target: str | None = None, **_: object) -> list[StageInfo]:
        if not target:
            return [StageInfo(stage) for stage in repo.index.stages]
        (out,) = repo.find_outs_by_path(target, strict=False)
        return [StageInfo(out.stage, repo.fs.abspath(target))]

    repo.stage.collect_granular = collect


def _learn_digest(repo: Any, path: Path, digests: Digests) -> None:
    """Take over DVC's digest of a file that DVC has just put in place."""
    _, entry = repo.state.get(str(path.absolute()), repo.fs)
    if entry is not None:
        digests.learn(path, entry.value)


def present_outputs() -> Iterator[Path]:
    """Yield the artifacts and files of the report that are on this machine."""
    return (path for top in ("artifacts", "report") for path in Path(top).rglob("*") if path.is_file())


def _pass_digests(repo: Any, paths: Iterable[Path], digests: Digests) -> None:
    known = ((str(path.absolute()), digests.known(path)) for path in paths)
    repo.state.save_many(((path, HashInfo("md5", md5), None) for path, md5 in known if md5), repo.fs)


def pass_digests(paths: Iterable[Path], digests: Digests) -> None:
    """Pass the digests of files that a stage has just written to DVC, so that no large file is read twice."""
    with _repository() as repo:
        _pass_digests(repo, paths, digests)


@contextmanager
def changed_stages(digests: Digests) -> Iterator[Callable[[], None]]:
    """Compare all stages with ``dvc.lock``, and yield the function that records those that have changed.

    It keeps their present outputs in the cache. Outputs that are not on this machine, as in a clone that fetched only
    some stages, keep their entries in ``dvc.lock``.
    """
    with _repository() as repo:
        _pass_digests(repo, present_outputs(), digests)
        with lock_repo(repo):  # held throughout, since DVC forgets what it has read of dvc.yaml with each release
            changed = repo.status()
            stages = [stage for stage in repo.index.stages if stage.addressing in changed]

            def commit() -> None:
                for stage in stages:
                    # `dvc commit` would fail on absent inputs, which it needs for a run cache that is not used here.
                    stage.save(allow_missing=True, run_cache=False)
                    stage.commit(allow_missing=True)
                if stages:
                    _write_lock(stages)
                    for path in present_outputs():
                        _learn_digest(repo, path, digests)

            yield commit


def _write_lock(stages: list[Any]) -> None:
    """Write stages to ``dvc.lock`` at once, as DVC's own function does in place and for each stage.

    DVC reads the file in a way that keeps comments, which is slow, and which a file that programs write does not need.
    """
    text = LOCK_FILE.read_text(encoding="utf8") if LOCK_FILE.exists() else ""
    before = parse_yaml(text, str(LOCK_FILE))
    lock = before or {"schema": "2.0"}
    lock = {**lock, "stages": dict(lock.get("stages", {}))}
    for stage in stages:
        lock["stages"].update(to_lockfile(stage))
    if lock == before:
        return
    with whole_file(LOCK_FILE) as scratch:
        scratch.write_text(dumps_yaml(lock), encoding="utf8")


def locked_stages() -> dict[str, Any]:
    """Read the stages of ``dvc.lock`` as DVC does.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    try:
        stages = dict(load_yaml("dvc.lock")["stages"].items())
        paths = [out["path"] for stage in stages.values() for out in stage["outs"]]
    except (DvcException, AttributeError, KeyError, TypeError):
        paths = [None]
    if not all(isinstance(path, str) for path in paths):
        raise InputError("dvc.lock: not a valid lock file; resolve its conflicts, or run `git checkout dvc.lock`")
    return stages


def listing_digest(files: dict[str, str]) -> str:
    """Return the digest that ``dvc.lock`` records for a folder, given the MD5 of each file by relative path."""
    tree = Tree()
    for path, md5 in files.items():
        tree.add(tuple(path.split("/")), None, HashInfo("md5", md5))
    tree.digest()
    return str(tree.hash_info.value)


def push(remote: str | None) -> int:
    """Send the files that the remote lacks and return their number."""
    with _repository() as repo:
        repo.drop_data_index()
        return int(repo.push(remote=remote))


def _object(repo: Any, md5: str) -> Path:
    return Path(repo.cache.local.path, md5[:2], md5[2:])


def _files_of(repo: Any, out: dict[str, Any], digests: Digests) -> dict[str, str] | str:
    """Return the files of an output in ``dvc.lock`` with their MD5, or the fault of the list of its files."""
    path, md5 = out["path"], str(out.get("md5", ""))
    if not md5.endswith(".dir"):
        return {path: md5} if md5 else {}
    listing = _object(repo, md5)
    if fault := _fault(listing, md5, digests):
        return f"{path}: the list of its files, or one of them, {fault}"
    return {f"{path}/{file['relpath']}": file["md5"] for file in json.loads(listing.read_text(encoding="utf8"))}


def _fault(file: Path, md5: str, digests: Digests) -> str:
    """Return what is wrong with an object in the cache, which is read once; empty if nothing is."""
    if not file.exists():
        return "is not in the remote"
    return "" if digests.of(file) == md5.removesuffix(".dir") else f"is damaged in the remote: {_place(md5)}"


def _fetched_files(repo: Any, targets: list[str] | None, digests: Digests) -> dict[str, str]:
    """Return the fetched files, with the MD5 of their content.

    Raises
    ------
    InputError
        If an object is missing, or its content does not have the MD5 that is its name; damaged objects are removed from
        the cache.
    """
    files: dict[str, str] = {}
    faults: list[str] = []
    outs = [out for stage in locked_stages().values() for out in stage.get("outs", [])]
    for out in outs:
        wanted = [name for name in targets or [""] if f"{out['path']}/".startswith(f"{name}/" if name else "")]
        if not wanted:
            continue
        listed = _files_of(repo, out, digests)
        if isinstance(listed, str):
            faults.append(listed)
            _object(repo, out["md5"]).unlink(missing_ok=True)
            continue
        for path, md5 in listed.items():
            if fault := _fault(_object(repo, md5), md5, digests):
                faults.append(f"{path} {fault}")
                _object(repo, md5).unlink(missing_ok=True)
        files |= listed
    if faults:
        raise refusal(FETCH_REFUSED, faults)
    return files


def _damaged_lists(repo: Any, targets: list[str] | None, remote: str | None) -> list[str]:
    """Return the faults of the lists of files in the remote, at which DVC fails without naming the output."""
    odb = repo.cloud.get_remote_odb(remote, "fetch")
    faults = []
    for stage in locked_stages().values():
        for out in stage.get("outs", []):
            path, md5 = out["path"], str(out.get("md5", ""))
            listing = odb.oid_to_path(md5)
            if not md5.endswith(".dir") or (targets and path not in targets) or not odb.fs.exists(listing):
                continue
            with odb.fs.open(listing, "rb") as file:
                if f"{hashlib.md5(file.read()).hexdigest()}.dir" != md5:
                    faults.append(f"{path}: the list of its files is damaged in the remote: {_place(md5)}")
    return faults


def _identity(path: str) -> tuple[int, int, int] | None:
    file = Path(path)
    if not file.exists():
        return None
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _place(md5: str) -> str:
    return f"the content of files/md5/{md5[:2]}/{md5[2:]} has another checksum"


def pull(targets: list[str] | None, remote: str | None, digests: Digests) -> int:
    """Fetch outputs, put them in place and return the number of fetched files.

    Every fetched object is read once: DVC itself does not compare content with checksum, and would believe what a
    damaged remote sends.

    Raises
    ------
    InputError
        If an object is missing in the remote or damaged; nothing is put in place.
    """
    with _repository() as repo:
        _name_outputs(repo)
        # A killed command may have left a folder there without its files, which would then neither be fetched nor put
        # in place; the lists of files in the cache say the same, whole.
        repo.drop_data_index()
        try:
            fetched = int(repo.fetch(targets=targets, remote=remote))
        except DownloadError:
            _fetched_files(repo, targets, digests)  # names what is missing or damaged
            raise
        except Exception:
            if faults := _damaged_lists(repo, targets, remote):
                raise refusal(FETCH_REFUSED, faults) from None
            raise
        files = _fetched_files(repo, targets, digests)
        before = {path: _identity(path) for path in files}
        repo.checkout(targets=targets)
        for path, md5 in files.items():
            # What lay here before was not read, and is read by whoever asks for its digest.
            if _identity(path) != before[path]:
                digests.learn(path, md5)
        if absent := [path for path in files if not Path(path).exists()]:
            raise InputError(f"{absent[0]}: was fetched but not put in place ({len(absent)} such files); pull again")
        return fetched
