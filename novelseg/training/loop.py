"""The training loop: Lightning Fabric for device, precision, data parallelism and checkpoint files; the rest is ours.

Every batch is keyed by its iteration, so that a run that was killed goes on from its last checkpoint to the same
weights (CPU: bit for bit with the same number of threads).
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from torch import Tensor, nn

from novelseg.core.ahead import AHEAD, ahead
from novelseg.core.errors import InputError
from novelseg.core.files import disk_full_as_input_error
from novelseg.core.progress import say, track
from novelseg.data.batches import Batch, BatchMaker, BatchSource
from novelseg.methods.losses import LOSSES

OnLog = Callable[[pd.DataFrame], None]
MakeOptimiser = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Schedule:
    """Iterations, and a rate that falls in steps.

    Attributes
    ----------
    iterations
        In all.
    learning_rate
        First rate.
    decay_every, decay
        Iterations after which the rate is multiplied, and by what.
    log_every
        Iterations that one row of the log averages over.
    """

    iterations: int
    learning_rate: float
    decay_every: int
    decay: float
    log_every: int


@dataclass(frozen=True)
class Hardware:
    """Where and how; only ``precision``, a parameter of the encoder, changes a result beyond rounding.

    Attributes
    ----------
    device, devices
        Kind and number of devices.
    precision
        ``fp32`` or ``bf16``.
    compile
        Let torch compile the network: slower to start, faster to run.
    memory_mb
        Memory for decoded images; 0 for a default.
    checkpoint_every
        Iterations between checkpoints.
    """

    device: str
    devices: int
    precision: str
    compile: bool
    memory_mb: int
    checkpoint_every: int


def _fabric(hardware: Hardware) -> Fabric:
    # Trainable parts are few and named; a lone CPU process needs no strategy.
    strategy = "ddp" if hardware.devices > 1 else "auto"
    accelerator = "gpu" if hardware.device == "cuda" else hardware.device
    precision = "bf16-mixed" if hardware.precision == "bf16" else "32-true"
    # Named, or Fabric looks for Slurm and would start processes as it sees fit: a job is started by the engine alone.
    fabric = Fabric(
        accelerator=accelerator,
        devices=hardware.devices,
        strategy=strategy,
        precision=precision,
        plugins=[LightningEnvironment()],
    )
    fabric.launch()
    return fabric


def _resume(path: Path, recipe: str, learner: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, list[Tensor]]:
    """State of an earlier run of the same recipe: iterations done and their losses; zero and none otherwise."""
    if not path.exists():
        return 0, []
    if not zipfile.is_zipfile(path):  # what torch.save writes; anything else would only confuse its reader
        raise InputError(f"{path}: the checkpoint cannot be read; delete it to train from the start")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if state["recipe"] != recipe:
        say(f"{path}: made with other parameters or inputs; training from the start")
        return 0, []
    learner.load_state_dict(state["learner"])
    optimizer.load_state_dict(state["optimizer"])
    say(f"{path}: going on after iteration {state['iteration']}")
    return int(state["iteration"]), list(state["losses"])


def _log(losses: list[Tensor], params: Schedule) -> pd.DataFrame:
    """Means over every ``log_every`` iterations."""
    values = pd.DataFrame(torch.stack(losses).double().numpy(), columns=["loss", *LOSSES])
    block = (values.index // params.log_every + 1) * params.log_every
    frame = values.groupby(block.where(block < params.iterations, params.iterations)).mean()
    rates = [learning_rate(params, int(done) - 1) for done in frame.index]
    frame.insert(0, "learning_rate", rates)
    return frame.rename_axis("iteration").reset_index()


def learning_rate(params: Schedule, iteration: int) -> float:
    """Rate at an iteration, counted from 0."""
    return params.learning_rate * params.decay ** (iteration // params.decay_every)


def _batches(source: BatchSource, iterations: range, rank: int, world: int) -> Iterator[Batch]:
    """Batches in order; where images are not resident, those of the next iterations are decoded meanwhile."""
    for sample in ahead(
        lambda number: source.draw(number, rank, world), iterations, 0 if source.bank.resident else AHEAD
    ):
        yield source.render(sample)


def compile_parts(learner: nn.Module) -> None:
    """Let torch compile the networks that a learner calls, in place: names of weights stay."""
    for part in learner.children():
        # What only holds networks is never called itself.
        for net in part.children() if type(part).forward is nn.Module.forward else [part]:
            net.compile()


class _Losses:
    """Losses of all iterations; fetched from the device in blocks, so that it need not wait for us."""

    def __init__(self, known: list[Tensor], label: str) -> None:
        self.known, self._label, self._new = known, label, list[Tensor]()

    def add(self, parts: Tensor) -> None:
        """Keep an iteration's losses on the device."""
        self._new.append(parts.detach())

    def fetch(self) -> list[Tensor]:
        """Losses of all iterations so far, on the CPU.

        Raises
        ------
        InputError
            If a whole loss is not finite.
        """
        if self._new:
            block = torch.stack(self._new).cpu()
            if not bool(block[:, 0].isfinite().all()):
                first = int((~block[:, 0].isfinite()).nonzero()[0])
                raise InputError(
                    f"{self._label}: the loss is {float(block[first, 0]):g} at iteration {len(self.known) + first}; "
                    "lower learning_rate"
                )
            self.known += list(block)
            self._new = []
        return self.known


