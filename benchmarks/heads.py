"""Training-free heads on the same episodes of a VOC folder, with untrained ImageNet weights and paired intervals.

    python -m benchmarks.heads measure --voc $NOVELSEG_DATA/voc-subset --list train --weights FILE --out TRAIN.tsv
    python -m benchmarks.heads choose TRAIN.tsv … --out CHOICES.json
    python -m benchmarks.heads measure --voc … --list val --weights FILE --choices CHOICES.json --out VAL.tsv
    python -m benchmarks.heads page --train TRAIN.tsv … --val VAL.tsv … --choices CHOICES.json --out heads.md

Nothing is trained, so that the classes of a fold are novel only by agreement: the settings of a fold's classes are
chosen by ``choose`` on training images with the classes of the other three folds. ``measure`` writes a row per episode
and setting; the same episodes are drawn for every encoder and setting. A slow refinement may be measured in the first
episodes of each class only (``--most NAME=N``); what it is compared with is then taken from the same episodes. With
``--features`` the features of each picture are computed once and kept. Differences are paired, and 95 % intervals are
of query images, resampled within each class.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.features import FolderBank
from benchmarks.tables import write_below, write_rows
from benchmarks.untrained import CLASSES, Pictures, draw
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.backbones.grid import Grid
from novelseg.core.compute import pick_device
from novelseg.core.labels import VOID
from novelseg.core.progress import track
from novelseg.inference.bundle import pretrained_bundle
from novelseg.methods.bank import SupportBank
from novelseg.methods.closed_form.head import Statistics, combine, statistics_of, support_cells
from novelseg.methods.closed_form.settings import ClosedFormSettings
from novelseg.methods.contract import Case, RefinedResult, RefinementTask, Refiner
from novelseg.methods.matching.prototypes import match_many
from novelseg.methods.refiners import REFINERS, RefinerSettings
from novelseg.methods.variants import CLOSED_FORM, HEADS

COUNTS = ("fg_intersection", "fg_union", "bg_intersection", "bg_union")
COLUMNS = ("encoder", "list", "shots", "fold", "class", "episode", "query", "setting", *COUNTS, "cpu_ms")
SUMS = ("encoder", "list", "shots", "fold", "class", "setting", "episodes", *COUNTS)
MATCHING, SROFB = "matching", "srofb"
MARK = "<!-- written by `python -m benchmarks.heads page` -->"
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


_GRAM, _GATE = {"gram_temperature": 0.07, "reduction": 2}, {"threshold": 0.35, "gate": 0.3}
_SEED = {"boost": 0.2, "distance": 0.4}
_OTHER: tuple[dict[str, Any], ...] = ({}, {"positions": 20}, {"prototypes": 2}, {"hard_share": 0.3})
# Candidates of each form; what a paper gives is among them.
VARIED: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "fssdino": (
        {"gram_temperature": 0.0},
        *({**_GRAM, "gram_temperature": temperature} for temperature in (0.03, 0.07, 0.15)),
        {**_GRAM, "object_prototypes": 2},
        {**_GRAM, "object_prototypes": 10, "background_prototypes": 10},
    ),
    "fssdino-regions": tuple({**_GRAM, "region_tau": tau} for tau in (0.2, 0.3, 0.45, 0.7)),
    "insid3": (
        {},
        *({"distance": distance, "keep": 0.1} for distance in (0.4, 0.5, 0.6, 0.7)),
        *({"distance": 0.6, "keep": keep} for keep in (0.05, 0.2)),
        {"distance": 0.6, "keep": 0.1, "positions": 20},
    ),
    "insid3-regions": (
        *({"region_tau": tau, "keep": 0.1} for tau in (0.2, 0.3, 0.45)),
        {"region_tau": 0.3, "keep": 0.05},
    ),
    "foris": (
        {"threshold": 0.5, "gate": 0.1, **_SEED},
        {"threshold": 0.35, "gate": 0.1, **_SEED},
        {"threshold": 0.2, "gate": 0.1, **_SEED},
        {**_GATE, **_SEED},
        *({**_GATE, "boost": 0.5, "distance": distance} for distance in (0.6, 0.7)),
        *({**_GATE, **_SEED, "boost": 0.0, **other} for other in _OTHER),
    ),
    "foris-regions": tuple({**_GATE, "boost": 0.5, "region_tau": tau} for tau in (0.3, 0.45)),
}


def candidates(form: str) -> list[Setting]:
    """Return the settings of a form that ``choose`` compares."""
    return [Setting(form, changes) for changes in VARIED[form]]


def episodes(pictures: Pictures, options: argparse.Namespace) -> Iterator[tuple[int, int, int, list[int]]]:
    """Draw the episodes, class after class, again and again: number, class, query, supports."""
    one_query = {"queries": 1, "episodes": options.episodes, "min_pixels": options.min_pixels, "seed": options.seed}
    drawn = [
        (number, label, queries[0], supports)
        for shots in options.shots
        for label, number, supports, queries in draw(pictures, argparse.Namespace(**one_query, shots=shots))
    ]
    yield from sorted(drawn, key=lambda entry: entry[:2])


def settings_of(options: argparse.Namespace, encoder: str, label: int) -> list[Setting]:
    """Return the settings that are measured in the episodes of a class."""
    if not options.choices:
        return [one for form in options.forms for one in candidates(form)]
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


def measured_in(options: argparse.Namespace, encoder: str, label: int, number: int) -> list[Setting]:
    """Return the settings that are measured in an episode of a class, given its number."""
    most = {name: int(count) for name, _, count in (one.partition("=") for one in options.most)}
    settings = [*settings_of(options, encoder, label), *map(Setting, options.others)]
    return [one for one in settings if number < most.get(one.refinement, number + 1)]


def measure(options: argparse.Namespace, known: set[tuple[int, int, int]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each episode, except for the known ones: number of supports, class, and its own number."""
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
    drawn = [one for one in episodes(pictures, options) if (len(one[3]), one[1], one[0]) not in known]
    for number, label, query, supports in track(drawn, len(drawn), "heads", "episode"):
        bank.load({query, *supports})
        shown = tuple(bank.support(image, label) for image in supports)
        prototypes = torch.stack([one.prototypes for one in shown]).mean(0)
        start = time.process_time()
        rough = match_many(bank[query], prototypes[None], bundle.record.scale)[0]
        spent = {MATCHING: time.process_time() - start}
        case = Case(options.seed, number * 100 + label, query, label, tuple(supports))
        task = RefinementTask(case, shown, bank[query], rough, bundle.record.scale, bank.side_inputs)
        facts = {"encoder": bundle.record.arch, "list": options.list, "shots": len(supports), "class": label}
        facts |= {"fold": fold_of(label), "episode": number, "query": pictures.ids[query]}
        logits, timed = {MATCHING: rough[1] - rough[0]}, number < options.timed
        for setting in measured_in(options, bundle.record.arch, label, number):
            if not timed and setting.name == CLOSED_FORM:
                logits[setting.name] = remembering.refine(task).logits
                continue
            refiner = setting.refiner()
            if setting.refinement.endswith("-regions"):
                for image in (query, *supports):
                    bank.regions(image, 0.5)  # hierarchies are built once per picture, and not timed here
            start = time.process_time()
            logits[setting.name] = refiner.refine([task])[0].logits
            spent[setting.name] = time.process_time() - start
        counts = count_pixels(bank.grid, torch.stack(list(logits.values())), pictures.mask(query), label)
        yield [
            {**facts, "setting": name, **own, "cpu_ms": f"{1e3 * spent[name]:.1f}" if timed else ""}
            for name, own in zip(logits, counts, strict=True)
        ]


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


