"""The report page: one self-contained HTML file, with light and dark mode, usable on phones and by keyboard."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from novelseg.core.numbers import fixed
from novelseg.evaluation.comparisons import MEAN
from novelseg.report.answers import NO_DIFFERENCE, answers, supports, verdict
from novelseg.report.glossary import MEASURES, entries, meaning

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Browser:
    """A section of cards that can be filtered and sorted.

    Attributes
    ----------
    name, title, text
        Anchor, heading and description.
    items
        One mapping per card, with ``title``, ``facts`` (for filters), ``scores`` (for sorting) and pictures.
    filters
        Names of the facts that cards can be filtered by.
    orders
        Names of the scores that cards can be sorted by.
    worst
        Score by which the button "Jump to the worst" sorts the cards; empty for no button.
    unit
        Unit of the scores shown on cards; empty if no scores are shown.
    """

    name: str
    title: str
    text: str
    items: list[dict[str, Any]]
    filters: list[str]
    orders: list[str] = field(default_factory=list)
    worst: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Head:
    """Head of a table column; columns of text are aligned left and first sorted in ascending order."""

    name: str
    is_text: bool = False

    @property
    def hint(self) -> str:
        """Meaning of the column, shown on hover; empty if the glossary has none."""
        return MEASURES.get(self.name, "")


@dataclass(frozen=True)
class Cell:
    """Text of a table cell, the number that it is sorted by (None: the text), and a hint shown on hover.

    Attributes
    ----------
    ends
        Ends of the bar that is drawn below the text, in per cent of the cell's width; None for no bar.
    zero
        Where zero lies on the same scale; None if the scale does not contain it.
    """

    text: str
    key: float | None = None
    hint: str = ""
    ends: tuple[float, float] | None = None
    zero: float | None = None


@dataclass(frozen=True)
class Group:
    """Rows of a table that are sorted among themselves, below a line with their title."""

    title: str
    rows: list[dict[str, Any]]


SCORE_HEADS = [Head("variant", True), *map(Head, ("mIoU %", "95 % interval", "± seeds", "FB-IoU %"))]
SCORE_HEADS += [*map(Head, ("FB ± seeds", "episodes", "seeds", "parameters"))]
GAIN_HEADS = [Head("variant", True), Head("over", True), *map(Head, ("gain", "95 % interval"))]
GAIN_HEADS += [Head("verdict", True), Head("resamples better")]


def _number(value: float, form: str = ".1f") -> Cell:
    return Cell(fixed(value, form), float(value))


def _interval(low: float, high: float, scale: tuple[float, float], form: str = ".1f") -> Cell:
    """Return the cell of an interval, with a bar on the scale that the group's rows share."""
    start, stop = scale

    def place(value: float) -> float:
        return round(100 * (value - start) / max(stop - start, 1e-9), 1)

    zero = place(0.0) if start < 0 < stop else None
    text = f"[{fixed(low, form)}, {fixed(high, form)}]"
    return Cell(text, float(low), ends=(place(low), place(high)), zero=zero)


def _scale(part: pd.DataFrame, name: str) -> tuple[float, float]:
    """Return the lowest and the highest end of the intervals of a group; for gains, zero lies between them."""
    ends = [float(part[f"{name}_low"].min()), float(part[f"{name}_high"].max()), *([0.0] if name == "gain" else [])]
    return min(ends), max(ends)


def _variant(name: str) -> Cell:
    return Cell(name, hint=meaning(name))


