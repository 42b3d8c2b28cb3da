"""Access to DVC through its Python interface; no other module imports DVC."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.utils.serialize import load_yaml
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree

from novelseg.core.errors import InputError
from stages.provenance.digests import Digests


@contextmanager
def _repository() -> Iterator[Any]:
    try:
        with Repo() as repo:
            yield repo
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"DVC: {text}") from error


def cache_folder() -> Path:
    """Return the folder in which DVC keeps objects on this machine."""
    with _repository() as repo:
        return Path(repo.cache.local.path)


def _learn_digest(repo: Any, path: Path, digests: Digests) -> None:
    """Take over DVC's digest of a file that DVC has just put in place."""
    _, entry = repo.state.get(str(path.absolute()), repo.fs)
    if entry is not None:
        digests.learn(path, entry.value)


def _outputs() -> Iterator[Path]:
    return (path for top in ("artifacts", "report") for path in Path(top).rglob("*") if path.is_file())


def _pass_digests(repo: Any, paths: Iterable[Path], digests: Digests) -> None:
    known = ((str(path.absolute()), digests.known(path)) for path in paths)
    repo.state.save_many(((path, HashInfo("md5", md5), None) for path, md5 in known if md5), repo.fs)


def pass_digests(paths: Iterable[Path], digests: Digests) -> None:
    """Pass the digests of files that a stage has just written to DVC, so that no large file is read twice."""
    with _repository() as repo:
        _pass_digests(repo, paths, digests)


def commit(digests: Digests) -> None:
    """Record the present outputs of all stages in ``dvc.lock`` and keep them in the cache.

    Outputs that are not on this machine, as in a clone that fetched only some stages, keep their entries in
    ``dvc.lock``.
    """
    with _repository() as repo:
        _pass_digests(repo, _outputs(), digests)
        with repo.lock:
            for stage in repo.index.stages:
                # `dvc commit` would fail on absent inputs, which it needs for a run cache that is not used here.
                stage.save(allow_missing=True, run_cache=False)
                stage.commit(allow_missing=True)
            # All at once: DVC reads and writes the whole of dvc.lock for each call.
            repo.index.stages[0].dvcfile.dump_stages(repo.index.stages, update_pipeline=False)
        for path in _outputs():
            _learn_digest(repo, path, digests)


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
        return int(repo.push(remote=remote))


def pull(targets: list[str] | None, remote: str | None, digests: Digests) -> int:
    """Fetch outputs, put them in place and return the number of fetched files."""
    with _repository() as repo:
        stats = repo.pull(targets=targets, remote=remote)["stats"]
        for path in _outputs():
            _learn_digest(repo, path, digests)
        return int(stats.get("fetched", 0))
