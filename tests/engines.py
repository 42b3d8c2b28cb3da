"""The real Snakemake, DVC and git on small copies of the house."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from tests.inprocess import command
from tests.makers import tiny_values, write_values
from tests.test_house import copy_house
from tests.warm import started
from workflow.forecast import jobs_to_run, read_candidates

PYTHON = Path(sys.executable)
NOTHING = "Nothing to be done"
CLEAN = "Data and pipelines are up to date."


def environment(folder: Path, *, warm: bool = False, **more: str) -> dict[str, str]:
    """Environment of a command in a project folder, with this Python's tools and the folder's own code.

    Its Python starts ``warm`` (`tests.warm`), or as everywhere.
    """
    path = os.pathsep.join([*([str(started().folder)] if warm else []), str(PYTHON.parent), os.environ["PATH"]])
    who = {f"GIT_{role}_{part}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    # One core count for all: threads may change the last digit of a training.
    given = {name: value for name, value in os.environ.items() if name != "NOVELSEG_DATA"}
    return {**given, **who, "PATH": path, "PYTHONPATH": str(folder), "PYTHONWARNINGS": "default", **more}


def call(folder: Path, *words: str, rc: int = 0, **more: str) -> str:
    """Run a command in a project folder; give what it printed.

    What sets variables of Python's own gets a Python that has read them at its start.
    """
    variables = environment(folder, warm=not any(name.startswith("PYTHON") for name in more), **more)
    program = shutil.which(words[0], path=variables["PATH"])
    found = subprocess.run(
        [program or words[0], *words[1:]],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    printed = found.stdout + found.stderr
    assert found.returncode == rc, printed[-4000:]
    return printed


def snakemake(folder: Path, *words: str, rc: int = 0, **more: str) -> str:
    """Run Snakemake."""
    return call(folder, "python", "-m", "snakemake", *words, rc=rc, **more)


def dvc(folder: Path, *words: str, rc: int = 0, **more: str) -> str:
    """Run DVC."""
    return call(folder, "python", "-m", "dvc", *words, rc=rc, **more)


def workflow(folder: Path, *words: str, rc: int = 0, **more: str) -> str:
    """Run an everyday command."""
    return call(folder, "python", "-m", "workflow", *words, rc=rc, **more)


def git(folder: Path, *words: str) -> str:
    """Run git."""
    return call(folder, "git", *words)


def commit(folder: Path, message: str) -> None:
    """Commit everything."""
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", message)


def jobs(printed: str) -> dict[str, int]:
    """Jobs that Snakemake lists first, by rule."""
    table = printed.partition("Job stats:")[2].partition("\ntotal ")[0]
    rows = [line.split() for line in table.splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit() and row[0] != "all"}


def planned(folder: Path, **more: str) -> dict[str, int]:
    """Jobs that Snakemake would run."""
    return jobs(call(folder, "python", "-m", "snakemake", "-n", rc=0, **more))


def forecast(folder: Path) -> dict[str, int]:
    """Jobs that the forecast says would run, by stage."""
    listing = folder.with_name("jobs.json")
    snakemake(folder, "--list-rules", NOVELSEG_JOBS=str(listing))
    with contextlib.chdir(folder):
        found = jobs_to_run(read_candidates(listing), lambda path: Path(path).exists())
    return dict(Counter(job.stage for job in found))


def at_rest(folder: Path) -> bool:
    """Whether both engines have nothing to do."""
    assert NOTHING in snakemake(folder, "-n")
    assert CLEAN in dvc(folder, "status")
    return True


def set_values(folder: Path, **changes: dict[str, Any]) -> None:
    """Edit the parameter file."""
    values = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf8"))
    for section, entries in changes.items():
        values[section].update(entries)
    write_values(folder / "params.yaml", values)


def new_project(folder: Path) -> Path:
    """The house without its documents and tests, with the tiny experiment, as a git repository of its own."""
    folder.mkdir()
    copy_house(folder, without=("docs", "tests"))
    write_values(folder / "params.yaml", tiny_values())
    (folder / "dvc.lock").unlink(missing_ok=True)
    # A thread a job: on a busy machine a job's threads burn more time waiting for each other than they compute.
    profile = folder / "profiles/default/config.yaml"
    profile.write_text(profile.read_text(encoding="utf8").replace("cores: all", "cores: 1"), encoding="utf8")
    git(folder, "init", "-q")
    commit(folder, "tiny")
    return folder


def clone(origin: Path, folder: Path, *stages: str) -> Path:
    """Clone and pull."""
    git(folder.parent, "clone", "-q", str(origin), folder.name)
    workflow(folder, "pull", *stages)
    return folder


def publish(folder: Path, message: str) -> None:
    """Commit, push the data, push the commit."""
    commit(folder, message)
    command(folder, "push")
    git(folder, "push", "-q")


def new_team(base: Path) -> None:
    """Make `first`, which Snakemake has run and pushed to a shared folder, its bare `origin.git`, and a `clone`."""
    base.mkdir()
    first = new_project(base / "first")
    dvc(first, "remote", "add", "-d", "shared", str(base / "shared"))
    assert "recorded in dvc.lock" in snakemake(first)
    commit(first, "run")
    assert "pushed" in workflow(first, "push")
    git(first, "gc", "-q")  # a few files instead of a thousand, of which every test gets a copy
    git(base, "clone", "-q", "--bare", "first", "origin.git")
    clone(base / "origin.git", base / "clone")
