"""What is asked of DVC, through its Python interface; nothing else imports it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo

from stages.core.digests import Digests
from stages.core.errors import InputError


@contextmanager
def _repository() -> Iterator[Any]:
    try:
        with Repo() as repo:
            yield repo
    except DvcException as error:
        raise InputError(f"DVC: {' '.join(str(error).split())}") from None


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


def commit(stages: list[str] | None, digests: Digests) -> None:
    """Record the present outputs of stages (None: of all) in ``dvc.lock``, and keep them in the cache."""
    with _repository() as repo:
        _teach(repo, _outputs(), digests)
        for stage in [None] if stages is None else stages:
            repo.commit(stage, force=True, allow_missing=True)
        for path in _outputs():
            _known(repo, path, digests)


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
