"""SROFB under many settings on the same episodes of a VOC folder, with untrained ImageNet weights.

    python -m benchmarks.refinement measure --voc $NOVELSEG_DATA/voc-subset --list train --weights FILE --out FILE.tsv
    python -m benchmarks.refinement table FILE.tsv …

Supports and query of an episode are drawn from one list; nothing is trained, so that no class is a base class and all
are pseudo-novel on the training list. ``measure`` writes a row per episode and setting: counts of pixels, CPU
milliseconds of the refinement, and how many of the confident cells are right. The same episodes are drawn for every
encoder. ``table`` prints, for each encoder, number of supports and list, mIoU with the paired difference from matching
and from a reference, and the gain by the precision of the confident cells; 95 % intervals are over episodes.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.untrained import Pictures, draw
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.core.labels import VOID, binary
from novelseg.core.progress import track
from novelseg.inference.bundle import pretrained_bundle
from novelseg.methods.bank import SupportBank
from novelseg.methods.chain import Chain
from novelseg.methods.confident import confident_cells
from novelseg.methods.contract import Case, RefinementTask, Refiner
from novelseg.methods.matching.prototypes import match_many
from novelseg.methods.refiners import REFINERS, RefinerSettings
from novelseg.methods.srofb.refiner import SrofbRefiner
from novelseg.methods.srofb.settings import SrofbSettings

COLUMNS = (
    *("encoder", "list", "shots", "seed", "class", "episode", "query", "setting", "intersection", "union", "cpu_ms"),
    *("fg_cells", "fg_right", "bg_cells", "bg_right", "mean_norm"),
)
MATCHING, ORACLE, DRAWS = "matching", "true labels at the confident cells", 2000
PAPER = {"class_balance": "balanced", "feature_norm": 0.0, "query_weight": "union", "support_steps": 0}


@dataclass(frozen=True)
class Setting:
    """One row of the tables.

    Attributes
    ----------
    name
        Its name.
    changes
        Settings of SROFB that differ from those before the feature norm; ``steps`` are those of any number of supports.
    with_query
        Whether the classifier learns from the query.
    before
        Refinements that come before SROFB, each of which starts from the result of the one before it.
    only
        Refinements that are measured instead of SROFB, in the same way, with the library's defaults.
    oracle
        Whether the confident cells get their true labels.
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    with_query: bool = True
    before: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    oracle: bool = False

    def refiner(self, shots: int) -> Refiner:
        """Build its refiner."""
        if self.only:
            return Chain([REFINERS[name](RefinerSettings()) for name in self.only])
        changes = {**PAPER, **self.changes}
        steps = changes.pop("steps", 10 if shots == 1 else 100)
        settings = SrofbSettings(**changes, steps_one_shot=steps, steps_many_shots=steps)
        srofb = SrofbRefiner(settings, with_query=self.with_query)
        return Chain([*(REFINERS[name](RefinerSettings(srofb=settings)) for name in self.before), srofb])


def grid(steps: tuple[int, ...], norms: tuple[float, ...], pairs: tuple[tuple[int, float], ...]) -> Iterator[Setting]:
    """Yield steps on raw features, norms at the fewest steps, and pairs, without and with the query."""
    yield from cells((*((n, 0.0) for n in steps), *((steps[0], norm) for norm in norms), *pairs))


def cells(pairs: tuple[tuple[int, float], ...]) -> Iterator[Setting]:
    """Yield pairs of steps and norm, without and with the query."""
    for with_query in (False, True):
        for count, norm in pairs:
            name = f"{'with the query' if with_query else 'support only'}, {count} steps, norm {norm or 'raw'}"
            yield Setting(name, {"steps": count, "feature_norm": norm}, with_query)