def _grouped(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the parts of a table with one shot and fold, and their titles; the mean over folds precedes the folds."""
    folds = [fold for fold in dict.fromkeys(table["fold"]) if fold != MEAN]
    order = [MEAN, *folds]
    for shot in sorted(int(shot) for shot in table["shot"].unique()):
        for fold in order:
            part = table[(table["shot"] == shot) & (table["fold"] == fold)]
            where = f", mean over folds {', '.join(folds)}" if fold == MEAN else f", fold {fold}"
            if len(part):
                yield supports(shot) + (where if len(folds) > 1 else ""), part


def _facts(row: dict[Hashable, Any], *names: str) -> dict[str, str]:
    return {name: str(row[name]) for name in names}


def _scores(table: pd.DataFrame) -> list[Group]:
    """Build the result table, in which the best mIoU of each group is marked."""
    groups = []
    for title, part in _grouped(table):
        rows, scale = [], _scale(part, "miou")
        for row in part.to_dict("records"):
            cells = [_variant(row["variant"]), _number(row["miou"])]
            cells += [_interval(row["miou_low"], row["miou_high"], scale)]
            cells += [_number(row["miou_std"]), _number(row["fb_iou"]), _number(row["fb_iou_std"])]
            cells += [_number(row["episodes"], ",d"), _number(row["seeds"], "d")]
            cells += [Cell(f"{row['parameters'] / 1e6:.3f} M", float(row["parameters"]))]
            kind = "best" if row["miou"] == part["miou"].max() else ""
            rows.append({"kind": kind, "facts": _facts(row, "shot", "fold", "variant"), "cells": cells})
        groups.append(Group(title, rows))
    return groups


def _gains(table: pd.DataFrame) -> list[Group]:
    """Build the table of differences between two variants; rows whose interval holds zero are marked."""
    groups = []
    for title, part in _grouped(table):
        rows, scale = [], _scale(part, "gain")
        for row in part.to_dict("records"):
            shown = verdict(row["gain_low"], row["gain_high"])
            cells = [_variant(row["variant"]), _variant(row["reference"]), _number(row["gain"], "+.1f")]
            cells += [_interval(row["gain_low"], row["gain_high"], scale, "+.1f"), Cell(shown)]
            cells += [Cell(f"{100 * row['better']:.0f} %", row["better"])]
            kind = "undecided" if shown == NO_DIFFERENCE else shown
            facts = {**_facts(row, "shot", "fold", "variant"), "verdict": shown}
            rows.append({"kind": kind, "facts": facts, "cells": cells})
        groups.append(Group(title, rows))
    return groups


def _classes(table: pd.DataFrame) -> tuple[list[Head], list[Group]]:
    """Build the table of classes: one row per variant, one column per class, and a group per shot."""
    names = list(dict.fromkeys(table["class"]))
    groups = []
    for shot in sorted(int(shot) for shot in table["shot"].unique()):
        rows = []
        for variant, part in table[table["shot"] == shot].groupby("variant", sort=False):
            ious = dict(zip(part["class"], part["iou"], strict=True))
            values = [_number(ious[name]) if name in ious else Cell("–", -1.0) for name in names]
            facts = {"shot": str(shot), "variant": str(variant)}
            rows.append({"kind": "", "facts": facts, "cells": [_variant(str(variant)), *values]})
        groups.append(Group(supports(shot), rows))
    return [Head("variant", True), *map(Head, names)], groups


def _natural(text: str) -> tuple[bool, int, str]:
    """Return a key that sorts numbers by value, before texts."""
    return (not text.isdigit(), int(text) if text.isdigit() else 0, text)


def render(
    *,
    protocol: str,
    note: list[tuple[str, str]],
    table: pd.DataFrame,
    classes: pd.DataFrame,
    comparisons: pd.DataFrame,
    curves: list[tuple[str, str]],
    browsers: list[Browser],
) -> str:
    """Render the page; all text is escaped.

    Parameters
    ----------
    protocol, note
        Name of the protocol, and its facts by name.
    table, classes, comparisons
        The tables of the report.
    curves
        Title and data URI of each figure.
    browsers
        Sections of cards; a browser without cards is omitted.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # preserves the order of variants and shares
    template = environment.get_template("table.html")

    def render_table(name: str, heads: list[Head], groups: list[Group], filters: list[str]) -> Markup:
        values = {key: list(dict.fromkeys(row["facts"][key] for g in groups for row in g.rows)) for key in filters}
        useful = {key: sorted(found, key=_natural) for key, found in values.items() if len(found) > 1}
        return Markup(template.render(name=name, heads=heads, groups=groups, filters=useful))

    class_heads, class_groups = _classes(classes)
    nonempty = [browser for browser in browsers if browser.items]
    sections = [("answers", "In short"), ("results", "Results"), ("components", "Components")]
    sections += [("per-class", "Per class"), ("curves", "Curves")]
    return environment.get_template("page.html").render(
        protocol=protocol,
        note=note,
        answers=answers(table, classes, comparisons),
        glossary=entries(list(dict.fromkeys(table["variant"]))),
        sections=[*sections, *((browser.name, browser.title) for browser in nonempty)],
        table=render_table,
        score_head=SCORE_HEADS,
        score_groups=_scores(table),
        gain_head=GAIN_HEADS,
        gain_groups=_gains(comparisons),
        class_head=class_heads,
        class_groups=class_groups,
        curves=curves,
        browsers=nonempty,
    )
