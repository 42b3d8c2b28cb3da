"""Compare the estimates of ``python -m workflow plan`` with a run: ``python -m benchmarks.estimates``.

In a project's folder, with an experiment in ``params.yaml`` of which something has to run: the jobs are estimated as
the plan does, from earlier runs on this machine or from docs/cost.md, then Snakemake runs them, and the seconds that
they have taken are printed beside the estimates. Further words go to Snakemake. ``--finished`` runs nothing: the costs
of docs/cost.md are compared with what the jobs of a finished run have taken.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from stages.provenance.digests import Digests
from stages.provenance.times import JobCost, read_costs
from workflow.config import load
from workflow.costs import GPU_STAGES
from workflow.engine import snakemake
from workflow.forecast import Candidate, Estimate, PlannedJob, candidates, data_size, jobs_to_run, wall_seconds
from workflow.judge import Judge
from workflow.plan import READS
from workflow.ready import require_ready

GPU = shutil.which("nvidia-smi") is not None


def table(jobs: list[PlannedJob], estimate: Estimate, expected: dict[str, tuple[float, float]]) -> Iterable[str]:
    """Yield the lines of the table of jobs, given the seconds and bytes that were expected of each record."""
    spent = {cost.record: cost for cost in read_costs()}
    yield "| stage | jobs | from | estimate, s | spent, s | ratio | MB estimated | MB written |"
    yield "|---" * 8 + "|"
    totals = [0.0] * 4
    count = 0
    for stage in READS:
        records = [job.record for job in jobs if job.stage == stage and job.record in spent]
        if not records:
            continue
        source = "earlier runs" if stage in estimate.measured else "docs/cost.md"
        taken = sum(_spent(spent[record]) for record in records)
        megabytes = [sum(expected[record][1] for record in records) / 1e6, sum(spent[r].disk for r in records) / 1e6]
        row = [sum(expected[record][0] for record in records), taken, *megabytes]
        totals = [total + value for total, value in zip(totals, row, strict=True)]
        count += len(records)
        yield f"| {stage} | {len(records)} | {source} | {_cells(row)} |"
    yield f"| all | {count} | | {_cells(totals)} |"


def _spent(cost: JobCost) -> float:
    return cost.wall if GPU and cost.stage in GPU_STAGES else cost.cpu


def _cells(row: list[float]) -> str:
    estimated, spent, expected, written = row
    return f"{estimated:.1f} | {spent:.1f} | {spent / max(estimated, 1e-9):.2f} | {expected:.2f} | {written:.2f}"


def main() -> int:
    """Estimate, run, and print the table; return Snakemake's exit status."""
    words = sys.argv[1:]
    finished = "--finished" in words
    config = load()
    require_ready(config, Judge(config, Digests()))
    listed: list[Candidate] = candidates()
    if finished:
        listed = [replace(job, reason="finished") for job in listed]
    jobs = jobs_to_run(listed, lambda path: Path(path).exists())
    estimate = Estimate(config, data_size(config), [] if finished else read_costs(), gpu=GPU)
    expected = {job.record: (estimate.seconds(job), estimate.bytes(job)) for job in jobs}
    wall, status = "", 0
    if not finished:
        by_stage = {stage: [expected[job.record][0] for job in jobs if job.stage == stage] for stage in READS}
        start = time.perf_counter()
        status = snakemake(["--cores", "all", *words], captured=False).returncode
        measured = time.perf_counter() - start
        wall = f"\nfrom start to end: {wall_seconds(by_stage, gpu=GPU):.0f} s estimated, {measured:.0f} s measured"
    print()
    for line in (*table(jobs, estimate, expected), wall):
        print(line)
    return status


if __name__ == "__main__":
    sys.exit(main())
