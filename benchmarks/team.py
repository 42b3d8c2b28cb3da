"""Cost of provenance: ``python -m benchmarks.team``.

A project of 12 stages and 200 shards, of one fold and of four, is laid out with small made-up artifacts and true
records, in a temporary folder; the engines' commands that have nothing to do are timed there. Then a stage of 200 MB in
20 shards is pushed to a shared folder, one shard is changed, and what a second push and a pull transfer is counted.
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

# Runs Snakemake and prints the seconds that our part of it takes.
TIMED = """
import functools, sys, time
spent = 0.0
def timed(function):
    @functools.wraps(function)
    def call(*args, **words):
        global spent
        start = time.perf_counter()
        try:
            return function(*args, **words)
        finally:
            spent += time.perf_counter() - start
    return call
start = time.perf_counter()
from workflow import config, tracking
spent += time.perf_counter() - start
config.load = timed(config.load)
plain = tracking.Tracking.inputs
def inputs(self, *args, **words):
    found = plain(self, *args, **words)
    found["stale"] = timed(found["stale"])
    return found
tracking.Tracking.inputs = inputs
tracking.Tracking.__init__ = timed(tracking.Tracking.__init__)
from snakemake.cli import main
try:
    main(sys.argv[1:])
finally:
    print(f"ours {spent:.3f}", file=sys.stderr)
"""


def call(project: Path, *words: str) -> tuple[float, str]:
    """Seconds of a command, and what it printed."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(project),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    start = time.perf_counter()
    found = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    printed = found.stdout + found.stderr
    if found.returncode:
        raise SystemExit(f"{' '.join(words)}: {printed[-3000:]}")
    return seconds, printed


def best(project: Path, *words: str, of: int = 3) -> tuple[float, str]:
    """The fastest of several calls."""
    return min((call(project, *words) for _ in range(of)), key=lambda found: found[0])


def new_project(project: Path, folds: int) -> None:
    """The tracked files of this repository, with the demo's values at 200 shards, 1 and 5 shots, both trainings."""
    project.mkdir()
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    values = resolve_preset("demo")
    values["plan"]["folds"] = list(range(folds))
    values["images"]["shards"] = SHARDS
    (project / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf8")
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", "b"]):
        call(project, "git", *words)


def lay_out(project: Path) -> int:
    """Write every planned artifact and its record, from the jobs that Snakemake lists; give their number."""
    _, printed = call(project, sys.executable, "-m", "snakemake", "-n")
    pattern = r"^rule (\w+):\n    input: (.*)\n    output: (.*)\n|^rule (images):\n    input: (.*)\n    output: (.*)\n"
    found = re.findall(pattern, printed, re.M)
    jobs = {stage: [(i, o) for s, i, o, *_ in found if s == stage] for stage in READS}
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
    """Print the seconds of commands that have nothing to do."""
    new_project(project, folds)
    count = lay_out(project)
    python = sys.executable
    first, _ = call(project, python, "-m", "workflow", "record")
    rows = [(f"`record` of {count} jobs for the first time (DVC digests and keeps all)", first, "")]
    seconds, printed = best(project, python, "-c", TIMED, "-n")
    if "Nothing to be done" not in printed:
        raise SystemExit(printed[-2000:])
    ours = re.findall(r"^ours ([\d.]+)", printed, re.M)[0]
    rows.append(("`snakemake -n`", seconds, f"of which ours {ours} s"))
    for words in (("dvc", "repro"), ("dvc", "status"), ("workflow", "record"), ("workflow", "audit")):
        seconds, printed = best(project, python, "-m", *words)
        rows.append((f"`{' '.join(words)}`", seconds, printed.strip().splitlines()[-1]))
    seconds, _ = best(project, python, "-m", "workflow", "explain", "report/index.html")
    rows.append(("`workflow explain report/index.html`", seconds, ""))
    nested = ("--allowed-rules", "features", "features_all", "-n", "--", "features_all")
    rows.append(
        (
            "one nested call of `dvc repro` (features)",
            best(project, python, "-m", "snakemake", *nested)[0],
            "",
        )
    )
    print(f"\n12 stages, {folds} folds, {SHARDS} shards: {count} jobs\n\n| command | s | |\n|---|---|---|")
    for what, seconds, note in rows:
        print(f"| {what} | {seconds:.2f} | {note} |")


def transfers(project: Path, shared: Path, clone: Path) -> None:
    """Print what push and pull of a large stage transfer when one of its shards changed."""
    rng = np.random.default_rng(0)
    os.chdir(project)
    config, digests = load(), Digests()
    names = [name for name in config.targets.of("pseudolabels") if int(Path(name).stem) < PARTS and "fold0" in name]

    def fill(name: str) -> None:
        Path(name).write_bytes(rng.bytes((LARGE << 20) // PARTS))
        record = Path(record_of(name))
        content = json.loads(record.read_text(encoding="utf8"))
        content["outputs"] = {name: digests.of(name)}
        record.write_text(json.dumps(content), encoding="utf8")

    def mend() -> None:
        """Successors were made of these bytes."""
        for stage in ("train", "evaluate", "report"):
            for outputs in Judge(config, digests).jobs(stage):
                record = Path(record_of(outputs[0]))
                content = json.loads(record.read_text(encoding="utf8"))
                made = content["inputs"]
                made |= {name: digests.of(name) or md5 for name, md5 in made.items() if name.startswith("artifacts/")}
                record.write_text(json.dumps(content), encoding="utf8")

    def size() -> tuple[int, int]:
        files = [path for path in shared.rglob("*") if path.is_file()]
        return len(files), sum(path.stat().st_size for path in files)

    python = sys.executable
    for name in names:
        fill(name)
    mend()
    call(project, python, "-m", "dvc", "remote", "add", "-d", "shared", str(shared))
    rows = []
    for what in (f"first push ({LARGE} MB in {PARTS} shards, and the rest)", "push after one shard changed"):
        call(project, python, "-m", "workflow", "record")
        before = size()
        seconds, printed = call(project, python, "-m", "workflow", "push")
        after = size()
        rows.append((what, after[0] - before[0], (after[1] - before[1]) / 2**20, seconds, printed.strip()))
        call(project, "git", "add", "-A")
        call(project, "git", "-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", what)
        if not clone.exists():
            call(project, "git", "clone", "-q", str(project), str(clone))
        else:
            call(clone, "git", "pull", "-q")
        seconds, printed = call(clone, python, "-m", "workflow", "pull")
        cache = [path for path in (clone / ".dvc/cache").rglob("*") if path.is_file()]
        rows.append(
            (
                "pull in a clone",
                len(cache),
                sum(path.stat().st_size for path in cache) / 2**20,
                seconds,
                printed.strip(),
            )
        )
        fill(names[7])
        mend()
    print(f"\nfolder {folder('pseudolabels')}\n\n| | files | MB | s | printed |\n|---|---|---|---|---|")
    for what, files, megabytes, seconds, note in rows:
        print(f"| {what} | {files} | {megabytes:.1f} | {seconds:.1f} | {note} |")


def main() -> None:
    """Lay out, time, print."""
    with tempfile.TemporaryDirectory() as folder_name:
        base = Path(folder_name)
        for folds in (4, 1):
            costs(base / f"folds{folds}", folds)
        transfers(base / "folds1", base / "shared", base / "clone")
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
