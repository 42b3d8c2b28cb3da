"""The component tables before and after, with training seeds in the intervals, as docs/results/training-seeds.md.

    python -m workflow join FOLDER FOLDER … --out seeds-of-voc          # in projects that trained with other seeds
    cp seeds-of-voc/results.tsv docs/results/training-seeds-voc-subset-cpu-results.tsv           # and comparisons.tsv
    python -m benchmarks.trainingseeds --out docs/results/training-seeds.md

Reads, for every section of the document, the joined tables of `workflow join` and, if there is one, the earlier table
of a single training seed, all in docs/results; a section without joined tables is left out. Trains nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import pandas as pd

from benchmarks.camclassifier.tables import seeds_section
from novelseg.core import commands
from novelseg.core.files import whole_file
from novelseg.core.numbers import fixed
from novelseg.evaluation.comparisons import MEAN
from novelseg.formats import tables
from novelseg.formats.comparisons import COMPARISONS
from novelseg.formats.protocol import caution
from novelseg.formats.repetitions import ALL, SEED_COMPARISONS, SEED_SCORES
from novelseg.formats.results import SCORES
from workflow.results import markdown_grid

FOLDER = Path("docs/results")
FACTS = ("source", "train_list", "val_list", "novel_images", "folds", "min_object_pixels", "resolution", "weights")


@dataclass(frozen=True)
class Section:
    """A section of the document.

    Attributes
    ----------
    title
        Its title.
    after
        Beginning of the names of the joined tables.
    settings
        What differs from the preset, as a phrase.
    before
        Beginning of the names of the earlier tables; empty if there are none.
    earlier
        What is different in the earlier tables, as a phrase.
    """

    title: str
    after: str
    settings: str
    before: str = ""
    earlier: str = ""


SECTIONS = (
    Section(
        "voc-subset-cpu: photographs",
        "training-seeds-voc-subset-cpu",
        "the preset with `plan.folds: [0, 1]`, `plan.shots: [1]`, `plan.seeds: [0, 1]` and `plan.cam: false`; "
        "`srofb.feature_norm` is 8",
        "voc-subset-cpu",
        "one training seed (0), four folds, raw features in SROFB (`srofb.feature_norm: 0`)",
    ),
    Section("demo: built-in drawings", "training-seeds-demo", "the preset as it is"),
)
CAM_BEFORE, CAM_AFTER = "voc-subset-cpu-cam", "cam-classifier-ablation"
CAM_VARIANTS = ("pretrained", "cam", "cam-map-only")
CAM_TEXT = """\
*Before*: [voc-subset-cpu-cam.md](voc-subset-cpu-cam.md), one training seed, a classifier that was hardly trained, 1,000
episodes per fold. *After*: rows of the ablation in [cam-classifier.md](cam-classifier.md#training-seeds), a trained
classifier, 200 other episodes per fold, so that single scores of both do not compare. `cam, map` is `cam`.
"""
INTRODUCTION = """\
# Component tables with several training seeds

Written by `python -m benchmarks.trainingseeds`; what follows from the tables is in
[effect-of-each-component.md](effect-of-each-component.md). The trainings are repetitions with other seeds
(`baseline.seed` and `train.seed`), on the same images, regions and episodes; corpus, prototypes and pseudo labels are
made anew by each Baseline. `python -m workflow study seeds --grid "0 1 2"` runs such repetitions and joins their tables
([studies.md](../studies.md#training-seeds)). The CAM prior (method B) has the last
section.

*One seed*: mIoU with a 95 % bootstrap interval over query images. *All seeds*: the mean ± the deviation between
training seeds (n − 1), with a 95 % interval over query images and training seeds: a sample draws both with replacement,
independently of each other, and every drawn seed is scored on the same drawn queries. Three seeds tell little about
their own deviation, and the bootstrap of three has on average two thirds of the variance of their mean: the single
seeds stand beside the interval. Differences are paired over the same queries and seeds.
"""


def _interval(row: dict[Any, Any], value: str, form: str) -> str:
    low, high = (fixed(row[f"{value}_{end}"], form) for end in ("low", "high"))
    return f"{fixed(row[value], form)} [{low}, {high}]"


def _all_seeds(row: dict[Any, Any], value: str, form: str) -> str:
    score, _, interval = _interval(row, value, form).partition(" ")
    return f"{score} ± {row['training_std']:.1f} {interval}"


def _table(joined: pd.DataFrame, before: pd.DataFrame | None, value: str, form: str, names: list[str]) -> Iterator[str]:
    """Yield the lines of a table with one row per fold, number of supports and variant, or pair of variants."""
    keys = ["fold", "shot", *names]
    earlier: dict[tuple[Any, ...], str] = {}
    if before is not None:  # a mean over other folds does not compare
        rows = before[before["fold"] != MEAN].to_dict("records")
        earlier = {tuple(row[key] for key in keys): _interval(row, value, form) for row in rows}
    seeds = [name for name in joined["training"].unique() if name != ALL]
    single = {(row["training"], *(row[key] for key in keys)): row for row in joined.to_dict("records")}
    lines = []
    for row in joined[joined["training"] == ALL].to_dict("records"):
        key = tuple(row[name] for name in keys)
        cells = [earlier.get(key, "–")] if before is not None else []
        cells += [_all_seeds(row, value, form), *(_interval(single[seed, *key], value, form) for seed in seeds)]
        lines.append([*map(str, key), *cells])
    head = [*keys, *(["before"] if before is not None else []), "all seeds", *(f"seed {seed}" for seed in seeds)]
    yield from markdown_grid(head, lines)


def section_lines(section: Section, folder: Path) -> Iterator[str]:
    """Yield the lines of a section; none if its joined tables are missing."""
    if not (folder / f"{section.after}-results.tsv").exists():
        return
    scores = tables.read(folder / f"{section.after}-results.tsv", SEED_SCORES)
    gains = tables.read(folder / f"{section.after}-comparisons.tsv", SEED_COMPARISONS)
    first = scores.iloc[0]
    yield from (f"## {section.title}", "")
    yield from (f"* {name}: {first[name]}" for name in FACTS)
    counts = (
        scores[(scores["training"] == ALL) & (scores["fold"] != MEAN)].groupby("shot")[["episodes", "seeds"]].first()
    )
    yield from (f"* {k}-shot: {row.episodes} episodes per fold, {row.seeds} list(s)" for k, row in counts.iterrows())
    yield from (*wrap(f"* settings: {section.settings}", 118, subsequent_indent="  ", break_on_hyphens=False), "")
    old_scores = old_gains = None
    if section.before:
        old_scores = tables.read(folder / f"{section.before}-results.tsv", SCORES)
        old_gains = tables.read(folder / f"{section.before}-comparisons.tsv", COMPARISONS)
        old = old_scores[old_scores["shot"].isin(counts.index) & (old_scores["fold"] != MEAN)].iloc[0]
        lists = "the same lists of images" if _same_lists(old, first) else "other lists of images"
        text = (
            f"*Before*: [{section.before}.md]({section.before}.md): {section.earlier}, {old['episodes']} episodes per "
            f"fold in {old['seeds']} lists, {lists}; its intervals are over query images alone."
        )
        yield from (*wrap(text, 120, break_long_words=False, break_on_hyphens=False), "")
    yield from ("### mIoU, %", "")
    yield from _table(scores, old_scores, "miou", ".1f", ["variant"])
    yield from ("### Effect of each component, points of mIoU", "")
    yield from _table(gains, old_gains, "gain", "+.1f", ["variant", "reference"])
    if text := caution(str(first["source"])):
        yield from (*wrap(text, 120), "")


def cam_lines(folder: Path) -> Iterator[str]:
    """Yield the lines of the CAM prior's section; none if the rows of its ablation are missing."""
    rows = folder / f"{CAM_AFTER}.tsv"
    if not rows.exists():
        return
    frame = pd.read_csv(rows, sep="\t", dtype={"query": str})
    repeated = frame.loc[frame["seed"] != frame["seed"].min(), "fold"].astype(str).unique()
    yield from ("## voc-subset-cpu: CAM prior (method B)", "", *wrap(CAM_TEXT, 120, break_on_hyphens=False), "")
    old = tables.read(folder / f"{CAM_BEFORE}-results.tsv", SCORES)
    old = old[(old["shot"] == 1) & old["fold"].isin(repeated) & old["variant"].isin(CAM_VARIANTS)]
    yield from ("### Before", "")
    head = ["fold", "variant", "mIoU, %", "FB-IoU, %"]
    yield from markdown_grid(
        head,
        [
            [row["fold"], row["variant"], _interval(row, "miou", ".1f"), f"{row['fb_iou']:.1f}"]
            for row in old.to_dict("records")
        ],
    )
    yield from ("### After", "", *seeds_section(frame))


def _same_lists(one: pd.Series[Any], two: pd.Series[Any]) -> bool:
    return all(one[name] == two[name] for name in ("train_list", "val_list", "folds", "min_object_pixels", "weights"))


def document(folder: Path = FOLDER) -> str:
    """Return the document."""
    lines = [INTRODUCTION]
    for section in SECTIONS:
        lines += section_lines(section, folder)
    lines += cam_lines(folder)
    return "\n".join(lines).rstrip() + "\n"


def main(argv: list[str] | None = None) -> int:
    """Write the document."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trainingseeds", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of the tables (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=FOLDER / "training-seeds.md", help="(default: %(default)s)")
    options = parser.parse_args(argv)

    def action() -> None:
        with whole_file(options.out) as scratch:
            scratch.write_text(document(options.folder), encoding="utf8")

    return commands.run("benchmarks trainingseeds", action)


if __name__ == "__main__":
    sys.exit(main())
