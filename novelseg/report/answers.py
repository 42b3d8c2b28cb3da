"""The report's first screen: what was asked, what came out, where to look, and how reliable the numbers are."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any
from urllib.parse import quote

import pandas as pd

from novelseg.core.numbers import fixed
from novelseg.evaluation.comparisons import MEAN
from novelseg.formats.protocol import caution
from novelseg.methods.variants import VARIANTS

Row = dict[Hashable, Any]
DATA = {
    "scenes": "the built-in drawings",
    "voc": "images in VOC's layout",
    "voc+sbd": "images of VOC and SBD",
    "coco": "images in COCO's layout",
}
ONE_TRAINING = (
    "Each network was trained once: the intervals cover the choice of test images, not the variation from one training "
    "to the next. Published numbers are comparable only under the same protocol."
)
NO_DIFFERENCE = "no difference shown"
FEW_EPISODES = 20  # of a class; its IoU says little
LOW_IOU = 5.0  # per cent; such a score is more often a fault than a result
MOST_CLASSES = 6  # that a sentence names
MOST_ODD = 4  # suspicious rows that are listed


@dataclass(frozen=True)
class Answer:
    """A question of a newcomer and its answer.

    Attributes
    ----------
    question
        The question.
    sentences
        Sentences with the answer.
    links
        Texts and addresses within the page that lead on.
    """

    question: str
    sentences: list[str]
    links: list[tuple[str, str]]


def verdict(low: float, high: float) -> str:
    """Say what the interval of a gain shows, as it is printed: with one digit."""
    return "better" if round(low, 1) > 0 else "worse" if round(high, 1) < 0 else NO_DIFFERENCE


def summary_fold(table: pd.DataFrame) -> str:
    """Return the fold that summarises the table: the mean over folds, or the first fold if there is no mean."""
    return MEAN if (table["fold"] == MEAN).any() else str(table["fold"].iloc[0])


def supports(shot: int) -> str:
    """Return a number of supports as words."""
    return f"{shot} support{'s' if shot > 1 else ''}"


def _listed(names: list[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def answers(table: pd.DataFrame, classes: pd.DataFrame, comparisons: pd.DataFrame) -> list[Answer]:
    """Answer the four questions from the tables of the report.

    Parameters
    ----------
    table, classes, comparisons
        Tables of scores, of scores per class, and of comparisons.
    """
    fold = summary_fold(table)
    scores, gains = table[table["fold"] == fold], comparisons[comparisons["fold"] == fold]
    shots = sorted(int(shot) for shot in scores["shot"].unique())
    best = {shot: _best(scores[scores["shot"] == shot]) for shot in shots}
    worth = caution(str(table["source"].iloc[0])) or ONE_TRAINING
    outcome = [text for shot in shots for text in _outcome(shot, scores, gains[gains["shot"] == shot])]
    return [
        Answer("What was asked?", [_asked(scores, table, classes, shots)], []),
        Answer("What came out?", outcome, [("all scores", "#results"), ("all comparisons", "#components")]),
        _where(scores, gains, classes, best, shots),
        Answer("What are the numbers worth?", [worth], []),
    ]


def _best(scores: pd.DataFrame) -> Row:
    return max(scores.to_dict("records"), key=itemgetter("miou"))


def _asked(scores: pd.DataFrame, table: pd.DataFrame, classes: pd.DataFrame, shots: list[int]) -> str:
    names = list(dict.fromkeys(classes["class"]))
    folds = [fold for fold in dict.fromkeys(table["fold"]) if fold != MEAN]
    first = scores.iloc[0]
    source = DATA.get(str(first["source"]), str(first["source"]))
    return (
        f"To segment {len(names)} classes of which training has seen no mask ({_listed(names, MOST_CLASSES)}) in "
        f"{source}, from {' or '.join(map(str, shots))} example image{'s' if shots != [1] else ''} with a mask: fold"
        f"{'s' if len(folds) > 1 else ''} {', '.join(folds)}, {int(first['episodes']):,} episodes for each number of "
        f"examples, {scores['variant'].nunique()} variants on the same episodes."
    )


def _outcome(shot: int, scores: pd.DataFrame, gains: pd.DataFrame) -> Iterator[str]:
    """Yield the best variant with its interval, then what each component has added."""
    scores = scores[scores["shot"] == shot]
    best = _best(scores)
    others = scores[scores["variant"] != best["variant"]]
    close = int((others["miou_high"] >= best["miou_low"]).sum())
    rivals = ""
    if close:
        rivals = f" Not settled: {close} of {len(others)} other intervals overlap."
    elif len(others):
        rivals = f" A clear lead: none of {len(others)} other intervals overlaps."
    yield (
        f"With {supports(shot)}, {best['variant']} is highest: {fixed(best['miou'])} % mIoU "
        f"[{fixed(best['miou_low'])}, {fixed(best['miou_high'])}].{rivals}"
    )
    groups: dict[str, list[str]] = {"better": [], "worse": [], NO_DIFFERENCE: []}
    for row in _direct(gains).to_dict("records"):
        shown = verdict(row["gain_low"], row["gain_high"])
        number = "" if shown == NO_DIFFERENCE else f" {fixed(row['gain'], '+.1f')}"
        groups[shown].append(f"{row['variant']}{number}")
    labels = {"better": "Shown to help", "worse": "Shown to hurt", NO_DIFFERENCE: NO_DIFFERENCE.capitalize()}
    over = ", each over the variant without it"
    for name, rows in groups.items():
        if rows:
            yield f"{labels[name]}{over}: {', '.join(rows)}."
            over = ""


def _direct(gains: pd.DataFrame) -> pd.DataFrame:
    """Return the comparisons of each variant with the one that lacks only its own component."""
    first = {variant.name: variant.compared_with[0] for variant in VARIANTS if variant.compared_with}
    return gains[[first.get(row["variant"]) == row["reference"] for row in gains.to_dict("records")]]


def _where(
    scores: pd.DataFrame, gains: pd.DataFrame, classes: pd.DataFrame, best: dict[int, Row], shots: list[int]
) -> Answer:
    """Name the worst class of the best variant, the largest gain, and rows that look suspicious."""
    shot = max(shots)
    variant = best[shot]["variant"]
    part = classes[(classes["variant"] == variant) & (classes["shot"] == shot)]
    worst = min(part.to_dict("records"), key=itemgetter("iou"))
    sentences = [
        f"Worst class: {worst['class']}, {fixed(worst['iou'])} % IoU ({variant}, {supports(shot)}, "
        f"{int(worst['episodes'])} episodes)."
    ]
    if len(gains):
        row = max(gains.to_dict("records"), key=itemgetter("gain"))
        sentences.append(
            f"Largest gain: {row['variant']} over {row['reference']} with {supports(int(row['shot']))}, "
            f"{fixed(row['gain'], '+.1f')} points."
        )
    odd = list(_odd(scores, classes, gains))
    sentences.append(f"Suspicious: {_listed(odd, MOST_ODD)}." if odd else "No row looks suspicious.")
    name = quote(str(worst["class"]))
    links = [(f"episodes of {worst['class']}", f"#episodes?episodes.class={name}&episodes.shot={shot}")]
    return Answer("Where to look?", sentences, links)


def _odd(scores: pd.DataFrame, classes: pd.DataFrame, gains: pd.DataFrame) -> Iterator[str]:
    """Yield descriptions of rows that contradict expectation."""
    networks = {variant.name: variant.network for variant in VARIANTS}
    for row in _direct(gains).to_dict("records"):
        trained = networks[row["variant"]] != networks[row["reference"]]
        if trained and verdict(row["gain_low"], row["gain_high"]) == "worse":
            yield f"{row['variant']} is worse than {row['reference']} with {supports(int(row['shot']))}"
    for variant, part in scores.groupby("variant", sort=False):
        ordered = part.sort_values("shot")
        few, many = ordered.iloc[0], ordered.iloc[-1]
        if many["miou"] < few["miou"] - few["miou_std"] - many["miou_std"]:
            yield f"{variant} is lower with {supports(int(many['shot']))} than with {int(few['shot'])}"
        for row in part.to_dict("records"):
            if row["miou"] < LOW_IOU:
                yield f"{variant} has {fixed(row['miou'])} % mIoU with {supports(int(row['shot']))}"
    rare = classes.groupby("class")["episodes"].min()
    for name, count in rare[rare < FEW_EPISODES].items():
        yield f"{name} has only {count} episodes"
