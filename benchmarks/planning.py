"""Measure the time of planning thousands of jobs, beside Snakemake's own part: ``python -m benchmarks.planning``.

Two folders are created: this repository with the preset ``coco20i-fwb`` (256 shards, four folds, 2,895 jobs), before
anything has been made, and a bare workflow of the same jobs and files (``bare.smk``) without parameters, records and
checks. ``snakemake -n`` is timed in both in turn, and ``python -m workflow plan`` in the first. The data set is empty
and the weights are small, since no job runs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import yaml

ROOT = Path(__file__).parent.parent
PRESET = "coco20i-fwb"
DRY_RUN = (sys.executable, "-m", "snakemake", "-n")
PLAN = (sys.executable, "-m", "workflow", "plan")


@dataclass(frozen=True)
class Timing:
    """Seconds of a command, of all its processes on the processor and from start to end, and what it printed."""

    cpu: float
    wall: float
    printed: str


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of commands in a project's folder: its own code and cache, and this Python's tools."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"PYTHONPATH": str(folder), "PATH": path, "NOVELSEG_CACHE": str(folder / ".cache/user")}
    return {**os.environ, **own}


def timed(folder: Path, *command: str, **variables: str) -> Timing:
    """Run a command in a folder, whose code its Python imports.

    Raises
    ------
    SystemExit
        If the command fails.
    """
    own = {**environment(folder), **variables}
    used, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    printed = process.stdout + process.stderr
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: failed with exit code {process.returncode}\n{printed[-3000:]}")
    return Timing(after.ru_utime - used.ru_utime + after.ru_stime - used.ru_stime, wall, printed)


def copy_tracked(code: Path, project: Path) -> None:
    """Copy the files of a repository that git tracks."""
    project.mkdir()
    names = subprocess.run(["git", "ls-files", "-z"], cwd=code, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(code / name, project / name)


def new_project(code: Path, project: Path, shards: int) -> None:
    """Create a project with the preset, an empty data set in COCO's layout, and the weights of the built-in scenes."""
    copy_tracked(code, project)
    timed(project, sys.executable, "-m", "workflow", "use", PRESET, "--force")
    (project / "raw/annotations").mkdir(parents=True)
    for split in ("train2014", "val2014"):
        content: dict[str, list[str]] = {key: [] for key in ("images", "annotations", "categories")}
        (project / f"raw/annotations/instances_{split}.json").write_text(json.dumps(content), encoding="utf8")
    values = yaml.safe_load((project / "params.yaml").read_text(encoding="utf8"))
    demo = yaml.safe_load((project / "workflow/presets/demo.yaml").read_text(encoding="utf8"))
    values["images"].update(root="raw", shards=shards)
    values["encoder"].update(demo["encoder"])
    (project / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf8")


def new_bare_workflow(folder: Path, shards: int) -> None:
    """Create the bare workflow."""
    folder.mkdir()
    text = (ROOT / "benchmarks/bare.smk").read_text(encoding="utf8")
    (folder / "Snakefile").write_text(text.replace('config["shards"]', str(shards)), encoding="utf8")
    (folder / "profiles/default").mkdir(parents=True)
    shutil.copy(ROOT / "profiles/default/config.yaml", folder / "profiles/default")


def jobs(printed: str) -> str:
    """Return the number of jobs that Snakemake has planned."""
    return next(iter(re.findall(r"^total +(\d+)", printed, re.M)), "")


def _row(name: str, runs: Sequence[Timing], count: str) -> str:
    cpu, wall = ([getattr(run, key) for run in runs] for key in ("cpu", "wall"))
    return f"| {name} | {count} | {min(cpu):.2f} | {median(cpu):.2f} | {min(wall):.2f} | {median(wall):.2f} |"


def main() -> None:
    """Create the folders, measure in turn, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planning", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--before", type=Path, help="checkout of earlier code, which is measured too")
    parser.add_argument("--shards", type=int, default=256, help="shards of images (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each command (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        project, bare, before = (Path(top) / name for name in ("project", "bare", "before"))
        new_project(ROOT, project, options.shards)
        new_bare_workflow(bare, options.shards)
        commands = {
            "`snakemake -n`": (project, DRY_RUN),
            "the same, of a bare workflow": (bare, DRY_RUN),
            "`python -m workflow plan`": (project, PLAN),
        }
        if options.before:
            new_project(options.before.resolve(), before, options.shards)
            commands["`snakemake -n`, earlier code"] = before, DRY_RUN
        for folder, command in commands.values():  # checks once that the weights fit, and compiles the code
            timed(folder, *command)
        runs: dict[str, list[Timing]] = {name: [] for name in commands}
        for _ in range(options.repeats):
            for name, (folder, command) in commands.items():
                runs[name].append(timed(folder, *command))
    print(f"{PRESET}, {options.shards} shards, nothing made yet; {options.repeats} runs of each in turn; seconds\n")
    print("| command | jobs | CPU, least | CPU, median | wall, least | wall, median |\n|---|---|---|---|---|---|")
    for name, timings in runs.items():
        print(_row(name, timings, jobs(timings[0].printed)))
    ours, plain, *_ = runs.values()
    differences = [one.cpu - other.cpu for one, other in zip(ours, plain, strict=True)]
    print(f"\nthis project's part of `snakemake -n`: {median(differences):.2f} s of CPU (median of the differences)")


if __name__ == "__main__":
    main()
