"""``python -m workflow adopt``: keep artifacts of earlier code if the present code gives the same content.

A record holds the digest of the code that made an artifact, so that any change of code makes the artifact stale. After
a refactoring, ``adopt`` runs one job of each stage again in a scratch folder and compares its outputs with the
artifacts. If they are the same, it rewrites the stage's records for the present code; nothing else changes.
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

from novelseg.core.errors import InputError, nearest
from novelseg.core.files import whole_file
from novelseg.formats.content import difference
from novelseg.formats.provenance import Record
from stages.provenance.code import code_digest
from stages.provenance.digests import Digests
from workflow.config import load
from workflow.engine import snakemake
from workflow.judge import Judge
from workflow.plan import FOLDERED, READS, record_of

COMMAND = re.compile(r"^Shell command: python -m (stages .*?)(?: && python -m workflow ready)?$", re.MULTILINE)


def _only_code_is_new(judge: Judge, outputs: tuple[str, ...]) -> bool:
    """Return whether outputs are stale only because of code, or of parameters that are newer than their record."""
    record = judge.record(outputs[0])
    if record is None or sorted(record.outputs) != sorted(outputs):
        return False
    now = judge.parameters(record.stage)
    # Keys and sections that are newer than the record may have any value.
    then = {
        section: {key: now.get(section, {}).get(key, value) for key, value in values.items()}
        for section, values in record.parameters.items()
    }
    if judge.changed_parameter(record, then):
        return False
    unchanged = all(Path(path).exists() and judge.now(path) == md5 for path, md5 in record.outputs.items())
    return unchanged and all(judge.digest(name, record) == md5 for name, md5 in record.inputs.items())


def _command(stage: str, output: str) -> list[str]:
    """Return the words of the command with which Snakemake would make an output.

    Raises
    ------
    InputError
        If Snakemake plans another number of jobs than one.
    """
    words = ["-n", "-p", "--allowed-rules", stage, "--", output]
    planned = snakemake(words, captured=True)
    commands = COMMAND.findall(planned.stdout + planned.stderr)
    if len(commands) != 1:
        printed = (planned.stdout + planned.stderr).strip().splitlines()
        raise InputError(f"{output}: Snakemake plans {len(commands)} jobs for it, expected one: {printed[-1]}")
    command = commands[0].replace(f"$(dirname {output})", shlex.quote(str(Path(output).parent)))
    return shlex.split(command)


def _run_again(stage: str, outputs: tuple[str, ...], folder: Path) -> str:
    """Run the job of some outputs again in a folder, and return their first difference, empty if they are the same."""
    words = _command(stage, outputs[0])
    out = words.index("--out") + 1
    target = folder / Path(words[out]).name
    words[out] = str(target)
    for option in ("--record", "--live"):
        if option in words:
            position = words.index(option)
            del words[position : position + 2]
    if subprocess.run([sys.executable, "-m", *words], check=False).returncode:
        raise InputError(f"{outputs[0]}: the stage {stage} did not finish; its message is above")
    for output in outputs:
        rerun = target / Path(output).relative_to(Path(outputs[0]).parent) if stage in FOLDERED else target
        if where := difference(Path(output), rerun):
            return f"{output} differs in {where}"
    return ""


def _rewrite(record: Record, output: str, judge: Judge) -> None:
    """Rewrite a record with the present code digest and parameters; its inputs and outputs stay."""
    now = replace(record, code=code_digest(record.stage), parameters=judge.parameters(record.stage))
    with whole_file(Path(record_of(output))) as scratch:
        scratch.write_text(json.dumps(asdict(now), indent=1, sort_keys=True) + "\n", encoding="utf8")


def adopt(stages: list[str], *, every_job: bool) -> str:
    """Adopt, stage by stage, what the present code reproduces, and return one line for each stage with stale jobs.

    Parameters
    ----------
    stages
        Stages to adopt; all if empty.
    every_job
        Run all jobs of a stage again, not only the first.

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
                f"{stage}: {len(stale) - len(jobs)} of {len(stale)} stale jobs stay stale, since their inputs or "
                "parameters changed too"
            )
        samples = jobs if every_job else jobs[:1]
        faults = []
        for outputs in samples:
            with tempfile.TemporaryDirectory(dir=".cache") as folder:
                if fault := _run_again(stage, outputs, Path(folder)):
                    faults.append(fault)
                    break
        if faults:
            lines.append(f"{stage}: not adopted, {faults[0]}")
            continue
        for outputs in jobs:
            record = judge.record(outputs[0])
            assert record is not None
            _rewrite(record, outputs[0], judge)
        if jobs:
            lines.append(f"{stage}: {len(jobs)} records adopted; {len(samples)} jobs were run again and gave the same")
    return "\n".join(lines) or "nothing to adopt: no job is stale"
