"""Faults that used to stop a run after hours are named before the first job."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import pytest

from novelseg.core.errors import InputError
from stages.provenance.digests import Digests
from tests.conftest import WEIGHTS
from tests.inprocess import command
from tests.makers import Project, tiny_values, write_values
from tests.miniatures import coco_folder, voc_folder
from workflow.config import check
from workflow.judge import Judge
from workflow.ready import require_ready

TITLE = {"protocol": "my results"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOVELSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def ready(**changes: dict[str, Any]) -> None:
    """Check the tiny experiment with some values changed."""
    changes["encoder"] = {"weights": str(WEIGHTS), **changes.get("encoder", {})}
    config = check(tiny_values(**changes), Path("params.yaml"))
    require_ready(config, Judge(config, Digests()))


def test_a_sound_experiment_passes_and_is_not_checked_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready()
    passed = list((tmp_path / "cache/ready").iterdir())
    assert len(passed) == 2  # the title and the weights
    monkeypatch.setattr("novelseg.backbones.encoder.pretrained_backbone", None)
    ready()


def test_the_title_of_another_preset_is_refused(tmp_path: Path) -> None:
    coco_folder(tmp_path / "own")
    own = {"source": "coco", "root": str(tmp_path / "own"), "train_list": "train2014", "val_list": "val2014"}
    with pytest.raises(InputError, match=r"'voc-subset-cpu', the title of the preset .* but images\.source is coco"):
        ready(images=own, report={"protocol": "voc-subset-cpu"})
    ready(images=own, report=TITLE)


@pytest.mark.parametrize("source", ["voc", "coco"])
def test_a_list_that_does_not_exist_is_refused_with_the_most_similar_name(source: str, tmp_path: Path) -> None:
    (voc_folder if source == "voc" else coco_folder)(tmp_path / "raw")
    lists = ("train", "val") if source == "voc" else ("train2014", "val2014")
    images = {"source": source, "root": str(tmp_path / "raw"), "train_list": lists[0], "val_list": lists[1]}
    ready(images=images, report=TITLE)
    typo = lists[0].replace("train", "trian")
    with pytest.raises(InputError, match=rf"images.train_list is '{typo}': .*no such.*did you mean '{lists[0]}'"):
        ready(images={**images, "train_list": typo}, report=TITLE)


def test_the_built_in_pictures_have_two_lists() -> None:
    with pytest.raises(InputError, match=r"train_list is 'trian', but the built-in .* did you mean 'train'"):
        check(tiny_values(images={"train_list": "trian"}), Path("params.yaml"))


def test_weights_of_another_architecture_are_refused() -> None:
    with pytest.raises(InputError, match=r"encoder\.weights does not fit encoder\.arch, which is resnet50: .*missing"):
        ready(encoder={"arch": "resnet50"})
    with pytest.raises(InputError, match=r"ends after layer3, and cam\.features is layer4"):
        ready(cam={"features": "layer4"})
    ready(cam={"features": "layer4"}, plan={"cam": False})


def test_too_many_clusters_and_too_few_images_are_known_at_the_index(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Judge, "chain", lambda *_: [])
    shutil.copytree(project.path("index"), "artifacts/index")
    ready()
    with pytest.raises(InputError, match=r"with 100 clusters, but the \d+ training images of fold 0 hold \d+ ob"):
        ready(prototypes={"clusters": [100, 3, 2]})
    with pytest.raises(InputError, match=r"in the training list, but 20-shot episodes need 21; lower"):
        ready(plan={"shots": [1, 20]})
    monkeypatch.setattr(Judge, "chain", lambda *_: ["stale"])  # it will be made anew, and checked then
    ready(plan={"shots": [1, 20]})


def test_the_count_of_objects_is_that_of_the_features(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0
    for shard in range(2):
        with h5py.File(project.path(f"features/fold0/{shard}.h5")) as file:
            count += len(file["fg/vectors"])
    shutil.copytree(project.path("index"), "artifacts/index")
    monkeypatch.setattr(Judge, "chain", lambda *_: [])
    ready(prototypes={"clusters": [count, 3, 2]})
    with pytest.raises(InputError, match=f"hold {count} objects"):
        ready(prototypes={"clusters": [count + 1, 3, 2]})


def test_the_command_says_the_same(tmp_path: Path) -> None:
    write_values(tmp_path / "params.yaml", tiny_values(encoder={"weights": str(WEIGHTS), "arch": "resnet34"}))
    assert "does not fit encoder.arch, which is resnet34" in command(tmp_path, "ready", rc=2)
