"""Training-free heads on the same episodes of a VOC folder, with untrained ImageNet weights and paired intervals.

    python -m benchmarks.heads measure --voc $NOVELSEG_DATA/voc-subset --list train --weights FILE --out TRAIN.tsv
    python -m benchmarks.heads choose TRAIN.tsv … --out CHOICES.json
    python -m benchmarks.heads measure --voc … --list val --weights FILE --choices CHOICES.json --out VAL.tsv
    python -m benchmarks.heads page --train TRAIN.tsv … --val VAL.tsv … --choices CHOICES.json --out heads.md

``measure`` writes a row per episode and setting; the same episodes are drawn for every encoder and setting. Without
``--choices``, it measures the candidates that are left in the race (:mod:`benchmarks.headsettings`); with it, the
setting that was chosen without the class. A slow refinement may be measured in the first episodes of each class only
(``--most NAME=N``), also later and into a file of its own; what it is compared with is then taken from the same
episodes. With ``--features`` the features of each picture are computed once and kept. Differences are paired, and 95 %
intervals are of query images, resampled within each class.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.features import FolderBank
from benchmarks.headscores import read, write_page
from benchmarks.headsettings import COUNTS, FORMS, Race, Rows, Setting, choose, fold_of, parse, race_of
from benchmarks.tables import read_rows
from benchmarks.untrained import Pictures, draw
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.backbones.grid import Grid
from novelseg.core.compute import pick_device
from novelseg.core.labels import VOID
from novelseg.core.progress import track
from novelseg.inference.bundle import pretrained_bundle
from novelseg.methods.bank import SupportBank
from novelseg.methods.closed_form.head import Statistics, combine, statistics_of, support_cells
from novelseg.methods.closed_form.settings import ClosedFormSettings
from novelseg.methods.contract import Case, RefinedResult, RefinementTask
from novelseg.methods.matching.prototypes import match_many
from novelseg.methods.refiners import REFINERS
from novelseg.methods.variants import CLOSED_FORM, MATCHING

FACTS = ("encoder", "list", "shots", "fold", "class", "episode", "query", "supports")
COLUMNS = (*FACTS, "setting", *COUNTS, "cpu_ms")
AFTER = "rows of another encoder on training images, whose race has dropped candidates already"
Episode = tuple[int, int, int]  # number of supports, class, and its number


def episodes(pictures: Pictures, options: argparse.Namespace) -> Iterator[tuple[int, int, int, list[int]]]:
    """Draw the episodes, class after class, again and again: number, class, query, supports."""
    one_query = {"queries": 1, "episodes": options.episodes, "min_pixels": options.min_pixels, "seed": options.seed}
    drawn = [
        (number, label, queries[0], supports)
        for shots in options.shots
        for label, number, supports, queries in draw(pictures, argparse.Namespace(**one_query, shots=shots))
    ]
    yield from sorted(drawn, key=lambda entry: entry[:2])


def settings_of(options: argparse.Namespace, encoder: str, label: int, race: Race) -> list[Setting]:
    """Return the settings that are measured in the episodes of a class: the chosen ones, or those left in the race."""
    if not options.choices:
        return [one for form in options.forms for one in race.running(form)]
    chosen = json.loads(options.choices.read_text(encoding="utf8"))[encoder]
    return [parse(chosen[form][fold_of(label)]) for form in options.forms]


class RememberingClosedForm:
    """The closed-form head, which computes what it needs of a support once: the same results, for many episodes."""

    def __init__(self, settings: ClosedFormSettings) -> None:
        self._settings = settings
        self._known: dict[tuple[int, int], Statistics] = {}

    def refine(self, task: RefinementTask) -> RefinedResult:
        """Return what the refiner returns."""
        parts = []
        for image, support in zip(task.case.supports, task.supports, strict=True):
            key = image, task.case.label
            if key not in self._known:
                cells = support_cells(support.features, support.labels)
                self._known[key] = statistics_of(cells, 1, self._settings)
            parts.append(self._known[key])
        if not all(any(label in one.products for one in parts) for label in (0, 1)):
            return RefinedResult(task.rough[1] - task.rough[0])
        return RefinedResult(combine(parts, self._settings).scores(task.query)[0])


def unmeasured(
    pictures: Pictures, options: argparse.Namespace, before: Rows
) -> Iterator[tuple[int, int, int, list[int]]]:
    """Yield the episodes that no row is of, after a check that the rows are of episodes that these options draw."""
    known: dict[Episode, tuple[str, str]] = {}
    for row in before:
        known[int(row["shots"]), int(row["class"]), int(row["episode"])] = row["query"], row["supports"]
    for number, label, query, supports in episodes(pictures, options):
        own = known.get((len(supports), label, number))
        if own is None:
            yield number, label, query, supports
        elif own != (pictures.ids[query], support_ids(pictures, supports)):
            raise SystemExit(
                f"{options.out}: episode {number} of class {label} with {len(supports)} supports is not the one that "
                "these options draw; give --list, --images, --episodes, --min-pixels and --seed as before, or another "
                "--out"
            )


def support_ids(pictures: Pictures, supports: list[int]) -> str:
    """Return the names of the supports as they stand in a row."""
    return "+".join(pictures.ids[image] for image in supports)


def measure(options: argparse.Namespace, before: Rows) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each episode that is not among the rows of before."""
    pictures = Pictures(options.voc, options.list, options.images)
    bundle = pretrained_bundle(options.weights, options.stem)
    extract = FeatureExtractor(bundle.encoder, "fp32", pick_device(options.device))
    sources = pictures.size, pictures.image, pictures.mask
    bank = (
        FolderBank(pictures, extract, options.features)
        if options.features
        else SupportBank(extract, *sources, budget_mb=options.memory_mb)
    )
    remembering = RememberingClosedForm(bundle.refiners.closed_form)
    most = {name: int(count) for name, _, count in (one.partition("=") for one in options.most)}
    arch, race = bundle.record.arch, Race(options.shots, first_race(options))
    race.add(before)
    drawn = list(unmeasured(pictures, options, before))
    for number, label, query, supports in track(drawn, len(drawn), "heads", "episode"):
        settings = [*settings_of(options, arch, label, race), *map(Setting, options.others)]
        settings = [one for one in settings if number < most.get(one.refinement, number + 1)]
        if not settings:
            continue
        bank.load({query, *supports})
        shown = tuple(bank.support(image, label) for image in supports)
        prototypes = torch.stack([one.prototypes for one in shown]).mean(0)
        start = time.process_time()
        rough = match_many(bank[query], prototypes[None], bundle.record.scale)[0]
        spent = {MATCHING: time.process_time() - start}
        case = Case(options.seed, number * 100 + label, query, label, tuple(supports))
        task = RefinementTask(case, shown, bank[query], rough, bundle.record.scale, bank.side_inputs)
        logits, timed = {MATCHING: rough[1] - rough[0]}, number < options.timed
        for setting in settings:
            if not timed and setting.name == CLOSED_FORM:
                logits[setting.name] = remembering.refine(task).logits
                continue
            refiner, tau = setting.refiner(), setting.region_tau
            if tau is not None:
                for image in (query, *supports):
                    bank.regions(image, tau)  # hierarchies are built once per picture, and not timed here
            start = time.process_time()
            logits[setting.name] = refiner.refine([task])[0].logits
            spent[setting.name] = time.process_time() - start
        counts = count_pixels(bank.grid, torch.stack(list(logits.values())), pictures.mask(query), label)
        values = (arch, options.list, len(supports), fold_of(label), label, number, pictures.ids[query])
        facts = dict(zip(FACTS, (*values, support_ids(pictures, supports)), strict=True))
        rows = [
            {**facts, "setting": name, **own, "cpu_ms": f"{1e3 * spent[name]:.1f}" if timed else ""}
            for name, own in zip(logits, counts, strict=True)
        ]
        race.add(rows)
        yield rows


