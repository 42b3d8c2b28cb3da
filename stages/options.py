"""Options that several stages take, with the help that the command line shows.

An option marked :class:`Execution` says where and how a stage runs, not what it computes: it changes a result by
rounding at most, and no provenance record holds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from novelseg.core.options import Help


@dataclass(frozen=True)
class Execution(Help):
    """Help of an option that says where and how a stage runs."""


Device = Annotated[str, Execution("device to compute on", ("auto", "cpu", "cuda"))]
Devices = Annotated[int, Execution("number of GPUs, or of processes on a CPU")]
Threads = Annotated[int, Execution("threads on the CPU; 0: as many as PyTorch chooses")]
Workers = Annotated[int, Execution("processes that work side by side; 0: one per core")]
Compiled = Annotated[int, Execution("1: let PyTorch compile the network, which starts later and runs faster")]
MemoryMb = Annotated[int, Execution("MiB for decoded images or features; 0: a default for the device")]
Batch = Annotated[int, Execution("episodes that are refined side by side; 0: as many as fit the memory set aside")]
Live = Annotated[Path | None, Execution("folder for loss curves that DVCLive writes while the training runs")]

Out = Annotated[Path, Help("file or folder to write; it appears whole or not at all")]
IndexFile = Annotated[Path, Help("index of the data set")]
ImageShards = Annotated[list[Path], Help("image shards, all of them")]
ImageShard = Annotated[Path, Help("one image shard")]
Pretrained = Annotated[Path, Help("pretrained weights of the backbone")]
Fold = Annotated[int, Help("fold, whose classes are novel")]
Shot = Annotated[int, Help("supports of an episode")]
Seed = Annotated[int, Help("seed of all random draws")]
Encoder = Annotated[Path, Help("weights of the encoder that features come from")]
