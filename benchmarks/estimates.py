"""Compare the estimates of ``python -m workflow plan`` with a run: ``python -m benchmarks.estimates``.

In a project's folder, with an experiment in ``params.yaml`` of which something has to run: the jobs are estimated as
the plan does, from earlier runs on this machine or from docs/cost.md, then Snakemake runs them, and the seconds that
they have taken are printed beside the estimates. Further words go to Snakemake.
"""

from __future__ import annotations

import shutil
import sys
import time

from stages.provenance.digests import Digests
from stages.provenance.times import read_costs
from workflow.config import load
from workflow.costs import GPU_STAGES
from workflow.engine import snakemake
from workflow.forecast import Estimate, data_size, planned_jobs, wall_seconds
from workflow.judge import Judge
from workflow.plan import READS
from workflow.ready import require_ready


def main() -> int:
    """Estimate, run, and print the table; return Snakemake's exit status."""
    config = load()
    require_ready(config, Judge(config, Digests()))
    jobs, gpu = planned_jobs(), shutil.which("nvidia-smi") is not None
    estimate = Estimate(config, data_size(config), read_costs(), gpu=gpu)
    expected = {job.record: (estimate.seconds(job), estimate.bytes(job)) for job in jobs}
    by_stage = {stage: [expected[job.record][0] for job in jobs if job.stage == stage] for stage in READS}
    start = time.perf_counter()
    status = snakemake(["--cores", "all", *sys.argv[1:]], captured=False).returncode
    wall = time.perf_counter() - start
    spent = {cost.record: cost for cost in read_costs()}
    print("\n| stage | jobs | from | estimate, s | spent, s | ratio | MB estimated | MB written |\n" + "|---" * 8 + "|")
    totals = [0.0] * 4
    for stage, seconds in by_stage.items():
        records = [job.record for job in jobs if job.stage == stage and job.record in spent]
        if not records:
            continue
        on_gpu = gpu and stage in GPU_STAGES
        taken = sum(spent[record].wall if on_gpu else spent[record].cpu for record in records)
        megabytes = [sum(expected[record][1] for record in records) / 1e6, sum(spent[r].disk for r in records) / 1e6]
        source = "earlier runs" if stage in estimate.measured else "docs/cost.md"
        row = [sum(seconds), taken, *megabytes]
        totals = [total + value for total, value in zip(totals, row, strict=True)]
        print(f"| {stage} | {len(records)} | {source} | {_cells(row)} |")
    print(f"| all | {len(jobs)} | | {_cells(totals)} |")
    print(f"\nfrom start to end: {wall_seconds(by_stage, gpu=gpu):.0f} s estimated, {wall:.0f} s measured")
    return status


def _cells(row: list[float]) -> str:
    estimated, spent, expected, written = row
    return f"{estimated:.1f} | {spent:.1f} | {spent / max(estimated, 1e-9):.2f} | {expected:.2f} | {written:.2f}"


if __name__ == "__main__":
    sys.exit(main())
