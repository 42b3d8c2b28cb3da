"""One truth for a team: what is published, times, people, clusters, remotes (S9–S12 of docs/team.md)."""

from __future__ import annotations

import functools
import importlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.__main__ import STAGES
from tests.engines import (
    NOTHING,
    at_rest,
    call,
    clone,
    commit,
    dvc,
    git,
    jobs,
    planned,
    publish,
    set_values,
    snakemake,
)
from tests.inprocess import believed_by_dvc, changed_for_dvc, command, resting
from tests.test_house import edit

pytestmark = pytest.mark.engines


# ---- S9: five ways to poison the team's cache


def flip_a_byte(mate: Path) -> str:
    """An artifact edited in place."""
    path = mate / "artifacts/features/fold0/1.h5"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return "artifacts/features/fold0/1.h5: content differs from its record"


def stale_parameters(mate: Path) -> str:
    """The first bullet: pulled artifacts, an edited parameter, no run."""
    set_values(mate, regions={"tau": 0.5})
    return "artifacts/regions/0.h5: made with other parameters than those in dvc.lock"


def half_a_run(mate: Path) -> str:
    """A new stage, its successors of before."""
    set_values(mate, episodes={"count": 5})
    snakemake(mate, "episodes_all")
    return "made from another version of artifacts/episodes/fold0/1shot/seed0.tsv"


def other_code(mate: Path) -> str:
    """Code that was edited and never run."""
    edit(mate / "novelseg/ops/pooling.py", "EPSILON = 1e-5", "EPSILON = 1e-4")
    return "artifacts/features/fold0/0.h5: made by other code than that in dvc.lock"


def forged_record(mate: Path) -> str:
    """A record edited to fit an edited artifact; what was made from it tells."""
    path, record = mate / "artifacts/prototypes/fold0.h5", mate / "provenance/prototypes/fold0.json"
    shutil.copy(mate / "artifacts/index/index.h5", path)
    content = json.loads(record.read_text())
    content["outputs"] = json.loads((mate / "provenance/index/index.json").read_text())["outputs"]
    content["outputs"] = {"artifacts/prototypes/fold0.h5": next(iter(content["outputs"].values()))}
    record.write_text(json.dumps(content))
    return "artifacts/pseudolabels/fold0/0.h5: made from another version of artifacts/prototypes/fold0.h5"


def foreign_file(mate: Path) -> str:
    """A file that no stage made."""
    shutil.copy(mate / "artifacts/regions/0.h5", mate / "artifacts/regions/7.h5")
    return "artifacts/regions/7.h5: has no provenance record"


@pytest.mark.parametrize("poison", [flip_a_byte, stale_parameters, half_a_run, other_code, forged_record, foreign_file])
def test_s9_poison_is_refused_and_named(mate: Path, poison: object) -> None:
    assert callable(poison)
    locked = (mate / "dvc.lock").read_text()
    fault = poison(mate)
    assert "nothing was recorded, and dvc.lock is unchanged:" in command(mate, "record", rc=2)
    assert (mate / "dvc.lock").read_text() == locked
    # Behind the project's back: DVC believes it, the audit does not.
    believed_by_dvc(mate)
    assert changed_for_dvc(mate) == {}
    printed = command(mate, "push", rc=2)
    assert "error: dvc.lock and the provenance records disagree" in printed
    assert fault in printed


def test_s10_times_mean_nothing(mate: Path) -> None:
    order = random.Random(3)
    files = [path for top in ("artifacts", "provenance", "report", "weights") for path in (mate / top).rglob("*")]
    for path in files:
        when = order.choice([0.0, 1.0e9, time.time() - order.random() * 1e5, time.time() + 3600, time.time() + 10800])
        os.utime(path, (when, when))
    assert at_rest(mate)
    set_values(mate, report={"bootstrap": 130})
    snakemake(mate)
    assert resting(mate)


def test_s11_two_people_and_both_engines(origin: Path, pulled: Path, tmp_path: Path) -> None:
    shared = shutil.copytree(origin, tmp_path / "origin.git")
    first, second = (shutil.copytree(pulled, tmp_path / name, symlinks=True) for name in "ab")
    for folder in (first, second):
        git(folder, "remote", "set-url", "origin", str(shared))
    set_values(first, report={"bootstrap": 140})
    snakemake(first)
    publish(first, "by A")
    git(second, "pull", "-q")
    command(second, "pull")
    assert resting(second)
    set_values(second, report={"bootstrap": 141})
    dvc(second, "repro")
    publish(second, "by B")
    git(first, "pull", "-q")
    command(first, "pull")
    assert at_rest(first)
    assert at_rest(second)


