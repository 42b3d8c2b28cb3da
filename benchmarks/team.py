"""Measure the cost of provenance: ``python -m benchmarks.team``.

Projects with 12 stages, 200 shards, and one or four folds are created in a temporary folder, with small dummy artifacts
and valid records. The engines' commands are timed there with nothing to do. Then a stage of 200 MB in 20 shards is
pushed to a shared folder, one shard is changed, and the data transferred by a second push and a pull are counted.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import yaml

from benchmarks.planning import Timing, copy_tracked, timed
from novelseg.formats.provenance import Record
from stages.provenance.code import code_digest
from stages.provenance.digests import Digests
from workflow.config import load
from workflow.forecast import Candidate, read_candidates
from workflow.judge import Judge
from workflow.plan import folder, record_of
from workflow.presets import resolve_preset

ROOT = Path(__file__).parent.parent
SHARDS = 200
LARGE, PARTS = 200, 20  # MB, files

# Runs Snakemake and prints the seconds that it spends in this project's code.
TIMED = """
import functools, sys, time
spent = 0.0
def timed(function):
    @functools.wraps(function)
    def call(*args, **options):
        global spent
        start = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            spent += time.perf_counter() - start
    return call
start = time.perf_counter()
from workflow import config, tracking
spent += time.perf_counter() - start
config.load = timed(config.load)
ending = tracking._ending
tracking._ending = lambda function: ending(timed(function))
tracking.Tracking.__init__ = timed(tracking.Tracking.__init__)
from snakemake.cli import main
try:
    main(sys.argv[1:])
finally:
    print(f"in project code {spent:.3f}", file=sys.stderr)
"""


def fastest(project: Path, *command: str, repeats: int = 3) -> Timing:
    """Run a command several times and return the run that used the processor least."""
    return min((timed(project, *command) for _ in range(repeats)), key=lambda timing: timing.cpu)


def new_project(project: Path, folds: int) -> None:
    """Create a project from the tracked files of this repository, with the demo's parameters at 200 shards."""
    copy_tracked(ROOT, project)
    values = resolve_preset("demo")
    values["plan"]["folds"] = list(range(folds))
    values["images"]["shards"] = SHARDS
    (project / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf8")
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", "b"]):
        timed(project, "git", *command)


def write_artifacts(project: Path) -> int:
    """Write a dummy artifact and a record for every job of the plan; return the number of jobs."""
    listing = project / "jobs.json"
    timed(project, sys.executable, "-m", "snakemake", "--list-rules", NOVELSEG_JOBS=str(listing))
    jobs = read_candidates(listing)
    listing.unlink()
    os.chdir(project)
    config, digests = load(), Digests()
    judge = Judge(config, digests)
    for job in jobs:
        for name in job.outputs:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(f"{name}\n" * 20, encoding="utf8")
        record = Record(
            stage=job.stage,
            options={},
            parameters=judge.parameters(job.stage),
            code=code_digest(job.stage),
            inputs={name: judge.now(path) or "" for name, path in _reads(job, judge).items()},
            outputs={name: digests.of(name) or "" for name in job.outputs},
            versions={},
        )
        path = Path(record_of(job.outputs[0]))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(record)), encoding="utf8")
    return len(jobs)


def _reads(job: Candidate, judge: Judge) -> dict[str, str]:
    return {name: name for name in job.reads} | judge.external(job.stage)


def costs(project: Path, folds: int) -> None:
    """Print the seconds of the engines' commands in a project in which every artifact is current."""
    new_project(project, folds)
    count = write_artifacts(project)
    python = sys.executable
    first = timed(project, python, "-m", "workflow", "record")
    rows = [("`workflow record` for the first time (DVC hashes and stores all)", first)]
    dry_run = fastest(project, python, "-c", TIMED, "-n")
    if "Nothing to be done" not in dry_run.printed:
        raise SystemExit(f"snakemake -n: expected 'Nothing to be done'\n{dry_run.printed[-2000:]}")
    rows.append(("`snakemake -n`", dry_run))
    commands = ("dvc repro", "dvc status", "workflow record", "workflow audit", "workflow explain report/index.html")
    rows += [(f"`{words}`", fastest(project, python, "-m", *words.split())) for words in commands]
    nested = ("--allowed-rules", "features", "features_all", "-n", "--", "features_all")
    rows.append(("one nested call of `dvc repro` (features)", fastest(project, python, "-m", "snakemake", *nested)))
    print(f"\n12 stages, {folds} folds, {SHARDS} shards: {count} jobs; least of three\n")
    print("| command | CPU s | wall s | last line |\n|---|---|---|---|")
    for name, timing in rows:
        print(f"| {name} | {timing.cpu:.2f} | {timing.wall:.2f} | {timing.printed.strip().splitlines()[-1]} |")


