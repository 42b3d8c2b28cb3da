"""``python -m workflow study seeds``: repetitions of the trainings with other seeds, and their joined table.

A repetition is a folder ``repetitions/seed<n>`` with a ``params.yaml`` of its own, which differs from the project's
in the training seeds alone. What no training makes is linked from the project, and Snakemake makes the rest there with
the project's code. The project itself is the repetition with its own seeds.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from itertools import product
from pathlib import Path

import yaml

from novelseg.core.errors import InputError
from novelseg.core.files import whole_file
from novelseg.formats.files import ROWS
from stages.params.schema import read_yaml
from workflow.config import PARAMS, Config, load
from workflow.engine import snakemake
from workflow.join import SHARED, TRAINED, join
from workflow.plan import READS, record_of

GRID = "0 1 2"
FOLDER = Path("repetitions")  # not below `studies`, all of which the report may read
LARGEST = (1 << 63) - 1


def seeds(grid: str | None, words: list[str], *, state: bool) -> str:
    """Train and evaluate with each seed of the grid, fold after fold, and join the tables.

    Parameters
    ----------
    grid
        Training seeds, separated by spaces; None for 0, 1 and 2.
    words
        Options for Snakemake.
    state
        Whether only to tell what would run.

    Raises
    ------
    InputError
        If the grid has other words than different numbers, nothing is trained, or a repetition fails.
    """
    config = load()
    if not config.trained:
        raise InputError("encoder.train is none, so that no encoder is trained, whose seeds could vary")
    folders = {seed: _folder(config, seed) for seed in _numbers(grid or GRID)}
    if state:
        return "\n".join(_state(config, seed, folder) for seed, folder in folders.items())
    _run(Path(), [f"{stage}_all" for stage in SHARED], words, "the stages that all seeds share")
    for seed, folder in folders.items():
        make_repetition(config, seed, folder)
    for fold, (seed, folder) in product(config.targets.plan.folds, folders.items()):
        print(f"— training seed {seed}, fold {fold}", flush=True)
        targets = [f"{path}/{ROWS}" for path in config.targets.evaluations() if f"/fold{fold}/" in path]
        _run(folder, targets, words, f"training seed {seed}, fold {fold}")
    return join([*folders.values()], config.targets.plan.folds)


def _numbers(grid: str) -> list[int]:
    words = grid.split()
    numbers = [int(word) for word in words if word.isascii() and word.isdecimal() and len(word) < 20]
    if len(set(numbers)) < max(len(words), 2) or max(numbers) > LARGEST:
        raise InputError(f"--grid is '{grid:.80}'; expected at least two different training seeds, separated by spaces")
    return numbers


def _folder(config: Config, seed: int) -> Path:
    """Return the folder of a repetition: the project, if it has this seed."""
    own = {config.values(section)["seed"] for section in TRAINED}
    return Path() if own == {seed} else FOLDER / f"seed{seed}"


def make_repetition(config: Config, seed: int, folder: Path) -> None:
    """Write the parameters of a repetition, and link what the project has of the stages before all trainings.

    Parameters
    ----------
    config
        The project's parameters.
    seed
        The training seed.
    folder
        The repetition's folder; nothing is done for the project itself.
    """
    if folder == Path():
        return
    with whole_file(folder / PARAMS) as scratch:
        scratch.write_text(_parameters(config, seed), encoding="utf8")
    for path in _shared(config):
        _link(path, folder / path)


def _parameters(config: Config, seed: int) -> str:
    """Return the parameter file of a repetition."""
    values = read_yaml(PARAMS)
    for section in TRAINED:
        values[section]["seed"] = seed
    values["report"]["studies"] = ""
    for stage in READS:
        for key, outside in config.external(stage).items():
            section, _, name = key.partition(".")
            if values[section][name]:
                values[section][name] = os.path.abspath(outside)  # noqa: PTH100  (a link stays the path of the link)
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    return text


def _shared(config: Config) -> list[Path]:
    """Return the files that no training makes, each with its record."""
    outputs = [output for stage in SHARED for output in config.targets.of(stage)]
    return [path for output in outputs for path in (Path(output), Path(record_of(output)))]


def _link(source: Path, target: Path) -> None:
    """Let ``target`` be the same file as ``source``, or a copy on another disk."""
    new = source.stat()
    if target.exists() and (target.stat().st_size, target.stat().st_mtime_ns) == (new.st_size, new.st_mtime_ns):
        return
    with whole_file(target) as scratch:
        scratch.unlink(missing_ok=True)
        try:
            os.link(source, scratch)
        except OSError:
            shutil.copy2(source, scratch)


def _snakemake(folder: Path, words: list[str], *, captured: bool) -> subprocess.CompletedProcess[str]:
    """Run Snakemake with the project's code in a repetition's folder; DVC records nothing there."""
    project = str(Path.cwd())
    paths = os.pathsep.join(filter(None, (project, os.environ.get("PYTHONPATH"))))
    if not any(word.startswith("--workflow-profile") for word in words):
        words = ["--workflow-profile", f"{project}/profiles/default", *words]
    return snakemake(
        ["--snakefile", f"{project}/Snakefile", *words],
        captured=captured,
        folder=folder,
        PYTHONPATH=paths,
        NOVELSEG_STAGEWISE="1",
    )


def _run(folder: Path, targets: list[str], words: list[str], what: str) -> None:
    if _snakemake(folder, [*words, "--", *targets], captured=False).returncode:
        raise InputError(f"{what} did not finish; the message is above, and the same command resumes")


def _state(config: Config, seed: int, folder: Path) -> str:
    """Return a line on how much of a repetition is there."""
    name = f"training seed {seed} ({folder})"
    if not (folder / PARAMS).exists():
        return f"{name}: not begun"
    if folder != Path() and (folder / PARAMS).read_text(encoding="utf8") != _parameters(config, seed):
        return f"{name}: begun with other parameters than the project has now; the next run takes the present ones"
    evaluations = config.targets.evaluations()
    process = _snakemake(
        folder, ["-n", "--quiet", "reason", "--", *(f"{p}/{ROWS}" for p in evaluations)], captured=True
    )
    printed = process.stdout + process.stderr
    if process.returncode:
        raise InputError(f"{name}: {printed.rpartition('error: ')[2].strip()}")
    jobs = {stage: int(count) for stage, count in re.findall(r"^(\w+) +(\d+)$", printed, re.M)}
    total, stale = sum(count for stage, count in jobs.items() if stage in READS), jobs.get("evaluate", 0)
    done = f"{len(evaluations) - stale} of {len(evaluations)} evaluations finished"
    return f"{name}: {done}" + (f", {total} jobs to run" if total else "")
