"""The page: one self-contained HTML file, no network, readable in light and dark, on a phone and by keyboard."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from novelseg.evaluation.comparisons import MEAN

TEMPLATES = Path(__file__).parent / "templates"
Row = dict[Hashable, Any]


@dataclass(frozen=True)
class Browser:
    """A section of cards that can be filtered and sorted.

    Attributes
    ----------
    name, title, text
        Anchor, heading, what is shown.
    items
        One a card: ``title``, ``facts`` (what is filtered by), ``scores`` (what is sorted by), and pictures.
    filters
        Names of facts.
    orders
        Names of scores.
    worst
        Score whose lowest a button jumps to; empty for no button.
    unit
        What the scores are, as cards tell them; empty where they are not told.
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
    """Head of a column."""

    name: str
    text: bool = False


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and what it is sorted by if that is another."""

    shown: str
    key: float | None = None


SCORE_HEADS = [Head("variant", True), *map(Head, ("shot", "fold", "mIoU %", "±", "interval", "FB-IoU %"))]
SCORE_HEADS += [*map(Head, ("FB ±", "episodes", "seeds", "parameters")), Head("protocol", True)]
GAIN_HEADS = [Head("variant", True), Head("against", True), *map(Head, ("shot", "fold", "gain", "interval", "better"))]


def _number(value: float, form: str = ".1f") -> Cell:
    return Cell(f"{value:{form}}", float(value))


def _interval(low: float, high: float, form: str = ".1f") -> Cell:
    return Cell(f"[{low:{form}}, {high:{form}}]", float(low))


def _scores(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of the result table; the best mIoU of each fold and shot is marked."""
    best = table.groupby(["shot", "fold"])["miou"].transform("max") == table["miou"]
    rows = []
    for row, first in zip(table.to_dict("records"), best, strict=True):
        cells = [Cell(row["variant"]), Cell(str(row["shot"])), Cell(str(row["fold"])), _number(row["miou"])]
        cells += [_number(row["miou_std"]), _interval(row["miou_low"], row["miou_high"]), _number(row["fb_iou"])]
        cells += [_number(row["fb_iou_std"]), _number(row["episodes"], "d"), _number(row["seeds"], "d")]
        cells += [Cell(f"{row['parameters'] / 1e6:.3f} M", float(row["parameters"]))]
        rows.append({"best": bool(first), "cells": [*cells, Cell(f"{row['protocol']}; {row['resolution']}")]})
    return rows


def _gains(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for row in table.to_dict("records"):
        cells = [Cell(row["variant"]), Cell(row["reference"]), Cell(str(row["shot"])), Cell(str(row["fold"]))]
        cells += [_number(row["gain"], "+.1f"), _interval(row["gain_low"], row["gain_high"], "+.1f")]
        rows.append({"best": False, "cells": [*cells, Cell(f"{100 * row['better']:.0f} %", row["better"])]})
    return rows


def _classes(table: pd.DataFrame) -> tuple[list[Head], list[dict[str, Any]]]:
    """A row a variant and shot, a column a class."""
    names = list(dict.fromkeys(table["class"]))
    rows = []
    for (variant, shot), part in table.groupby(["variant", "shot"], sort=False):
        found = dict(zip(part["class"], part["iou"], strict=True))
        values = [_number(found[name]) if name in found else Cell("–", -1.0) for name in names]
        rows.append({"best": False, "cells": [Cell(str(variant)), Cell(str(shot)), *values]})
    return [Head("variant", True), Head("shot"), *map(Head, names)], rows


def only_fold(table: pd.DataFrame) -> str:
    """The fold that stands for all: their mean, or the one there is."""
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
    """Fill the template; text is escaped.

    Parameters
    ----------
    protocol, note
        Name of the protocol, and what it says.
    table, classes, comparisons
        The tables of the report.
    curves
        Title and data URI of each figure.
    browsers
        Sections of cards; those without a card are left out.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # variants have an order, and so have shares
    sheet = environment.get_template("table.html")

    def filled(name: str, heads: list[Head], rows: list[dict[str, Any]], filters: list[str]) -> Markup:
        return Markup(sheet.render(name=name, heads=heads, rows=rows, filters=filters))

    class_heads, class_rows = _classes(classes)
    shown = [browser for browser in browsers if browser.items]
    sections = [("results", "Results"), ("components", "Components"), ("per-class", "Per class"), ("curves", "Curves")]
    return environment.get_template("page.html").render(
        protocol=protocol,
        note=note,
        classes=list(dict.fromkeys(classes["class"])),
        sections=[*sections, *((browser.name, browser.title) for browser in shown)],
        table=filled,
        score_head=SCORE_HEADS,
        score_rows=_scores(table),
        gain_head=GAIN_HEADS,
        gain_rows=_gains(comparisons),
        class_head=class_heads,
        class_rows=class_rows,
        curves=curves,
        browsers=shown,
    )