def test_s12_a_cluster_executor_does_the_same(mate: Path, tmp_path: Path) -> None:
    submit = tmp_path / "submit.sh"
    submit.write_text('#!/bin/sh\nsetsid sh "$1" > "$1.log" 2>&1 &\necho $!\n')
    submit.chmod(0o755)
    profile = tmp_path / "cluster"
    profile.mkdir()
    lines = ["executor: cluster-generic", f"cluster-generic-submit-cmd: {submit}", "jobs: 4", "latency-wait: 10"]
    (profile / "config.yaml").write_text("\n".join([*lines, "seconds-between-status-checks: 1"]))
    before = {path: path.read_bytes() for path in (mate / "artifacts/episodes").rglob("*.tsv")}
    shutil.rmtree(mate / "artifacts/episodes")
    shutil.rmtree(mate / "provenance/episodes")
    set_values(mate, report={"bootstrap": 125})
    printed = snakemake(mate, "--profile", str(profile))
    assert jobs(printed) == {"episodes": 2, "evaluate": 1, "report": 1}
    assert {path: path.read_bytes() for path in before} == before
    assert resting(mate)


def test_the_audit_needs_the_records_alone(origin: Path, mate: Path, tmp_path: Path) -> None:
    def audit(name: str, rc: int) -> str:
        git(tmp_path, "clone", "-q", "mate", name)
        records = [f"provenance/{stage}" for stage in STAGES if stage != "report"]
        dvc(tmp_path / name, "fetch", "-q", *records, "provenance/report.json")
        assert not (tmp_path / name / "artifacts").exists()
        return command(tmp_path / name, "audit", rc=rc)

    assert "agree" in audit("sound", 0)
    flip_a_byte(mate)
    believed_by_dvc(mate)
    dvc(mate, "remote", "add", "-d", "-f", "shared", str(tmp_path / "poisoned"))
    dvc(mate, "push", "-q")
    commit(mate, "poison")
    assert "artifacts/features: its files differ from its records" in audit("poisoned_clone", 2)


# ---- what users get besides


def test_pull_of_a_stage_brings_what_is_needed_to_use_it(origin: Path, tmp_path: Path) -> None:
    mate = clone(origin, tmp_path / "mate", "prototypes")
    here = {path.name for path in (mate / "artifacts").iterdir() if any(path.rglob("*.*"))}
    assert here == {"images", "index", "baseline", "prototypes"}
    assert NOTHING in snakemake(mate, "-n")
    assert "Running stage" not in dvc(mate, "repro", "--allow-missing", "--dry")
    # A comment's edit can be recorded and published from here.
    page = mate / "novelseg/report/page.py"
    page.write_text("# A comment.\n" + page.read_text())
    assert "unchanged, since not on this machine: hierarchies" in command(mate, "record")
    assert "pushed" in command(mate, "push")
    # The next stage can be made from what is here, and nothing before it.
    assert jobs(snakemake(mate, "-n", "pseudolabels_all")) == {"pseudolabels": 2, "pseudolabels_all": 1}


def test_without_the_raw_images_everything_from_the_shards_on_can_be_made(mate: Path, tmp_path: Path) -> None:
    raw = tmp_path / "data" / "raw"
    call(mate, "python", "-m", "stages", "scenes", "--out", str(raw))
    set_values(mate, images={"source": "voc", "root": "$NOVELSEG_DATA/raw"}, plan={"seeds": [0]})
    # Nothing is trained: the scenes do not hold all classes of VOC.
    set_values(mate, index={"folds": 4}, encoder={"train": "none"}, plan={"cam": False})
    snakemake(mate, "regions_all", "episodes_all", NOVELSEG_DATA=str(raw.parent))
    assert "images" not in planned(mate, NOVELSEG_DATA=str(raw.parent))
    # Another content of one image, of the same size, is seen.
    picture = sorted((raw / "JPEGImages").iterdir())[0]
    content = picture.read_bytes()
    picture.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    assert planned(mate, NOVELSEG_DATA=str(raw.parent))["images"] == 2
    shutil.rmtree(raw)
    left = planned(mate, NOVELSEG_DATA=str(raw.parent))
    assert "images" not in left
    assert "evaluate" in left
    set_values(mate, images={"shards": 3})
    printed = snakemake(mate, "-n", rc=1, NOVELSEG_DATA=str(raw.parent))
    assert f"error: images.root points to {raw}, which does not exist" in printed


