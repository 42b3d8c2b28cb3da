"""Two similar classes of a VOC folder in one run, and in two separate runs: which pixels go where.

    python -m benchmarks.similar --voc $NOVELSEG_DATA/voc-subset --weights PATH --pairs horse,cow bus,car --out FILE.tsv

Supports are drawn from the training list, ``--shots`` of each class, without the other class of the pair. The queries
are up to ``--queries`` of the validation list for each class. One run learns both classes, which compete for each
pixel; of two separate runs, each learns one class from its own supports, and their masks may overlap. The table has a
row for each pair, form and true class, with the shares of its pixels in per cent; other classes are background.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.tables import write
from benchmarks.untrained import Pictures
from novelseg import Segmenter
from novelseg.core.labels import VOID
from novelseg.core.progress import track
from novelseg.data.classes import VOC

COLUMNS = ("pair", "form", "truth", "pixels", "background", "first", "second", "both")
ONE, TWO = "one run", "two runs"


def two_classes(mask: NDArray[np.uint8], pair: list[int]) -> NDArray[np.uint8]:
    """Return a mask with 1 for the first class of a pair, 2 for the second, 0 for all others, and void."""
    first, second = pair
    return np.where(mask == VOID, VOID, (mask == first) + 2 * (mask == second)).astype(np.uint8)


def confusion(pictures: tuple[Pictures, Pictures], pair: list[int], options: argparse.Namespace) -> Any:
    """Return the numbers of pixels by form, true class and answer: background, first, second, both."""
    train, val = pictures
    rng = np.random.default_rng(options.seed)
    supports, queries = [], []
    for label, other in (pair, pair[::-1]):
        own = (train.pixels[:, label] >= options.min_pixels) & (train.pixels[:, other] == 0)
        supports.append(rng.permutation(np.flatnonzero(own))[: options.shots].tolist())
        queries += rng.permutation(np.flatnonzero(val.pixels[:, label] >= options.min_pixels))[
            : options.queries
        ].tolist()
    parts = [(train.image(n), two_classes(train.mask(n), pair)) for n in supports[0] + supports[1]]
    fresh = {"weights": options.weights, "stem": options.stem, "presence": options.presence}
    together = Segmenter(**fresh).fit([image for image, _ in parts], [mask for _, mask in parts], ["first", "second"])
    alone = []
    for position in (0, 1):
        own = parts[position * options.shots : (position + 1) * options.shots]
        masks = [np.where(mask == VOID, VOID, mask == position + 1).astype(np.uint8) for _, mask in own]
        alone.append(Segmenter(**fresh).fit([image for image, _ in own], masks))
    counts = {form: np.zeros((3, 4), np.int64) for form in (ONE, TWO)}
    drawn = sorted(set(queries))
    for number in track(drawn, len(drawn), f"{VOC[pair[0] - 1]}, {VOC[pair[1] - 1]}", "picture"):
        truth, image = two_classes(val.mask(number), pair), val.image(number)
        separate = [segmenter.predict(image)[0] for segmenter in alone]
        for form, answer in ((ONE, together.predict(image)[0]), (TWO, separate[0] + 2 * separate[1])):
            for label in range(3):
                counts[form][label] += np.bincount(answer[truth == label], minlength=4)
    return counts


def main() -> None:
    """Measure all pairs, write the rows and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--voc", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--stem", default="")
    parser.add_argument("--pairs", nargs="+", default=["horse,cow", "bus,car"])
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--queries", type=int, default=15)
    parser.add_argument("--presence", type=float, default=0.0)
    parser.add_argument("--min-pixels", type=int, default=1152)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pictures = Pictures(options.voc, "train"), Pictures(options.voc, "val")
    rows = []
    for names in options.pairs:
        pair = names.split(",")
        found = confusion(pictures, [VOC.index(name) + 1 for name in pair], options)
        for form, counts in found.items():
            for truth, line in zip(("background", *pair), counts, strict=True):
                shares = dict(zip(COLUMNS[4:], (f"{share:.1f}" for share in 100 * line / line.sum()), strict=True))
                rows.append({"pair": names, "form": form, "truth": truth, "pixels": line.sum(), **shares})
    write(options.out, COLUMNS, rows)


if __name__ == "__main__":
    main()
