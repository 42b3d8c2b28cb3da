"""Options that are shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from novelseg.core.options import Help
from novelseg.methods.variants import SPFL, refined_names

Device = Annotated[str, Help("device to compute on", ("auto", "cpu", "cuda"))]
Threads = Annotated[int, Help("threads on the CPU; 0: as many as PyTorch chooses")]
Bundle = Annotated[Path, Help("bundle of `novelseg export`")]
Variant = Annotated[str, Help("prediction by matching alone, or with a refinement", (SPFL, *refined_names(SPFL)))]
Side = Annotated[int, Help("longest side of a picture in the network, px; larger pictures are reduced to it")]
