"""The safe everyday commands: run, push, pull."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from novelseg.core.errors import InputError
from novelseg.core.text import nearest
from stages.provenance.digests import Digests
from workflow.plan import READS, REPORTED, folder, records
from workflow.records import audit, prune, record, would_run
from workflow.tracking import alone


def run(words: list[str]) -> str:
    """Bring everything up to date stage by stage and record it; ``words`` go to Snakemake.

    A stage that gives the same bytes as before, after a refactoring say, stops the run there: what follows is current.

    Raises
    ------
    InputError
        If a stage fails, or the outcome cannot be recorded.
    """
    if {"-n", "--dry-run", "--dryrun"} & set(words):
        raise InputError("run does what is planned and records it; to look first, `snakemake -n`")
    if planned := would_run():
        # Of what is planned, a stage whose inputs turn out the same is left alone; nothing else is asked.
        stages = [stage for stage in READS if re.search(rf"^{stage} +\d+$", planned, re.M)]
        if not stages:
            raise InputError(planned.rpartition("error: ")[2])
        for stage in stages:
            command = ["--allowed-rules", stage, f"{stage}_all", *words, "--", f"{stage}_all"]
            print(f"— {stage}", flush=True)
            environment = {**os.environ, "NOVELSEG_STAGEWISE": "1"}
            if subprocess.run([sys.executable, "-m", "snakemake", *command], env=environment, check=False).returncode:
                raise InputError(f"stage {stage} did not finish; its message stands above, what is done is kept")
    with alone():
        for path in prune():
            print(f"removed {path}")
        return record()


def push(remote: str | None) -> str:
    """Publish what ``dvc.lock`` names, if the records agree with it."""
    audit()
    from workflow.remote import push as send

    return f"pushed {send(remote)} files"


def needed(stages: list[str]) -> list[str]:
    """What ``pull STAGE…`` fetches: the stages' outputs, what those need that read them next, the report, all records.

    The report's own inputs are not among them: it is a result to look at.
    """
    for stage in stages:
        if stage not in READS:
            raise InputError(f"there is no stage '{stage}'; {nearest(stage, list(READS))}")
    readers = [name for name, reads in READS.items() if name != "report" and set(reads) & set(stages)]
    wanted = {*stages, *(read for name in readers for read in READS[name])}
    outputs = [folder(stage) for stage in READS if stage in wanted and stage != "report"]
    return [*outputs, *(f"report/{name}" for name in (*REPORTED, "plots")), *map(records, READS)]


def pull(stages: list[str], remote: str | None) -> str:
    """Fetch what ``dvc.lock`` names: all of it, or what is needed to use some stages' outputs."""
    from workflow.remote import pull as fetch

    targets = needed(stages) if stages else None
    with alone():
        fetched = fetch(targets, remote, Digests())
    shown = ", ".join(target for target in targets or [] if target.startswith("artifacts")) or "everything"
    return f"fetched {fetched} files; here now: {shown}"
