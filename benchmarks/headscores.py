"""Scores of the training-free heads from the rows of their benchmark: paired intervals, tables, and the page."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.headsettings import COUNTS, FOLDS, HALVINGS, Key, Race, Rows, fold_of
from benchmarks.tables import markdown, read_rows, write_below, write_rows
from benchmarks.untrained import CLASSES
from novelseg.methods.variants import CLOSED_FORM, MATCHING

SUMS = ("encoder", "list", "shots", "fold", "class", "setting", "episodes", *COUNTS)
SROFB = "srofb"
MARK = "<!-- written by `python -m benchmarks.heads page` -->"
DRAWS, FEW = 2000, 4
LEADERS = "encoder", "supports", "training images", "validation images"
COMPARED = MATCHING, SROFB, CLOSED_FORM
SCORES = (
    *("refinement", "episodes", "mIoU, %", "FB-IoU, %"),
    *("minus matching [95 %]", "minus SROFB [95 %]", "minus closed-form [95 %]", "CPU ms"),
)
ENCODERS = {"resnet18": "ResNet-18", "resnet50": "ResNet-50"}


def read(paths: Sequence[Path]) -> dict[Key, Rows]:
    """Read rows of several files, by encoder and number of supports, ResNet-18 first.

    What one refinement has reached in an episode is taken from the first file that has it.
    """
    groups: dict[Key, dict[tuple[str, ...], dict[str, str]]] = {}
    for path in paths:
        for row in read_rows(path):
            group = groups.setdefault((row["encoder"], int(row["shots"])), {})
            group.setdefault((row["list"], row["class"], row["episode"], row["setting"]), row)
    return {key: list(groups[key].values()) for key in sorted(groups)}


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
        pairs = sorted({(int(row["class"]), row["query"]) for row in next(iter(rows.values()))})
        queries: dict[int, dict[str, int]] = {}  # class to query to its number
        for label, query in pairs:
            queries.setdefault(label, {})[query] = len(queries.get(label, {}))
        self.labels = list(queries)
        counts = {name: {label: np.zeros((len(queries[label]), len(COUNTS))) for label in self.labels} for name in rows}
        for name, part in rows.items():
            for row in part:
                label = int(row["class"])
                counts[name][label][queries[label][row["query"]]] += [int(row[column]) for column in COUNTS]
        sums: dict[str, list[NDArray[np.float64]]] = {name: [] for name in rows}  # (1 + draws, 4) per class
        for label in self.labels:
            many = len(queries[label])
            times = rng.multinomial(many, np.full(many, 1 / many), draws)
            times = np.concatenate([np.ones((1, many), np.int64), times])
            for name, own_sums in sums.items():
                own_sums.append(times @ counts[name][label])
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


def train_table(groups: Mapping[Key, Rows], choices: Mapping[str, Mapping[str, Sequence[str]]]) -> list[str]:
    """Return the table of all candidates on training images.

    It gives the mean IoU in the first episodes, which all candidates have, in all episodes if the candidate has them,
    and the folds for whose classes it was chosen.
    """
    columns: dict[str, dict[str, str]] = {}
    for (encoder, shots), rows in groups.items():
        race, every = Race([shots]), by_setting(rows)
        race.add(rows)
        total = len(every[MATCHING])
        for most, episodes in ((HALVINGS[0], HALVINGS[0] * CLASSES), (None, total)):
            scores = {name: race.score(name, range(1, CLASSES + 1), most) for name in every}
            cells = {name: f"{score:.1f}" for name, score in scores.items() if score is not None}
            complete = {name: cell for name, cell in cells.items() if most or len(every[name]) == total}
            columns.setdefault(f"{title_of(encoder)}, {shots}-shot, {episodes} episodes", complete)
    for encoder in dict.fromkeys(encoder for encoder, _ in groups):
        folds: dict[str, list[str]] = {}
        for own in choices[encoder].values():
            for fold, name in enumerate(own):
                folds.setdefault(name, []).append(str(fold))
        columns[f"folds, {title_of(encoder)}"] = {name: ", ".join(own) for name, own in folds.items()}
    names = dict.fromkeys(row["setting"] for rows in groups.values() for row in rows)
    table = [{"setting": f"`{name}`", **{title: own.get(name, "") for title, own in columns.items()}} for name in names]
    return markdown(("setting", *columns), table)


def title_of(encoder: str) -> str:
    """Return the name of an encoder in titles."""
    return ENCODERS.get(encoder, encoder)


class Group:
    """What the refinements have reached with one encoder and number of supports.

    Scores are of all episodes of a refinement, differences of those that the other one has too.

    Parameters
    ----------
    rows
        Rows with one setting of each refinement per episode.
    """

    def __init__(self, rows: Rows) -> None:
        self.own: dict[str, dict[tuple[str, str], dict[str, str]]] = {}
        for row in rows:
            self.own.setdefault(row["setting"].split()[0], {})[row["class"], row["episode"]] = row

    def gain(self, name: str, other: str) -> str:
        """Return the difference of two refinements with its interval; empty if they share no episode."""
        shared = self.own[name].keys() & self.own.get(other, {}).keys()
        if name == other or not shared:
            return ""
        both = {one: [row for key, row in self.own[one].items() if key in shared] for one in (name, other)}
        return Scores(both).gain(name, other)

    def table(self) -> list[str]:
        """Return a table with a row per refinement, and a line on the episodes."""
        rows = []
        for name, part in self.own.items():
            times = [float(row["cpu_ms"]) for row in part.values() if row["cpu_ms"]]
            scores = Scores({name: list(part.values())}, draws=1)
            values = (f"{len(part)}", f"{scores.miou(name)[0]:.1f}", f"{scores.fb_iou(name):.1f}")
            gains = [self.gain(name, other) for other in COMPARED]
            cells = (f"`{name}`", *values, *gains, f"{np.median(times):.0f}" if times else "")
            rows.append(dict(zip(SCORES, cells, strict=True)))
        every = self.own[MATCHING].values()
        queries = len({(row["class"], row["query"]) for row in every})
        different = len({(row["class"], row["query"], row["supports"]) for row in every})
        per_fold = np.bincount([int(row["fold"]) for row in every], minlength=FOLDS)
        notes = "" if SROFB in self.own else " SROFB was not measured."
        if queries < FEW * CLASSES:
            notes += f" With fewer than {FEW} queries per class to draw from, the intervals are too narrow."
        return [
            *markdown(SCORES, rows),
            "",
            f"{per_fold.min()} to {per_fold.max()} episodes per fold; {different} of the {len(every)} episodes are "
            f"different; {queries} pairs of class and query.{notes}",
        ]

    def gains(self) -> dict[str, str]:
        """Return what each refinement gains over matching, with intervals."""
        gains = {name: self.gain(name, MATCHING) for name in self.own}
        return {name: gain for name, gain in gains.items() if gain}


def leaders(gains: Mapping[str, str]) -> str:
    """Return the two refinements that gain most, with their gains."""
    order = sorted(gains, key=lambda name: -float(gains[name].split()[0]))
    return ", ".join(f"`{name}` {gains[name]}" for name in order[:2])


def leaders_table(train: Mapping[Key, Group], val: Mapping[Key, Group]) -> list[str]:
    """Return the table of the refinements that gain most over matching.

    Its last row has the mean over all cases of training images, from which the default of ``segment`` follows.
    """
    rows = []
    every = {
        name: {key: group.gains() for key, group in groups.items()} for name, groups in (("train", train), ("val", val))
    }
    for encoder, shots in sorted(train.keys() | val.keys()):
        cells = [leaders(own.get((encoder, shots), {})) for own in every.values()]
        rows.append(dict(zip(LEADERS, (title_of(encoder), shots, *cells), strict=True)))
    cases = list(every["train"].values())
    shared = [name for name in cases[0] if all(name in own for own in cases)]
    means = {name: float(np.mean([float(own[name].split()[0]) for own in cases])) for name in shared}
    mean = leaders({name: f"{value:+.1f}" for name, value in means.items()})
    rows.append(dict(zip(LEADERS, ("mean of these", "", mean, ""), strict=True)))
    return markdown(LEADERS, rows)


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


def write_page(options: argparse.Namespace) -> None:
    """Write the tables below the mark of the page; its text is written by hand."""
    choices = json.loads(options.choices.read_text(encoding="utf8"))
    train = {key: Group(held_out(rows, choices[key[0]])) for key, rows in read(options.train).items()}
    val = {key: Group(rows) for key, rows in read(options.val).items()}
    lines = ["## The two that gain most over matching", "", *leaders_table(train, val), ""]
    lines += ["## Candidates on training images", "", *train_table(read(options.train), choices), ""]
    for (encoder, shots), group in train.items():
        title = f"## Training images, settings chosen without the class: {title_of(encoder)}, {shots}-shot"
        lines += [title, "", *group.table(), ""]
    for (encoder, shots), group in val.items():
        lines += [f"## Validation images: {title_of(encoder)}, {shots}-shot", "", *group.table(), ""]
    write_below(options.out, MARK, lines)
    if options.val_sums:
        write_rows(options.val_sums, SUMS, sums_of(read(options.val)))
