"""Measure the cost of provenance: ``python -m benchmarks.team``.

Projects with 12 stages, 200 shards, and one or four folds are created in a temporary folder, with small dummy artifacts
and valid records. The engines' commands are timed there with nothing to do. Then a stage of 200 MB in 20 shards is
pushed to a shared folder, one shard is changed, and the data transferred by a second push and a pull are counted.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import yaml

from novelseg.formats.provenance import Record
from stages.provenance.code import code_digest
from stages.provenance.digests import Digests
from workflow.config import load
from workflow.judge import Judge
from workflow.plan import READS, folder, record_of
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
original = tracking.Tracking.inputs
def timed_inputs(self, *args, **options):
    inputs = original(self, *args, **options)
    inputs["stale"] = timed(inputs["stale"])
    return inputs
tracking.Tracking.inputs = timed_inputs
tracking.Tracking.__init__ = timed(tracking.Tracking.__init__)
from snakemake.cli import main
try:
    main(sys.argv[1:])
finally:
    print(f"in project code {spent:.3f}", file=sys.stderr)
"""


def call(project: Path, *command: str) -> tuple[float, str]:
    """Run a command in a project and return its seconds and its output."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(project),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    start = time.perf_counter()
    process = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    output = process.stdout + process.stderr
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: failed with exit code {process.returncode}\n{output[-3000:]}")
    return seconds, output


def fastest(project: Path, *command: str, repeats: int = 3) -> tuple[float, str]:
    """Run a command several times and return the seconds and the output of the fastest run."""
    return min((call(project, *command) for _ in range(repeats)), key=lambda result: result[0])


def new_project(project: Path, folds: int) -> None:
    """Create a project from the tracked files of this repository, with the demo's parameters at 200 shards."""
    project.mkdir()
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    values = resolve_preset("demo")
    values["plan"]["folds"] = list(range(folds))
    values["images"]["shards"] = SHARDS
    (project / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf8")
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", "b"]):
        call(project, "git", *command)


def write_artifacts(project: Path) -> int:
    """Write a dummy artifact and a record for every job that Snakemake lists; return the number of jobs."""
    _, output = call(project, sys.executable, "-m", "snakemake", "-n")
    pattern = r"^rule (\w+):\n    input: (.*)\n    output: (.*)\n|^rule (images):\n    input: (.*)\n    output: (.*)\n"
    listed = re.findall(pattern, output, re.M)
    jobs = {stage: [(i, o) for s, i, o, *_ in listed if s == stage] for stage in READS}
    os.chdir(project)
    config, digests = load(), Digests()
    judge = Judge(config, digests)
    count = 0
    for stage in READS:
        for inputs, outputs in jobs[stage]:
            files = [name for name in outputs.split(", ") if not name.startswith("provenance/")]
            for name in files:
                Path(name).parent.mkdir(parents=True, exist_ok=True)
                Path(name).write_text(f"{name}\n" * 20, encoding="utf8")
            reads = {name: name for name in inputs.split(", ") if not name.startswith(".cache")}
            reads |= judge.external(stage)
            record = Record(
                stage=stage,
                options={},
                parameters=judge.parameters(stage),
                code=code_digest(stage),
                inputs={name: judge.now(path) or "" for name, path in reads.items()},
                outputs={name: digests.of(name) or "" for name in files},
                versions={},
            )
            path = Path(record_of(files[0]))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(asdict(record)), encoding="utf8")
            count += 1
    return count


def costs(project: Path, folds: int) -> None:
    """Print the seconds of the engines' commands in a project in which every artifact is current."""
    new_project(project, folds)
    count = write_artifacts(project)
    python = sys.executable
    first, _ = call(project, python, "-m", "workflow", "record")
    rows = [(f"`record` of {count} jobs for the first time (DVC hashes and stores all)", first, "")]
    seconds, output = fastest(project, python, "-c", TIMED, "-n")
    if "Nothing to be done" not in output:
        raise SystemExit(f"snakemake -n: expected 'Nothing to be done'\n{output[-2000:]}")
    project_s = re.findall(r"^in project code ([\d.]+)", output, re.M)[0]
    rows.append(("`snakemake -n`", seconds, f"of which {project_s} s in this project's code"))
    for command in (("dvc", "repro"), ("dvc", "status"), ("workflow", "record"), ("workflow", "audit")):
        seconds, output = fastest(project, python, "-m", *command)
        rows.append((f"`{' '.join(command)}`", seconds, output.strip().splitlines()[-1]))
    seconds, _ = fastest(project, python, "-m", "workflow", "explain", "report/index.html")
    rows.append(("`workflow explain report/index.html`", seconds, ""))
    nested = ("--allowed-rules", "features", "features_all", "-n", "--", "features_all")
    rows.append(
        (
            "one nested call of `dvc repro` (features)",
            fastest(project, python, "-m", "snakemake", *nested)[0],
            "",
        )
    )
    print(f"\n12 stages, {folds} folds, {SHARDS} shards: {count} jobs\n\n| command | s | |\n|---|---|---|")
    for name, seconds, note in rows:
        print(f"| {name} | {seconds:.2f} | {note} |")


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
    call(project, python, "-m", "dvc", "remote", "add", "-d", "shared", str(shared))
    rows = []
    for step in (f"first push ({LARGE} MB in {PARTS} shards, and the rest)", "push after one shard changed"):
        call(project, python, "-m", "workflow", "record")
        before = shared_files()
        seconds, output = call(project, python, "-m", "workflow", "push")
        after = shared_files()
        rows.append((step, after[0] - before[0], (after[1] - before[1]) / 2**20, seconds, output.strip()))
        call(project, "git", "add", "-A")
        call(project, "git", "-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", step)
        if not clone.exists():
            call(project, "git", "clone", "-q", str(project), str(clone))
        else:
            call(clone, "git", "pull", "-q")
        seconds, output = call(clone, python, "-m", "workflow", "pull")
        cache = [path for path in (clone / ".dvc/cache").rglob("*") if path.is_file()]
        rows.append(
            (
                "pull in a clone",
                len(cache),
                sum(path.stat().st_size for path in cache) / 2**20,
                seconds,
                output.strip(),
            )
        )
        write_shard(names[7])
        update_records()
    print(f"\nfolder {folder('pseudolabels')}\n\n| | files | MB | s | output |\n|---|---|---|---|---|")
    for step, files, megabytes, seconds, note in rows:
        print(f"| {step} | {files} | {megabytes:.1f} | {seconds:.1f} | {note} |")


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
