"""Training: exact resume, honest checkpoints, several processes (A2, A7)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stages.core.files import digest
from stages.sections.train import Params
from stages.training.loop import learning_rate
from tests.makers import Project, tiny_values, write_values

ROOT = Path(__file__).parent.parent


def command(project: Project, stage: str, words: list[object]) -> list[str]:
    """A stage as a process of its own."""
    return [sys.executable, "-m", "stages", stage, "--params", str(project.params), *map(str, words)]


def wait_for(path: Path, process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait until a file appears while the process lives."""
    limit = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, "the training ended before its first checkpoint"
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.parametrize("stage", ["baseline", "train"])
def test_a_killed_training_ends_with_the_weights_of_an_unbroken_one(
    project: Project, tmp_path: Path, stage: str
) -> None:
    long = tiny_values(**{stage: {"iterations": 170, "decay_every": 60, "log_every": 20}})
    write_values(tmp_path / "params.yaml", long)
    if stage == "train":
        words, out = project.train_words(tmp_path / "broken" / "run"), tmp_path / "broken" / "run"
    else:
        out = tmp_path / "broken" / "run"
        words = [*project.data(), "--weights", project.weights, *"--fold 0 --shot 1 --threads 1 --out".split(), out]
    here = Project(tmp_path, project.weights)
    checkpoint = out.with_name(".run.checkpoint")
    with subprocess.Popen(command(here, stage, words), cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        wait_for(checkpoint, process, 120)
        os.kill(process.pid, signal.SIGKILL)
    assert not out.exists()  # nothing half-written is taken for whole
    done = torch.load(checkpoint, weights_only=True)["iteration"]
    assert 0 < done < 170
    again = subprocess.run(command(here, stage, words), cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"going on after iteration {done}" in again.stderr
    assert not checkpoint.exists()
    unbroken = tmp_path / "unbroken"
    assert here.run(stage, *words[:-1], unbroken) == 0
    for name in ("weights.safetensors", "log.tsv"):
        assert digest(out / name) == digest(unbroken / name)


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


def test_two_processes_train_as_one_does(project: Project, tmp_path: Path) -> None:
    words = [*project.data(), "--weights", project.weights, *"--fold 0 --shot 1 --threads 1 --device cpu".split()]
    run = [*command(project, "baseline", words), "--devices", "2", "--out", str(tmp_path / "two")]
    subprocess.run(run, cwd=ROOT, check=True, capture_output=True, timeout=240)
    one = load_file(project.path("baseline/fold0/1shot/weights.safetensors"))
    two = load_file(tmp_path / "two/weights.safetensors")
    # Each process averages over its own pixels before the processes are averaged: void pixels make the difference.
    moved = {name: (one[name] - value).abs().max() for name, value in two.items()}
    start = load_file(project.weights)
    learnt = max(float((one[f"resnet.{name}"] - value).abs().max()) for name, value in start.items())
    assert float(max(moved.values())) < 0.05 * learnt


def test_the_rate_falls_to_a_tenth_in_steps() -> None:
    params = Params.model_validate(tiny_values(train={"learning_rate": 0.5, "decay_every": 4})["train"])
    assert [learning_rate(params, iteration) for iteration in (0, 3, 4, 8)] == pytest.approx([0.5, 0.5, 0.05, 0.005])


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
