"""Two similar classes of a VOC folder in one run, and in two separate runs: which pixels go where.

    python -m benchmarks.similar --voc $NOVELSEG_DATA/voc-subset --weights PATH --pairs horse,cow bus,car --out FILE.tsv

Supports are drawn from the training list, ``--shots`` of each class, without the other class of the pair. The queries
are up to ``--queries`` of the validation list for each class; pictures with both classes, of either list, and as many
queries of the two classes side by side as make ten, are a second set. One run learns both classes, which compete for
each pixel; of two separate runs, each learns one class from its own supports, and their masks may overlap. The table
has a row for each pair, set, form and true class, with the shares of its pixels in per cent; other classes are
background. With ``--pictures``, a folder, the overlays of the second set are drawn there, a PNG file per pair: the
truth, one run, and two separate runs, where pixels of both have a third colour.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.tables import write
from benchmarks.untrained import Pictures
from novelseg import Segmenter
from novelseg.core.labels import VOID
from novelseg.core.progress import track
from novelseg.data.classes import VOC
from novelseg.inference.segmenter import PRESENT
from novelseg.ops.drawing import small_overlay

COLUMNS = ("pair", "pictures", "form", "truth", "pixels", "background", "first", "second", "both")
ONE, TWO = "one run", "two runs"
EITHER, BOTH = "either class", "both classes"
LEAST_PX, WITH_BOTH = 300, 10  # pixels of each class in pictures with both, and number of these pictures
TILE, HEADER = 300, 16  # px, of the drawing


class Sample(NamedTuple):
    """A picture (H, W, 3) and its truth (H, W): 0 background, 1 first class, 2 second, 255 void."""

    name: str
    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]


class Runs(NamedTuple):
    """One run with both classes, and a run with each."""

    together: Segmenter
    alone: tuple[Segmenter, Segmenter]

    def answers(self, image: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
        """Return the answer (H, W) of each form: 0 background, 1 first class, 2 second, 3 both."""
        first, second = (segmenter.predict(image)[0] for segmenter in self.alone)
        return {ONE: self.together.predict(image)[0], TWO: first + 2 * second}


def two_classes(mask: NDArray[np.uint8], pair: list[int]) -> NDArray[np.uint8]:
    """Return a mask with 1 for the first class of a pair, 2 for the second, 0 for all others, and void."""
    first, second = pair
    return np.where(mask == VOID, VOID, (mask == first) + 2 * (mask == second)).astype(np.uint8)


def sample_of(pictures: Pictures, number: int, pair: list[int]) -> Sample:
    """Return a picture with the numbers of a pair of classes."""
    return Sample(pictures.ids[number], pictures.image(number), two_classes(pictures.mask(number), pair))


def side_by_side(left: Sample, right: Sample) -> Sample:
    """Join two pictures; the taller one is cropped to the middle rows."""
    height = min(len(left.truth), len(right.truth))
    rows = [slice((len(one.truth) - height) // 2, (len(one.truth) + height) // 2) for one in (left, right)]
    image, truth = (
        np.concatenate([one[at][own] for one, own in zip((left, right), rows, strict=True)], axis=1) for at in (1, 2)
    )
    return Sample(f"{left.name} | {right.name}", image, truth)


def draw_numbers(
    pictures: tuple[Pictures, Pictures], pair: list[int], options: argparse.Namespace
) -> list[list[list[int]]]:
    """Draw the supports and the queries of each class."""
    train, val = pictures
    rng = np.random.default_rng(options.seed)
    supports, queries = [], []
    for label, other in (pair, pair[::-1]):
        own = (train.pixels[:, label] >= options.min_pixels) & (train.pixels[:, other] == 0)
        supports.append(rng.permutation(np.flatnonzero(own))[: options.shots].tolist())
        large = np.flatnonzero(val.pixels[:, label] >= options.min_pixels)
        queries.append(rng.permutation(large)[: options.queries].tolist())
    return [supports, queries]


def fit(parts: list[list[Sample]], options: argparse.Namespace) -> Runs:
    """Fit all runs to the supports of each class."""
    fresh = {"weights": options.weights, "stem": options.stem, "presence": options.presence}
    everything = [one for part in parts for one in part]
    images, masks = [one.image for one in everything], [one.truth for one in everything]
    together = Segmenter(**fresh).fit(images, masks, ["first", "second"])
    first, second = (
        Segmenter(**fresh).fit([one.image for one in part], [object_of(one.truth) for one in part]) for part in parts
    )
    return Runs(together, (first, second))


def object_of(truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a mask with 1 for either class."""
    return np.where(truth == VOID, VOID, truth > 0).astype(np.uint8)