def fit(
    learner: nn.Module,
    batches: BatchMaker,
    optimiser: MakeOptimiser,
    params: Schedule,
    hardware: Hardware,
    checkpoint: Path,
    recipe: str,
    label: str,
    on_log: OnLog | None = None,
) -> pd.DataFrame | None:
    """Train a learner in place.

    Parameters
    ----------
    learner
        Module that maps a batch to (whole loss, parts).
    batches
        Gives, for a device, what gives the batch of an iteration.
    optimiser
        Makes the optimiser of the weights that are trained.
    params, hardware
        What changes the result, and what does not.
    checkpoint
        File from which a killed run goes on.
    recipe
        Inputs and parameters that the result depends on; a checkpoint of another recipe is not used.
    label
        For the progress line.
    on_log
        Called with the log so far whenever it has grown, in the first process.

    Returns
    -------
    DataFrame or None
        The training log; None in all processes but the first.

    Raises
    ------
    InputError
        If the loss is no longer finite, or the checkpoint is damaged.
    """
    fabric = _fabric(hardware)
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        # Frozen BatchNorm is not torch's, and stays as it is.
        learner = nn.SyncBatchNorm.convert_sync_batchnorm(learner)
    if hardware.compile:
        compile_parts(learner)
    trained = [weight for weight in learner.parameters() if weight.requires_grad]
    optimizer = optimiser(trained)
    model, wrapped = fabric.setup(learner, optimizer)
    start, known = _resume(checkpoint, recipe, learner, optimizer)  # now that the weights are where they stay
    losses = _Losses(known, label)
    on_log = on_log if fabric.is_global_zero else None
    left = range(start, params.iterations)
    source = _batches(batches(fabric.device), left, fabric.global_rank, fabric.world_size)
    model.train()
    for iteration, batch in zip(left, track(source, params.iterations, label, "iteration", done=start), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(params, iteration)
        wrapped.zero_grad()
        parts = model(batch)
        fabric.backward(parts[0])
        wrapped.step()
        losses.add(parts)
        done = iteration + 1
        if done % params.log_every == 0:
            known = losses.fetch()
            if on_log:
                on_log(_log(known, params))
        if done % hardware.checkpoint_every == 0 and done < params.iterations:
            _save(fabric, checkpoint, recipe, learner, optimizer, losses.fetch())
    log = _log(losses.fetch(), params)
    if on_log:
        on_log(log)
    return log if fabric.is_global_zero else None


def _save(fabric: Fabric, path: Path, recipe: str, learner: nn.Module, optimizer: Any, losses: list[Tensor]) -> None:
    state = {
        "recipe": recipe,
        "learner": learner.state_dict(),
        "optimizer": optimizer.state_dict(),
        "iteration": len(losses),
        "losses": torch.stack(losses),
    }
    scratch = path.with_name(path.name + ".tmp")
    with disk_full_as_input_error(path):
        fabric.save(scratch, state)
    if fabric.is_global_zero:
        scratch.replace(path)
