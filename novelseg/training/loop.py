"""The training loop; Lightning Fabric handles devices, precision, data parallelism and checkpoint files.

Every batch is keyed by its iteration. Therefore a run that resumes from a checkpoint ends with the same weights as one
that was never interrupted (bit for bit on a CPU with the same number of threads).
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
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
from novelseg.core.files import whole_file
from novelseg.core.progress import say, track
from novelseg.data.batches import Batch, BatchMaker, BatchSource
from novelseg.methods.losses import LOSSES

OnLog = Callable[[pd.DataFrame], None]
MakeOptimiser = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Schedule:
    """Number of iterations, and a learning rate that decreases in steps.

    Attributes
    ----------
    iterations
        Number of iterations.
    learning_rate
        Initial learning rate.
    decay_every, decay
        Number of iterations between decreases of the learning rate, and the factor by which it is multiplied.
    log_every
        Number of iterations over which a row of the log averages.
    steady
        Number of first iterations at the initial rate; the steps are counted from their end.
    """

    iterations: int
    learning_rate: float
    decay_every: int
    decay: float
    log_every: int
    steady: int = 0


@dataclass(frozen=True)
class Hardware:
    """Execution options, of which only ``precision``, a parameter of the section ``encoder``, changes results.

    Attributes
    ----------
    device, devices
        Kind and number of devices.
    precision
        ``fp32`` or ``bf16``.
    compile
        Whether torch compiles the network, which makes the start slower and iterations faster.
    memory_mb
        Memory for decoded images, MiB; 0 for a default.
    checkpoint_every
        Number of iterations between checkpoints.
    """

    device: str
    devices: int
    precision: str
    compile: bool
    memory_mb: int
    checkpoint_every: int


def _fabric(hardware: Hardware) -> Fabric:
    """Set up Fabric and start one process per device."""
    strategy = "ddp" if hardware.devices > 1 else "auto"
    accelerator = "gpu" if hardware.device == "cuda" else hardware.device
    precision = "bf16-mixed" if hardware.precision == "bf16" else "32-true"
    # Without an explicit environment, Fabric would detect Slurm and start processes through it; only the engine starts
    # jobs.
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
    """Restore the checkpoint of an earlier run of the same recipe.

    Returns
    -------
    iterations, losses
        Number of completed iterations, and the losses of each; 0 and an empty list without a checkpoint.
    """
    if not path.exists():
        return 0, []
    if not zipfile.is_zipfile(path):  # torch.save writes zip files; torch.load reports other files incomprehensibly
        raise InputError(f"{path}: the checkpoint cannot be read; delete it to train from the start")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if state["recipe"] != recipe:
        say(f"{path}: this checkpoint was made with other parameters or inputs; training from the start")
        return 0, []
    learner.load_state_dict(state["learner"])
    optimizer.load_state_dict(state["optimizer"])
    say(f"{path}: resuming after iteration {state['iteration']}")
    return int(state["iteration"]), list(state["losses"])


def _log(losses: list[Tensor], params: Schedule) -> pd.DataFrame:
    """Average the losses over blocks of ``log_every`` iterations, one row per block."""
    values = pd.DataFrame(torch.stack(losses).double().numpy(), columns=["loss", *LOSSES])
    block = (values.index // params.log_every + 1) * params.log_every
    frame = values.groupby(block.where(block < params.iterations, params.iterations)).mean()
    rates = [learning_rate(params, int(done) - 1) for done in frame.index]
    frame.insert(0, "learning_rate", rates)
    return frame.rename_axis("iteration").reset_index()


def learning_rate(params: Schedule, iteration: int) -> float:
    """Return the learning rate at an iteration, counted from 0."""
    return params.learning_rate * params.decay ** (max(iteration - params.steady, 0) // params.decay_every)


def _batches(source: BatchSource, iterations: range, rank: int, world: int) -> Iterator[Batch]:
    """Yield the batches of iterations in order; images that are not in memory are decoded ahead in threads."""
    for sample in ahead(
        lambda number: source.draw(number, rank, world), iterations, 0 if source.bank.resident else AHEAD
    ):
        yield source.render(sample)


def compile_parts(learner: nn.Module) -> None:
    """Compile the networks that a learner calls; in place, so that the names of weights do not change."""
    for part in learner.children():
        # A container such as a ModuleDict has no forward pass: its members are called instead.
        for net in part.children() if type(part).forward is nn.Module.forward else [part]:
            net.compile()


class _Losses:
    """Losses of all iterations, copied from the device in blocks, because every copy waits for the device."""

    def __init__(self, history: list[Tensor], label: str) -> None:
        self.history, self._label, self._new = history, label, list[Tensor]()

    def add(self, parts: Tensor) -> None:
        """Append the losses of an iteration, which stay on the device until :meth:`fetch`."""
        self._new.append(parts.detach())

    def fetch(self) -> list[Tensor]:
        """Return the losses of all iterations so far, on the CPU.

        Raises
        ------
        InputError
            If a total loss is not finite.
        """
        if self._new:
            block = torch.stack(self._new).cpu()
            if not bool(block[:, 0].isfinite().all()):
                first = int((~block[:, 0].isfinite()).nonzero()[0])
                raise InputError(
                    f"{self._label}: the loss is {float(block[first, 0]):g} at iteration {len(self.history) + first}; "
                    "lower learning_rate"
                )
            self.history += list(block)
            self._new = []
        return self.history


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
        Module that maps a batch to the total loss and its parts (:func:`novelseg.methods.losses.stack_losses`).
    batches
        Builds the source of batches for a device.
    optimiser
        Builds the optimiser of the trainable weights.
    params, hardware
        Schedule, and execution options.
    checkpoint
        File from which an interrupted run resumes.
    recipe
        Inputs and parameters on which the result depends, as text; a checkpoint of another recipe is ignored.
    label
        Label of the progress line.
    on_log
        Called in the first process with the whole log, whenever it has new rows.

    Returns
    -------
    DataFrame or None
        The training log; None in all processes but the first.

    Raises
    ------
    InputError
        If the loss is not finite, or the checkpoint is damaged.
    """
    fabric = _fabric(hardware)
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        # The conversion does not affect FrozenBatchNorm, which is not a subclass of torch's BatchNorm.
        learner = nn.SyncBatchNorm.convert_sync_batchnorm(learner)
    if hardware.compile:
        compile_parts(learner)
    trainable = [weight for weight in learner.parameters() if weight.requires_grad]
    optimizer = optimiser(trainable)
    model, wrapped = fabric.setup(learner, optimizer)
    start, history = _resume(checkpoint, recipe, learner, optimizer)  # after setup, which moves the weights
    losses = _Losses(history, label)
    on_log = on_log if fabric.is_global_zero else None
    remaining = range(start, params.iterations)
    source = _batches(batches(fabric.device), remaining, fabric.global_rank, fabric.world_size)
    model.train()
    for iteration, batch in zip(
        remaining, track(source, params.iterations, label, "iteration", done=start), strict=True
    ):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(params, iteration)
        wrapped.zero_grad()
        parts = model(batch)
        fabric.backward(parts[0])
        wrapped.step()
        losses.add(parts)
        done = iteration + 1
        if done % params.log_every == 0:
            history = losses.fetch()
            if on_log:
                on_log(_log(history, params))
        if done % hardware.checkpoint_every == 0 and done < params.iterations:
            _save(fabric, checkpoint, recipe, learner, optimizer, losses.fetch())
    log = _log(losses.fetch(), params)
    if on_log:
        on_log(log)
    return log if fabric.is_global_zero else None


def _save(fabric: Fabric, path: Path, recipe: str, learner: nn.Module, optimizer: Any, losses: list[Tensor]) -> None:
    """Write a checkpoint to a scratch file and rename it, so that an interruption leaves the previous one intact."""
    state = {
        "recipe": recipe,
        "learner": learner.state_dict(),
        "optimizer": optimizer.state_dict(),
        "iteration": len(losses),
        "losses": torch.stack(losses),
    }
    # All processes take part in saving, and the first one writes.
    with whole_file(path) if fabric.is_global_zero else nullcontext(path) as scratch:
        fabric.save(scratch, state)
