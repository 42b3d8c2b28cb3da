"""Configuration: the whole of ``params.yaml``, checked before the first job of either engine."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from novelseg.core.errors import InputError, nearest
from novelseg.data.classes import VOC
from novelseg.methods.refiners import SETTINGS
from stages.params.cam import Params as Cam
from stages.params.schema import Section, check_section, read_yaml, section_of
from workflow.plan import REGION_WEIGHTS, Plan, Targets, resolve

PARAMS = Path("params.yaml")
BASE = Path(__file__).parent / "presets" / "base.yaml"
# Where parameter files of earlier versions have the region weights that are part of the library now.
FORMER_REGION_WEIGHTS = "weights/regions-bsds500.safetensors"


@cache
def section_classes() -> dict[str, type[Section]]:
    """Return the class of every section, the plan first, in the order of ``base.yaml``.

    The section NAME is made from the settings of the refinement NAME, or is the only parameter class that the module
    ``stages.params.NAME`` defines.
    """
    classes: dict[str, type[Section]] = {"plan": Plan}
    for name in read_yaml(BASE):
        if name in SETTINGS:
            classes[name] = section_of(SETTINGS[name])
        elif name != "plan":
            module = importlib.import_module(f"stages.params.{name}")
            own = [kind for kind in vars(module).values() if _is_section(kind) and kind.__module__ == module.__name__]
            (classes[name],) = own
    return classes


def _is_section(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Section)


@dataclass(frozen=True)
class Config:
    """Checked parameters, and the files that follow from them."""

    sections: dict[str, Section]

    @property
    def targets(self) -> Targets:
        """Output files that the parameters ask for."""
        plan = self.sections["plan"]
        assert isinstance(plan, Plan)
        return Targets(plan, int(self.values("images")["shards"]), self.trained)

    def values(self, section: str) -> dict[str, Any]:
        """Return one section as plain values."""
        return self.sections[section].model_dump()

    @property
    def trained(self) -> bool:
        """Whether encoders are trained."""
        return bool(self.values("encoder")["train"] != "none")

    @property
    def weights(self) -> str:
        """Path of the pretrained weights."""
        return resolve(self.values("encoder")["weights"])

    @property
    def region_weights(self) -> str:
        """Path of the region hierarchy's weights; empty if the method has none."""
        hierarchies = self.values("hierarchies")
        path = resolve(hierarchies["weights"]) if hierarchies["method"] == "ucm" else ""
        return REGION_WEIGHTS if path == FORMER_REGION_WEIGHTS and not Path(path).exists() else path

    @property
    def maps(self) -> str:
        """Folder of precomputed label maps; empty unless ``hierarchies.method`` is ``precomputed``."""
        hierarchies = self.values("hierarchies")
        return resolve(hierarchies["maps"]) if hierarchies["method"] == "precomputed" else ""

    @property
    def raw(self) -> str:
        """Folder of the raw data; empty for the built-in scenes."""
        images = self.values("images")
        return "" if images["source"] == "scenes" else resolve(images["root"])

    @property
    def sbd(self) -> str:
        """Folder of SBD; empty if it is not used."""
        return resolve(self.values("images")["sbd"])

    @property
    def studies(self) -> str:
        """Folder of studies that the report shows; empty if it shows none."""
        return resolve(self.values("report")["studies"])

    def external(self, stage: str) -> dict[str, str]:
        """Return the files and folders that a stage reads from outside the pipeline: parameter → path.

        The last part of the parameter's name is the stage's option.
        """
        weighted = ("baseline", "train", "cam", "evaluate", *([] if self.trained else ["features"]))
        paths = {
            "images": {"images.root": self.raw, "images.sbd": self.sbd},
            "hierarchies": {"hierarchies.weights": self.region_weights, "hierarchies.maps": self.maps},
            "report": {"report.studies": self.studies},
            **{name: {"encoder.weights": self.weights} for name in weighted},
        }.get(stage, {})
        return {key: path for key, path in paths.items() if path}


def check(values: dict[str, Any], source: Path) -> Config:
    """Check the values of a parameter file.

    Raises
    ------
    InputError
        If a section is unknown, missing or faulty, or two sections contradict each other.
    """
    kinds = section_classes()
    for name in values:
        if name not in kinds:
            raise InputError(f"{source}: unknown section '{name}'; {nearest(str(name), list(kinds))}")
    for name in kinds:
        if name not in values:
            raise InputError(f"{source}: section '{name}' is missing; `python -m workflow use NAME` writes all of them")
    config = Config({name: check_section(kind, name, values[name], source) for name, kind in kinds.items()})
    _check_across(config, source)
    return config


def _check_across(config: Config, source: Path) -> None:
    """Check values that depend on other sections."""
    folds, planned = config.values("index")["folds"], config.values("plan")["folds"]
    if max(planned) >= folds:
        raise InputError(
            f"{source}: plan.folds names fold {max(planned)}; expected 0…{folds - 1}, since index.folds is {folds}"
        )
    held_out = config.values("index")["held_out"]
    if held_out >= folds or held_out in planned:
        raise InputError(
            f"{source}: index.held_out is {held_out}; expected −1, or one of 0…{folds - 1} that is not in plan.folds"
        )
    _check_unseen(config, source)
    images, scenes = config.values("images"), config.values("scenes")
    if images["source"] != "scenes" and not images["root"]:
        raise InputError(f"{source}: images.root is empty; expected the folder that holds the {images['source']} data")
    # The number of COCO's categories is in its annotations; the stage `index` checks it.
    count = len(images["classes"]) or (len(VOC) if images["source"] == "voc" else 0)
    if count % folds:
        raise InputError(
            f"{source}: index.folds is {folds}, but {count} classes do not divide evenly into {folds} folds; "
            f"choose a divisor of {count}"
        )
    hierarchies = config.values("hierarchies")
    for method, key in (("ucm", "weights"), ("precomputed", "maps")):
        if hierarchies["method"] == method and not hierarchies[key]:
            raise InputError(f"{source}: hierarchies.{key} is empty; the method {method} needs it")
    total = scenes["train"] + scenes["val"]
    if images["source"] == "scenes" and images["shards"] > total:
        raise InputError(
            f"{source}: images.shards is {images['shards']}; expected at most the {total} pictures of scenes"
        )


def _check_unseen(config: Config, source: Path) -> None:
    index, cam = config.values("index"), config.sections["cam"]
    assert isinstance(cam, Cam)
    plan = config.values("plan")
    for fold in plan["folds"] if plan["cam"] else []:
        try:
            cam.unseen_fold(fold, index["folds"], index["held_out"])
        except InputError as error:
            raise InputError(f"{source}: {error}") from None


def load(path: Path = PARAMS) -> Config:
    """Read and check a parameter file."""
    return check(read_yaml(path), path)
