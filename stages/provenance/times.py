"""Time and disk space of each job on this machine, for estimates: a log beside that of the digests.

A provenance record holds no time, since it is the same on every machine.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOG = Path(".cache/times.jsonl")


@dataclass(frozen=True)
class JobCost:
    """Cost of a job.

    Attributes
    ----------
    record
        Path of the job's provenance record.
    stage
        Stage of the job.
    parameters
        Values of the sections that the stage reads.
    wall
        Seconds from start to end.
    cpu
        Seconds of all its threads and processes.
    disk
        Bytes of its outputs.
    """

    record: str
    stage: str
    parameters: dict[str, dict[str, Any]]
    wall: float
    cpu: float
    disk: int


class Clock:
    """Clock of a job, which starts with it; the imports before it are counted by their time on the processor."""

    def __init__(self) -> None:
        self._start = time.perf_counter() - time.process_time()

    def log(self, record: Path, stage: str, parameters: dict[str, dict[str, Any]], outputs: list[str]) -> None:
        """Append the cost of a job that has ended; without the log's folder, nothing is kept."""
        used = os.times()
        cost = JobCost(
            record=record.as_posix(),
            stage=stage,
            parameters=parameters,
            wall=round(time.perf_counter() - self._start, 2),
            cpu=round(used.user + used.system + used.children_user + used.children_system, 2),
            disk=sum(Path(output).stat().st_size for output in outputs),
        )
        # A single write in append mode keeps the lines of several processes apart.
        with suppress(OSError), LOG.open("ab", buffering=0) as log:
            log.write(f"{json.dumps(vars(cost))}\n".encode())


def read_costs() -> list[JobCost]:
    """Return the last cost of each job, by its record; lines that a full disk has cut short are skipped."""
    costs: dict[str, JobCost] = {}
    for line in LOG.read_text(encoding="utf8", errors="replace").splitlines() if LOG.exists() else []:
        with suppress(ValueError, TypeError):
            cost = JobCost(**json.loads(line))
            costs[cost.record] = cost
    return list(costs.values())
