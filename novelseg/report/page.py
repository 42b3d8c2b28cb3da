"""The report page: one self-contained HTML file, with light and dark mode, usable on phones and by keyboard."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from novelseg.evaluation.comparisons import MEAN
from novelseg.formats.protocol import caution

TEMPLATES = Path(__file__).parent / "templates"
Row = dict[Hashable, Any]


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


@dataclass(frozen=True)
class Cell:
    """Text of a table cell, and the number that it is sorted by; None to sort by the text."""

    text: str
    key: float | None = None


SCORE_HEADS = [Head("variant", True), *map(Head, ("shot", "fold", "mIoU %", "±", "interval", "FB-IoU %"))]
SCORE_HEADS += [*map(Head, ("FB ±", "episodes", "seeds", "parameters")), Head("protocol", True)]
GAIN_HEADS = [Head("variant", True), Head("against", True), *map(Head, ("shot", "fold", "gain", "interval", "better"))]


def _number(value: float, form: str = ".1f") -> Cell:
    return Cell(f"{value:{form}}", float(value))


def _interval(low: float, high: float, form: str = ".1f") -> Cell:
    return Cell(f"[{low:{form}}, {high:{form}}]", float(low))


def _scores(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Build the rows of the result table, in which the best mIoU of each fold and shot is marked."""
    best = table.groupby(["shot", "fold"])["miou"].transform("max") == table["miou"]
    rows = []
    for row, is_best in zip(table.to_dict("records"), best, strict=True):
        cells = [Cell(row["variant"]), Cell(str(row["shot"])), Cell(str(row["fold"])), _number(row["miou"])]
        cells += [_number(row["miou_std"]), _interval(row["miou_low"], row["miou_high"]), _number(row["fb_iou"])]
        cells += [_number(row["fb_iou_std"]), _number(row["episodes"], "d"), _number(row["seeds"], "d")]
        cells += [Cell(f"{row['parameters'] / 1e6:.3f} M", float(row["parameters"]))]
        rows.append({"best": bool(is_best), "cells": [*cells, Cell(f"{row['protocol']}; {row['resolution']}")]})
    return rows


def _gains(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Build the rows of the table of differences between two variants."""
    rows = []
    for row in table.to_dict("records"):
        cells = [Cell(row["variant"]), Cell(row["reference"]), Cell(str(row["shot"])), Cell(str(row["fold"]))]
        cells += [_number(row["gain"], "+.1f"), _interval(row["gain_low"], row["gain_high"], "+.1f")]
        rows.append({"best": False, "cells": [*cells, Cell(f"{100 * row['better']:.0f} %", row["better"])]})
    return rows


def _classes(table: pd.DataFrame) -> tuple[list[Head], list[dict[str, Any]]]:
    """Build the table of classes: one row per variant and shot, one column per class."""
    names = list(dict.fromkeys(table["class"]))
    rows = []
    for (variant, shot), part in table.groupby(["variant", "shot"], sort=False):
        ious = dict(zip(part["class"], part["iou"], strict=True))
        values = [_number(ious[name]) if name in ious else Cell("–", -1.0) for name in names]
        rows.append({"best": False, "cells": [Cell(str(variant)), Cell(str(shot)), *values]})
    return [Head("variant", True), Head("shot"), *map(Head, names)], rows


def summary_fold(table: pd.DataFrame) -> str:
    """Return the fold that summarises the table: the mean over folds, or the first fold if there is no mean."""
    return MEAN if (table["fold"] == MEAN).any() else str(table["fold"].iloc[0])


def render(
    *,
    protocol: str,
    note: str,
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
        Name and description of the protocol.
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

    def render_table(name: str, heads: list[Head], rows: list[dict[str, Any]], filters: list[str]) -> Markup:
        return Markup(template.render(name=name, heads=heads, rows=rows, filters=filters))

    class_heads, class_rows = _classes(classes)
    nonempty = [browser for browser in browsers if browser.items]
    sections = [("results", "Results"), ("components", "Components"), ("per-class", "Per class"), ("curves", "Curves")]
    return environment.get_template("page.html").render(
        protocol=protocol,
        note=note,
        classes=list(dict.fromkeys(classes["class"])),
        sections=[*sections, *((browser.name, browser.title) for browser in nonempty)],
        table=render_table,
        score_head=SCORE_HEADS,
        score_rows=_scores(table),
        caution=caution(str(table["source"].iloc[0])),
        gain_head=GAIN_HEADS,
        gain_rows=_gains(comparisons),
        class_head=class_heads,
        class_rows=class_rows,
        curves=curves,
        browsers=nonempty,
    )
