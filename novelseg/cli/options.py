"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from novelseg.core.options import Help
from novelseg.methods.variants import SPFL, refined_names

Device = Annotated[str, Help("device to compute on", ("auto", "cpu", "cuda"))]
Threads = Annotated[int, Help("threads on the CPU; 0: as many as PyTorch chooses")]
Bundle = Annotated[Path, Help("bundle that `novelseg export` wrote")]
Variant = Annotated[str, Help("how to predict: matching alone, or with a refinement", (SPFL, *refined_names(SPFL)))]
Side = Annotated[int, Help("longest side at which the network sees a picture, px")]
