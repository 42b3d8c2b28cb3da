"""``python -m workflow plan``: what would run and why, with its time and disk space, on one screen."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from novelseg.core.errors import InputError
from stages.provenance.digests import Digests
from stages.provenance.times import JobCost, read_costs
from workflow import costs
from workflow.config import Config, load
from workflow.costs import DataSize
from workflow.engine import snakemake
from workflow.judge import Judge
from workflow.plan import READS, record_of
from workflow.ready import require_ready

# Images of COCO's lists, which are not worth reading half a gigabyte of annotations for.
COCO_IMAGES = {"train2014": 82_783, "val2014": 40_504, "train2017": 118_287, "val2017": 5_000}
UNKNOWN = 1_000  # images in a list that cannot be counted yet
MOST_MEGAPIXELS = 0.19  # of an image, where its size is not known: 500×375


@dataclass(frozen=True)
class PlannedJob:
    """A job that would run: its outputs, and why, in words."""

    stage: str
    outputs: tuple[str, ...]
    options: dict[str, int]
    reason: str

    @property
    def record(self) -> str:
        """Provenance record of the job."""
        return record_of(self.outputs[0])


@dataclass(frozen=True)
class Candidate:
    """A job of the plan, whether it would run or not.

    Attributes
    ----------
    stage
        Its stage.
    options
        Wildcards of its outputs.
    outputs
        Its files.
    reads
        All artifacts that it reads.
    reason
        Why it is stale; None if it is current.
    """

    stage: str
    options: dict[str, str]
    outputs: tuple[str, ...]
    reads: tuple[str, ...]
    reason: str | None


def candidates() -> list[Candidate]:
    """Return every job of the plan, in the order of the pipeline; only Snakemake knows the inputs of its rules.

    Snakemake reads its rules and lists them, which is much less work than its own graph of thousands of jobs.

    Raises
    ------
    InputError
        If Snakemake refuses.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jobs.json"
        process = snakemake(["--list-rules"], captured=True, NOVELSEG_JOBS=str(path))
        if process.returncode:
            printed = process.stdout + process.stderr
            raise InputError(printed.rpartition("error: ")[2].strip() or "Snakemake cannot plan; run `snakemake -n`")
        return read_candidates(path)


def read_candidates(path: Path) -> list[Candidate]:
    """Read the file that Snakemake writes if ``NOVELSEG_JOBS`` names it."""
    entries = json.loads(path.read_text(encoding="utf8"))
    return [Candidate(**{**entry, **{name: tuple(entry[name]) for name in ("outputs", "reads")}}) for entry in entries]


def jobs_to_run(jobs: list[Candidate], exists: Callable[[str], bool]) -> list[PlannedJob]:
    """Return the jobs that Snakemake would run, in the order of the pipeline, as its own graph has them.

    A job runs if it is stale, if a job before it runs, or if one of its outputs is missing and a job that runs reads
    it. Only jobs that the report needs count, and a job whose outputs exist and are current, with all that they were
    made from, needs nothing.

    Parameters
    ----------
    jobs
        Every job of the plan, in the order of the pipeline.
    exists
        Whether an output is on this machine.
    """
    makers = {output: number for number, job in enumerate(jobs) for output in job.outputs}
    before = [[*dict.fromkeys(makers[path] for path in job.reads)] for job in jobs]
    absent = [not all(map(exists, job.outputs)) for job in jobs]
    current: list[bool] = []
    for job, sources in zip(jobs, before, strict=True):
        current.append(job.reason is None and all(current[source] for source in sources))
    needed = {len(jobs) - 1}
    for number in reversed(range(len(jobs))):
        settled = current[number] and not absent[number]
        if number in needed and not settled:
            needed.update(before[number])
        elif settled:
            needed.discard(number)
    runs = {number for number in needed if jobs[number].reason} | ({len(jobs) - 1} & needed)
    while True:
        count = len(runs)
        for number in sorted(needed):
            if not runs.isdisjoint(before[number]):
                runs.add(number)
        for number in sorted(runs, reverse=True):
            runs.update(source for source in before[number] if absent[source])
        if len(runs) == count:
            break
    return [_planned(jobs, number, [source for source in before[number] if source in runs]) for number in sorted(runs)]


def _planned(jobs: list[Candidate], number: int, running: list[int]) -> PlannedJob:
    """Return a job that runs, after others that do."""
    job = jobs[number]
    sources = {jobs[source].stage for source in running}
    after = f"after {', '.join(stage for stage in READS if stage in sources)}" if sources else "not on this machine"
    options = {name: int(value) for name, value in job.options.items() if value.isdigit()}
    return PlannedJob(job.stage, job.outputs, options, job.reason or after)