def samples(pictures: tuple[Pictures, Pictures], pair: list[int], queries: list[list[int]]) -> dict[str, list[Sample]]:
    """Return the pictures of both sets."""
    _, val = pictures
    meeting = [
        sample_of(some, number, pair)
        for some in pictures[::-1]
        for number in np.flatnonzero((some.pixels[:, pair] >= LEAST_PX).all(1)).tolist()
    ]
    joined = [
        side_by_side(sample_of(val, left, pair), sample_of(val, right, pair))
        for left, right in zip(*queries, strict=False)
    ]
    either = [sample_of(val, number, pair) for number in sorted({*queries[0], *queries[1]})]
    return {EITHER: either, BOTH: [*meeting, *joined][:WITH_BOTH]}


def draw(rows: list[tuple[Sample, dict[str, NDArray[np.uint8]]]], path: Path) -> None:
    """Draw a row per picture: truth and answers."""
    lines = []
    for sample, answers in rows:
        masks = {sample.name: sample.truth, **answers}
        lines.append({title: small_overlay(sample.image, mask, TILE) for title, mask in masks.items()})
    heights = [max(tile.height for tile in line.values()) + HEADER for line in lines]
    sheet = Image.new("RGB", (3 * (TILE + 4), sum(heights)), (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    for row, line in enumerate(lines):
        top = sum(heights[:row])
        for column, (title, tile) in enumerate(line.items()):
            sheet.paste(tile, (column * (TILE + 4), top + HEADER - 2))
            pen.text((column * (TILE + 4) + 2, top), title, fill=(0, 0, 0))
    sheet.save(path)


def confusion(
    pictures: tuple[Pictures, Pictures], names: str, options: argparse.Namespace
) -> dict[tuple[str, str], NDArray[np.int64]]:
    """Return the numbers of pixels by set and form: (3, 4), by true class and answer."""
    pair = [VOC.index(name) + 1 for name in names.split(",")]
    supports, queries = draw_numbers(pictures, pair, options)
    runs = fit([[sample_of(pictures[0], number, pair) for number in own] for own in supports], options)
    sets = samples(pictures, pair, queries)
    counts = {(which, form): np.zeros((3, 4), np.int64) for which in sets for form in (ONE, TWO)}
    every = [(which, one) for which, some in sets.items() for one in some]
    rows = []
    for which, sample in track(every, len(every), names, "picture"):
        answers = runs.answers(sample.image)
        for form, answer in answers.items():
            for label in range(3):
                counts[which, form][label] += np.bincount(answer[sample.truth == label], minlength=4)
        if which == BOTH:
            rows.append((sample, answers))
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
        draw(rows, options.pictures / f"{names.replace(',', '-')}.png")
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
    parser.add_argument("--presence", type=float, default=0.0, help=f"the segmenter's default is {PRESENT}")
    parser.add_argument("--min-pixels", type=int, default=1152)
    parser.add_argument("--pictures", type=Path, help="folder for overlays of pictures with both classes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pictures = Pictures(options.voc, "train"), Pictures(options.voc, "val")
    rows: list[dict[str, Any]] = []
    for names in options.pairs:
        for (which, form), counts in confusion(pictures, names, options).items():
            for truth, line in zip(("background", *names.split(",")), counts, strict=True):
                shares = dict(zip(COLUMNS[5:], (f"{share:.1f}" for share in 100 * line / line.sum()), strict=True))
                facts = {"pair": names, "pictures": which, "form": form, "truth": truth}
                rows.append({**facts, "pixels": line.sum(), **shares})
    write(options.out, COLUMNS, rows)


if __name__ == "__main__":
    main()
