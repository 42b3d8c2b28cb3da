"""The pipeline's jobs, from raw images to the report. See docs/pipeline.md."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from novelseg.core.errors import InputError
from workflow.config import load
from workflow.lockfile import mend
from workflow.plan import READS, require_folders
from workflow.tracking import Tracking, refuse_config

# The stages run with the Python that runs Snakemake, whether or not its environment is activated.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
try:
    if "DVC_STAGE" in os.environ:
        require_folders()
    refuse_config(workflow.config_settings)
    if workflow.is_main_process:
        mend()
    CONFIG = load()
    TRACKING = Tracking(workflow, CONFIG)
except InputError as error:
    raise SystemExit(f"error: {error}") from None
TARGETS = CONFIG.targets
IMAGES = TARGETS.of("images")
# A GPU runs one job at a time; without one, cores are the only limit. A cluster's profile sets both.
GPU = {"gpu": 1} if shutil.which("nvidia-smi") else {}
if "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", 1)


def literal(text):
    """A parameter that is used as it is: braces in a plain text are wildcards, and a function is called for each job."""
    return (lambda _: text) if "{" in text or "}" in text else text


def share(jobs):
    """Threads of a training, when this many run side by side."""
    return max(1, workflow.cores // max(1, jobs))


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


# `python -m workflow plan` needs the jobs, and not Snakemake's own graph of them.
if "NOVELSEG_JOBS" in os.environ:
    TRACKING.write_jobs(Path(os.environ["NOVELSEG_JOBS"]))


onstart:
    TRACKING.hold()


onsuccess:
    TRACKING.record()