def planned_jobs() -> list[PlannedJob]:
    """Return the jobs that Snakemake would run."""
    return jobs_to_run(candidates(), lambda path: Path(path).exists())


def data_size(config: Config) -> DataSize:
    """Return the size of the data set: from the index, or the lists, or a guess."""
    images, scenes = config.values("images"), config.values("scenes")
    (index,) = config.targets.of("index")
    if Path(index).exists():
        from novelseg.core.labels import TRAIN
        from novelseg.data.index import read_index

        data = read_index(Path(index))
        train = int((data.split == TRAIN).sum())
        pixels = float((data.height.astype(float) * data.width).mean()) / 1e6
        return DataSize(train, len(data.ids) - train, pixels)
    if images["source"] == "scenes":
        return DataSize(scenes["train"], scenes["val"], 0.75 * scenes["size"] ** 2 / 1e6)
    train, val = (_listed(config, images[key]) for key in ("train_list", "val_list"))
    return DataSize(train, val, MOST_MEGAPIXELS)


def _listed(config: Config, name: str) -> int:
    from novelseg.data.voc import GENERATED

    path = Path(config.raw) / f"ImageSets/Segmentation/{name}.txt"
    if path.exists():
        return len(path.read_text(encoding="utf8", errors="replace").split())
    if known := GENERATED.get(name) or COCO_IMAGES.get(name):
        return known
    folder = Path(config.raw) / name
    return sum(1 for _ in os.scandir(folder)) if folder.is_dir() else UNKNOWN


class Estimate:
    """Estimates of time and disk space: from earlier jobs of a stage on this machine, else from docs/cost.md.

    Parameters
    ----------
    config
        The parameters.
    data
        Size of the data set.
    earlier
        Costs of earlier jobs.
    gpu
        Whether a GPU is used.
    """

    def __init__(self, config: Config, data: DataSize, earlier: list[JobCost], *, gpu: bool) -> None:
        self._values: costs.Values = {name: config.values(name) for name in config.sections}
        self._data, self._gpu = data, gpu
        self._earlier: dict[str, list[JobCost]] = {}
        for cost in earlier:
            self._earlier.setdefault(cost.stage, []).append(cost)
        self.measured: set[str] = set()

    def _spent(self, cost: JobCost) -> float:
        return cost.wall if self._gpu and cost.stage in costs.GPU_STAGES else cost.cpu

    def _work(self, stage: str, options: dict[str, int], parameters: dict[str, dict[str, Any]]) -> float:
        return costs.work(stage, {**self._values, **parameters}, options, self._data)

    def seconds(self, job: PlannedJob) -> float:
        """Return the seconds of a job: of one core, or of the GPU."""
        work, start = self._work(job.stage, job.options, {}), costs.start(job.stage)
        if job.stage in self._earlier:
            self.measured.add(job.stage)
            earlier = self._earlier[job.stage]
            same = [cost for cost in earlier if _shot(cost.record) == job.options.get("shot", 1)] or earlier
            rates = []
            for cost in same:
                before = self._work(job.stage, {"shot": _shot(cost.record)}, cost.parameters)
                rates.append(max(self._spent(cost) - start, 0.0) / max(before, 1e-9))
            started = min(start, median(self._spent(cost) for cost in same))
            return started + median(rates) * work
        rates_of = {**costs.CPU_S, **(costs.GPU_S if self._gpu else {})}
        return start + rates_of[job.stage] * work

    def bytes(self, job: PlannedJob) -> float:
        """Return the bytes of a job's outputs."""
        present = [Path(output).stat().st_size for output in job.outputs if Path(output).exists()]
        if len(present) == len(job.outputs):
            return float(sum(present))
        if same := self._earlier.get(job.stage):
            return float(median(cost.disk for cost in same))
        return costs.disk(job.stage, self._values, self._data)


def _shot(record: str) -> int:
    match = re.search(r"/(\d+)shot", record)
    return int(match[1]) if match else 1


def duration(seconds: float) -> str:
    """Format a time with at most two digits: ``8 s``, ``12 min``, ``3.5 h``, ``2.1 days``."""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 1.5 * length:
            count = seconds / length
            return f"{count:.1f} {unit}" if count < 9.95 and unit != "min" else f"{count:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"


