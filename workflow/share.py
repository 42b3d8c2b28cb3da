"""The commands `run`, `push` and `pull`; `push` publishes only files that agree with their records."""

from __future__ import annotations

import re

from novelseg.core.errors import InputError, nearest
from stages.provenance.digests import Digests
from workflow.engine import snakemake
from workflow.plan import READS, REPORTED, folder, records, require_folders
from workflow.records import audit, prune, record, would_run
from workflow.tracking import CONFIG_REFUSED, alone


def run(words: list[str]) -> str:
    """Bring everything up to date stage by stage and record it; ``words`` go to Snakemake.

    If a stage gives the same bytes as before, for instance after a refactoring, the stages after it do not run.

    Raises
    ------
    InputError
        If a stage fails, or the outcome cannot be recorded.
    """
    if {"-n", "--dry-run", "--dryrun"} & set(words):
        raise InputError("`run` has no dry run, since it executes the plan and records the outcome; use `snakemake -n`")
    if any(word.startswith(("--config", "--replace-workflow-config", "-C")) for word in words):
        raise InputError(CONFIG_REFUSED)
    require_folders()
    if planned := would_run():
        # Only planned stages are run; one whose inputs turn out the same has nothing to do.
        stages = [stage for stage in READS if re.search(rf"^{stage} +\d+$", planned, re.M)]
        if not stages:
            raise InputError(planned.rpartition("error: ")[2])
        for stage in stages:
            command = ["--allowed-rules", stage, f"{stage}_all", *words, "--", f"{stage}_all"]
            print(f"— {stage}", flush=True)
            if snakemake(command, captured=False, NOVELSEG_STAGEWISE="1").returncode:
                raise InputError(f"stage {stage} did not finish; its message is above, and finished jobs are kept")
    with alone():
        for path in prune():
            print(f"removed {path}")
        return record()


def push(remote: str | None) -> str:
    """Publish the files that ``dvc.lock`` names, if the provenance records agree with it."""
    audit()
    from workflow.remote import push as send

    return f"pushed {send(remote)} files"


def needed(stages: list[str]) -> list[str]:
    """Return what ``pull STAGE…`` fetches: the stages' outputs, all inputs of their readers, the report, all records.

    The inputs of the report are not included, since it is only looked at.
    """
    for stage in stages:
        if stage not in READS:
            raise InputError(f"there is no stage '{stage}'; {nearest(stage, list(READS))}")
    readers = [name for name, reads in READS.items() if name != "report" and set(reads) & set(stages)]
    sources = {*stages, *(read for name in readers for read in READS[name])}
    outputs = [folder(stage) for stage in READS if stage in sources and stage != "report"]
    return [*outputs, *(f"report/{name}" for name in (*REPORTED, "plots")), *map(records, READS)]


def pull(stages: list[str], remote: str | None) -> str:
    """Fetch the files that ``dvc.lock`` names: all of them, or those needed to use some stages' outputs."""
    from workflow.remote import pull as fetch

    targets = needed(stages) if stages else None
    with alone():
        fetched = fetch(targets, remote, Digests())
    folders = ", ".join(target for target in targets or [] if target.startswith("artifacts")) or "everything"
    return f"fetched {fetched} files; now on this machine: {folders}"