def transfers(project: Path, shared: Path, clone: Path) -> None:
    """Print the data that push and pull of a large stage transfer, at first and after one shard has changed."""
    rng = np.random.default_rng(0)
    os.chdir(project)
    config, digests = load(), Digests()
    names = [name for name in config.targets.of("pseudolabels") if int(Path(name).stem) < PARTS and "fold0" in name]

    def write_shard(name: str) -> None:
        """Write random bytes to a shard, and their digest to its record."""
        Path(name).write_bytes(rng.bytes((LARGE << 20) // PARTS))
        record = Path(record_of(name))
        content = json.loads(record.read_text(encoding="utf8"))
        content["outputs"] = {name: digests.of(name)}
        record.write_text(json.dumps(content), encoding="utf8")

    def update_records() -> None:
        """Write the digests of the present inputs to the records of later stages, so that these are current."""
        for stage in ("train", "evaluate", "report"):
            for outputs in Judge(config, digests).jobs(stage):
                record = Path(record_of(outputs[0]))
                content = json.loads(record.read_text(encoding="utf8"))
                inputs = content["inputs"]
                inputs |= {
                    name: digests.of(name) or md5 for name, md5 in inputs.items() if name.startswith("artifacts/")
                }
                record.write_text(json.dumps(content), encoding="utf8")

    def shared_files() -> tuple[int, int]:
        """Return the number of files in the shared folder and their size in bytes."""
        files = [path for path in shared.rglob("*") if path.is_file()]
        return len(files), sum(path.stat().st_size for path in files)

    python = sys.executable
    for name in names:
        write_shard(name)
    update_records()
    timed(project, python, "-m", "dvc", "remote", "add", "-d", "shared", str(shared))
    rows = []
    for step in (f"{LARGE} MB in {PARTS} shards, and the rest", "one shard changed"):
        timing = timed(project, python, "-m", "workflow", "record")
        rows.append((f"{step}: record", 0, 0.0, timing))
        before = shared_files()
        timing = timed(project, python, "-m", "workflow", "push")
        after = shared_files()
        rows.append((f"{step}: push", after[0] - before[0], (after[1] - before[1]) / 2**20, timing))
        timed(project, "git", "add", "-A")
        timed(project, "git", "-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", step)
        if not clone.exists():
            timed(project, "git", "clone", "-q", str(project), str(clone))
        else:
            timed(clone, "git", "pull", "-q")
        timing = timed(clone, python, "-m", "workflow", "pull")
        cache = [path for path in (clone / ".dvc/cache").rglob("*") if path.is_file()]
        rows.append(("pull in a clone", len(cache), sum(path.stat().st_size for path in cache) / 2**20, timing))
        write_shard(names[7])
        update_records()
    print(f"\nfolder {folder('pseudolabels')}\n\n| | files | MB | CPU s | wall s | output |\n|---|---|---|---|---|---|")
    for step, files, megabytes, timing in rows:
        spent = f"{timing.cpu:.1f} | {timing.wall:.1f}"
        print(f"| {step} | {files} | {megabytes:.1f} | {spent} | {timing.printed.strip()} |")


def main() -> None:
    """Create the projects, measure, and print the tables."""
    with tempfile.TemporaryDirectory() as folder_name:
        base = Path(folder_name)
        for folds in (4, 1):
            costs(base / f"folds{folds}", folds)
        transfers(base / "folds1", base / "shared", base / "clone")
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