Rows = list[dict[str, str]]
Key = tuple[str, int]  # encoder and number of supports


def read(paths: Sequence[Path]) -> dict[Key, Rows]:
    """Read rows of several files, by encoder and number of supports, ResNet-18 first."""
    groups: dict[Key, Rows] = {}
    for path in paths:
        with path.open(encoding="utf8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                groups.setdefault((row["encoder"], int(row["shots"])), []).append(row)
    return {key: groups[key] for key in sorted(groups)}


def by_setting(rows: Rows) -> dict[str, Rows]:
    """Return the rows of each setting, in their order."""
    own: dict[str, Rows] = {}
    for row in rows:
        own.setdefault(row["setting"], []).append(row)
    return own


class Scores:
    """Scores of several settings on the same episodes, for the episodes themselves and for resampled queries.

    Parameters
    ----------
    rows
        Rows of each setting, of the same episodes.
    seed
        Seed of the resampling; 0 draws for the scores alone.
    draws
        Number of resamplings.
    """

    def __init__(self, rows: Mapping[str, Rows], draws: int = DRAWS, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        first = next(iter(rows.values()))
        self.labels = sorted({int(row["class"]) for row in first})
        sums: dict[str, list[NDArray[np.float64]]] = {name: [] for name in rows}  # (1 + draws, 4) per class
        for label in self.labels:
            queries = sorted({row["query"] for row in first if int(row["class"]) == label})
            times = rng.multinomial(len(queries), np.full(len(queries), 1 / len(queries)), draws)
            times = np.concatenate([np.ones((1, len(queries)), np.int64), times])
            number = {query: place for place, query in enumerate(queries)}
            for name, part in rows.items():
                counts = np.zeros((len(queries), len(COUNTS)))
                for row in part:
                    if int(row["class"]) == label:
                        counts[number[row["query"]]] += [int(row[column]) for column in COUNTS]
                sums[name].append(times @ counts)
        self._sums = {name: np.stack(part) for name, part in sums.items()}  # (classes, 1 + draws, 4)

    def miou(self, name: str) -> NDArray[np.float64]:
        """Return mIoU in percent, (1 + draws,): of the episodes, then of the resamplings."""
        sums = self._sums[name]
        return np.asarray(100 * (sums[..., 0] / sums[..., 1]).mean(0))

    def fb_iou(self, name: str) -> float:
        """Return FB-IoU in percent: the mean over folds of the mean of foreground and background."""
        folds = [[place for place, label in enumerate(self.labels) if fold_of(label) == fold] for fold in range(FOLDS)]
        sums = np.stack([self._sums[name][part, 0].sum(0) for part in folds if part])
        return float(100 * (sums[:, [0, 2]] / sums[:, [1, 3]]).mean())

    def gain(self, name: str, other: str, digits: int = 1) -> str:
        """Return the difference of mIoU with its 95 % interval."""
        gains = self.miou(name) - self.miou(other)
        low, high = np.percentile(gains[1:], [2.5, 97.5])
        return f"{gains[0]:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def class_scores(rows: Rows) -> NDArray[np.float64]:
    """Return the IoU of each class in percent."""
    sums: dict[int, NDArray[np.float64]] = {}
    for row in rows:
        counts = np.array([int(row[column]) for column in COUNTS[:2]], np.float64)
        sums[int(row["class"])] = sums.get(int(row["class"]), np.zeros(2)) + counts
    return np.array([100 * inter / union for _, (inter, union) in sorted(sums.items())])


def pseudo_scores(groups: Mapping[Key, Rows]) -> dict[str, NDArray[np.float64]]:
    """Return the IoU (20,) of each setting on training images, averaged over numbers of supports."""
    per_group = [{name: class_scores(part) for name, part in by_setting(rows).items()} for rows in groups.values()]
    return {name: np.mean([one[name] for one in per_group], 0) for name in per_group[0]}


def choose(groups: Mapping[Key, Rows]) -> dict[str, list[str]]:
    """Choose the settings of an encoder, by form and fold: the best ones on training images for the other folds.

    Parameters
    ----------
    groups
        Rows of the encoder on training images.
    """
    scores = pseudo_scores(groups)
    folds = np.array([fold_of(label) for label in range(1, CLASSES + 1)])
    return {
        form: [
            max((one.name for one in candidates(form)), key=lambda name: float(scores[name][folds != fold].mean()))
            for fold in range(FOLDS)
        ]
        for form in FORMS
    }


def train_table(groups: Mapping[Key, Rows], choices: Mapping[str, Mapping[str, Sequence[str]]]) -> list[str]:
    """Return the table of all candidates on training images."""
    encoders = list(dict.fromkeys(encoder for encoder, _ in groups))
    titles = [f"{ENCODERS.get(encoder, encoder)}, {shots}-shot" for encoder, shots in groups]
    titles += [f"folds, {ENCODERS.get(encoder, encoder)}" for encoder in encoders]
    lines = [f"| setting | {' | '.join(titles)} |", "|" + (len(titles) + 1) * "---|"]
    scores = [{name: class_scores(part).mean() for name, part in by_setting(rows).items()} for rows in groups.values()]
    for name in scores[0]:
        cells = [f"{part[name]:.1f}" for part in scores]
        for encoder in encoders:
            chosen = choices[encoder].values()
            cells.append(", ".join(str(fold) for fold in range(FOLDS) if any(name == one[fold] for one in chosen)))
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return lines


def score_table(rows: Rows) -> list[str]:
    """Return the table of one encoder and number of supports; a row per refinement.

    Scores are of all episodes of a refinement, differences of those that the other one has too.
    """
    own: dict[str, dict[tuple[str, str], dict[str, str]]] = {}
    for row in rows:
        own.setdefault(row["setting"].split()[0], {})[row["class"], row["episode"]] = row

    def beside(name: str, other: str) -> str:
        shared = own[name].keys() & own.get(other, {}).keys()
        if name == other or not shared:
            return ""
        both = {one: [row for key, row in own[one].items() if key in shared] for one in (name, other)}
        return Scores(both).gain(name, other)

    lines = [
        "| refinement | episodes | mIoU, % | FB-IoU, % | minus matching [95 %] | minus SROFB [95 %] | CPU ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, part in own.items():
        times = [float(row["cpu_ms"]) for row in part.values() if row["cpu_ms"]]
        spent = f"{np.median(times):.0f}" if times else ""
        scores = Scores({name: list(part.values())}, draws=1)
        cells = [f"`{name}`", f"{len(part)}", f"{scores.miou(name)[0]:.1f}", f"{scores.fb_iou(name):.1f}"]
        lines.append(f"| {' | '.join([*cells, beside(name, MATCHING), beside(name, SROFB), spent])} |")
    queries = len({(row["class"], row["query"]) for row in own[MATCHING].values()})
    per_fold = np.bincount([int(row["fold"]) for row in own[MATCHING].values()], minlength=FOLDS)
    missing = "" if SROFB in own else "; SROFB was not measured"
    lines += ["", f"{queries} queries of a class; {per_fold.min()} to {per_fold.max()} episodes per fold{missing}."]
    return lines


def sums_of(groups: Mapping[Key, Rows]) -> list[dict[str, Any]]:
    """Return the rows summed over the episodes of each class and setting."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in (row for rows in groups.values() for row in rows):
        facts = {name: row[name] for name in ("encoder", "list", "shots", "fold", "class", "setting")}
        total = found.setdefault(tuple(facts.values()), {**facts, "episodes": 0, **dict.fromkeys(COUNTS, 0)})
        total["episodes"] += 1
        for name in COUNTS:
            total[name] += int(row[name])
    return list(found.values())


def held_out(rows: Rows, chosen: Mapping[str, Sequence[str]]) -> Rows:
    """Return the rows of the settings that were chosen without the classes of the row, and of the other refinements."""
    kept = []
    for row in rows:
        form = row["setting"].split()[0]
        if form not in chosen or row["setting"] == chosen[form][fold_of(int(row["class"]))]:
            kept.append(row)
    return kept


def write_page(path: Path, options: argparse.Namespace) -> None:
    """Write the tables below the mark of the page; its text is written by hand."""
    choices = json.loads(options.choices.read_text(encoding="utf8"))
    train, val = read(options.train), read(options.val)
    lines = ["", "## Candidates on training images", "", *train_table(train, choices), ""]
    for (encoder, shots), rows in train.items():
        title = f"## Training images, settings chosen without the class: {ENCODERS.get(encoder, encoder)}, {shots}-shot"
        lines += [title, "", *score_table(held_out(rows, choices[encoder])), ""]
    for (encoder, shots), rows in val.items():
        lines += [f"## Validation images: {ENCODERS.get(encoder, encoder)}, {shots}-shot", "", *score_table(rows), ""]
    write_below(path, MARK, lines)
    for sums, groups in ((options.train_sums, train), (options.val_sums, val)):
        if sums:
            write_rows(sums, SUMS, sums_of(groups))


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
    own.add_argument("--episodes", type=int, default=8, help="episodes per class")
    own.add_argument("--most", nargs="*", default=[], metavar="NAME=N", help="a refinement in the first N of them only")
    own.add_argument("--timed", type=int, default=10**6, help="time the first N; later ones share work")
    own.add_argument("--seconds", type=float, default=np.inf, help="stop after this CPU time; run again to go on")
    own.add_argument("--min-pixels", type=int, default=1152)
    own.add_argument("--forms", nargs="*", choices=FORMS, default=FORMS)
    own.add_argument("--others", nargs="*", choices=list(REFINERS), default=["self-support", "closed-form"])
    own.add_argument("--choices", type=Path, help="measure the chosen settings instead of all candidates")
    own.add_argument("--memory-mb", type=int, default=2000, help="memory for features")
    own.add_argument("--features", type=Path, help="scratch folder for the features of this encoder; keeps all of them")
    own.add_argument("--device", default="cpu", help="cpu, cuda or auto; CPU times mean nothing on a GPU")
    own.add_argument("--seed", type=int, default=0)
    own.add_argument("--out", type=Path, required=True)
    chosen = commands.add_parser("choose")
    chosen.add_argument("rows", type=Path, nargs="+")
    chosen.add_argument("--out", type=Path, required=True)
    page = commands.add_parser("page")
    page.add_argument("--train", type=Path, nargs="+", required=True)
    page.add_argument("--val", type=Path, nargs="*", default=[])
    page.add_argument("--choices", type=Path, required=True)
    page.add_argument("--train-sums", type=Path, help="table of the sums over episodes that is written too")
    page.add_argument("--val-sums", type=Path, help="the same of validation images")
    page.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.command == "choose":
        groups = read(options.rows)
        chosen = json.loads(options.out.read_text(encoding="utf8")) if options.out.exists() else {}
        for encoder in dict.fromkeys(name for name, _ in groups):
            chosen[encoder] = choose({key: rows for key, rows in groups.items() if key[0] == encoder})
        options.out.write_text(json.dumps(chosen, indent=1) + "\n", encoding="utf8")
        return
    if options.command == "page":
        write_page(options.out, options)
        return
    torch.set_num_threads(1)
    before = [row for rows in read([options.out]).values() for row in rows] if options.out.exists() else []
    known = {(int(row["shots"]), int(row["class"]), int(row["episode"])) for row in before}
    with options.out.open("a", encoding="utf8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        if not before:
            writer.writeheader()
        for rows in measure(options, known):
            writer.writerows(rows)
            file.flush()
            if time.process_time() > options.seconds:
                break


if __name__ == "__main__":
    main()
