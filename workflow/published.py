"""Rows of the papers' own tables, shown beside results and never mixed with them."""

from __future__ import annotations

import csv
from pathlib import Path

FILE = Path(__file__).parent / "published.tsv"
# Beginning of a preset's protocol → data set of the papers' tables. Other protocols have no published figures.
DATASETS = {"pascal5i": "PASCAL-5i", "coco20i": "COCO-20i"}
NOTE = (
    "Figures of other code. Our queries have at least `index.min_object_pixels` pixels of the class, as our supports\n"
    "do; the public code that paper A builds on asks this of supports only, and reports the best of twenty snapshots,\n"
    "chosen on episodes of the novel classes. Here the last iterate is evaluated."
)


def published(protocol: str) -> list[dict[str, str]]:
    """Return the papers' rows for the data set of a protocol, with the same backbone; none for other protocols."""
    first = protocol.partition(" ")[0]
    if "dinov2" in first:  # the papers have no vision transformer
        return []
    dataset = next((name for start, name in DATASETS.items() if protocol.startswith(start)), "")
    backbone = "ResNet-101" if "r101" in first else "ResNet-50"
    with FILE.open(encoding="utf8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["dataset"] == dataset]
    return [row for row in rows if row["backbone"] in ("", backbone)]


def lines(protocol: str) -> list[str]:
    """Return the published rows as lines of a Markdown section; empty if there are none."""
    rows = published(protocol)
    if not rows:
        return []
    columns = ("paper", "table", "metric", "method", "shots", "fold0", "fold1", "fold2", "fold3", "mean", "parameters")
    table = [[row[name] or "–" for name in columns] for row in rows]
    return [
        *("## Published, not comparable row by row", "", NOTE, ""),
        "| " + " | ".join([*columns[:-1], "parameters, M"]) + " |",
        "|---" * len(columns) + "|",
        *("| " + " | ".join(row) + " |" for row in table),
        "",
    ]
