"""Two engines, one truth: scenarios S1–S8 of docs/team.md with the real git, Snakemake and DVC."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.engines import (
    NOTHING,
    at_rest,
    call,
    commit,
    dvc,
    environment,
    git,
    jobs,
    planned,
    set_values,
    snakemake,
    workflow,
)
from tests.inprocess import changed_for_dvc, command, resting, stale_jobs
from tests.test_house import edit

pytestmark = pytest.mark.engines


def started(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """A command in the background; it prints to run.log beside the folder."""
    command = [sys.executable, "-m", *words]
    with folder.with_name("run.log").open("wb") as log:
        return subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=log, stderr=log)


def descendant(process: subprocess.Popen[bytes], *words: str) -> psutil.Process:
    """Wait for a descendant whose command line holds these words in a row."""
    wanted = " ".join(words)
    for _ in range(600):
        for child in psutil.Process(process.pid).children(recursive=True):
            try:
                line = " ".join(child.cmdline())
            except psutil.Error:
                continue
            if wanted in line and "/bin/sh" not in line and "/bin/bash" not in line:
                return child
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"no process of {wanted}")


def scratch(folder: Path) -> list[Path]:
    """Scratch files that lie in the folders of artifacts."""
    return [path for top in ("artifacts", "provenance", "report") for path in (folder / top).rglob(".*.tmp")]


def test_s1_a_clone_that_has_pulled_has_nothing_to_do(pulled: Path) -> None:
    assert at_rest(pulled)


def test_s2_a_parameter_edited_and_put_back(mate: Path) -> None:
    assert resting(mate)
    set_values(mate, regions={"tau": 0.5})
    assert planned(mate) == stale_jobs(mate) == {
        "regions": 2, "features": 2, "prototypes": 1, "pseudolabels": 2, "train": 1, "evaluate": 1, "report": 1,
    }  # fmt: skip
    status = dvc(mate, "status")
    assert "regions:\n\tchanged deps:" in status
    assert "hierarchies" not in status
    assert "regions.tau" in next((mate / ".cache/stale").iterdir()).name
    set_values(mate, regions={"tau": 0.45})
    assert resting(mate)
    set_values(mate, report={"bootstrap": 101})
    assert stale_jobs(mate) == {"report": 1}
    assert set(changed_for_dvc(mate)) == {"report"}
    set_values(mate, report={"bootstrap": 100})
    assert resting(mate)


def test_s3_a_partial_run_is_not_recorded_and_says_so(mate: Path) -> None:
    locked = (mate / "dvc.lock").read_text()
    set_values(mate, episodes={"count": 5})
    printed = snakemake(mate, "episodes_all")
    assert jobs(printed) == {"episodes": 2, "episodes_all": 1}
    assert "nothing was recorded, and dvc.lock is unchanged:" in printed
    assert "artifacts/evaluate/fold0/1shot/rows.parquet: input artifacts/episodes/fold0/1shot/seed0.tsv" in printed
    assert (mate / "dvc.lock").read_text() == locked
    assert "artifacts/episodes" in str(changed_for_dvc(mate)["episodes"])
    set_values(mate, episodes={"count": 6})
    assert "recorded in dvc.lock" in snakemake(mate, "episodes_all")
    assert resting(mate)


def test_s4_snakemake_has_nothing_to_do_after_dvc_repro(mate: Path) -> None:
    set_values(mate, report={"bootstrap": 110})
    printed = dvc(mate, "repro")
    assert "Running stage 'report'" in printed
    assert "Stage 'evaluate' didn't change, skipping" in printed
    assert resting(mate)
    assert NOTHING in snakemake(mate)


def test_s5_an_older_commit_and_forward_again(mate: Path) -> None:
    set_values(mate, report={"bootstrap": 120})
    snakemake(mate)
    commit(mate, "more draws")
    for revision in ("HEAD~1", "-"):
        git(mate, "checkout", "-q", revision)
        # Before the data follows, both tell the truth.
        assert stale_jobs(mate) == {"report": 1}
        assert "modified" in str(changed_for_dvc(mate)["report"])
        dvc(mate, "checkout", "-q")
        assert resting(mate)


def test_s6_a_comment_recomputes_nothing_and_code_what_imports_it(mate: Path) -> None:
    page = mate / "novelseg/report/page.py"
    page.write_text("# A comment.\n" + page.read_text())
    assert stale_jobs(mate) == {}
    assert "novelseg/report/page.py" in str(changed_for_dvc(mate)["report"])
    assert "recorded in dvc.lock" in workflow(mate, "record")
    assert at_rest(mate)
    page.write_text(page.read_text() + "\nUNUSED = 1\n")
    assert stale_jobs(mate) == {"report": 1}
    assert set(changed_for_dvc(mate)) == {"report"}


def test_s6_a_stage_that_gives_the_same_bytes_ends_the_run(mate: Path) -> None:
    edit(mate / "stages/episodes.py", "    rng = ", "    assert params.count > 0\n    rng = ")
    assert set(stale_jobs(mate)) == {"episodes", "evaluate", "report"}
    printed = workflow(mate, "run", "--cores", "2")
    assert "recorded in dvc.lock" in printed
    assert printed.count("rule episodes:") == 2
    assert "rule evaluate:" not in printed
    assert "rule report:" not in printed
    assert resting(mate)


@pytest.mark.parametrize("victim", ["stage", "snakemake"])
def test_s7_a_killed_run_is_finished_by_the_next(mate: Path, victim: str) -> None:
    set_values(mate, report={"bootstrap": 99_000})
    run = started(mate, "snakemake")
    stage = descendant(run, "-m", "stages", "report")
    stage.suspend()
    os.kill(stage.pid if victim == "stage" else run.pid, signal.SIGKILL)
    assert run.wait() != 0
    if victim == "snakemake":
        stage.kill()
    assert stale_jobs(mate) == {"report": 1}
    set_values(mate, report={"bootstrap": 150})
    printed = snakemake(mate)  # no --unlock
    assert "recorded in dvc.lock" in printed
    assert resting(mate)
    assert not scratch(mate)


def test_s7_a_killed_dvc_leaves_its_snakemake_at_work_and_the_next_says_so(mate: Path) -> None:
    set_values(mate, report={"bootstrap": 99_000})
    run = started(mate, "dvc", "repro")
    inner = descendant(run, "snakemake", "--allowed-rules", "report")
    stage = descendant(run, "-m", "stages", "report")
    stage.suspend()
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    set_values(mate, report={"bootstrap": 150})
    printed = snakemake(mate, rc=1)
    assert "error: another run is at work in this folder" in printed
    stage.kill()
    inner.wait(30)
    dvc(mate, "repro")
    assert resting(mate)


def test_s7_a_full_disk_leaves_nothing_half_written(mate: Path, small_disk: Path) -> None:
    # The features do not fit: their folders move to the small disk, with no room left.
    for top in ("artifacts/features", "provenance/features"):
        (small_disk / top).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(mate / top, small_disk / top)
        (mate / top).symlink_to(small_disk / top)
    for path in small_disk.rglob("*.*"):
        path.unlink()
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    printed = snakemake(mate, "features_all", rc=1)
    assert re.search(r"artifacts/features/fold0/[01]\.h5: no space left on device", printed)
    assert "Traceback" not in printed
    assert not [path for path in (mate / "artifacts/features").rglob("*") if path.is_file()]
    assert "artifacts/features/fold0/0.h5: record is missing" in command(mate, "record", rc=2)
    filler.unlink()
    # The same bytes as before: nothing follows.
    assert "recorded in dvc.lock" in snakemake(mate, "features_all")
    assert resting(mate)


@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_s8_fewer_shards_leave_none_over(mate: Path, engine: str) -> None:
    set_values(mate, images={"shards": 1})
    if engine == "dvc":
        dvc(mate, "repro", "regions")
    else:
        snakemake(mate, "regions_all", "index_all")
        assert "artifacts/images/1.h5: left over from other parameters" in command(mate, "record", rc=2)
        assert "removed artifacts/images/1.h5" in command(mate, "prune")
    for stage in ("images", "hierarchies", "regions"):
        assert [path.name for path in (mate / "artifacts" / stage).iterdir()] == ["0.h5"]
        assert [path.name for path in (mate / "provenance" / stage).iterdir()] == ["0.json"]
    if engine == "dvc":
        lock = yaml.safe_load((mate / "dvc.lock").read_text())["stages"]
        assert {out["nfiles"] for stage in ("images", "regions") for out in lock[stage]["outs"]} == {1}
    later = {"baseline", "features", "prototypes", "pseudolabels", "train", "cam", "episodes", "evaluate", "report"}
    assert set(planned(mate)) == later | ({"index"} if engine == "dvc" else set())


COUNTING = """
import hashlib, os, sys

