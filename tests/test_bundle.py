"""Bundles: what they tell, what is packed, and which are refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from novelseg import Segmenter
from novelseg.core.errors import InputError
from novelseg.data.index import Index, read_index
from novelseg.formats.network import save_tensors
from novelseg.formats.record import to_json
from novelseg.inference.bundle import BUNDLE, load_bundle
from novelseg.methods.refiners import RefinerSettings
from tests.commands import export, novelseg
from tests.makers import SPFL, Project


@pytest.fixture(scope="module")
def index(project: Project) -> Index:
    return read_index(project.path("index/index.h5"))


def test_a_bundle_tells_where_it_comes_from(bundle: Path, project: Project, index: Index) -> None:
    read = load_bundle(bundle)
    assert read.about["classes"] == index.names(index.base(0))
    assert read.record.stage == "train"
    assert read.about["encoder"] == to_json(read.record)
    assert set(read.about["sources"]) == {"encoder", "index", "prototypes"}
    assert read.prototypes["bg/level1/centres"].shape[0] == 4
    trained = load_file(project.path(SPFL))
    assert all(torch.equal(value, read.encoder.state_dict()[name]) for name, value in trained.items())


def test_the_same_bundle_has_the_same_bytes(bundle: Path, project: Project, tmp_path: Path) -> None:
    words = ["--encoder", project.path(SPFL), "--index", project.path("index/index.h5")]
    words += ["--prototypes", project.path("prototypes/fold0.h5"), "--out", tmp_path / "again.safetensors"]
    assert export(project, *words) == 0
    assert (tmp_path / "again.safetensors").read_bytes() == bundle.read_bytes()


def test_without_a_parameter_file_the_papers_settings_are_packed(
    bundle: Path, project: Project, tmp_path: Path
) -> None:
    words = ["--encoder", project.path(SPFL), "--index", project.path("index/index.h5")]
    assert novelseg("export", *words, "--out", tmp_path / "b.safetensors") == 0
    assert load_bundle(tmp_path / "b.safetensors").refiners == RefinerSettings()
    assert load_bundle(bundle).refiners.srofb.hidden == 16  # of the tiny experiment


def test_records_of_everything_that_led_to_a_bundle_are_packed(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = Project(shutil.copytree(project.root, tmp_path / "own"), project.weights)
    monkeypatch.chdir(project.root)
    for shard in range(2):
        words = ["--shard", shard, "--out", f"artifacts/images/{shard}.h5"]
        assert project.run("images", *words, "--record", tmp_path / f"records/images/{shard}.json") == 0
    index = ["--images", "artifacts/images/0.h5", "artifacts/images/1.h5", "--out", "artifacts/index/index.h5"]
    assert project.run("index", *index, "--record", tmp_path / "records/index.json") == 0
    encoder = project.path("baseline/fold0/1shot/weights.safetensors")
    words = ["--encoder", encoder, "--index", "artifacts/index/index.h5"]
    words += ["--provenance", tmp_path / "records", "--out", tmp_path / "b.safetensors"]
    capsys.readouterr()
    assert export(project, *words) == 2
    assert "contains no record of a file with MD5" in capsys.readouterr().err
    made = json.loads((tmp_path / "records/index.json").read_text())
    made["stage"], made["inputs"] = "baseline", {"artifacts/images/0.h5": next(iter(made["inputs"].values()))}
    index_md5 = made["outputs"].pop("artifacts/index/index.h5")
    made["outputs"]["encoder"] = hashlib.md5(encoder.read_bytes()).hexdigest()
    (tmp_path / "records/baseline.json").write_text(json.dumps(made))
    assert export(project, *words) == 2
    assert "is not the index that" in capsys.readouterr().err
    made["inputs"]["artifacts/index/index.h5"] = index_md5
    (tmp_path / "records/baseline.json").write_text(json.dumps(made))
    assert export(project, *words) == 0
    records = load_bundle(tmp_path / "b.safetensors").about["provenance"]
    assert [record["stage"] for record in records] == ["baseline", "index", "images", "images"]


def _damaged(bundle: Path, path: Path, change: str) -> None:
    with safe_open(bundle, framework="pt") as file:
        about = json.loads(file.metadata()["novelseg-bundle"])
    tensors = load_file(bundle)
    if change == "version":
        about["version"] = 99
    elif change == "tensor":
        tensors.pop("encoder.resnet.conv1.weight")
    elif change == "precision":
        about["encoder"]["precision"] = "fp7"
    elif change == "head":
        about.pop("classes")
    elif change == "arch":
        about["encoder"]["arch"] = "resnet7"
    elif change == "earlier":
        del about["srofb"]["feature_norm"]
    else:
        about["srofb"]["hidden"] = -1
    version = about.pop("version")
    kind = replace(BUNDLE, version=version)
    save_tensors(path, tensors, kind, {name: value for name, value in about.items() if "crc32" not in name})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("version", "this code reads version 2"),
        ("tensor", "not a complete bundle"),
        ("arch", "not a complete bundle"),
        ("precision", "not a complete bundle"),
        ("head", "not a complete bundle"),
        ("srofb", "not a complete bundle"),
    ],
)
def test_a_bundle_that_is_not_whole_is_refused(bundle: Path, tmp_path: Path, change: str, told: str) -> None:
    _damaged(bundle, tmp_path / "bad.safetensors", change)
    with pytest.raises(InputError, match=told):
        Segmenter.load(tmp_path / "bad.safetensors")


def test_a_bundle_from_before_the_norm_of_features_keeps_them_raw(bundle: Path, tmp_path: Path) -> None:
    assert load_bundle(bundle).refiners.srofb.feature_norm > 0
    _damaged(bundle, tmp_path / "earlier.safetensors", "earlier")
    assert load_bundle(tmp_path / "earlier.safetensors").refiners.srofb.feature_norm == 0


def test_other_files_are_no_bundles(bundle: Path, project: Project, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a 'novelseg-bundle' file; make it with"):
        Segmenter.load(project.path(SPFL))
    with pytest.raises(InputError, match="no such file; make it with"):
        Segmenter.load(tmp_path / "none.safetensors")
    for head in ("{", "[]", "{}"):
        save_file({"a": torch.zeros(1)}, tmp_path / "head.safetensors", {"novelseg-bundle": head})
        with pytest.raises(InputError, match=r"header is not that of|this code reads version"):
            Segmenter.load(tmp_path / "head.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(bundle.read_bytes()[:900])
    with pytest.raises(InputError, match="not a readable novelseg-bundle file"):
        Segmenter.load(tmp_path / "cut.safetensors")
