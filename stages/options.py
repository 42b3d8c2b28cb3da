"""Options that several stages share, with the help that the command line shows.

An option marked :class:`Execution` controls where and how a stage runs, not what it computes: it changes a result by
rounding at most, and provenance records omit it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from novelseg.core.options import Help


@dataclass(frozen=True)
class Execution(Help):
    """Help text of an option that controls where and how a stage runs."""


Device = Annotated[str, Execution("device to compute on", ("auto", "cpu", "cuda"))]
Devices = Annotated[int, Execution("number of GPUs, or of processes on a CPU")]
Threads = Annotated[int, Execution("number of CPU threads; 0: as many as PyTorch chooses")]
Workers = Annotated[int, Execution("worker processes; 0: one per core")]
Compiled = Annotated[int, Execution("1: compile the network with PyTorch; the start is slower, each step faster")]
MemoryMb = Annotated[int, Execution("MiB for decoded images or features; 0: the default of the device")]
Batch = Annotated[int, Execution("episodes that are refined at once; 0: as many as fit into memory")]
Live = Annotated[Path | None, Execution("folder for loss curves that DVCLive writes while the training runs")]

Out = Annotated[Path, Help("file or folder to write; it appears whole or not at all")]
IndexFile = Annotated[Path, Help("index of the data set")]
ImageShards = Annotated[list[Path], Help("all image shards")]
ImageShard = Annotated[Path, Help("one image shard")]
Pretrained = Annotated[Path, Help("pretrained weights of the backbone")]
Fold = Annotated[int, Help("fold whose classes are novel")]
Shot = Annotated[int, Help("supports per episode")]
Seed = Annotated[int, Help("seed of all random draws")]
Encoder = Annotated[Path, Help("weights of the encoder that computes the features")]
