"""Training: exact resume, honest checkpoints, several processes (A2, A7)."""

from __future__ import annotations

import io
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from novelseg.backbones.contract import Backbone
from novelseg.backbones.resnet import FrozenBatchNorm, ResNetBackbone
from novelseg.core.files import digest
from novelseg.core.labels import TRAIN
from novelseg.data.encoded import decode_mask
from novelseg.data.index import read_index
from novelseg.formats import hdf5, tables
from novelseg.formats.episode_results import RESULTS
from novelseg.formats.images import IMAGES
from novelseg.formats.training_log import LOG
from novelseg.methods.cam.network import CamNetwork
from novelseg.methods.cam.training import CamLearner
from novelseg.methods.matching.learner import MatchingLearner
from novelseg.methods.spfl.learner import JointLearner
from novelseg.methods.variants import VARIANTS
from novelseg.training.loop import Schedule, learning_rate
from stages.params.train import Params
from tests.engines import call
from tests.makers import TRAINED, Project, tiny_values, write_values

ROOT = Path(__file__).parent.parent


def command(project: Project, stage: str, words: list[object]) -> list[str]:
    """A stage as a process of its own."""
    return [sys.executable, "-m", "stages", stage, "--params", str(project.params), *map(str, words)]


# Kills the process in its twelfth iteration, two after its checkpoint.
KILLING = """
import os, signal
import stages.training
from novelseg.training import loop

stages.training.CHECKPOINT_EVERY = 10
rate = loop.learning_rate

def learning_rate(params, iteration):
    if iteration == 11:
        os.kill(os.getpid(), signal.SIGKILL)
    return rate(params, iteration)

loop.learning_rate = learning_rate
"""


@pytest.mark.processes
@pytest.mark.parametrize("stage", ["train", "cam"])  # `baseline` is `train` with fewer parts
def test_a_killed_training_ends_with_the_weights_of_an_unbroken_one(
    project: Project, tmp_path: Path, stage: str
) -> None:
    long = tiny_values(**{stage: {"iterations": 24, "decay_every": 14, "log_every": 5}})
    long["cam"]["classifier_iterations"] = 16 if stage == "cam" else 2  # the checkpoint lies before its end
    write_values(tmp_path / "params.yaml", long)
    out = tmp_path / "broken" / "run"
    words, live = project.training_words(stage, out), tmp_path / "live"
    watched = ["--live", live] if stage == "cam" else []
    here = Project(tmp_path, project.weights)
    checkpoint = out.with_name(".run.checkpoint")
    (tmp_path / "first.py").write_text(KILLING)
    run = ["python", *command(here, stage, [*watched, *words])[1:]]
    call(ROOT, *run, rc=-signal.SIGKILL, RUN_FIRST=str(tmp_path / "first.py"))
    assert not out.exists()  # nothing half-written is taken for whole
    assert torch.load(checkpoint, weights_only=True)["iteration"] == 10
    again = call(ROOT, *run)
    assert "resuming after iteration 10" in again
    assert not checkpoint.exists()
    unbroken = tmp_path / "unbroken"
    assert here.run(stage, *words[:-1], unbroken) == 0
    for name in ("weights.safetensors", "log.tsv"):
        assert digest(out / name) == digest(unbroken / name)
    if watched:  # the curves tell the whole training, not what came after the checkpoint
        curve, log = pd.read_csv(live / "plots/metrics/loss.tsv", sep="\t"), tables.read(out / "log.tsv", LOG)
        assert curve["step"].tolist() == log["iteration"].tolist() == [*range(5, 24, 5), 24]
        assert curve["loss"].tolist() == log["loss"].tolist()


