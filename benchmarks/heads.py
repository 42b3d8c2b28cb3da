"""Training-free heads on the same episodes of a VOC folder, with untrained ImageNet weights and paired intervals.

    python -m benchmarks.heads measure --voc $NOVELSEG_DATA/voc-subset --list train --weights FILE --out TRAIN.tsv
    python -m benchmarks.heads choose TRAIN.tsv … --out CHOICES.json
    python -m benchmarks.heads measure --voc … --list val --weights FILE --choices CHOICES.json --out VAL.tsv
    python -m benchmarks.heads page --train TRAIN.tsv … --choices CHOICES.json --val VAL.tsv … --out docs/results/heads.md

Nothing is trained, so that the classes of a fold are novel only by agreement: the settings of a fold's classes are
chosen by ``choose`` on training images with the classes of the other three folds. ``measure`` writes a row per episode
and setting; the same episodes are drawn for every encoder and setting. Differences are paired, and 95 % intervals are
of query images, resampled within each class.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.untrained import CLASSES, Pictures, draw
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.core.labels import VOID
from novelseg.core.progress import track
from novelseg.inference.bundle import pretrained_bundle
from novelseg.methods.bank import SupportBank
from novelseg.methods.contract import Case, RefinementTask, Refiner
from novelseg.methods.matching.prototypes import match_many
from novelseg.methods.variants import HEADS, REFINERS, RefinerSettings

COUNTS = ("fg_intersection", "fg_union", "bg_intersection", "bg_union")
COLUMNS = ("encoder", "list", "shots", "fold", "class", "episode", "query", "setting", *COUNTS, "cpu_ms")
MATCHING, SROFB, HIERARCHY, PAPER = "matching", "srofb", "hierarchy", "as published"
FOLDS, DRAWS = 4, 2000
FORMS = tuple(f"{head}{form}" for head in HEADS for form in ("", "-regions"))
ENCODERS = {"resnet18": "ResNet-18", "resnet50": "ResNet-50"}


def fold_of(label: int) -> int:
    """Return the fold of a class 1…20: five consecutive classes each."""
    return (label - 1) * FOLDS // CLASSES


@dataclass(frozen=True)
class Setting:
    """A refinement with settings that differ from its defaults."""

    refinement: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name in the rows: the refinement, and what differs."""
        return " ".join([self.refinement, *(f"{key}={value}" for key, value in self.changes.items())])

    def refiner(self) -> Refiner:
        """Build the refiner."""
        settings = RefinerSettings()
        if self.changes:
            section = self.refinement.removesuffix("-regions")
            settings = replace(settings, **{section: replace(getattr(settings, section), **self.changes)})
        return REFINERS[self.refinement](settings)


def parse(name: str) -> Setting:
    """Return the setting of a name."""
    refinement, *changes = name.split()
    return Setting(refinement, {key: json.loads(value) for key, _, value in (one.partition("=") for one in changes)})


# What each form is varied by; the first setting is that of the papers where they give one.
VARIED: Mapping[str, Sequence[Mapping[str, Any]]] = {}


def candidates(form: str) -> list[Setting]:
    """Return the settings of a form that ``choose`` compares."""
    return [Setting(form, changes) for changes in VARIED[form]]


def episodes(pictures: Pictures, options: argparse.Namespace) -> list[tuple[int, int, int, list[int]]]:
    """Draw the episodes, class after class, again and again: class, number, query, supports."""
    drawn = sorted(draw(pictures, options), key=lambda entry: (entry[1], entry[0]))
    return [(label, number, queries[0], supports) for label, number, supports, queries in drawn]


def settings_of(options: argparse.Namespace, label: int) -> list[Setting]:
    """Return the settings that are measured in the episodes of a class."""
    if not options.choices:
        return [one for form in options.forms for one in candidates(form)]
    chosen = json.loads(options.choices.read_text(encoding="utf8"))
    return [parse(chosen[form][fold_of(label)]) for form in options.forms]