def size(count: float) -> str:
    """Format a number of bytes: ``3 kB``, ``12 MB``, ``1.4 GB``."""
    for unit, length in (("GB", 1e9), ("MB", 1e6)):
        if count >= length:
            return f"{count / length:.1f} {unit}" if count < 9.95 * length else f"{count / length:.0f} {unit}"
    return f"{count / 1e3:.0f} kB"


def _longest_chain(seconds: dict[str, list[float]]) -> float:
    """Return the seconds of the longest chain of jobs that wait for each other, one per stage."""
    ends: dict[str, float] = {}
    for stage, reads in READS.items():
        before = max((ends[read] for read in reads), default=0.0)
        ends[stage] = before + max(seconds.get(stage, [0.0]), default=0.0)
    return max(ends.values())


def wall_seconds(seconds: dict[str, list[float]], *, gpu: bool) -> float:
    """Return the time until everything is done on this machine, given the seconds of each job by stage."""
    total = sum(map(sum, seconds.values()))
    on_gpu = sum(sum(seconds[stage]) for stage in costs.GPU_STAGES) if gpu else 0.0
    return max((total - on_gpu) / cores(), on_gpu, _longest_chain(seconds))


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plan() -> str:
    """Return the page.

    Raises
    ------
    InputError
        If the parameters cannot be run.
    """
    config = load()
    judge = Judge(config, Digests())
    require_ready(config, judge)
    jobs, data = planned_jobs(), data_size(config)
    gpu = shutil.which("nvidia-smi") is not None
    return "\n".join(_page(config, judge, jobs, data, Estimate(config, data, read_costs(), gpu=gpu), gpu=gpu))


def _page(
    config: Config, judge: Judge, jobs: list[PlannedJob], data: DataSize, estimate: Estimate, *, gpu: bool
) -> Iterator[str]:
    machine = f"{cores()} cores, {'a GPU' if gpu else 'no GPU'}"
    lists = f"{data.train:,} training and {data.val:,} validation images"
    yield f"{config.values('report')['protocol']}: {lists}; {machine}"
    yield f"{'stage':<13}{'jobs':>6}{'to run':>8}{'one job':>9}{'all':>9}{'disk':>9}  why"
    seconds: dict[str, list[float]] = {}
    total_bytes = 0.0
    for stage in READS:
        stale = [job for job in jobs if job.stage == stage]
        seconds[stage] = [estimate.seconds(job) for job in stale]
        space = sum(estimate.bytes(job) for job in stale)
        total_bytes += space
        count = len(judge.jobs(stage))
        cells = ["–", "–", "–"]
        if stale:
            cells = [duration(median(seconds[stage])), duration(sum(seconds[stage])), size(space)]
        if count:
            yield f"{stage:<13}{count:>6}{len(stale):>8}{cells[0]:>9}{cells[1]:>9}{cells[2]:>9}  {_why(stale)}"
    total = sum(map(sum, seconds.values()))
    if not jobs:
        yield "everything is current: nothing would run"
        return
    yield f"{'total':<13}{sum(len(judge.jobs(stage)) for stage in READS):>6}{len(jobs):>8}{'':>9}" + (
        f"{duration(total):>9}{size(total_bytes):>9}"
    )
    yield ""
    wall = wall_seconds(seconds, gpu=gpu)
    yield f"about {duration(wall)} on this machine ({duration(total)} of one core{' and the GPU' if gpu else ''})"
    guessed = [stage for stage in READS if seconds[stage] and stage not in estimate.measured]
    known = [stage for stage in READS if stage in estimate.measured]
    if known:
        yield f"times from earlier runs on this machine: {', '.join(known) if guessed else 'all stages'}"
    if guessed:
        yield f"times from docs/cost.md, good to a factor of three: {', '.join(guessed) if known else 'all stages'}"
    free = shutil.disk_usage(".").free
    more = "" if total_bytes < 0.9 * free else ": NOT ENOUGH"
    yield f"disk: {size(total_bytes)} of {size(free)} free{more}; DVC's cache takes as much again unless it links"


def _why(jobs: list[PlannedJob]) -> str:
    """Return the reasons of a stage's jobs, the most frequent first."""
    if not jobs:
        return "current"
    reasons = Counter("not made yet" if job.reason == "record is missing" else job.reason for job in jobs)
    (first, count), *others = reasons.most_common()
    number = f" ({count} of {len(jobs)})" if others else ""
    return f"{first}{number}"[:60]