def test_a_checkpoint_of_other_parameters_is_not_used(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    torch.save({"recipe": "another"}, tmp_path / ".run.checkpoint")
    project.make_baseline(out)
    assert "made with other parameters or inputs; training from the start" in capsys.readouterr().err
    expected = project.path("baseline/fold0/1shot/weights.safetensors")
    assert digest(out / "weights.safetensors") == digest(expected)


def test_a_damaged_checkpoint_is_named(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".run.checkpoint").write_bytes(b"half")
    words = [*project.data(), "--weights", project.weights, *"--fold 0 --shot 1 --out".split(), tmp_path / "run"]
    assert project.run("baseline", *words) == 2
    assert ".run.checkpoint: the checkpoint cannot be read" in capsys.readouterr().err


@pytest.mark.processes
@pytest.mark.parametrize("stage", ["baseline", "train"])
def test_two_processes_train_as_one_does(project: Project, tmp_path: Path, stage: str) -> None:
    words, name = project.training_words(stage, tmp_path / "two"), TRAINED[stage]
    values = tiny_values(train={"extra_images": 4})  # an even share for each process
    here = Project(write_values(tmp_path / "params.yaml", values).parent, project.weights)
    run = [*command(here, stage, words), "--device", "cpu", "--devices", "2"]
    call(ROOT, "python", *run[1:])
    if stage == "train":
        assert here.run("train", *words[:-1], tmp_path / "one") == 0
    one = load_file((tmp_path / "one" if stage == "train" else project.path(name)) / "weights.safetensors")
    two = load_file(tmp_path / "two/weights.safetensors")
    start = load_file(project.weights)
    # Each process averages over its own pixels before the processes are averaged, and void pixels make the difference;
    # decoders normalise with the images of their own process on CPUs. They go the same way, not the same step.
    moves = [
        torch.cat([(run[f"resnet.{name}"] - value).flatten() for name, value in start.items()]) for run in (one, two)
    ]
    likeness = torch.nn.functional.cosine_similarity(moves[0], moves[1], dim=0)
    assert float(likeness) > (0.99 if stage == "baseline" else 0.8)


@pytest.mark.processes
def test_dvclive_draws_the_log_while_it_grows(project: Project, tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    (live / "notes.txt").write_text("mine")
    words = [*project.data(), "--weights", project.weights, *"--fold 0 --shot 1 --threads 1 --out".split()]
    # A process of its own: what DVCLive opens of the repository it leaves for the end of the process to close.
    run = command(project, "baseline", [*words, tmp_path / "run", "--live", live])
    call(ROOT, "python", *run[1:])
    log = tables.read(tmp_path / "run/log.tsv", LOG)
    for name in ("loss", "loss_seg", "learning_rate"):
        curve = pd.read_csv(live / f"plots/metrics/{name}.tsv", sep="\t")
        assert curve["step"].tolist() == log["iteration"].tolist() == [2, 4, 6]
        assert curve[name].tolist() == log[name].tolist()
    assert not (live / "plots/metrics/loss_pseudo1.tsv").exists()  # the Baseline has none
    assert (live / "notes.txt").read_text() == "mine"
    expected = project.path("baseline/fold0/1shot/weights.safetensors")
    assert digest(tmp_path / "run/weights.safetensors") == digest(expected)


def test_a_training_without_a_dvc_project_is_not_watched(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        *project.data(),
        "--weights",
        project.weights.resolve(),
        *"--fold 0 --shot 1 --out run --live live".split(),
    ]
    monkeypatch.chdir(tmp_path)
    with pytest.MonkeyPatch.context() as patch:  # the recipe digests code by paths of the project
        patch.setattr("stages.training.code_digest", lambda stage: "code")
        assert project.run("baseline", *words) == 2
    assert "--live needs a DVC project, and there is none here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_more_devices_than_episodes_are_refused(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*project.data(), "--weights", project.weights, *"--fold 0 --shot 1 --devices 3 --device cpu --out".split()]
    assert project.run("baseline", *words, tmp_path / "run") == 2
    assert "--devices is 3; expected at most 2, the episodes or images of an iteration" in capsys.readouterr().err


def test_a_compiled_training_calls_compiled_networks(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(type(module).__name__))
    assert project.run("train", *project.train_words(tmp_path / "run"), "--compiled", 1) == 0
    assert compiled == ["ResNetBackbone", "Decoder", "Decoder", "Decoder"]


def test_missing_pseudo_labels_are_told_before_training(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        word for word in project.train_words(tmp_path / "run") if not str(word).endswith("pseudolabels/fold0/1.h5")
    ]
    assert project.run("train", *words) == 2
    assert "training images have no pseudo labels in the given shards" in capsys.readouterr().err


@pytest.mark.parametrize("stage", TRAINED)
def test_streamed_images_train_as_resident_ones(project: Project, tmp_path: Path, stage: str) -> None:
    # At 64 × 64 px all images take less than a MiB, the smallest budget that can be asked for.
    words = project.training_words(stage, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("novelseg.data.bank.memory_budget", lambda device, asked: 1000)
        assert project.run(stage, *words) == 0
    for file in ("weights.safetensors", "log.tsv"):
        assert digest(tmp_path / "run" / file) == digest(project.path(f"{TRAINED[stage]}/{file}"))


def test_the_rate_falls_to_a_tenth_in_steps() -> None:
    params = Params.model_validate(tiny_values(train={"learning_rate": 0.5, "decay_every": 4})["train"]).to(Schedule)
    assert [learning_rate(params, iteration) for iteration in (0, 3, 4, 8)] == pytest.approx([0.5, 0.5, 0.05, 0.005])
    later = replace(params, steady=3)
    assert [learning_rate(later, iteration) for iteration in (0, 6, 7, 11)] == pytest.approx([0.5, 0.5, 0.05, 0.005])


def test_a_loss_that_is_not_finite_stops_the_training(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = tiny_values(baseline={"learning_rate": 1e30})
    params = write_values(tmp_path / "params.yaml", wild)
    words = ["--fold", 0, "--shot", 1, "--threads", 1, "--out", tmp_path / "run"]
    here = Project(params.parent, project.weights)
    assert here.run("baseline", *project.data(), "--weights", project.weights, *words) == 2
    assert "lower learning_rate" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def cam_network(encoder: Backbone) -> CamNetwork:
    """A small network of the CAM prior."""
    return CamNetwork(
        encoder, classes=3, wiring="sum", weighting="scores", width=4, prior="map", pooling="image", relu=False
    )


def norms_of(part: nn.Module) -> list[nn.Module]:
    """Normalisations in a network."""
    return [module for module in part.modules() if "Norm" in type(module).__name__]


@pytest.mark.parametrize(
    "new_learner",
    [
        lambda encoder: MatchingLearner(encoder, 10.0),
        lambda encoder: JointLearner(encoder, 10.0, [3, 2, 1], 4, [1.0, 1.0, 1.0]),
        lambda encoder: CamLearner(cam_network(encoder), 1.0),
    ],
    ids=["baseline", "joint", "cam"],
)
def test_several_gpus_leave_the_encoder_frozen(new_learner: Callable[[Backbone], nn.Module]) -> None:
    encoder = ResNetBackbone(arch="resnet18", stem="torchvision", width=4)
    learner, before = new_learner(encoder), norms_of(encoder)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(learner)  # what `fit` does with several GPUs
    assert converted is learner
    assert len(before) > 10
    assert {type(norm) for norm in before} == {FrozenBatchNorm}
    assert all(one is other for one, other in zip(norms_of(encoder), before, strict=True))
    others = [norm for norm in norms_of(converted) if norm not in before]
    assert [type(norm) for norm in others] == [nn.SyncBatchNorm] * (6 if isinstance(learner, JointLearner) else 0)


def without_novel_labels(project: Project, root: Path) -> Project:
    """A copy whose training masks know nothing of novel classes; the index is the old one."""
    index = read_index(project.path("index/index.h5"))
    novel = index.novel(0)
    copy = Project(shutil.copytree(project.root, root / "copy"), project.weights)
    for path in copy.images():
        with hdf5.opened(Path(path), IMAGES) as file:
            arrays = {name: file[name][:] for name in IMAGES.fields if name != "id"}
            arrays["id"] = np.array(hdf5.texts(file, "id"), object)
            attrs = {name: hdf5.attribute(file, name) for name in IMAGES.attrs}
            masks = []
            for row, split in enumerate(file["split"][:]):
                data = hdf5.Ragged.get(file, "mask", row)
                mask = decode_mask(data)
                if split == TRAIN and np.isin(mask, novel).any():
                    buffer = io.BytesIO()
                    Image.fromarray(np.where(np.isin(mask, novel), 0, mask).astype(np.uint8)).save(buffer, "PNG")
                    data = np.frombuffer(buffer.getvalue(), np.uint8)
                masks.append(data)
        hdf5.write(Path(path), IMAGES, {**arrays, **hdf5.Ragged.pack("mask", masks, "uint8")}, attrs)
    return copy


def test_no_label_of_a_novel_class_reaches_training(project: Project, tmp_path: Path) -> None:
    copy = without_novel_labels(project, tmp_path)
    assert [digest(Path(path)) for path in copy.images()] != [digest(Path(path)) for path in project.images()]
    copy.make_labels()
    for stage in ("train", "cam"):
        assert copy.run(stage, *copy.training_words(stage, copy.path(TRAINED[stage]))) == 0
    for name in (
        "features/fold0/0.h5",
        "prototypes/fold0.h5",
        "pseudolabels/fold0/1.h5",
        "baseline/fold0/1shot/log.tsv",
    ):
        assert digest(copy.path(name)) == digest(project.path(name)), name
    for folder in TRAINED.values():
        weights = f"{folder}/weights.safetensors"
        assert digest(copy.path(weights)) == digest(project.path(weights))


def test_other_settings_run_to_the_end(project: Project, tmp_path: Path) -> None:
    cam = {"geometry": "crop", "wiring": "join", "prior": "shuffled", "frozen": 4, "pooling": "image", "relu": False}
    values = tiny_values(matching={"geometry": "crop"}, encoder={"precision": "bf16"}, cam=cam)
    here = Project(write_values(tmp_path / "params.yaml", values).parent, project.weights)
    shot = ["--fold", 0, "--shot", 2, "--threads", 1, "--out"]
    base, single, out = tmp_path / "base", tmp_path / "single", tmp_path / "evaluate"
    labels = [project.path(f"pseudolabels/fold0/{shard}.h5") for shard in range(2)]
    words = [*project.data(), "--weights", project.weights]
    assert here.run("baseline", *words, *shot, base) == 0
    assert here.run("train", *words, "--pseudolabels", *labels, "--variant", "single-level", *shot, single) == 0
    assert here.run("cam", *words, "--fold", 0, "--threads", 1, "--out", tmp_path / "cam") == 0
    episodes = tmp_path / "seed3.tsv"
    index = project.path("index/index.h5")
    assert here.run("episodes", "--index", index, "--fold", 0, "--shot", 2, "--seed", 3, "--out", episodes) == 0
    encoders = ["--baseline", base / "weights.safetensors", "--cam", tmp_path / "cam/weights.safetensors"]
    encoders += [*("--spfl", single / "weights.safetensors"), "--single-level", single / "weights.safetensors"]
    assert here.run("evaluate", *words, "--episodes", episodes, *encoders, *shot, out) == 0
    rows = tables.read(out / "rows.parquet", RESULTS)
    listed = set(tiny_values()["evaluate"]["refinements"])
    assert set(rows["variant"]) == {v.name for v in VARIANTS if not v.refiner or v.name in listed}
    # The same encoder under both names predicts the same.
    counts = ["fg_intersection", "fg_union", "bg_intersection", "bg_union"]
    same = [rows.loc[rows["variant"] == name, counts].to_numpy() for name in ("spfl", "spfl-single-level")]
    assert (same[0] == same[1]).all()
    log = tables.read(single / "log.tsv", LOG)
    assert log["loss_pseudo1"].notna().all()
    assert log["loss_pseudo2"].isna().all()
