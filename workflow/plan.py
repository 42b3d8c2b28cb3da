"""Plan of the pipeline: its stages, which stage reads which, and the outputs that the present parameters ask for."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated

from pydantic import Field as Limit
from pydantic import model_validator

from novelseg.core.errors import InputError
from novelseg.formats.files import ABOUT, EXAMPLES_FILE, LOG_FILE, ROWS, WEIGHTS
from stages.params.schema import Section
from stages.params.train import TrainingVariant

F_P_SHOT = 1  # the corpus and the pseudo labels use the 1-shot Baseline


class Plan(Section):
    """Jobs to run; a longer list adds jobs and changes none of the others."""

    folds: Annotated[list[Annotated[int, Limit(ge=0)]], Limit(min_length=1, description="Folds, counted from 0.")]
    shots: Annotated[
        list[Annotated[int, Limit(ge=1, le=50)]], Limit(min_length=1, description="Numbers of supports per episode.")
    ]
    seeds: Annotated[
        list[Annotated[int, Limit(ge=0)]], Limit(min_length=1, description="Seeds of the episode lists (0–4).")
    ]
    training_variants: Annotated[
        list[TrainingVariant],
        Limit(min_length=1, description="Joint trainings; hierarchical must be among them."),
    ]
    cam: Annotated[bool, Limit(description="Whether the CAM prior (method B) is trained and scored too.")]

    @model_validator(mode="after")
    def _distinct(self) -> Plan:
        for name, values in self.__dict__.items():
            if isinstance(values, list) and len(set(values)) != len(values):
                raise ValueError(f"{name} is {values}; expected each entry once")
        if "hierarchical" not in self.training_variants:
            raise ValueError(f"training_variants is {self.training_variants}; expected 'hierarchical' among them")
        return self


# Stage → the stages whose outputs it reads, in the order of the pipeline.
READS: dict[str, tuple[str, ...]] = {
    "images": (),
    "index": ("images",),
    "hierarchies": ("images",),
    "regions": ("hierarchies",),
    "baseline": ("images", "index"),
    "features": ("images", "index", "regions", "baseline"),
    "prototypes": ("features",),
    "pseudolabels": ("images", "index", "baseline", "prototypes"),
    "train": ("images", "index", "pseudolabels"),
    "cam": ("images", "index"),
    "episodes": ("index",),
    "evaluate": ("images", "index", "baseline", "train", "cam", "episodes"),
    "report": (
        *("images", "index", "regions", "features", "prototypes", "pseudolabels"),
        *("baseline", "train", "cam", "evaluate"),
    ),
}
REGION_WEIGHTS = "novelseg/regions/bsds500.safetensors"
# Stage → file or folder of the project with the weights that it reads, unless a parameter names others.
WEIGHTED = {
    "hierarchies": REGION_WEIGHTS,
    **dict.fromkeys(("baseline", "features", "train", "cam", "evaluate"), "weights"),
}
# Stage → parameters outside its own sections on which its number of jobs, or its inputs, depend.
SCOPE: dict[str, tuple[str, ...]] = {
    "baseline": ("plan.folds", "plan.shots"),
    "features": ("plan.folds",),
    "prototypes": ("plan.folds",),
    "pseudolabels": ("plan.folds", "encoder.train"),
    "train": ("plan.folds", "plan.shots", "plan.training_variants"),
    "cam": ("plan.folds", "plan.cam"),
    "episodes": ("plan.folds", "plan.shots", "plan.seeds"),
    "evaluate": ("plan.folds", "plan.shots", "plan.seeds", "plan.training_variants", "plan.cam"),
    "report": ("plan.folds", "plan.shots", "plan.training_variants", "plan.cam", "encoder.train"),
}
TRAINED = (WEIGHTS, LOG_FILE)
EVALUATED = (ROWS, EXAMPLES_FILE, ABOUT)
REPORTED = ("index.html", "results.tsv", "classes.tsv", "comparisons.tsv", "metrics.json")


# Stages whose jobs write a folder each, instead of a file.
FOLDERED = ("baseline", "train", "cam", "evaluate", "report")


def stage_of(output: str) -> str:
    """Return the stage that makes an output of the plan."""
    top, _, rest = output.partition("/")
    return top if top == "report" else rest.partition("/")[0]


def record_of(output: str) -> str:
    """Return the provenance record of the job that makes an output."""
    stage = stage_of(output)
    if stage == "report":
        return "provenance/report.json"
    path = Path(output.replace("artifacts/", "provenance/", 1))
    return f"{path.parent}.json" if stage in FOLDERED else path.with_suffix(".json").as_posix()


def records(stage: str) -> str:
    """Return the folder of a stage's provenance records, or the only record of the report."""
    return "provenance/report.json" if stage == "report" else f"provenance/{stage}"


VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


