"""What both engines would say of a project folder, asked in this process: the judge by its records, DVC by its library.

Starting Snakemake and DVC takes seconds each. ``tests/test_inprocess.py`` shows that the answers are those of the real
engines; scenarios that are about the judge and the audit ask here.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from stages.provenance import code
from stages.provenance.digests import Digests
from tests.warm import parse_each_text_once, started
from workflow import config, recipe
from workflow.judge import Judge
from workflow.plan import READS, record_of


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a project folder with the code that lies there."""
    parse_each_text_once()
    roots = dict(code.ROOTS)
    with contextlib.chdir(folder):
        code.ROOTS.update(dict.fromkeys(roots, folder))
        _forget()
        try:
            yield
        finally:
            code.ROOTS.update(roots)
            _forget()


def _forget() -> None:
    code.forget()
    recipe.forget()


def stale_jobs(folder: Path) -> dict[str, int]:
    """Jobs by stage that are stale, or made from what is stale, by the records."""
    with inside(folder):
        judge = Judge(config.load(), Digests())
        stale: set[str] = set()
        counts: Counter[str] = Counter()
        for stage in READS:
            for outputs in judge.jobs(stage):
                made = judge.record(outputs[0])
                sources = {record_of(name) for name in made.inputs if name.startswith("artifacts/")} if made else set()
                if judge.why(outputs) or sources & stale:
                    stale.add(record_of(outputs[0]))
                    counts[stage] += 1
        return dict(counts)


def changed_for_dvc(folder: Path) -> dict[str, Any]:
    """Stages that ``dvc status`` calls changed, with what it says of them."""
    from dvc.repo import Repo

    with inside(folder), contextlib.redirect_stdout(io.StringIO()), Repo(str(folder)) as repo:
        return dict(repo.status())


def believed_by_dvc(folder: Path) -> None:
    """Let DVC record what lies in a project folder, whatever the provenance records say."""
    from workflow.remote import changed_stages

    with inside(folder), changed_stages(Digests()) as commit:
        commit()


def command(folder: Path, *words: str, rc: int = 0) -> str:
    """An everyday command (``python -m workflow …``) in this process; give what it printed."""
    from workflow.__main__ import main

    printed = io.StringIO()
    starting = mock.patch.object(sys, "executable", str(started().folder / "python"))  # of Snakemake
    with inside(folder), starting, contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        assert main(list(words)) == rc, printed.getvalue()
    return printed.getvalue()


def resting(folder: Path) -> bool:
    """Whether neither engine has anything to do."""
    assert stale_jobs(folder) == {}
    assert changed_for_dvc(folder) == {}
    return True
