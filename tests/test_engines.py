"""Both engines end to end on the tiny experiment, with the real tools."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from novelseg.core.files import digest
from novelseg.fetch.catalogue import CATALOGUE
from tests.engines import dvc, forecast, jobs, new_project, planned, set_values, snakemake, workflow
from tests.inprocess import command
from tests.makers import tiny_values, write_values
from tests.miniatures import coco_folder, sbd_folder, voc_folder
from workflow.plan import READS, records
from workflow.plan import folder as outputs

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def by_snakemake(team: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment run by Snakemake."""
    return shutil.copytree(team / "first", tmp_path_factory.mktemp("engines") / "snakemake", symlinks=True)


# Stages whose outputs DVC makes again: all whose jobs take no more than a few seconds.
REMADE = ("index", "regions", "prototypes", "episodes", "evaluate", "report")


@pytest.fixture(scope="module")
def by_dvc(team: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment of which DVC has made some stages again, from nothing."""
    folder = shutil.copytree(team / "first", tmp_path_factory.mktemp("engines") / "dvc", symlinks=True)
    for stage in REMADE:
        for path in (folder / outputs(stage), folder / records(stage)):
            path.unlink() if path.is_file() else shutil.rmtree(path)
    # Forced, or DVC would bring the outputs back from its cache.
    printed = dvc(folder, "repro", "--force", "--single-item", *REMADE)
    assert [stage for stage in READS if f"Running stage '{stage}'" in printed] == list(REMADE)
    assert {rule for rule in re.findall(r"^(?:local)?rule (\w+):", printed, re.M) if rule in READS} == set(REMADE)
    return folder


def digests(folder: Path) -> dict[str, str]:
    """Digest of every artifact of the stages that DVC has made again, but for the evaluation and the report."""
    files = [
        path for stage in REMADE[:4] for path in sorted((folder / "artifacts" / stage).rglob("*")) if path.is_file()
    ]
    return {str(path.relative_to(folder)): digest(path) for path in files if path.name != ".gitignore"}


def test_a_second_snakemake_has_nothing_to_do(by_snakemake: Path) -> None:
    assert "Nothing to be done" in snakemake(by_snakemake)


def test_snakemakes_own_report_lists_the_results_with_captions(by_snakemake: Path, tmp_path: Path) -> None:
    snakemake(by_snakemake, "--report", str(tmp_path / "made.html"))
    page = (tmp_path / "made.html").read_text(encoding="utf8")
    for name in ("index.html", "results.tsv", "comparisons.tsv", "train-fold-0-1-shot-hierarchical.tsv"):
        assert f'"{name}"' in page
    assert "Effect of each component, and comparison of the methods" in page
    assert all(f'"{category}"' in page for category in ("Page", "Tables", "Losses"))


def test_a_second_dvc_repro_has_nothing_to_do(by_dvc: Path) -> None:
    assert "Data and pipelines are up to date." in dvc(by_dvc, "repro")
    assert "Data and pipelines are up to date." in dvc(by_dvc, "status")


def test_both_engines_make_the_same_bytes(by_snakemake: Path, by_dvc: Path) -> None:
    first, second = digests(by_snakemake), digests(by_dvc)
    assert len(first) == 6
    assert first == second
    names = (
        "artifacts/evaluate/fold0/1shot/rows.parquet",
        "report/metrics.json",
        "report/results.tsv",
        "report/index.html",
    )
    assert [digest(by_snakemake / name) for name in names] == [digest(by_dvc / name) for name in names]


def test_snakemake_has_nothing_to_do_after_dvc(by_dvc: Path) -> None:
    assert "Nothing to be done" in snakemake(by_dvc, "-n")


def test_dvc_shows_metrics_and_plots(by_dvc: Path) -> None:
    shown = json.loads(dvc(by_dvc, "metrics", "show", "--json").splitlines()[0])
    values = next(iter(shown.values()))["data"]["report/metrics.json"]["data"]
    assert set(values["fold0"]["1-shot"]) >= {"pretrained", "baseline", "spfl", "spfl+srofb", "cam"}
    page = dvc(by_dvc, "plots", "show", "--json")
    assert "baseline-fold-0-1-shot.tsv" in page
    assert "train-fold-0-1-shot-hierarchical.tsv" in page


def test_a_new_tau_cuts_anew_and_recomputes_no_hierarchy(by_snakemake: Path) -> None:
    values = yaml.safe_load((by_snakemake / "params.yaml").read_text())
    values["regions"]["tau"] = 0.5
    write_values(by_snakemake / "params.yaml", values)
    planned = snakemake(by_snakemake, "-n", "--quiet", "rules", "reason")
    jobs = {line.split()[0] for line in planned.splitlines() if len(line.split()) == 2 and line.split()[1].isdigit()}
    assert {"regions", "features", "prototypes", "pseudolabels", "train", "evaluate", "report"} <= jobs
    assert not {"images", "index", "hierarchies", "baseline", "cam", "episodes"} & jobs
    values["regions"]["tau"] = 0.45
    write_values(by_snakemake / "params.yaml", values)
    assert "Nothing to be done" in snakemake(by_snakemake, "-n")


def test_dvc_too_cuts_anew_and_recomputes_no_hierarchy(by_dvc: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(by_dvc, folder, symlinks=True)
    times = {path: path.stat().st_mtime_ns for path in (folder / "artifacts/hierarchies").iterdir()}
    before = (folder / "artifacts/regions/0.h5").read_bytes()
    values = yaml.safe_load((folder / "params.yaml").read_text())
    values["regions"]["tau"] = 0.5
    write_values(folder / "params.yaml", values)
    printed = dvc(folder, "repro", "regions")
    assert "Stage 'hierarchies' didn't change, skipping" in printed
    assert "Running stage 'regions'" in printed
    assert {path: path.stat().st_mtime_ns for path in (folder / "artifacts/hierarchies").iterdir()} == times
    assert (folder / "artifacts/regions/0.h5").read_bytes() != before


def test_the_cam_prior_can_be_left_out(by_snakemake: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(by_snakemake, tmp_path / "without", symlinks=True)
    set_values(folder, plan={"cam": False})
    assert planned(folder) == {"evaluate": 1, "report": 1}
    assert "removed artifacts/cam/fold0/weights.safetensors" in command(folder, "prune")
    assert not [path for path in (folder / "artifacts/cam").rglob("*") if path.is_file()]
    set_values(folder, plan={"cam": True})
    assert planned(folder) == {"cam": 1, "evaluate": 1, "report": 1}


def test_a_current_job_has_no_inputs_unless_jobs_are_forced(by_snakemake: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(by_snakemake, tmp_path / "copy", symlinks=True)
    assert set(re.findall(r"selected job (\w+)", snakemake(folder, "-n", "--debug-dag"))) == {"report", "all"}
    assert jobs(snakemake(folder, "-n", "--forceall")).keys() == set(READS)
    # Of the shards that only the report's pictures and the training read, one is made again, with what follows.
    (folder / "artifacts/pseudolabels/fold0/1.h5").unlink()
    assert planned(folder) == forecast(folder) == {"pseudolabels": 1, "train": 1, "evaluate": 1, "report": 1}
    (folder / "artifacts/images/0.h5").unlink()
    assert set(READS) - planned(folder).keys() == set()
    assert forecast(folder) == planned(folder)


def test_the_forecast_is_snakemakes_plan(by_snakemake: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(by_snakemake, tmp_path / "copy", symlinks=True)
    assert forecast(folder) == {}
    set_values(folder, regions={"tau": 0.3})
    assert forecast(folder) == planned(folder) != {}
    # Of what was not fetched, only that is made which a stale job reads.
    for stage in ("hierarchies", "features", "prototypes"):
        shutil.rmtree(folder / "artifacts" / stage)
    assert forecast(folder) == planned(folder)
    set_values(folder, regions={"tau": tiny_values()["regions"]["tau"]})
    assert forecast(folder) == planned(folder) == {}
    (folder / "provenance/episodes/fold0/1shot/seed0.json").unlink()
    assert forecast(folder) == planned(folder) != {}


@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_both_engines_stop_at_a_bad_parameter_before_the_first_job(engine: str, tmp_path: Path) -> None:
    folder = new_project(tmp_path / "bad")
    values = tiny_values()
    values["report"]["episods"] = 3
    write_values(folder / "params.yaml", values)
    printed = snakemake(folder, rc=1) if engine == "snakemake" else dvc(folder, "repro", rc=255)
    assert "unknown key 'episods' in section 'report'; did you mean 'episodes'" in printed
    # What only the data or the weights show.
    write_values(folder / "params.yaml", tiny_values(encoder={"arch": "resnet34"}))
    printed = snakemake(folder, rc=1) if engine == "snakemake" else dvc(folder, "repro", rc=255)
    assert "error: encoder.weights does not fit encoder.arch, which is resnet34: " in printed
    assert not list((folder / "artifacts").rglob("*.h5"))


@pytest.mark.parametrize("engine", ["snakemake", "dvc", "run"])
def test_both_engines_stop_when_the_index_shows_too_few_objects(engine: str, team: Path, tmp_path: Path) -> None:
    # The index is current: before the first job.
    folder = shutil.copytree(team / "first", tmp_path / "many", symlinks=True)
    set_values(folder, prototypes={"clusters": [120, 3, 2]})
    told = "prototypes.clusters starts with 120 clusters, but the "
    if engine == "snakemake":
        printed = snakemake(folder, rc=1)
        assert f"error: {told}" in printed
        # The index is to be made: as soon as it is there, and before any hierarchy.
        for stage in ("images", "index", "hierarchies"):
            shutil.rmtree(folder / outputs(stage))
        printed = snakemake(folder, "--cores", "1", rc=1)
        assert re.findall(r"^(?:local)?rule (\w+):", printed, re.M) == ["images", "images", "index"]
    else:
        printed = dvc(folder, "repro", rc=255) if engine == "dvc" else workflow(folder, "run", rc=2)
    assert told in printed


@pytest.mark.parametrize(
    ("section", "changes", "key", "remedy"),
    [
        ("images", {"source": "voc", "root": "$NOVELSEG_DATA/none"}, "images.root", "set NOVELSEG_DATA to the folder"),
        (
            "hierarchies",
            {"weights": "weights/none.safetensors"},
            "hierarchies.weights",
            "set NOVELSEG_DATA to the folder",
        ),
        (
            "hierarchies",
            {"method": "precomputed", "maps": "none"},
            "hierarchies.maps",
            "set NOVELSEG_DATA to the folder",
        ),
        ("report", {"studies": "none"}, "report.studies", "set it to '', run the pipeline and"),
    ],
)
def test_missing_data_is_named_before_the_first_job(
    tmp_path: Path, section: str, changes: dict[str, object], key: str, remedy: str
) -> None:
    folder = new_project(tmp_path / "absent")
    write_values(folder / "params.yaml", tiny_values(**{section: changes}))
    printed = snakemake(folder, "-n", rc=1)
    assert f"{key} points to" in printed
    assert remedy in printed


PLANNED = {
    "pascal5i-r101": {"images": 16, "regions": 16, "pseudolabels": 64, "baseline": 8, "episodes": 40, "report": 1},
    "coco20i-fwb": {"images": 32, "features": 128, "prototypes": 4, "train": 16, "episodes": 40, "evaluate": 8},
}


def missing(folder: Path, data: Path) -> str:
    """The sentence with which Snakemake refuses a plan."""
    printed = snakemake(folder, "-n", rc=1, NOVELSEG_DATA=str(data))
    return next(line for line in printed.splitlines() if line.startswith("error: "))


@pytest.mark.parametrize("preset", PLANNED)
def test_each_protocol_names_what_is_missing_and_plans_the_whole_when_it_is_there(preset: str, tmp_path: Path) -> None:
    folder, data = new_project(tmp_path / "house"), tmp_path / "data"
    workflow(folder, "use", preset, "--force")
    if preset == "coco20i-fwb":
        set_values(folder, images={"shards": 32})  # of 256: an eighth of the jobs
    wanted = {"voc2012": voc_folder, "sbd": sbd_folder} if "pascal" in preset else {"coco2014": coco_folder}
    for what, make in wanted.items():
        place = data / CATALOGUE[what][0].target.partition("/")[0]
        told = missing(folder, data)
        assert f"points to {place}: {CATALOGUE[what][0].name} is missing; " in told
        assert f"`novelseg fetch --what {what} --out {data}` downloads it" in told
        make(place)
    net = "resnet101" if "101" in preset else "resnet50"
    assert f"encoder.weights points to {data / CATALOGUE[net][0].target}: {net}-" in missing(folder, data)
    (data / "weights").mkdir()
    (data / CATALOGUE[net][0].target).write_bytes(b"weights")
    told = missing(folder, data)
    assert f"encoder.weights does not fit encoder.arch, which is {net}: " in told
    assert "not a readable weight file" in told
    set_values(folder, encoder={"arch": "resnet18", "width": 16, "weights": "weights/scenes-resnet18-w16.safetensors"})
    assert PLANNED[preset].items() <= planned(folder, NOVELSEG_DATA=str(data)).items()
    printed = dvc(folder, "repro", "--dry", NOVELSEG_DATA=str(data))
    assert [stage for stage in READS if f"Running stage '{stage}'" not in printed] == []
