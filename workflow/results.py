"""Result tables as text for a terminal and as Markdown for a document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any

import pandas as pd

from novelseg.core.numbers import fixed
from novelseg.evaluation.comparisons import MEAN
from novelseg.formats import tables
from novelseg.formats.class_results import CLASS_SCORES
from novelseg.formats.comparisons import COMPARISONS
from novelseg.formats.protocol import caution, missing_rows
from novelseg.formats.results import SCORES
from workflow.published import lines as published

REPORT = Path("report")


def table() -> str:
    """Return the result table for a terminal."""
    frame = tables.read(REPORT / "results.tsv", SCORES)
    head = f"{'shot':>4} {'fold':>5} {'variant':<29} {'mIoU':>6} {'±':>4}  {'95 % interval':<14} {'FB-IoU':>6}"
    lines = [frame["protocol"].iloc[0], head]
    for row in frame.sort_values("shot", kind="stable").to_dict("records"):
        interval = f"[{row['miou_low']:.1f}, {row['miou_high']:.1f}]"
        lines.append(
            f"{row['shot']:>4} {row['fold']:>5} {row['variant']:<29} {row['miou']:>6.1f} {row['miou_std']:>4.1f}"
            f"  {interval:<14} {row['fb_iou']:>6.1f}"
        )
    return "\n".join([*lines, *_caution(frame), "", *published(str(frame["protocol"].iloc[0]))]).rstrip()


def _caution(frame: pd.DataFrame) -> list[str]:
    """Return the lines below a table that say which rows it lacks and what its numbers cannot show."""
    texts = missing_rows(str(frame["resolution"].iloc[0])), caution(str(frame["source"].iloc[0]))
    return [line for text in texts if text for line in ("", *wrap(text, 100))]


def markdown_grid(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table, and an empty one."""
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    yield from ("| " + " | ".join(row) + " |" for row in rows)
    yield ""


def _scored(row: dict[Any, Any]) -> str:
    return f"{row['miou']:.1f} ± {row['miou_std']:.1f} [{row['miou_low']:.1f}, {row['miou_high']:.1f}]"


def _gained(row: dict[Any, Any]) -> str:
    gain, low, high = (fixed(row[name], "+.1f") for name in ("gain", "gain_low", "gain_high"))
    return f"{gain} [{low}, {high}]"


def _wide(frame: pd.DataFrame, keys: list[str], column: str, cell: Any) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a wide table, with one row per combination of keys and one column per value."""
    names = list(dict.fromkeys(frame[column].astype(str)))
    cells_of: dict[tuple[str, ...], dict[str, str]] = {}
    for row in frame.to_dict("records"):
        cells_of.setdefault(tuple(str(row[key]) for key in keys), {})[str(row[column])] = cell(row)
    rows = [[*key, *(cells.get(name, "–") for name in names)] for key, cells in cells_of.items()]
    return [*keys, *(f"{column} {name}" if column == "fold" else name for name in names)], rows


def markdown() -> str:
    """Return all tables of the report as Markdown, with their protocol."""
    scores = tables.read(REPORT / "results.tsv", SCORES)
    gains = tables.read(REPORT / "comparisons.tsv", COMPARISONS)
    classes = tables.read(REPORT / "classes.tsv", CLASS_SCORES)
    first = scores.iloc[0]
    facts = ("source", "train_list", "val_list", "novel_images", "folds", "min_object_pixels", "resolution", "weights")
    counted = scores[scores["fold"] != MEAN].groupby("shot")[["episodes", "seeds"]].first()
    episodes = [
        f"* {shot}-shot: {row.episodes} episodes per fold, {row.seeds} seed(s)" for shot, row in counted.iterrows()
    ]
    cam_resolutions = scores.loc[scores["variant"].str.startswith("cam"), "resolution"].unique()
    lines = [f"# {first['protocol']}", "", "Written by `python -m workflow table --markdown`.", ""]
    lines += [
        *(f"* {name}: {first[name]}" for name in facts),
        *(f"* CAM prior: {resolution}" for resolution in cam_resolutions),
        *episodes,
        "",
    ]
    lines += ["## mIoU, %", "", "Mean ± deviation over seeds [95 % bootstrap interval over query images].", ""]
    lines += markdown_grid(*_wide(scores, ["shot", "variant"], "fold", _scored))
    lines += [*_caution(scores)[1:], ""] if _caution(scores) else []
    lines += ["## FB-IoU, %", ""]
    lines += markdown_grid(*_wide(scores, ["shot", "variant"], "fold", lambda row: f"{row['fb_iou']:.1f}"))
    lines += [
        "## Effect of each component, and comparison of the methods, points of mIoU",
        "",
        "Paired over the same resampled query images.",
        "",
    ]
    lines += markdown_grid(*_wide(gains, ["shot", "variant", "reference"], "fold", _gained))
    lines += ["## Per class, IoU %", ""]
    lines += markdown_grid(*_wide(classes, ["shot", "variant"], "class", lambda row: f"{row['iou']:.1f}"))
    lines += published(str(first["protocol"]))
    return "\n".join(lines).rstrip() + "\n"