def note(name):
    with open(os.environ["DIGESTED"], "a") as log:
        log.write(f"{os.path.relpath(str(name))}\\n")

plain = hashlib.file_digest
def file_digest(file, *words, **more):
    note(file.name)
    return plain(file, *words, **more)
hashlib.file_digest = file_digest

import dvc_data.hashfile.hash

digest = dvc_data.hashfile.hash.file_md5
def counted(path, *words, **more):
    note(path)
    return digest(path, *words, **more)
for module in list(sys.modules.values()):
    if getattr(module, "file_md5", None) is digest:
        module.file_md5 = counted
"""


@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_no_artifact_is_digested_twice(mate: Path, tmp_path: Path, engine: str) -> None:
    watcher, log = tmp_path / "watcher.py", tmp_path / "digested"
    watcher.write_text(COUNTING)
    more: dict[str, Any] = {"RUN_FIRST": str(watcher), "DIGESTED": str(log)}
    assert resting(mate)  # the fixture's copies are new to this folder, and read here
    set_values(mate, evaluate={"examples": 1})
    call(mate, "python", "-m", *(["snakemake"] if engine == "snakemake" else ["dvc", "repro"]), **more)
    snakemake(mate, "-n", **more)
    dvc(mate, "status", **more)
    artifacts = [line for line in log.read_text().splitlines() if line.startswith("artifacts/")]
    assert "artifacts/evaluate/fold0/1shot/rows.parquet" in artifacts
    assert "artifacts/features/fold0/0.h5" not in artifacts
    assert len(artifacts) == len(set(artifacts))