def measure(options: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each episode."""
    pictures = Pictures(options.voc, options.list, options.images)
    bundle = pretrained_bundle(options.weights, options.stem)
    bank = SupportBank(
        FeatureExtractor(bundle.encoder, "fp32", torch.device("cpu")),
        *(pictures.size, pictures.image, pictures.mask),
        budget_mb=options.memory_mb,
    )
    first, last = options.parts
    drawn = episodes(pictures, options)[first:last]
    for label, number, query, supports in track(drawn, len(drawn), "heads", "episode"):
        bank.load({query, *supports})
        shown = tuple(bank.support(image, label) for image in supports)
        prototypes = torch.stack([one.prototypes for one in shown]).mean(0)
        start = time.process_time()
        rough = match_many(bank[query], prototypes[None], bundle.record.scale)[0]
        spent = {MATCHING: time.process_time() - start}
        case = Case(options.seed, number * 100 + label, query, label, tuple(supports))
        task = RefinementTask(case, shown, bank[query], rough, bundle.record.scale, bank.side_inputs)
        truth = pictures.mask(query)
        facts = {"encoder": bundle.record.arch, "list": options.list, "shots": options.shots, "class": label}
        facts |= {"fold": fold_of(label), "episode": number, "query": pictures.ids[query]}
        logits = {MATCHING: rough[1] - rough[0]}
        settings = [*settings_of(options, label), *map(Setting, options.others)]
        if number < options.srofb_episodes:
            settings.append(Setting(SROFB))
        for setting in settings:
            refiner = setting.refiner()
            if setting.refinement.endswith("-regions"):
                for image in (query, *supports):
                    bank.regions(image, 0.5)  # hierarchies are built once per picture, and not timed here
            start = time.process_time()
            logits[setting.name] = refiner.refine([task])[0].logits
            spent[setting.name] = time.process_time() - start
        yield [
            {**facts, "setting": name, **_counts(bank, one, truth, label), "cpu_ms": f"{1e3 * spent[name]:.1f}"}
            for name, one in logits.items()
        ]


def _counts(bank: SupportBank, logits: Tensor, truth: NDArray[np.uint8], label: int) -> dict[str, int]:
    """Count the pixels of intersections and unions of object and background."""
    found = bank.grid.upsample(logits[None, None].float(), truth.shape)[0, 0].numpy() > 0
    known, inside = truth != VOID, truth == label
    sides = [(found & known, inside), (~found & known, ~inside & known)]
    pairs = [[int((mask & right).sum()), int((mask | right).sum())] for mask, right in sides]
    return dict(zip(COUNTS, pairs[0] + pairs[1], strict=True))


def main() -> None:
    """Measure rows, choose settings from rows, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    own = commands.add_parser("measure")
    own.add_argument("--voc", type=Path, required=True)
    own.add_argument("--list", default="train")
    own.add_argument("--images", type=int, default=10**6, help="use this many pictures of the list, drawn once")
    own.add_argument("--weights", required=True)
    own.add_argument("--stem", default="")
    own.add_argument("--shots", type=int, default=1)
    own.add_argument("--episodes", type=int, default=8, help="episodes per class")
    own.add_argument("--srofb-episodes", type=int, default=0, help="episodes per class with SROFB too, which is slow")
    own.add_argument("--parts", type=int, nargs=2, default=(0, 10**6), help="first episode, and the one after the last")
    own.add_argument("--min-pixels", type=int, default=1152)
    own.add_argument("--forms", nargs="*", choices=FORMS, default=FORMS)
    own.add_argument("--others", nargs="*", choices=list(REFINERS), default=["self-support", "closed-form"])
    own.add_argument("--choices", type=Path, help="measure the chosen settings instead of all candidates")
    own.add_argument("--memory-mb", type=int, default=2000, help="memory for features")
    own.add_argument("--seed", type=int, default=0)
    own.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.queries = 1
    torch.set_num_threads(1)
    with options.out.open("w", encoding="utf8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        for rows in measure(options):  # an interrupted run leaves whole episodes
            writer.writerows(rows)
            file.flush()


if __name__ == "__main__":
    main()
