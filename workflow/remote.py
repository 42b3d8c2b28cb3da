"""What is asked of DVC, through its Python interface; nothing else imports it."""

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
    """Where DVC keeps objects on this machine."""
    with _repository() as repo:
        return Path(repo.cache.local.path)


def _known(repo: Any, path: Path, digests: Digests) -> None:
    """Learn from DVC the digest of a file that it has just put in place."""
    _, found = repo.state.get(str(path.absolute()), repo.fs)
    if found is not None:
        digests.learn(path, found.value)


def _outputs() -> Iterator[Path]:
    return (path for top in ("artifacts", "report") for path in Path(top).rglob("*") if path.is_file())


def _teach(repo: Any, paths: Iterable[Path], digests: Digests) -> None:
    known = ((str(path.absolute()), digests.known(path)) for path in paths)
    repo.state.save_many(((path, HashInfo("md5", md5), None) for path, md5 in known if md5), repo.fs)


def teach(paths: Iterable[Path], digests: Digests) -> None:
    """Tell DVC the digests of files that a stage has just written, so that no large file is read twice."""
    with _repository() as repo:
        _teach(repo, paths, digests)


def commit(digests: Digests) -> None:
    """Record the present outputs of all stages in ``dvc.lock``, and keep them in the cache.

    What is not here, in a clone that has fetched some stages only, stays as ``dvc.lock`` has it.
    """
    with _repository() as repo:
        _teach(repo, _outputs(), digests)
        with repo.lock:
            for stage in repo.index.stages:
                # DVC's own commit asks for absent inputs to key its run cache, which persistent outputs do not use.
                stage.save(allow_missing=True, run_cache=False)
                stage.commit(allow_missing=True)
                stage.dump(update_pipeline=False)
        for path in _outputs():
            _known(repo, path, digests)


def locked_stages() -> dict[str, Any]:
    """Stages of ``dvc.lock``, as DVC reads them.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        stages = dict(load_yaml("dvc.lock")["stages"].items())
        paths = [out["path"] for stage in stages.values() for out in stage["outs"]]
    except (DvcException, AttributeError, KeyError, TypeError):
        paths = [None]
    if not all(isinstance(path, str) for path in paths):
        raise InputError("dvc.lock: not what DVC writes; `git checkout dvc.lock` or resolve its conflicts")
    return stages


def listing_digest(files: dict[str, str]) -> str:
    """Digest by which ``dvc.lock`` names a folder of these files: relative path → MD5."""
    tree = Tree()
    for path, md5 in files.items():
        tree.add(tuple(path.split("/")), None, HashInfo("md5", md5))
    tree.digest()
    return str(tree.hash_info.value)


def push(remote: str | None) -> int:
    """Send what the remote lacks; give the number of files."""
    with _repository() as repo:
        return int(repo.push(remote=remote))


def pull(targets: list[str] | None, remote: str | None, digests: Digests) -> int:
    """Fetch outputs and put them in place; give the number of fetched files."""
    with _repository() as repo:
        stats = repo.pull(targets=targets, remote=remote)["stats"]
        for path in _outputs():
            _known(repo, path, digests)
        return int(stats.get("fetched", 0))
