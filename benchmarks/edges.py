"""Borders of masks that follow those of the picture: IoU, boundary F and milliseconds, with and without.

    python -m benchmarks.edges --voc $NOVELSEG_DATA/voc-subset --list val --weights PATH --out FILE.tsv

Supports and queries of each class are drawn as in :mod:`benchmarks.untrained`; the closed-form head predicts each query
once, and its logits are enlarged in both forms. Boundaries are matched one to one within 0.75 % of the picture's
diagonal (:mod:`novelseg.regions.partitions`). The annotations leave a border of void pixels around each object: IoU
does not count them, and the annotated boundary is the middle of this border. What is printed: mIoU (mean over classes
of summed intersections over summed unions) and the boundary F of the summed counts, both with 95 % intervals of the
gain over queries, paired, and the median time of enlarging one picture.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from benchmarks.tables import write_rows
from benchmarks.untrained import Pictures, draw, episode_parser
from novelseg import Segmenter
from novelseg.core.labels import VOID, binary
from novelseg.core.progress import track
from novelseg.inference.edges import snap_to_edges
from novelseg.regions.partitions import boundary, boundary_counts, boundary_f

COUNTS = ("intersection", "union", "matched", "drawn", "found", "true")
COLUMNS = ("class", "query", "form", *COUNTS, "milliseconds")
FORMS = PLAIN, EDGES = "plain", "edges"
DRAWS = 2000


def without_void(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give each void pixel the label of the nearest other pixel."""
    nearest = distance_transform_edt(mask == VOID, return_distances=False, return_indices=True)
    filled: NDArray[np.uint8] = mask[tuple(nearest)]
    return filled


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of all queries."""
    pictures = Pictures(options.voc, options.list)
    segmenter = Segmenter.load(weights=options.weights, stem=options.stem, presence=0)
    grid, side, rows = segmenter._extract.grid, segmenter.side, []
    drawn = draw(pictures, options)
    for label, _, supports, queries in track(drawn, len(drawn), "edges", "episode"):
        masks = [binary(pictures.mask(number), label) for number in supports]
        segmenter.fit([pictures.image(number) for number in supports], masks)
        for query in queries[: len(queries) - options.queries]:  # those with the class
            image, truth = pictures.image(query), binary(pictures.mask(query), label)
            logits = segmenter._predictor([image])[0].logits
            known, on, true = truth != VOID, truth == 1, boundary(without_void(truth))
            for form in FORMS:
                start = time.perf_counter()
                large = (
                    snap_to_edges(logits, image, side, grid)
                    if form == EDGES
                    else grid.upsample(logits[None], truth.shape)[0]
                )
                milliseconds = 1e3 * (time.perf_counter() - start)
                mask = large[0].numpy() > 0
                counts = (
                    (mask & on).sum(),
                    ((mask & known) | on).sum(),
                    *boundary_counts(boundary(mask.astype(np.uint8)), [true]),
                )
                row = dict(zip(COUNTS, map(int, counts), strict=True))
                about = {"class": label, "query": pictures.ids[query], "form": form}
                rows.append({**about, **row, "milliseconds": f"{milliseconds:.1f}"})
    return rows


def summary(rows: list[dict[str, Any]], seed: int) -> str:
    """Return the table of both forms."""
    forms = {form: [row for row in rows if row["form"] == form] for form in FORMS}
    counts = {form: np.array([[int(row[name]) for name in COUNTS] for row in own]) for form, own in forms.items()}
    labels = np.array([int(row["class"]) for row in forms[PLAIN]])
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def figures(form: str, picks: list[NDArray[np.int64]]) -> NDArray[np.float64]:
        sums = [counts[form][pick].sum(0) for pick in picks]
        return 100 * np.array([np.mean([one[0] / one[1] for one in sums]), boundary_f(np.sum(sums, 0)[2:])[2]])

    rng = np.random.default_rng(seed)
    draws = [[rng.choice(own, len(own)) for own in members] for _ in range(DRAWS)]
    gains = np.array([figures(EDGES, picks) - figures(PLAIN, picks) for picks in draws])
    low, high = np.percentile(gains, [2.5, 97.5], axis=0)
    lines = [
        "| form | mIoU, % | gain [95 %] | boundary F, % | gain [95 %] | ms per picture |",
        "|---|---|---|---|---|---|",
    ]
    for form in FORMS:
        miou, f = figures(form, members)
        gain = figures(form, members) - figures(PLAIN, members)
        spread = [f"{gain[n]:+.1f} [{low[n]:+.1f}, {high[n]:+.1f}]" if form == EDGES else "" for n in range(2)]
        milliseconds = np.median([float(row["milliseconds"]) for row in forms[form]])
        lines.append(f"| {form} | {miou:.1f} | {spread[0]} | {f:.1f} | {spread[1]} | {milliseconds:.0f} |")
    return "\n".join([*lines, f"\n{len(labels)} pictures."])


def main() -> None:
    """Measure, write the rows and print the table."""
    parser = episode_parser(__doc__.splitlines()[0], shots=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(options)
    write_rows(options.out, COLUMNS, rows)
    print(summary(rows, options.seed))


if __name__ == "__main__":
    main()