def variations(steps: int, norm: float) -> Iterator[Setting]:
    """Yield changes of one setting at a time around ``steps`` and ``norm``."""
    base: dict[str, Any] = {"steps": steps, "feature_norm": norm}
    half = max(1, steps // 2)
    yield Setting("query weighs as an image", {**base, "query_weight": "image"})
    yield Setting("query weighs half", {**base, "query_weight": "half"})
    yield Setting(f"{half} steps on the supports, then {half}", {**base, "support_steps": half, "steps": half})
    yield Setting(f"{steps} steps on the supports, then {steps}", {**base, "support_steps": steps})
    yield Setting("class_balance none", {**base, "class_balance": "none"})
    yield Setting("class_balance none, support only", {**base, "class_balance": "none"}, with_query=False)
    yield Setting(ORACLE, base, oracle=True)
    for name in ("self-support", "closed-form"):
        yield Setting(name, only=(name,))
        yield Setting(f"{name}, then SROFB", base, before=(name,))
        yield Setting(f"{name}, then SROFB, query half", {**base, "query_weight": "half"}, before=(name,))
    yield Setting("closed-form, then self-support", only=("closed-form", "self-support"))
    yield Setting("SROFB, then SROFB", base, before=("srofb",))
    for fg in (0.6, 0.7, 0.8):
        for bg in (0.5, 0.6, 0.7):
            if (fg, bg) != (0.7, 0.6):
                yield Setting(f"thresholds {fg} and {bg}", {**base, "tau_fg": fg, "tau_bg": bg})


def thresholds(steps: int, norm: float) -> Iterator[Setting]:
    """Yield pairs of thresholds around lower ones, and chains and the query's weight at a lower one."""
    base: dict[str, Any] = {"steps": steps, "feature_norm": norm}
    for fg in (0.5, 0.6, 0.7):
        for bg in (0.5, 0.6, 0.7):
            yield Setting(f"norm {norm}, thresholds {fg} and {bg}", {**base, "tau_fg": fg, "tau_bg": bg})
    lower = {**base, "tau_fg": 0.6}
    yield Setting(f"norm {norm}, thresholds 0.6 and 0.6, query half", {**lower, "query_weight": "half"})
    for name in ("self-support", "closed-form", "srofb"):
        yield Setting(f"norm {norm}, thresholds 0.6 and 0.6, after {name}", lower, before=(name,))
    yield Setting("closed-form, then self-support", only=("closed-form", "self-support"))


def five_shot_long(steps: int) -> Iterator[Setting]:
    """Yield norms at the paper's number of steps with several supports, and changes of one setting at norm 8."""
    base: dict[str, Any] = {"steps": steps, "feature_norm": 8.0}
    yield from cells(((steps, 0.0), (steps, 8.0)))
    yield Setting(f"with the query, {steps} steps, norm 16.0", {**base, "feature_norm": 16.0})
    yield Setting(f"norm 8.0, {steps} steps, query half", {**base, "query_weight": "half"})
    yield Setting(f"norm 8.0, {steps} steps, thresholds 0.6 and 0.6", {**base, "tau_fg": 0.6})
    yield Setting(f"norm 8.0, {steps} steps, class_balance none", {**base, "class_balance": "none"})
    yield Setting(f"norm 8.0, {steps} steps, true labels", base, oracle=True)
    for name in ("self-support", "closed-form"):
        yield Setting(name, only=(name,))
        yield Setting(f"norm 8.0, {steps} steps, after {name}", base, before=(name,))
    yield Setting("closed-form, then self-support", only=("closed-form", "self-support"))


def before_and_after(steps: int) -> Iterator[Setting]:
    """Yield SROFB as it was before the feature norm, and every refinement with the library's defaults."""
    for with_query in (False, True):
        words = "with the query" if with_query else "support only"
        yield Setting(f"{words}, {steps} steps, norm raw", {"steps": steps}, with_query)
    for name in REFINERS:
        yield Setting(name, only=(name,))


STUDIES = {
    "one-shot": lambda: [*grid((10, 30, 100), (8.0, 16.0, 32.0), ((30, 16.0),)), *variations(10, 16.0)],
    "one-shot-short": lambda: [*grid((10, 30), (8.0, 16.0, 32.0), ()), *variations(10, 32.0)],
    "five-shot-long": lambda: list(five_shot_long(100)),
    "five-shot": lambda: [*grid((30, 100), (16.0, 32.0), ()), *variations(30, 16.0)],
    "thresholds": lambda: list(thresholds(10, 8.0)),
    "defaults-one-shot": lambda: list(before_and_after(10)),
    "defaults-five-shot": lambda: list(before_and_after(100)),
    "five-shot-short": lambda: [
        Setting("with the query, 100 steps, norm raw", {"steps": 100}),
        *grid((10, 30), (16.0, 32.0), ()),
        *variations(10, 16.0),
    ],
}


def with_true_labels(task: RefinementTask, truth: Tensor) -> RefinementTask:
    """Return an episode whose rough result is sure of the truth at the confident cells, and of nothing elsewhere."""
    values = SrofbSettings()
    chosen = confident_cells(
        task.rough[None], tau_fg=values.tau_fg, tau_bg=values.tau_bg, fallback_cells=values.fallback_cells
    )[0]
    sign = torch.where(truth == 1, 1.0, -1.0)
    sure = torch.where((chosen > 0) & (truth != VOID), 20.0, torch.where(truth != VOID, 1e-3, 0.0))
    return replace(task, rough=torch.stack([-sign * sure / 2, sign * sure / 2]))


def measure(options: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each episode."""
    pictures = Pictures(options.voc, options.list)
    bundle = pretrained_bundle(options.weights, options.stem)
    bank = SupportBank(
        FeatureExtractor(bundle.encoder, "fp32", torch.device("cpu")),
        *(pictures.size, pictures.image, pictures.mask),
        budget_mb=1500,
    )
    settings = [one for one in STUDIES[options.study]() if not any(word in one.name for word in options.skip)]
    if options.only:
        settings = [one for one in settings if one.name in options.only]
    refiners = {one.name: (one, one.refiner(options.shots)) for one in settings}
    drawn = sorted(
        draw(pictures, options), key=lambda entry: (entry[1], entry[0])
    )  # class after class, again and again
    first, last = options.parts
    for label, episode, supports, queries in track(drawn[first:last], len(drawn[first:last]), "refinement", "episode"):
        query = queries[0]
        bank.load({query, *supports})
        shown = tuple(bank.support(number, label) for number in supports)
        prototypes = torch.stack([one.prototypes for one in shown]).mean(0)
        rough = match_many(bank[query], prototypes[None], bundle.record.scale)[0]
        case = Case(options.seed, episode * 100 + label, query, label, tuple(supports))
        task = RefinementTask(case, shown, bank[query], rough, bundle.record.scale)
        full = pictures.mask(query)
        mask = torch.from_numpy(binary(full, label))
        cells = bank.grid.labels_at_cells(mask, (rough.shape[1], rough.shape[2]))
        norms = [one.features[:, one.labels != VOID].norm(dim=0).mean() for one in shown]
        facts = {"encoder": bundle.record.arch, "list": options.list, "shots": options.shots, "seed": options.seed}
        facts |= {"class": label, "episode": episode, "query": pictures.ids[query]}
        facts |= {"mean_norm": f"{float(sum(norms)) / len(norms):.2f}"}
        rows: list[dict[str, Any]] = [{**facts, "setting": MATCHING, "cpu_ms": 0}]
        rows[0] |= _counts(bank, rough[1] - rough[0], full, label)
        for name, (setting, refiner) in refiners.items():
            start = time.process_time()
            result = refiner.refine([with_true_labels(task, cells) if setting.oracle else task])[0]
            spent = {"cpu_ms": f"{1e3 * (time.process_time() - start):.1f}"}
            row = {**facts, "setting": name, **_counts(bank, result.logits, full, label), **spent}
            if result.confident is not None:
                for side, mark, value in (("bg", 1, 0), ("fg", 2, 1)):
                    chosen = (result.confident == mark) & (cells != VOID)
                    row |= {f"{side}_cells": int(chosen.sum()), f"{side}_right": int((cells[chosen] == value).sum())}
            rows.append(row)
        yield rows


def _counts(bank: SupportBank, logits: Tensor, truth: NDArray[np.uint8], label: int) -> dict[str, int]:
    """Count the pixels of intersection and union."""
    inside = (bank.grid.upsample(logits[None, None].float(), truth.shape)[0, 0].numpy() > 0) & (truth != VOID)
    return {"intersection": int((inside & (truth == label)).sum()), "union": int((inside | (truth == label)).sum())}


@dataclass(frozen=True)
class Measured:
    """Rows of one encoder, number of supports and list: those of each setting, in the same order of episodes."""

    rows: dict[str, list[dict[str, str]]]
    incomplete: list[str]
    scores: dict[str, NDArray[np.float64]]

    @staticmethod
    def of(rows: list[dict[str, str]], seed: int = 0) -> Measured:
        """Align the rows of each setting, and draw mIoU, %, of all episodes (first) and of resampled ones."""
        found: dict[str, dict[tuple[int, ...], dict[str, str]]] = {}
        for row in rows:
            found.setdefault(row["setting"], {})[_episode(row)] = row
        keys = sorted(found[MATCHING])
        own = {name: [part[key] for key in keys] for name, part in found.items() if part.keys() >= set(keys)}
        labels = np.unique([label for label, *_ in keys], return_inverse=True)[1]
        is_of = np.eye(labels.max() + 1)[labels]  # (episodes, classes)
        times = np.random.default_rng(seed).multinomial(len(keys), [1 / len(keys)] * len(keys), DRAWS)
        times = np.concatenate([np.ones_like(times[:1]), times])  # how often a draw has each episode
        scores = {}
        for name, part in own.items():
            inside, union = (times @ (is_of * [[int(row[side])] for row in part]) for side in ("intersection", "union"))
            drawn = np.maximum(1, (union > 0).sum(1))  # a draw may lack classes
            scores[name] = 100 * (inside / np.maximum(union, 1)).sum(1) / drawn
        return Measured(own, [name for name in found if name not in own], scores)

    def gain(self, name: str, other: str) -> str:
        """Return the difference of two settings with its interval, empty without the second or with itself."""
        if other not in self.scores or name in (MATCHING, other):
            return ""
        gain = self.scores[name] - self.scores[other]
        low, high = np.percentile(gain[1:], [2.5, 97.5])
        return f"{gain[0]:+.1f} [{low:+.1f}, {high:+.1f}]"

    def right(self, name: str) -> str:
        """Return the share of right cells among the confident ones, foreground and background."""
        if not self.rows[name][0]["fg_cells"]:
            return ""
        sums = {key: sum(int(row[key]) for row in self.rows[name]) for key in COLUMNS if key[:3] in ("fg_", "bg_")}
        return " / ".join(f"{100 * sums[f'{side}_right'] / max(1, sums[f'{side}_cells']):.0f}" for side in ("fg", "bg"))


def tables(rows: list[dict[str, str]], reference: str) -> Iterator[str]:
    """Yield the table of the settings that all episodes have, then those of settings that only some have."""
    waiting: list[str] = []
    while True:
        measured = Measured.of(rows)
        yield table(measured, reference, waiting)
        if not waiting and {reference, ORACLE} <= measured.rows.keys() and measured.rows[reference][0]["fg_cells"]:
            yield precision(measured, reference, ORACLE)
        if not measured.incomplete:
            return
        waiting = measured.incomplete
        kept = {_episode(row) for row in rows if row["setting"] == waiting[0]}
        rows = [row for row in rows if _episode(row) in kept]


def _episode(row: dict[str, str]) -> tuple[int, ...]:
    """Return what an episode's rows have in common."""
    return tuple(int(row[name]) for name in ("class", "seed", "episode"))


def table(measured: Measured, reference: str, only: list[str]) -> str:
    """Return the table of one encoder's settings; with ``only``, of these, matching and the reference."""
    rows = measured.rows[MATCHING]
    norm = np.mean([float(row["mean_norm"]) for row in rows])
    lines = [
        f"{rows[0]['encoder']}, {rows[0]['shots']}-shot, list `{rows[0]['list']}`: {len(rows)} episodes, "
        f"mean norm {norm:.1f}",
        "",
        f"| setting | mIoU, % | minus matching | minus “{reference}” | right cells, fg / bg, % | CPU ms |",
        "|---|---|---|---|---|---|",
    ]
    for name, own in measured.rows.items():
        if only and name not in (*only, MATCHING, reference):
            continue
        spent = np.median([float(row["cpu_ms"]) for row in own])
        gains = " | ".join(measured.gain(name, other) for other in (MATCHING, reference))
        lines.append(f"| {name} | {measured.scores[name][0]:.1f} | {gains} | {measured.right(name)} | {spent:.0f} |")
    return "\n".join(lines) + "\n"


def precision(measured: Measured, name: str, oracle: str) -> str:
    """Return the gain of a setting in three thirds of the episodes, by the precision of its foreground cells."""
    own = measured.rows[name]
    shares = [int(row["fg_right"]) / max(1, int(row["fg_cells"])) for row in own]
    lines = [
        f"| right foreground cells, % | episodes | matching, IoU % | {name} | {oracle} |",
        "|---|---|---|---|---|",
    ]
    for part in np.array_split(np.argsort(shares, kind="stable"), 3):
        cells = [f"{100 * shares[part[0]]:.0f}-{100 * shares[part[-1]]:.0f}", str(len(part))]
        for setting in (MATCHING, name, oracle):
            rows = [measured.rows[setting][number] for number in part]
            ious = [int(row["intersection"]) / max(1, int(row["union"])) for row in rows]
            cells.append(f"{100 * np.mean(ious):.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def read(paths: list[Path]) -> dict[tuple[str, str, str], list[dict[str, str]]]:
    """Read rows of several files, by encoder, shots and list."""
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for path in paths:
        with path.open(encoding="utf8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                groups.setdefault((row["encoder"], row["shots"], row["list"]), []).append(row)
    return groups


def main() -> None:
    """Measure, or print the tables of measured rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    own = commands.add_parser("measure")
    own.add_argument("--voc", type=Path, required=True)
    own.add_argument("--list", default="train")
    own.add_argument("--weights", required=True)
    own.add_argument("--stem", default="")
    own.add_argument("--shots", type=int, default=1)
    own.add_argument("--episodes", type=int, default=5, help="episodes per class")
    own.add_argument("--parts", type=int, nargs=2, default=(0, 10**6), help="first episode, and the one after the last")
    own.add_argument("--min-pixels", type=int, default=1152)
    own.add_argument("--study", choices=STUDIES, default="one-shot")
    own.add_argument("--skip", nargs="*", default=[], help="leave out settings whose name contains one of these")
    own.add_argument("--only", nargs="*", default=[], help="measure only the settings of these names")
    own.add_argument("--seed", type=int, default=0)
    own.add_argument("--out", type=Path, required=True)
    shown = commands.add_parser("table")
    shown.add_argument("rows", type=Path, nargs="+")
    shown.add_argument("--reference", default="with the query, 10 steps, norm raw")
    options = parser.parse_args()
    if options.command == "table":
        for rows in read(options.rows).values():
            print("\n".join(tables(rows, options.reference)))
        return
    options.queries = 1
    torch.set_num_threads(1)
    with options.out.open("w", encoding="utf8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n", restval="")
        writer.writeheader()
        for rows in measure(options):  # an interrupted run leaves whole episodes
            writer.writerows(rows)
            file.flush()


if __name__ == "__main__":
    main()
