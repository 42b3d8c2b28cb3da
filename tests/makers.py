"""A tiny data set and experiment, and the stages run on it in this process."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stages.__main__ import main
from workflow.presets import resolve_preset

REGION_WEIGHTS = Path(__file__).parent.parent / "novelseg/regions/bsds500.safetensors"
Values = dict[str, dict[str, Any]]


def tiny_values(**changes: dict[str, Any]) -> Values:
    """Parameters of the demo at the smallest size at which every stage has something to do."""
    values: Values = copy.deepcopy(resolve_preset("demo"))
    small: Values = {
        "plan": {"shots": [1], "seeds": [0, 1], "training_variants": ["hierarchical"], "cam": True},
        "scenes": {"train": 24, "val": 20, "size": 64, "seed": 4},
        "images": {"shards": 2},
        "index": {"min_object_pixels": 32},
        "matching": {"size": 49, "episodes": 2},
        "baseline": {"iterations": 6, "decay_every": 4, "log_every": 2},
        "features": {"min_region_area": 16},
        "prototypes": {"clusters": [4, 3, 2], "restarts": 2, "iterations": 10},
        "train": {"iterations": 6, "decay_every": 4, "log_every": 2, "extra_images": 3, "decoder_width": 8},
        "cam": {
            **{"iterations": 6, "classifier_iterations": 2, "decay_every": 4, "log_every": 2},
            "classifier_accuracy": 0.0,
            **{"episodes": 2, "objects": 2, "deconv_width": 4, "size": 49},
        },
        "episodes": {"count": 6},
        "srofb": {"hidden": 16},
        "evaluate": {"examples": 2},
        "report": {"protocol": "tiny", "images": 2, "episodes": 2, "crops": 2, "bootstrap": 100},
    }
    for section, entries in (*small.items(), *changes.items()):
        values[section].update(entries)
    return values


def write_values(path: Path, values: Values) -> Path:
    """Write a parameter file."""
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf8")
    return path


@dataclass(frozen=True)
class Project:
    """A folder with a parameter file and the artifacts of a tiny experiment."""

    root: Path
    weights: Path

    @property
    def params(self) -> Path:
        """The parameter file."""
        return self.root / "params.yaml"

    def path(self, name: str) -> Path:
        """An artifact."""
        return self.root / "artifacts" / name

    def images(self) -> list[str]:
        """All image shards, as words of a command."""
        return [str(self.path(f"images/{shard}.h5")) for shard in range(2)]

    def run(self, stage: str, *words: object) -> int:
        """Run a stage through its command line; give the exit code."""
        return main([stage, "--params", str(self.params), *map(str, words)])

    def data(self) -> list[object]:
        """Options that name the data set."""
        return ["--index", self.path("index/index.h5"), "--images", *self.images()]

    def make_images(self) -> None:
        """Image shards and index."""
        for shard in range(2):
            assert self.run("images", "--shard", shard, "--out", self.images()[shard]) == 0
        assert self.run("index", "--images", *self.images(), "--out", self.path("index/index.h5")) == 0

    def hierarchies_words(self, shard: int, out: Path) -> list[object]:
        """Options of ``hierarchies``."""
        return ["--images", self.images()[shard], "--weights", REGION_WEIGHTS, "--out", out]

    def make_labels(self) -> None:
        """Everything from regions to pseudo labels of fold 0."""
        for shard in range(2):
            tree, cut = self.path(f"hierarchies/{shard}.h5"), self.path(f"regions/{shard}.h5")
            assert self.run("hierarchies", *self.hierarchies_words(shard, tree)) == 0
            assert self.run("regions", "--hierarchies", tree, "--out", cut) == 0
        self.make_baseline(self.path("baseline/fold0/1shot"))
        for shard in range(2):
            assert self.make_features(shard, self.path(f"features/fold0/{shard}.h5")) == 0
        features = [self.path(f"features/fold0/{shard}.h5") for shard in range(2)]
        prototypes = self.path("prototypes/fold0.h5")
        assert self.run("prototypes", "--features", *features, "--fold", 0, "--out", prototypes) == 0
        for shard in range(2):
            assert self.make_pseudolabels(shard, self.path(f"pseudolabels/fold0/{shard}.h5")) == 0

    def make_baseline(self, out: Path, *more: object) -> None:
        """Train a Baseline of fold 0."""
        assert self.run("baseline", *self.training_words("baseline", out), *more) == 0

    def make_features(self, shard: int, out: Path) -> int:
        """Features of a shard."""
        return self.run(
            "features",
            *("--index", self.path("index/index.h5"), "--images", self.images()[shard]),
            *("--regions", self.path(f"regions/{shard}.h5"), "--encoder", self.path(ENCODER)),
            *("--fold", 0, "--threads", 1, "--out", out),
        )

    def make_pseudolabels(self, shard: int, out: Path) -> int:
        """Pseudo labels of a shard."""
        words = ["--images", self.images()[shard], "--encoder", self.path(ENCODER), "--fold", 0, "--threads", 1]
        # This stage has no parameters, hence no --params.
        return main(
            [
                "pseudolabels",
                *("--index", str(self.path("index/index.h5"))),
                *map(str, words),
                *("--prototypes", str(self.path("prototypes/fold0.h5")), "--out", str(out)),
            ]
        )

    def train_words(self, out: Path) -> list[object]:
        """Options of the joint training of fold 0."""
        labels = [self.path(f"pseudolabels/fold0/{shard}.h5") for shard in range(2)]
        return [
            *(*self.data(), "--pseudolabels", *labels, "--weights", self.weights),
            *("--fold", 0, "--shot", 1, "--variant", "hierarchical", "--threads", 1, "--out", out),
        ]

    def training_words(self, stage: str, out: Path) -> list[object]:
        """Options of a training of fold 0, the output last."""
        if stage == "train":
            return self.train_words(out)
        shot = ["--shot", 1] if stage == "baseline" else []
        return [*self.data(), "--weights", self.weights, "--fold", 0, *shot, "--threads", 1, "--out", out]

    def evaluate_words(self, out: Path) -> list[object]:
        """Options of the evaluation of fold 0."""
        lists = [self.path(f"episodes/fold0/1shot/seed{seed}.tsv") for seed in (0, 1)]
        spfl = self.path("train/fold0/1shot/hierarchical/weights.safetensors")
        return [
            *(*self.data(), "--episodes", *lists, "--weights", self.weights),
            *("--baseline", self.path(ENCODER), "--spfl", spfl, "--cam", self.path(CAM)),
            *("--fold", 0, "--shot", 1, "--threads", 1, "--out", out),
        ]

    def shown_words(self) -> list[object]:
        """Options of the report's pictures."""
        folders = {"regions": "regions", "features": "features/fold0", "pseudolabels": "pseudolabels/fold0"}
        shards = [[f"--{name}", *(self.path(f"{path}/{n}.h5") for n in range(2))] for name, path in folders.items()]
        return [*(word for words in shards for word in words), "--prototypes", self.path("prototypes/fold0.h5")]

    def make_all(self) -> None:
        """The whole experiment up to the report."""
        self.make_images()
        self.make_labels()
        assert self.run("train", *self.train_words(self.path("train/fold0/1shot/hierarchical"))) == 0
        assert self.run("cam", *self.training_words("cam", self.path("cam/fold0"))) == 0
        for seed in (0, 1):
            out = self.path(f"episodes/fold0/1shot/seed{seed}.tsv")
            index = self.path("index/index.h5")
            assert self.run("episodes", "--index", index, "--fold", 0, "--shot", 1, "--seed", seed, "--out", out) == 0
        assert self.run("evaluate", *self.evaluate_words(self.path("evaluate/fold0/1shot"))) == 0
        trainings = [self.path(name) for name in TRAINED.values()]
        assert (
            self.run(
                "report",
                *(*self.data(), *self.shown_words(), "--trainings", *trainings),
                *("--evaluations", self.path("evaluate/fold0/1shot"), "--out", self.root / "report"),
            )
            == 0
        )


TRAINED = {"baseline": "baseline/fold0/1shot", "train": "train/fold0/1shot/hierarchical", "cam": "cam/fold0"}
SPFL = f"{TRAINED['train']}/weights.safetensors"
ENCODER, CAM = "baseline/fold0/1shot/weights.safetensors", "cam/fold0/weights.safetensors"