def count_pixels(grid: Grid, logits: Tensor, truth: NDArray[np.uint8], label: int) -> list[dict[str, int]]:
    """Count the pixels of intersections and unions of object and background, for each of several logits (N, h, w)."""
    known = torch.from_numpy(truth != VOID).to(logits.device)
    inside = torch.from_numpy(truth == label).to(logits.device)[known]
    marked = (grid.upsample(logits[None].float(), truth.shape)[0] > 0)[:, known]  # (N, pixels)
    pixels, objects = len(inside), int(inside.sum())
    rows = []
    for both, found in zip((marked & inside).sum(1).tolist(), marked.sum(1).tolist(), strict=True):
        neither = pixels - objects - found + both
        rows.append(dict(zip(COUNTS, (both, objects + found - both, neither, pixels - both), strict=True)))
    return rows


def write_measured(options: argparse.Namespace) -> None:
    """Append the rows of the episodes that are not in the table yet."""
    torch.set_num_threads(1)
    before = read_rows(options.out)
    with options.out.open("a", encoding="utf8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        if not before:
            writer.writeheader()
        for rows in measure(options, before):
            writer.writerows(rows)
            file.flush()
            if time.process_time() > options.seconds:
                break


def first_race(options: argparse.Namespace) -> Race | None:
    """Return the race of another encoder that comes first, if there is one."""
    return race_of(read([options.after])) if options.after else None


def write_choices(options: argparse.Namespace) -> None:
    """Write the choices of the encoders that the tables have; those of other encoders stay."""
    groups = read(options.rows)
    chosen = json.loads(options.out.read_text(encoding="utf8")) if options.out.exists() else {}
    for encoder in dict.fromkeys(name for name, _ in groups):
        own = {key: rows for key, rows in groups.items() if key[0] == encoder}
        chosen[encoder] = choose(own, first_race(options))
    options.out.write_text(json.dumps(chosen, indent=1) + "\n", encoding="utf8")


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
    own.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    own.add_argument("--episodes", type=int, default=8, help="episodes per class; another number draws others")
    own.add_argument("--most", nargs="*", default=[], metavar="NAME=N", help="a refinement in the first N of them only")
    own.add_argument("--timed", type=int, default=10**6, help="time the first N; later ones share work")
    own.add_argument("--seconds", type=float, default=np.inf, help="stop after this CPU time; run again to go on")
    own.add_argument("--min-pixels", type=int, default=1152)
    own.add_argument("--forms", nargs="*", choices=FORMS, default=FORMS)
    own.add_argument("--others", nargs="*", choices=list(REFINERS), default=["self-support", "closed-form"])
    own.add_argument("--choices", type=Path, help="measure the chosen settings instead of all candidates")
    own.add_argument("--after", type=Path, help=AFTER)
    own.add_argument("--memory-mb", type=int, default=2000, help="memory for features")
    own.add_argument("--features", type=Path, help="scratch folder for the features of this encoder; keeps all of them")
    own.add_argument("--device", default="cpu", help="cpu, cuda or auto; CPU times mean nothing on a GPU")
    own.add_argument("--seed", type=int, default=0)
    own.add_argument("--out", type=Path, required=True)
    chosen = commands.add_parser("choose")
    chosen.add_argument("rows", type=Path, nargs="+")
    chosen.add_argument("--after", type=Path, help=AFTER)
    chosen.add_argument("--out", type=Path, required=True)
    page = commands.add_parser("page")
    page.add_argument("--train", type=Path, nargs="+", required=True)
    page.add_argument("--val", type=Path, nargs="*", default=[])
    page.add_argument("--choices", type=Path, required=True)
    page.add_argument("--val-sums", type=Path, help="table of the sums over validation episodes that is written too")
    page.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    {"measure": write_measured, "choose": write_choices, "page": write_page}[options.command](options)


if __name__ == "__main__":
    main()
