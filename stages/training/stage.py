"""What the training stages share around the loop: recipe, checkpoint place, output folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.artifacts import tables
from stages.artifacts.formats.files import LOG_FILE, WEIGHTS
from stages.artifacts.formats.training_log import LOG
from stages.core.code import code_digest
from stages.core.compute import pick_device, use_threads
from stages.core.digests import digest_once
from stages.core.errors import InputError
from stages.core.files import whole_folder
from stages.core.params import Section
from stages.data.index import Index
from stages.models.files import save_network
from stages.sections.encoder import EncoderParams
from stages.sections.optimisation import Optimisation, Schedule
from stages.training.batches import BatchMaker, Shown
from stages.training.loop import Hardware, MakeOptimiser, fit

CHECKPOINT_EVERY = 50


def recipe_of(stage: str, inputs: list[Path], sections: list[Section], **names: int | str) -> str:
    """Code and inputs (by digest), parameters, fold, shot and variant of a training, as text."""
    content = {
        "code": code_digest(stage),
        "inputs": [digest_once(path) for path in inputs],
        "sections": [section.model_dump() for section in sections],
        **names,
    }
    return json.dumps(content, sort_keys=True)


def sgd(params: Optimisation) -> MakeOptimiser:
    """SGD with the section's momentum and weight decay."""

    def make(weights: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            weights, params.learning_rate, momentum=params.momentum, weight_decay=params.weight_decay
        )

    return make


def described(
    network: str,
    encoder: EncoderParams,
    shown: Shown,
    params: Schedule,
    data: Index,
    fold: int,
    more: dict[str, Any],
) -> dict[str, Any]:
    """What is noted beside a trained network of a kind; ``more`` is its own."""
    return {
        **{"network": network, "fold": fold, "classes": data.base_names(fold)},
        **encoder.model_dump(include={"arch", "stem", "width", "precision"}),
        "resolution": f"{shown.size} px, {shown.geometry}",
        "iterations": params.iterations,
        "seed": params.seed,
        **more,
    }


def train_and_write(
    *,
    learner: nn.Module,
    network: nn.Module,
    batches: BatchMaker,
    optimiser: MakeOptimiser,
    params: Schedule,
    precision: str,
    recipe: str,
    out: Path,
    label: str,
    shares: int,
    about: dict[str, Any],
    device: str,
    devices: int,
    threads: int,
    compiled: int,
    memory_mb: int,
    live: Path | None,
) -> None:
    """Train, then write weights and log as one folder; the checkpoint of a killed run lies beside it, hidden.

    ``network`` is what of the learner is kept, ``about`` what is noted beside it, ``shares`` how many processes an
    iteration can be shared out to.
    """
    if devices > shares:
        raise InputError(
            f"--devices is {devices}, but an iteration has {shares} episodes or images to share out; ask for fewer"
        )
    use_threads(threads)
    out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = out.with_name(f".{out.name}.checkpoint")
    kind = pick_device(device).type
    hardware = Hardware(kind, devices, precision, compiled > 0, memory_mb, CHECKPOINT_EVERY)
    log = fit(learner, batches, optimiser, params, hardware, checkpoint, recipe, label, live)
    if log is None:
        return
    with whole_folder(out) as scratch:
        save_network(scratch / WEIGHTS, network, about)
        tables.write(scratch / LOG_FILE, LOG, log)
    checkpoint.unlink(missing_ok=True)
