"""Compare the region hierarchy with other methods on BSDS500 (covering, PRI, VI, boundary F).

This is not a pipeline stage. Run
``python -m stages scoreregions --bsds DIR --split val --weights weights/…safetensors --out scores.tsv`` with weights
that were not learned from the same split.

Reads
    BSDS500's images and human segmentations of one split, and a weight file of ``trainregions``.
Writes
    a table with one row per method, as a TSV file and, beside it, as a Markdown page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd

from novelseg.core.errors import InputError
from novelseg.core.files import digest, whole_file
from novelseg.core.options import Help
from novelseg.core.progress import say
from novelseg.core.threads import Workers
from novelseg.data.bsds import find
from novelseg.regions.comparison import compare
from novelseg.regions.weights import load_model
from stages.options import Out
from stages.options import Workers as WorkerCount

MEASURES = "docs/regions.md"


def _format(value: float) -> str:
    """Format a share with three decimals, a count with one, and a missing value as a dash."""
    return "–" if pd.isna(value) else f"{value:.3f}" if value < 5 else f"{value:.1f}"


def _page(table: pd.DataFrame, title: str, weights: Path) -> str:
    """Return the table as a Markdown page."""
    lines = [
        f"# {title}",
        "",
        f"Written by `python -m stages scoreregions` with `{weights.name}`, MD5 {digest(weights)}.",
        f"The measures are defined in {MEASURES}.",
        "",
        "| " + " | ".join(table.columns) + " |",
        "|---" * len(table.columns) + "|",
    ]
    cells = (
        [cell if isinstance(cell, str) else _format(cell) for cell in row] for row in table.itertuples(index=False)
    )
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in cells)]) + "\n"


def run(
    *,
    bsds: Annotated[Path, Help("folder of BSDS500")],
    out: Out,
    weights: Annotated[Path, Help("weights of the region hierarchy")],
    split: Annotated[str, Help("images to score on", ("train", "val", "test"))] = "val",
    tau: Annotated[float, Help("contour strength at which regions are counted, 0 to 1")] = 0.45,
    workers: WorkerCount = 0,
) -> None:
    """Score all methods on the images of ``split`` and write the table."""
    if out.suffix != ".tsv":
        raise InputError(f"--out is {out}; expected a name that ends in .tsv")
    if not 0 <= tau <= 1:
        raise InputError(f"--tau is {tau}; expected a contour strength from 0 to 1")
    model = load_model(weights)
    items = find(bsds, split)
    with Workers(workers) as pool:
        table = compare(items, model, tau, pool)
    with whole_file(out) as scratch:
        table.to_csv(scratch, sep="\t", index=False, float_format="%.4f", lineterminator="\n")
    with whole_file(out.with_suffix(".md")) as scratch:
        scratch.write_text(
            _page(table, f"Region methods on BSDS500 {split}, {len(items)} images", weights), encoding="utf8"
        )
    say(table.set_index("method").T.to_string(float_format=lambda value: f"{value:.3f}", na_rep="-"))
