"""The plan before the cost: jobs, time, disk and reasons on one screen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stages.provenance import times
from stages.provenance.times import JobCost, read_costs
from tests.makers import Project, tiny_values
from workflow import costs, forecast
from workflow.config import Config, check
from workflow.costs import DataSize
from workflow.forecast import Candidate, Estimate, PlannedJob, duration, size

DATA = DataSize(320, 160, 0.007)


def tiny(**changes: object) -> Config:
    return check(tiny_values(**changes), Path("params.yaml"))  # type: ignore[arg-type]


def job(shot: int = 1) -> PlannedJob:
    return PlannedJob("baseline", (f"artifacts/baseline/fold0/{shot}shot/log.tsv",), {"shot": shot}, "after index")


def spent(cpu: float, shot: int, **changes: object) -> JobCost:
    parameters = {name: tiny(**changes).values(name) for name in ("baseline", "encoder", "matching")}
    return JobCost(f"provenance/baseline/fold0/{shot}shot.json", "baseline", parameters, cpu / 2, cpu, 1000)


def chain(**reasons: str) -> list[Candidate]:
    """Two shards of images, an index of both and a report of the index, with the reason why a job is stale."""
    reads = {"images0": (), "images1": (), "index": ("images0", "images1"), "report": ("index",)}
    return [
        Candidate(name.rstrip("01"), {"shard": name[-1]}, (name,), before, reasons.get(name))
        for name, before in reads.items()
    ]


@pytest.mark.parametrize(
    ("reasons", "absent", "expected"),
    [
        ({}, "", {}),
        ({"index": "parameter index.folds"}, "", {"index": "parameter index.folds", "report": "after index"}),
        ({"images1": "input raw"}, "", {"images1": "input raw", "index": "after images", "report": "after index"}),
        # What is current and not on this machine runs only if a job that runs reads it.
        ({}, "images0 images1 index", {}),
        ({}, "report", {"report": "not on this machine"}),
        ({"report": "code of report"}, "index", {"index": "not on this machine", "report": "code of report"}),
        (
            {"report": "code of report"},
            "index images0",
            {"images0": "not on this machine", "index": "after images", "report": "code of report"},
        ),
    ],
)
def test_the_jobs_that_would_run_and_why(reasons: dict[str, str], absent: str, expected: dict[str, str]) -> None:
    planned = forecast.jobs_to_run(chain(**reasons), lambda path: path not in absent.split())
    assert {job.outputs[0]: job.reason for job in planned} == expected


def test_what_the_report_does_not_need_does_not_run() -> None:
    jobs = chain(index="parameter index.folds")
    alone = Candidate("episodes", {"seed": "0"}, ("episodes",), ("index",), "record is missing")
    planned = forecast.jobs_to_run([*jobs[:3], alone, jobs[3]], lambda _: True)
    assert [job.stage for job in planned] == ["index", "report"]


def test_candidates_are_read_as_snakemake_writes_them(tmp_path: Path) -> None:
    entry: dict[str, object] = {"stage": "baseline", "options": {"fold": "2", "shot": "5"}, "reason": None}
    entry |= {"reads": ["artifacts/index/index.h5"], "outputs": ["artifacts/baseline/fold2/5shot/log.tsv"]}
    (tmp_path / "jobs.json").write_text(json.dumps([entry]))
    (candidate,) = forecast.read_candidates(tmp_path / "jobs.json")
    (planned,) = forecast.jobs_to_run([replace(candidate, reads=())], lambda _: False)
    assert planned.options == {"fold": 2, "shot": 5}
    assert planned.record == "provenance/baseline/fold2/5shot.json"


def test_an_earlier_run_is_scaled_by_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = tiny(baseline={"iterations": 600, "decay_every": 400})
    estimate = Estimate(config, DATA, [spent(9.0, 1), spent(23.0, 5)], gpu=False)
    assert estimate.seconds(job(1)) == pytest.approx(costs.START_S + 100 * 6)  # a hundred times the iterations
    assert estimate.seconds(job(5)) == pytest.approx(costs.START_S + 100 * 20)
    assert estimate.seconds(job(2)) == pytest.approx(costs.START_S + 100 * (6 / 2 * 3 + 20 / 6 * 3) / 2)
    assert estimate.measured == {"baseline"}
    assert estimate.bytes(job(1)) == 1000
    on_gpu = Estimate(config, DATA, [spent(9.0, 1)], gpu=True)
    assert on_gpu.seconds(job(1)) == pytest.approx(costs.START_S + 100 * 1.5)  # there, the wall clock counts


def test_without_an_earlier_run_the_documented_costs_count() -> None:
    values = tiny_values(matching={"size": 225, "episodes": 4}, encoder={"width": 64})
    values["baseline"]["iterations"] = 100
    done = costs.work("baseline", values, {"shot": 1}, DATA) * costs.CPU_S["baseline"]
    assert done == pytest.approx(100 * 1.528, rel=0.05)  # docs/results/speed.md
    values["train"] |= {"iterations": 100, "extra_images": 8}
    assert costs.work("train", values, {"shot": 1}, DATA) * costs.CPU_S["train"] == pytest.approx(479, rel=0.05)
    for stage in costs.CPU_S:
        assert costs.work(stage, values, {"shot": 5}, DATA) >= costs.work(stage, values, {"shot": 1}, DATA) > 0
        assert costs.disk(stage, values, DATA) > 0


def test_a_job_leaves_its_cost_if_there_is_a_folder_for_it(
    images_only: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images_only.root)
    words = ["--images", *images_only.images(), "--out", "artifacts/index/index.h5", "--record", "r.json"]
    assert images_only.run("index", *words) == 0
    assert read_costs() == []
    times.LOG.parent.mkdir(exist_ok=True)
    assert images_only.run("index", *words) == 0
    with times.LOG.open("a") as log:
        log.write('{"record": "cut')
    (cost,) = read_costs()
    assert (cost.record, cost.stage) == ("r.json", "index")
    assert cost.disk == Path("artifacts/index/index.h5").stat().st_size
    assert 0 < cost.cpu < 1000
    assert 0 < cost.wall < 1000
    assert cost.parameters["index"]["folds"] == 4
    assert "inputs" not in json.loads(Path("r.json").read_text())["parameters"]


def test_times_and_sizes_are_written_for_people() -> None:
    assert [duration(s) for s in (0.2, 80, 100, 4000, 36_000, 200_000)] == [
        *("1 s", "80 s", "2 min", "67 min", "10 h", "2.3 days"),
    ]
    assert [size(b) for b in (900, 2.5e6, 42e6, 1.4e9)] == ["1 kB", "2.5 MB", "42 MB", "1.4 GB"]
