"""``python -m workflow adopt``: keep artifacts of earlier code whose content the present code is shown to give again.

A record names the code that made an artifact, so that any change of code makes it stale. Where the change was a
rearrangement, one job of each stage is run again, beside the artifacts, and its outputs are compared with those that
are there. Where they are the same, the stage's records are rewritten for the present code; nothing else is touched.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from novelseg.core.errors import InputError
from novelseg.core.files import whole_file
from novelseg.core.text import nearest
from novelseg.formats.content import difference
from novelseg.formats.provenance import Record
from stages.provenance.code import code_digest
from stages.provenance.digests import Digests
from workflow.config import load
from workflow.judge import Judge
from workflow.plan import FOLDERED, READS, record_of

COMMAND = re.compile(r"^Shell command: python -m (stages .*)$", re.MULTILINE)


def _only_code_is_new(judge: Judge, outputs: tuple[str, ...]) -> bool:
    """Whether outputs are stale for no other reason than code, and parameters that their record does not know."""
    made = judge.record(outputs[0])
    if made is None or sorted(made.outputs) != sorted(outputs):
        return False
    now = judge.parameters(made.stage)
    for section, values in made.parameters.items():
        if any(now.get(section, {}).get(key, value) != value for key, value in values.items()):
            return False
    here = all(Path(path).exists() and judge.now(path) == md5 for path, md5 in made.outputs.items())
    return here and all(judge.digest(name, made) == md5 for name, md5 in made.inputs.items())


def _command(stage: str, output: str) -> list[str]:
    """The command by which Snakemake would make an output, as words.

    Raises
    ------
    InputError
        If Snakemake would not run this one job.
    """
    words = ["-n", "-p", "--allowed-rules", stage, "--", output]
    planned = subprocess.run([sys.executable, "-m", "snakemake", *words], capture_output=True, text=True, check=False)
    commands = COMMAND.findall(planned.stdout + planned.stderr)
    if len(commands) != 1:
        printed = (planned.stdout + planned.stderr).strip().splitlines()
        raise InputError(f"{output}: Snakemake plans {len(commands)} jobs for it, expected one: {printed[-1]}")
    found = commands[0].replace(f"$(dirname {output})", shlex.quote(str(Path(output).parent)))
    return shlex.split(found)


def _run_again(stage: str, outputs: tuple[str, ...], folder: Path) -> str:
    """Run the job of some outputs into a folder; give the first difference, empty where there is none."""
    words = _command(stage, outputs[0])
    out = words.index("--out") + 1
    target = folder / Path(words[out]).name
    words[out] = str(target)
    for option in ("--record", "--live"):
        if option in words:
            place = words.index(option)
            del words[place : place + 2]
    if subprocess.run([sys.executable, "-m", *words], check=False).returncode:
        raise InputError(f"{outputs[0]}: the stage {stage} did not finish; its message stands above")
    for output in outputs:
        made = target / Path(output).relative_to(Path(outputs[0]).parent) if stage in FOLDERED else target
        if where := difference(Path(output), made):
            return f"{output} differs in {where}"
    return ""


def _rewrite(made: Record, output: str, judge: Judge) -> None:
    """Write a record for the present code and parameters; inputs and outputs are those that were checked."""
    now = replace(made, code=code_digest(made.stage), parameters=judge.parameters(made.stage))
    with whole_file(Path(record_of(output))) as scratch:
        scratch.write_text(json.dumps(asdict(now), indent=1, sort_keys=True) + "\n", encoding="utf8")


def adopt(stages: list[str], *, every_job: bool) -> str:
    """Adopt what can be shown to be the same, stage by stage; give a line for each stage that was looked at.

    Parameters
    ----------
    stages
        Stages to look at; all if empty.
    every_job
        Run all jobs of a stage again, not the first alone.

    Raises
    ------
    InputError
        If a stage is unknown or does not finish.
    """
    for stage in stages:
        if stage not in READS:
            raise InputError(f"there is no stage '{stage}'; {nearest(stage, list(READS))}")
    lines = []
    for stage in READS:
        judge = Judge(load(), Digests())
        stale = [outputs for outputs in judge.jobs(stage) if judge.why(outputs)]
        if not stale or (stages and stage not in stages):
            continue
        jobs = [outputs for outputs in stale if _only_code_is_new(judge, outputs)]
        if len(jobs) < len(stale):
            lines.append(
                f"{stage}: {len(stale) - len(jobs)} of {len(stale)} stale jobs have other inputs or parameters"
            )
        tried = jobs if every_job else jobs[:1]
        faults = []
        for outputs in tried:
            with tempfile.TemporaryDirectory(dir=".cache") as folder:
                if fault := _run_again(stage, outputs, Path(folder)):
                    faults.append(fault)
                    break
        if faults:
            lines.append(f"{stage}: not adopted, {faults[0]}")
            continue
        for outputs in jobs:
            made = judge.record(outputs[0])
            assert made is not None
            _rewrite(made, outputs[0], judge)
        if jobs:
            lines.append(f"{stage}: {len(jobs)} records adopted; {len(tried)} jobs were run again and gave the same")
    return "\n".join(lines) or "nothing to adopt: no record is of other code"
