"""Tables of benchmarks: as a file with tabs, and as Markdown on the terminal."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows to a TSV file."""
    with path.open("w", encoding="utf8", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a TSV file; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def markdown(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return rows as the lines of a Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + len(columns) * "---|"]
    return lines + ["| " + " | ".join(str(row[name]) for name in columns) + " |" for row in rows]


def write_below(page: Path, mark: str, lines: Sequence[str]) -> None:
    """Replace what stands below the mark of a page, whose text above is written by hand."""
    head, found, _ = page.read_text(encoding="utf8").partition(mark)
    if not found:
        raise SystemExit(f"{page}: expected the line {mark!r}, below which the tables are written")
    page.write_text(head + mark + "\n\n" + "\n".join(lines).strip("\n") + "\n", encoding="utf8")


def write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows to a TSV file and print them as a Markdown table."""
    write_rows(path, columns, rows)
    print("\n".join(markdown(columns, rows)))
