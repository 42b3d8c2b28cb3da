"""The pipeline's jobs, from raw images to the report. See docs/pipeline.md."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from stages.core.errors import InputError
from workflow.config import load
from workflow.plan import READS, check_inputs
from workflow.recipe import recipe

# The stages run with the Python that runs Snakemake, whether or not its environment is activated.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
try:
    CONFIG = load()
    check_inputs(
        {
            "encoder.weights": CONFIG.weights,
            "images.root": CONFIG.raw,
            "hierarchies.weights": CONFIG.region_weights,
            "hierarchies.maps": CONFIG.maps,
        }
    )
except InputError as error:
    raise SystemExit(f"error: {error}") from None
TARGETS = CONFIG.targets
IMAGES = TARGETS.of("images")
# A GPU runs one job at a time; without one, cores are the only limit.
GPU = int(shutil.which("nvidia-smi") is not None)


def share(jobs):
    """Threads of a training, when this many run side by side."""
    return max(1, workflow.cores // jobs)


wildcard_constraints:
    fold=r"\d+",
    shot=r"\d+",
    shard=r"\d+",
    seed=r"\d+",
    variant="[a-z-]+",


rule all:
    input:
        TARGETS.of("report"),


include: "workflow/rules/data.smk"
include: "workflow/rules/regions.smk"
include: "workflow/rules/encoders.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/stages.smk"