def test_explain_says_what_and_why(mate: Path) -> None:
    page = command(mate, "explain", "artifacts/features/fold0/1.h5")
    assert "current: the present parameters, code and inputs would make the same" in page
    assert "stage features, fold 0" in page
    assert "  features.min_region_area: 16" in page
    assert "artifacts/baseline/fold0/1shot/weights.safetensors" in page
    assert "torch 2." in page
    set_values(mate, regions={"tau": 0.5})
    page = command(mate, "explain", "artifacts/prototypes")
    assert "STALE: an artifact that it was made from is stale" in page
    assert "because of artifacts/regions/0.h5: parameter regions.tau" in page
    page = command(mate, "explain", "provenance/regions/0.json")
    assert "STALE: parameter regions.tau" in page
    assert "regions.tau: 0.45   now 0.5" in page
    assert "error: artifacts/none: no stage makes it" in command(mate, "explain", "artifacts/none", rc=2)


@pytest.fixture
def bucket() -> Iterator[str]:
    """Address of an S3 server on loopback that has one bucket, `team`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                request = urllib.request.Request(f"{address}/team", method="PUT")
                urllib.request.urlopen(request, timeout=5).close()
                break
            except urllib.error.URLError:
                time.sleep(0.2)
        yield address
    finally:
        server.kill()
        server.wait()


def test_an_s3_remote_gets_and_gives_only_what_changed(
    mate: Path, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-in-git")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    # DVC starts a client for each folder; each reads the megabytes of JSON that describe Amazon's services.
    loader = importlib.import_module("botocore.loaders").JSONFileLoader
    read = functools.cache(loader().load_file)
    monkeypatch.setattr(loader, "load_file", lambda _, path: read(path))
    dvc(mate, "remote", "add", "-d", "cloud", "s3://team/novelseg")
    dvc(mate, "remote", "modify", "cloud", "endpointurl", bucket)
    commit(mate, "cloud")
    everything = pushed(command(mate, "push"))
    assert everything > 60
    git(mate.parent, "clone", "-q", "mate", "other")
    other = tmp_path / "other"
    assert f"fetched {everything} files" in command(other, "pull")
    assert resting(other)
    set_values(mate, report={"bootstrap": 170})
    snakemake(mate)
    commit(mate, "another bootstrap")
    changed = pushed(command(mate, "push"))
    # The report, its record and the listings of their folders; neither images nor features.
    assert 2 < changed < 10
    git(other, "pull", "-q")
    assert f"fetched {changed} files" in command(other, "pull")
    assert resting(other)
    # Nothing secret is in git.
    assert "not-in-git" not in git(mate, "grep", "-h", "", "--", ".dvc")


def pushed(printed: str) -> int:
    """Number of files that a push says it has sent."""
    return int(printed.rpartition("pushed ")[2].split()[0])


def test_an_experiment_in_a_folder_of_its_own_finds_what_it_needs(mate: Path, tmp_path: Path) -> None:
    # Weights outside the repository, beside it: `../shared/data`, where NOVELSEG_DATA is unset.
    (tmp_path / "shared/data").mkdir(parents=True)
    shutil.copy(mate / "novelseg/regions/bsds500.safetensors", tmp_path / "shared/data/regions.safetensors")
    set_values(mate, hierarchies={"weights": "$NOVELSEG_DATA/regions.safetensors"})
    assert NOTHING in snakemake(mate, "hierarchies_all")  # the same content at another place
    assert "recorded in dvc.lock" in command(mate, "record")
    commit(mate, "weights outside")
    dvc(mate, "exp", "run", "--temp", "-n", "more", "-S", "hierarchies.longest_side=48", "hierarchies")
    shown = dvc(mate, "exp", "show", "--csv")
    assert "more" in shown
    assert resting(mate)
