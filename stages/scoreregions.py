"""Compare the region hierarchy with other methods on BSDS500 (covering, PRI, VI, boundaries).

Reads
    BSDS500's images and human segmentations of one split, and a weight file of ``trainregions``.
Writes
    a table (TSV), a row a method. Not a pipeline stage. Run it with
    ``python -m stages scoreregions --bsds DIR --split val --weights weights/…safetensors --out scores.tsv``, with
    weights that were not learned from that split.
"""

from __future__ import annotations

from pathlib import Path

from stages.core.files import whole_file
from stages.core.progress import say
from stages.core.threads import Workers
from stages.data.bsds import find
from stages.models.regions import load_model
from stages.reporting.regions import compare


def run(*, bsds: Path, out: Path, weights: Path, split: str = "val", tau: float = 0.45, workers: int = 0) -> None:
    """Score all methods on the images of ``split``; ``tau`` is where the hierarchy is cut for the counts at τ."""
    model = load_model(weights)
    items = find(bsds, [split])
    with Workers(workers) as pool:
        table = compare(items, model, tau, pool)
    with whole_file(out) as scratch:
        table.to_csv(scratch, sep="\t", index=False, float_format="%.4f", lineterminator="\n")
    say(table.set_index("method").T.to_string(float_format=lambda value: f"{value:.3f}", na_rep="-"))
