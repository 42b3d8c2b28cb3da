"""Parts that the training stages share around the training loop: recipe, checkpoint and output folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from novelseg.backbones.contract import Backbone
from novelseg.backbones.encoder import freeze, pretrained_backbone
from novelseg.core.compute import pick_device, use_threads
from novelseg.core.errors import InputError
from novelseg.core.files import whole_folder
from novelseg.data.batches import BatchMaker
from novelseg.data.index import Index
from novelseg.formats import tables
from novelseg.formats.files import LOG_FILE, WEIGHTS
from novelseg.formats.network import save_network
from novelseg.formats.record import NetworkRecord, facts_of
from novelseg.formats.training_log import LOG
from novelseg.training.loop import Hardware, MakeOptimiser, Schedule, fit
from stages.live import Curves
from stages.params.encoder import EncoderParams
from stages.params.optimisation import Optimisation, ScheduleParams
from stages.params.schema import Section
from stages.provenance.code import code_digest
from stages.provenance.digests import digest_once

CHECKPOINT_EVERY = 50
ADAMW_BETA_2 = 0.999  # PyTorch's default


@dataclass(frozen=True)
class Execution:
    """Execution options of a training; their meanings are in :mod:`stages.options`."""

    device: str
    devices: int
    threads: int
    compiled: int
    memory_mb: int
    live: Path | None


def recipe_of(stage: str, inputs: list[Path], sections: list[Section], **names: int | str) -> str:
    """Return as text what determines a training: digests of code and inputs, parameters, fold, shot and variant."""
    content = {
        "code": code_digest(stage),
        "inputs": [digest_once(path) for path in inputs],
        "sections": [section.model_dump() for section in sections],
        **names,
    }
    return json.dumps(content, sort_keys=True)


def optimiser_of(params: Optimisation) -> MakeOptimiser:
    """Return a function that makes the section's optimiser, with its rate, momentum and weight decay."""
    rate, momentum, decay = params.learning_rate, params.momentum, params.weight_decay

    def make(weights: list[nn.Parameter]) -> torch.optim.Optimizer:
        if params.optimiser == "adamw":
            return torch.optim.AdamW(weights, rate, betas=(momentum, ADAMW_BETA_2), weight_decay=decay)
        return torch.optim.SGD(weights, rate, momentum=momentum, weight_decay=decay)

    return make


def trainable_backbone(stage: str, encoder: EncoderParams, weights: Path) -> Backbone:
    """Load the pretrained backbone of a training, of which only the last parts may be trainable.

    Raises
    ------
    InputError
        If nothing of the encoder is to be trained, or the weights do not fit.
    """
    if encoder.trained == 0:
        raise InputError(
            f"encoder.train is none, so that there is nothing to train in the stage {stage}; set encoder.train to all "
            "or to a number of blocks"
        )
    backbone = pretrained_backbone(encoder.spec, weights)
    freeze(backbone, encoder.trained)
    return backbone


def common_facts(
    encoder: EncoderParams, geometry: str, size: int, params: ScheduleParams, data: Index, fold: int
) -> dict[str, Any]:
    """Return the fields of a network's record that all trainings fill in the same way."""
    return {
        **{"fold": fold, "classes": data.base_names(fold), "resolution": f"{size} px, {geometry}"},
        **facts_of(encoder.spec),
        **{"precision": encoder.precision, "iterations": params.iterations, "seed": params.seed},
    }


def train_and_write(
    *,
    learner: nn.Module,
    network: nn.Module,
    batches: BatchMaker,
    optimiser: MakeOptimiser,
    params: ScheduleParams,
    recipe: str,
    out: Path,
    label: str,
    shares: int,
    record: NetworkRecord,
    execution: Execution,
) -> None:
    """Train, then write weights and log as one folder.

    The hidden checkpoint beside the folder lets an interrupted run resume. ``network`` is the part of the learner that
    is kept; ``shares`` is the largest number of processes that can share an iteration.
    """
    if execution.devices > shares:
        raise InputError(
            f"--devices is {execution.devices}; expected at most {shares}, the episodes or images of an iteration that "
            "can be distributed"
        )
    use_threads(execution.threads)
    out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = out.with_name(f".{out.name}.checkpoint")
    hardware = Hardware(
        pick_device(execution.device).type,
        execution.devices,
        record.precision,
        execution.compiled > 0,
        execution.memory_mb,
        CHECKPOINT_EVERY,
    )
    on_log = Curves(execution.live).add if execution.live else None
    log = fit(learner, batches, optimiser, params.to(Schedule), hardware, checkpoint, recipe, label, on_log)
    if log is None:
        return
    with whole_folder(out) as scratch:
        save_network(scratch / WEIGHTS, network, record)
        tables.write(scratch / LOG_FILE, LOG, log)
    checkpoint.unlink(missing_ok=True)