def _data_folder() -> str:
    """Return the default of ``$NOVELSEG_DATA``: ``../shared/data`` beside the project.

    A queued DVC experiment runs in ``.dvc/tmp/exps/NAME`` of the project and uses the project's data.
    """
    here = Path.cwd()
    project = next((up.parents[2] for up in here.parents if up.parts[-3:] == (".dvc", "tmp", "exps")), None)
    return f"{project}/../shared/data" if project else "../shared/data"


def resolve(path: str) -> str:
    """Expand ``~`` at the start, and ``$NAME`` or ``${NAME}`` anywhere, as a shell does.

    A variable that is not set stays as it is written, except ``$NOVELSEG_DATA``, which has a default.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return os.environ.get(name) or (_data_folder() if name == "NOVELSEG_DATA" else match[0])

    return os.path.expanduser(VARIABLE.sub(value, path))  # noqa: PTH111  (a path stays a text, as it is written)


def unset_variable(path: str) -> str:
    """Return the first variable that :func:`resolve` has left in a path since it is not set; empty if there is none."""
    match = VARIABLE.search(path)
    return (match[1] or match[2]) if match else ""


def require_folders() -> None:
    """Refuse a folder of outputs that is a link out of the project, since DVC does not record what lies behind it.

    Raises
    ------
    InputError
        If ``artifacts``, ``provenance`` or ``report`` is such a link.
    """
    here = Path.cwd().resolve()
    for name in ("artifacts", "provenance", "report"):
        if Path(name).is_symlink() and not Path(name).resolve().is_relative_to(here):
            raise InputError(
                f"{name} is a link out of the project, which DVC does not follow; make it a folder, and link the "
                f"folders in it, such as {name}/images, instead"
            )


def folder(stage: str) -> str:
    """Return the folder of a stage's outputs."""
    return "report" if stage == "report" else f"artifacts/{stage}"


@dataclass(frozen=True)
class Targets:
    """Output files that the parameters ask for.

    Attributes
    ----------
    plan
        Section ``plan``.
    shards
        Number of shards of images.
    trained
        Whether encoders are trained; if not, there are no jobs of ``baseline``, ``pseudolabels`` and ``train``.
    """

    plan: Plan
    shards: int
    trained: bool = True

    @property
    def baseline_shots(self) -> list[int]:
        """Shots for which a Baseline is trained: those of the plan, and F_p's."""
        return sorted({F_P_SHOT, *self.plan.shots})

    def trainings(self) -> list[str]:
        """Return the folders of all trained networks."""
        folders: list[str] = []
        if self.trained:
            folders += [f"artifacts/baseline/fold{f}/{k}shot" for f, k in product(self.plan.folds, self.baseline_shots)]
            scope = product(self.plan.folds, self.plan.shots, self.plan.training_variants)
            folders += [f"artifacts/train/fold{f}/{k}shot/{v}" for f, k, v in scope]
        return folders + [f"artifacts/cam/fold{f}" for f in self.plan.folds if self.plan.cam]

    def evaluations(self) -> list[str]:
        """Return the folders of all evaluations."""
        return [f"artifacts/evaluate/fold{f}/{k}shot" for f, k in product(self.plan.folds, self.plan.shots)]

    def episodes(self, fold: int | str, shot: int | str) -> list[str]:
        """Return the episode lists of a fold and shot, one per seed."""
        return [f"artifacts/episodes/fold{fold}/{shot}shot/seed{seed}.tsv" for seed in self.plan.seeds]

    def sharded(self, pattern: str) -> list[str]:
        """Return one path per shard, in order, from a pattern with ``{shard}``."""
        return [pattern.replace("{shard}", str(shard)) for shard in range(self.shards)]

    def plots(self) -> list[str]:
        """Return the report's loss tables, which are named after the trainings."""
        names = [
            "-".join(path.replace("fold", "fold-").replace("shot", "-shot").split("/")[1:]) for path in self.trainings()
        ]
        return [f"report/plots/{name}.tsv" for name in names]

    def of(self, stage: str) -> list[str]:
        """Return all outputs of a stage."""
        folds = self.plan.folds
        per_fold = [f"artifacts/{stage}/fold{f}" for f in folds]
        if stage in ("images", "hierarchies", "regions"):
            return self.sharded(f"artifacts/{stage}/{{shard}}.h5")
        if stage == "pseudolabels" and not self.trained:
            return []
        if stage in ("features", "pseudolabels"):
            return [path for fold in per_fold for path in self.sharded(f"{fold}/{{shard}}.h5")]
        if stage in ("baseline", "train", "cam"):
            return [f"{path}/{name}" for path in self.trainings() if f"/{stage}/" in path for name in TRAINED]
        if stage == "episodes":
            return [path for f, k in product(folds, self.plan.shots) for path in self.episodes(f, k)]
        return {
            "index": ["artifacts/index/index.h5"],
            "prototypes": [f"{path}.h5" for path in per_fold],
            "evaluate": [f"{path}/{name}" for path in self.evaluations() for name in EVALUATED],
            "report": [f"report/{name}" for name in REPORTED] + self.plots(),
        }[stage]
